"""Every source file is built: each .cpp and .cu, tests above all, stands in a CMakeLists.txt that the root reaches."""

import pathlib
import re

from project import run

COMMAND = re.compile(r"(\w+)\s*\(([^()]*(?:\([^()]*\)[^()]*)*)\)")


def listed_sources(project, folder, seen):
    """Adds the files that `folder`'s CMakeLists.txt and those below it name."""
    text = project.read(folder / "CMakeLists.txt") if (project.root / folder / "CMakeLists.txt").is_file() else None
    if text is None:
        project.find(folder.as_posix(), "is added as a subdirectory but has no CMakeLists.txt")
        return
    text = re.sub(r"#.*", "", text)
    for word in re.findall(r'[^\s()";]+', text):
        if word.endswith((".cpp", ".cu", ".py", ".sh")):
            word = word.replace("${PROJECT_SOURCE_DIR}/", "/").replace("${CMAKE_CURRENT_SOURCE_DIR}/", "")
            path = pathlib.PurePath(word[1:]) if word.startswith("/") else folder / word
            seen.add(path.as_posix())
            if not (project.root / path).is_file() and "$" not in word:
                project.find((folder / "CMakeLists.txt").as_posix(), f"names {word}, which does not exist")
    for name, arguments in COMMAND.findall(text):
        if name == "add_subdirectory":
            listed_sources(project, folder / arguments.split()[0], seen)


def lint(project):
    seen = set()
    listed_sources(project, pathlib.PurePath("."), seen)
    for name in project.files({".cpp", ".cu"}):
        if name.as_posix() not in seen:
            project.find(name.as_posix(), "stands in no CMakeLists.txt that the root reaches: it is never built"
                         + (" and its tests never run" if name.stem.endswith("_test") else ""))


if __name__ == "__main__":
    run(lint)

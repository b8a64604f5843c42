"""Only the agreed names at the top level, and no words that tie the project to one machine or moment."""

import re

from project import run

TOP = {"CMakeLists.txt", "CMakePresets.json", "LICENSE", "README.md", "runtime", "kernels", "parallel", "checkpoint",
       "actors", "launcher", "slurm", "tests", "docs"}
FORBIDDEN = [
    (r"(?<![\w.$}])/(work|home|Users|workspace)/\w", "an absolute path of somebody's machine"),
    (r"(?i)\b(deb\.|snapshot\.)?debian\.org\b|registry\.npmjs|\bpypi\.org\b|files\.pythonhosted", "a package host"),
    (r"(?i)\bissue #?\d+\b", "the number of an issue: say what it was about"),
    (r"\b(TODO|FIXME|XXX|HACK)\b", "a mark of something unfinished"),
    (r"^(<<<<<<<|>>>>>>>) ", "a conflict left by a merge"),
]


def lint(project):
    for name in project.files():
        if name.parts[0] not in TOP and not name.parts[0].startswith("."):
            project.find(name.as_posix(), f"'{name.parts[0]}' is none of the names that belong at the top level")
        if name.parts[:2] == ("tests", "lint"):
            continue  # has to name what it forbids
        for number, line in enumerate((project.read(name) or "").splitlines(), 1):
            for pattern, what in FORBIDDEN:
                if re.search(pattern, line):
                    project.find(f"{name.as_posix()}:{number}", f"{what}: {line.strip()[:100]}")


if __name__ == "__main__":
    run(lint)

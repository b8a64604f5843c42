"""What the documents tell a reader to type or open is there: commands, options, files and links.

Shell lines are those of ```sh blocks, and those after `$ ` in ```console blocks.
"""

import functools
import os
import pathlib
import re
import shlex
import shutil
import subprocess

from project import run

TOP = re.compile(r"^(runtime|kernels|parallel|checkpoint|actors|launcher|slurm|tests|docs)(/|$)")
SHELL_WORDS = {"cd", "export", "set", "for", "do", "done", "if", "then", "fi", "source", "time", "echo"}
NOT_INSTALLED_BY_US = {"git", "sudo", "ctest", "cmake", "gunzip"}


def shell_lines(text):
    """(line number, command) of every shell line; a trailing backslash joins lines, comments are dropped."""
    kind, joined = None, ""
    for number, line in enumerate(text.splitlines(), 1):
        fence = re.match(r"^\s*```(\w*)", line)
        if fence:
            kind = None if kind is not None else fence.group(1)
            continue
        if kind == "console":
            if not line.startswith("$ ") and not joined:
                continue
            line = line.removeprefix("$ ")
        elif kind != "sh":
            continue
        joined += line
        if joined.endswith("\\"):
            joined = joined[:-1] + " "
            continue
        command, joined = joined.strip(), ""
        if command and not command.startswith("#"):
            yield number, command


def lint(project):
    binary = project.build / "troupe"

    @functools.lru_cache(None)
    def help_of(*words):
        """The text of `troupe WORDS --help`, or None if it refuses them."""
        asked = subprocess.run([str(binary), *words, "--help"], capture_output=True, text=True)
        return asked.stdout if asked.returncode == 0 else None

    def check_troupe(where, words):
        commands = []
        for word in words:
            if word.startswith("-") or not re.fullmatch(r"[a-z]+", word) or len(commands) == 2:
                break
            commands.append(word)
        text = None
        while commands and text is None:  # `checkpoint inspect` has a help of its own, `train x` has not
            text = help_of(*commands)
            commands = commands if text is not None else commands[:-1]
        if text is None:
            project.find(where, f"troupe knows no command '{' '.join(words[:1])}'")
            return
        for word in words:
            option = word.split("=")[0]
            if option.startswith("--") and len(option) > 2 and option not in text:
                project.find(where, f"troupe {' '.join(commands)} has no option {option}")

    def check_path(where, word, folder):
        word = word.rstrip("/").split("#")[0]
        if re.search(r"[*$<{]|\.\.\.|…", word) or (project.root / folder / word).exists():
            return
        project.find(where, f"{word} does not exist")

    for name in project.files({".md"}):
        text = project.read(name) or ""
        for number, line in enumerate(text.splitlines(), 1):
            for path in re.findall(r"`([^`\s]+\.\w+)`", line):
                if TOP.match(path) and not re.search(r"/x\.\w+$", path):  # x stands for any operation
                    check_path(f"{name}:{number}", path, pathlib.PurePath("."))
            for target in re.findall(r"\]\(([^)\s]+)\)", line):
                if not re.match(r"[a-z]+:|#", target):
                    check_path(f"{name}:{number}", target, name.parent)
        for number, command in shell_lines(text):
            where = f"{name}:{number}"
            try:
                words = shlex.split(command, comments=True)
            except ValueError as error:
                project.find(where, f"is not a shell line ({error}): {command}")
                continue
            while words and re.fullmatch(r"\w+=\S*", words[0]):
                words = words[1:]
            first = True
            for position, word in enumerate(words):
                if word in ("|", "&&", "||", ";", "then", "do"):
                    first = True
                    continue
                if first:
                    first = False
                    if word in ("build/troupe", "troupe"):
                        end = next((i for i, w in enumerate(words) if i > position and w in ("|", "&&", ";", ">")),
                                   len(words))
                        if binary.is_file():
                            check_troupe(where, words[position + 1:end])
                    elif TOP.match(word) or word.startswith("./"):
                        path = project.root / word
                        if not path.is_file() or not os.access(path, os.X_OK):
                            project.find(where, f"{word} is not a program of this repository")
                    elif not (word in SHELL_WORDS | NOT_INSTALLED_BY_US or word.startswith("build/")
                              or shutil.which(word)):
                        project.find(where, f"no command '{word}' on a machine set up by launcher/setup.sh")
                elif TOP.match(word):
                    check_path(where, word, pathlib.PurePath("."))


if __name__ == "__main__":
    run(lint)

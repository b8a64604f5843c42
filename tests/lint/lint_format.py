"""Every C++ and CUDA file is formatted as .clang-format says; every shell script parses."""

import os
import subprocess

from project import CODE, run


def lint(project):
    names = [name.as_posix() for name in project.files(CODE)]
    if names:
        chunks = [names[start::os.cpu_count()] for start in range(os.cpu_count())]
        runs = [subprocess.Popen(["clang-format-19", "--dry-run", "--ferror-limit=1", *chunk],
                                 cwd=project.root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
                for chunk in chunks if chunk]
        for started in runs:
            output = started.communicate()[0]
            for line in output.splitlines():
                if "-Wclang-format-violations" in line:
                    project.find(line.split(": ")[0], "is not formatted: clang-format-19 -i it")
            if started.returncode != 0:
                project.find("clang-format-19", output.strip())
    for name in project.files():
        if name.suffix == ".sh" or (project.read(name) or "").startswith("#!/usr/bin/env bash"):
            parsed = subprocess.run(["bash", "-n", str(project.root / name)], capture_output=True, text=True)
            if parsed.returncode != 0:
                project.find(name.as_posix(), parsed.stderr.strip())
            if not os.access(project.root / name, os.X_OK):
                project.find(name.as_posix(), "is a script without its run bit")


if __name__ == "__main__":
    run(lint)

"""What every lint shares: the project's files, and how findings are told. Only Python's own library."""

import argparse
import pathlib
import subprocess
import sys

NOT_OURS = {".git", "build", "runs"}
CODE = {".h", ".cpp", ".cu", ".cuh"}


class Project:
    """The tree under `root`: tracked files and those about to be, never what git ignores."""

    def __init__(self, root, build=None):
        self.root = pathlib.Path(root).resolve()
        self.build = pathlib.Path(build).resolve() if build else self.root / "build"
        self.findings = []

    def files(self, suffixes=None):
        """Paths relative to the root, sorted; only those with one of `suffixes`, if given."""
        asked = subprocess.run(
            ["git", "-C", str(self.root), "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            capture_output=True, text=True)
        if asked.returncode == 0:
            names = [pathlib.PurePath(name) for name in asked.stdout.split("\0") if name]
        else:  # not a git checkout: whatever lies there
            names = [path.relative_to(self.root) for path in self.root.rglob("*")]
        names = [name for name in set(names) if name.parts[0] not in NOT_OURS and (self.root / name).is_file()]
        return sorted(name for name in names if suffixes is None or name.suffix in suffixes)

    def read(self, name):
        """The text of a file, or None if it is not UTF-8 text."""
        data = (self.root / name).read_bytes()
        if b"\0" in data:
            return None
        try:
            return data.decode()
        except UnicodeDecodeError:
            return None

    def find(self, where, message):
        self.findings.append(f"{where}: {message}")


def run(lint):
    """Runs lint(project) as a program; exits 1 after printing one line a finding."""
    parser = argparse.ArgumentParser(description=sys.modules[lint.__module__].__doc__)
    parser.add_argument("--root", default=pathlib.Path(__file__).parent.parent.parent, help="the tree to read")
    parser.add_argument("--build", help="its build folder (default: build/ in it)")
    arguments = parser.parse_args()
    project = Project(arguments.root, arguments.build)
    lint(project)
    for finding in project.findings:
        print(finding)
    sys.exit(1 if project.findings else 0)

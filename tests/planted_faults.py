"""Planted faults: patches of the product that a test has to find. A patch's first line says in plain words what is wrong."""

import contextlib
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent


def fail(message):
    sys.exit(f"{pathlib.Path(sys.argv[0]).name}: {message}")


class Tree:
    """A copy of the tree, to plant faults in."""

    def __init__(self, root):
        self.root = root
        names = subprocess.run(["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
                               capture_output=True, text=True, check=True).stdout.split("\0")
        for name in filter(None, names):
            if (ROOT / name).is_file():
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, root / name)

    def _apply(self, patch, *options):
        return subprocess.run(["git", "apply", *options, str(patch)], cwd=self.root, capture_output=True, text=True)

    def check(self, patches, least):
        """Ends the program unless every patch applies and there are enough of them."""
        refused = 0
        for patch in patches:
            checked = self._apply(patch, "--check")
            if checked.returncode != 0:
                refused += 1
                print(f"{patch.name} does not apply: {checked.stderr.strip()}")
        if refused:
            sys.exit(1)
        if len(patches) < least:
            fail(f"{len(patches)} faults; there have to be {least}")

    @contextlib.contextmanager
    def planted(self, patch):
        """The fault is in the tree for as long as the context lasts."""
        self._apply(patch)
        yield
        self._apply(patch, "--reverse")

    def build(self, target):
        """Builds the target alone, each source by itself: a fault is in one or two of them."""
        environment = dict(os.environ, CCACHE_BASEDIR=str(self.root), CCACHE_NOHASHDIR="1")
        commands = [["cmake", "--build", "build", "--target", target]]
        if not (self.root / "build").exists():
            commands.insert(0, ["cmake", "--preset", "ci", "-DCMAKE_UNITY_BUILD=OFF"])
        for command in commands:
            done = subprocess.run(command, cwd=self.root, env=environment, capture_output=True, text=True)
            if done.returncode != 0:
                fail(f"{' '.join(command)} failed:\n{done.stdout[-4000:]}{done.stderr[-2000:]}")


@contextlib.contextmanager
def scratch_tree():
    with tempfile.TemporaryDirectory(prefix="troupe-faults-") as scratch:
        yield Tree(pathlib.Path(scratch))


def patches_of(folder, names):
    """Those of a test's folder, or the named ones among them."""
    patches = sorted((folder / "faults").glob("*.patch"))
    unknown = set(names) - {patch.stem for patch in patches}
    if unknown:
        fail(f"no fault is called {', '.join(sorted(unknown))}")
    return [patch for patch in patches if not names or patch.stem in names]

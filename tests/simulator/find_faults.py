#!/usr/bin/env python3
"""Plants each fault of tests/simulator/faults in a copy of the tree and sees the simulator find it.

    find_faults.py            builds and runs; a table of who was found by which seed; 1 where one was not
    find_faults.py --check    only whether every patch still applies
"""

import argparse
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time

FOLDER = pathlib.Path(__file__).resolve().parent
ROOT = FOLDER.parent.parent
LEAST = 20


def apply(tree, patch, *options):
    return subprocess.run(["git", "apply", *options, str(patch)], cwd=tree, capture_output=True, text=True)


def copy_tree(to):
    names = subprocess.run(["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
                           capture_output=True, text=True, check=True).stdout.split("\0")
    for name in filter(None, names):
        if (ROOT / name).is_file():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, to / name)


def build(tree):
    environment = dict(os.environ, CCACHE_BASEDIR=str(tree), CCACHE_NOHASHDIR="1")
    for command in (["cmake", "--preset", "ci"], ["cmake", "--build", "build", "--target", "troupe_simulator"]):
        done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(f"find_faults.py: {' '.join(command)} failed:\n{done.stdout[-4000:]}{done.stderr[-2000:]}")
    return tree / "build" / "tests" / "simulator" / "troupe_simulator"


def run(program, seeds):
    """What the first seed that fails says; None where all hold."""
    done = subprocess.run([str(program), "--seeds", f"0:{seeds}"], capture_output=True, text=True)
    said = re.search(r"^seed (\d+): ([^:]*):", done.stdout, re.M)
    if said:
        return said.groups()
    return None if done.returncode == 0 else ("?", f"the program ended with {done.returncode}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="only whether every patch applies")
    parser.add_argument("--seeds", type=int, default=10000, help="that are tried at most")
    parser.add_argument("names", nargs="*", help="only these faults")
    arguments = parser.parse_args()
    patches = sorted(p for p in (FOLDER / "faults").glob("*.patch") if not arguments.names or p.stem in arguments.names)
    failures = 0
    with tempfile.TemporaryDirectory(prefix="troupe-faults-") as scratch:
        tree = pathlib.Path(scratch)
        copy_tree(tree)
        for patch in patches:
            checked = apply(tree, patch, "--check")
            if checked.returncode != 0:
                failures += 1
                print(f"{patch.name} does not apply: {checked.stderr.strip()}")
        if not arguments.names and len(patches) < LEAST:
            sys.exit(f"find_faults.py: {len(patches)} faults; there have to be {LEAST}")
        if arguments.check or failures:
            sys.exit(1 if failures else 0)
        if clean := run(build(tree), 200):
            sys.exit(f"find_faults.py: seed {clean[0]} fails without any fault: {clean[1]}")
        print(f"{'fault':36} {'seed':>6}  {'invariant':44} {'s':>6}")
        for patch in patches:
            apply(tree, patch)
            program = build(tree)
            begun = time.monotonic()
            found = run(program, arguments.seeds)
            failures += found is None
            seed, invariant = found or ("-", "NOT FOUND")
            print(f"{patch.stem:36} {seed:>6}  {invariant:44} {time.monotonic() - begun:6.1f}", flush=True)
            apply(tree, patch, "--reverse")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Plants each fault of tests/simulator/faults in a copy of the tree and sees the simulator find it.

    find_faults.py            builds and runs; a table of who was found by which seed; 1 where one was not
    find_faults.py --check    only whether every patch still applies
"""

import argparse
import pathlib
import re
import subprocess
import sys
import time

FOLDER = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER.parent))
import planted_faults  # noqa: E402

LEAST = 20


def build(tree):
    tree.build("troupe_simulator")
    return tree.root / "build" / "tests" / "simulator" / "troupe_simulator"


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
    patches = planted_faults.patches_of(FOLDER, arguments.names)
    failures = 0
    with planted_faults.scratch_tree() as tree:
        tree.check(patches, 1 if arguments.names else LEAST)
        if arguments.check:
            return
        if clean := run(build(tree), 200):
            planted_faults.fail(f"seed {clean[0]} fails without any fault: {clean[1]}")
        print(f"{'fault':36} {'seed':>6}  {'invariant':44} {'s':>6}")
        for patch in patches:
            with tree.planted(patch):
                program = build(tree)
                begun = time.monotonic()
                found = run(program, arguments.seeds)
                failures += found is None
                seed, invariant = found or ("-", "NOT FOUND")
                print(f"{patch.stem:36} {seed:>6}  {invariant:44} {time.monotonic() - begun:6.1f}", flush=True)
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Plants each fault of tests/layout/faults in a copy of the tree and sees the layout fuzzer catch it.

    find_faults.py            builds and runs; in how many cases each was caught; 1 where one was in less than 95 % of them
    find_faults.py --check    only whether every patch still applies and says where it counts

A patch's second line, "where: ranks.tensor>1 …", holds for the cases in which the fault can show at all.
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

LEAST = 16
LEAST_SHARE = 0.95
# Of a collective. A fault may leave ranks waiting for each other; a step of these models takes milliseconds.
DEADLINE_S = 5


def where_of(patch):
    second = patch.read_text().splitlines()[1]
    if not second.startswith("where: "):
        planted_faults.fail(f"{patch.name}:2: no line \"where: …\" of the cases that the fault is for")
    return second.removeprefix("where: ")


def build(tree):
    tree.build("layout_fuzzer")
    return tree.root / "build" / "tests" / "layout" / "layout_fuzzer"


def count(program, where, cases):
    """How many of the cases differ from one rank, None where the program died; and those that do not."""
    done = subprocess.run([str(program), "--where", where, "--count", "--agreeing", "--cases", str(cases),
                           "--deadline", str(DEADLINE_S)], capture_output=True, text=True)
    if done.returncode == 2:
        planted_faults.fail(f"\"{where}\": {done.stdout.strip()}")
    said = re.search(r"^(\d+) of \d+ layouts differ", done.stdout, re.M)
    escaped = re.findall(r"^\d+: (.*)$", done.stdout, re.M)
    return int(said.group(1)) if done.returncode == 0 and said else None, escaped


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="only whether every patch applies")
    parser.add_argument("--cases", type=int, default=40, help="for each fault")
    parser.add_argument("names", nargs="*", help="only these faults")
    arguments = parser.parse_args()
    patches = planted_faults.patches_of(FOLDER, arguments.names)
    wheres = {patch: where_of(patch) for patch in patches}
    failures = 0
    with planted_faults.scratch_tree() as tree:
        tree.check(patches, 1 if arguments.names else LEAST)
        if arguments.check:
            return
        differing, _ = count(build(tree), "", 5 * arguments.cases)
        if differing != 0:
            planted_faults.fail(f"{differing} of {5 * arguments.cases} layouts differ from one rank without any fault")
        print(f"{'fault':52} {'caught':>6} {'of':>4}  {'s':>6}")
        for patch in patches:
            with tree.planted(patch):
                program = build(tree)
                begun = time.monotonic()
                caught, escaped = count(program, wheres[patch], arguments.cases)
                missed = caught is None or caught < LEAST_SHARE * arguments.cases
                failures += missed
                print(f"{patch.stem:52} {'died' if caught is None else caught:>6} {arguments.cases:>4}  "
                      f"{time.monotonic() - begun:6.1f}{'  TOO FEW; not in' if missed else ''}", flush=True)
                for case in escaped if missed else []:
                    print(f"    {case}")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()

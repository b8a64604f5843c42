#!/usr/bin/env python3
"""What a run costs beside its steps: the time from exec to the first line of metrics, the processor time of every
thread that does not compute, in head, mpirun and workers, and what --trace adds to a step.

    python3 tests/bench/run_overhead.py --program build/troupe [--mode processes|ranks] [--ranks 2] [--starts 5]
                                        [--traces 0]

Threads are told apart by their names; those of COMPUTE are a rank's own work. Shares are of the wall time between two
samples in the middle of the run: 100% is one core. Linux only (/proc).
"""

import argparse
import collections
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

# A step of this takes about 10 ms on two ranks of one thread each.
CONFIG = """[model]
layers = {layers}
width = 128
heads = 4
context = 64

[data]
train = "text.txt"
tokenizer = "bytes"

[train]
steps = {steps}
sequence_length = 64
global_batch = {batch}
"""
COMPUTE = ("rank", "pool")


def family(root):
    """The process and all below it."""
    children = collections.defaultdict(list)
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat") as file:
                parent = int(file.read().rpartition(")")[2].split()[1])
        except OSError:
            continue
        children[parent].append(int(name))
    found = [root]
    for process in found:
        found += children[process]
    return found


def role(process):
    with open(f"/proc/{process}/cmdline") as file:
        words = file.read().split("\0")
    return "mpirun" if words[0].endswith("mpirun") else words[1] if len(words) > 1 else words[0]


def cpu_seconds(root):
    """By (process, thread): what it is, and the processor time it has had."""
    times = {}
    for process in family(root):
        try:
            what = role(process)
            for thread in os.listdir(f"/proc/{process}/task"):
                with open(f"/proc/{process}/task/{thread}/schedstat") as file:
                    nanoseconds = int(file.read().split()[0])
                with open(f"/proc/{process}/task/{thread}/comm") as file:
                    times[process, thread] = ((what, file.read().strip()), nanoseconds / 1e9)
        except OSError:
            continue
    return times


class Run:
    def __init__(self, options, folder, steps, trace=False):
        self.out = os.path.join(folder, "out")
        shutil.rmtree(self.out, ignore_errors=True)
        with open(os.path.join(folder, "run.toml"), "w") as file:
            file.write(CONFIG.format(steps=steps, layers=options.layers, batch=options.batch))
        command = [os.path.abspath(options.program), "train", "run.toml", "--out", "out", "--threads", "1",
                   "--" + options.mode, str(options.ranks)] + (["--trace", "trace.json"] if trace else [])
        self.begun = time.monotonic()
        self.process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)

    def lines(self):
        try:
            with open(os.path.join(self.out, "metrics.jsonl")) as file:
                return file.read().count("\n")
        except OSError:
            return 0

    def wait_for_lines(self, lines, nap=0.05):
        while self.lines() < lines:
            if self.process.poll() is not None:
                sys.exit("the run ended early:\n" + self.process.stderr.read().decode())
            time.sleep(nap)
        return time.monotonic()

    def end(self):
        errors = self.process.communicate()[1].decode()
        if self.process.returncode != 0:
            sys.exit(f"the run ended with {self.process.returncode}:\n{errors}")

    def step_seconds(self):
        with open(os.path.join(self.out, "metrics.jsonl")) as file:
            return [json.loads(line)["step_seconds"] for line in file]


def compare_traces(options, folder):
    """Runs with and without --trace in turn; the medians of their steps, but for the first ones."""
    plain, traced = [], []
    for _ in range(options.traces):
        for medians, trace in (plain, False), (traced, True):
            run = Run(options, folder, options.steps, trace)
            run.end()
            medians.append(1000 * statistics.median(run.step_seconds()[20:]))
    ratios = [with_it / without for with_it, without in zip(traced, plain)]
    size = os.path.getsize(os.path.join(folder, "trace.json")) / options.steps
    print(f"{options.ranks} {options.mode}, a step without --trace {statistics.median(plain):.2f} ms "
          f"({min(plain):.2f}–{max(plain):.2f}), with it {statistics.median(traced):.2f} ms "
          f"({min(traced):.2f}–{max(traced):.2f}): x {statistics.median(ratios):.3f} "
          f"({min(ratios):.3f}–{max(ratios):.3f}), {options.traces} pairs; {size:.0f} bytes of trace a step")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default="build/troupe")
    parser.add_argument("--mode", default="processes", choices=["processes", "ranks"])
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--starts", type=int, default=5, help="runs whose start is timed")
    parser.add_argument("--steps", type=int, default=600, help="of the run whose threads are watched; 0: none")
    parser.add_argument("--traces", type=int, default=0, help="pairs of runs with and without --trace; 0: none")
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--batch", type=int, default=4)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        with open(os.path.join(folder, "text.txt"), "w") as file:
            file.write("the rain falls on the green hill and every river runs down to the sea. " * 400)
        starts = []
        for _ in range(options.starts):
            run = Run(options, folder, 2)
            starts.append(run.wait_for_lines(1, nap=0.001) - run.begun)
            run.end()
        if starts:
            print(f"exec to the first line of metrics: median {statistics.median(starts):.3f} s "
                  f"({min(starts):.3f}–{max(starts):.3f}, {len(starts)} starts)")
        if options.traces:
            return compare_traces(options, folder)
        if options.steps == 0:
            return
        run = Run(options, folder, options.steps)
        begin = run.wait_for_lines(20)
        before = cpu_seconds(run.process.pid)
        end = run.wait_for_lines(options.steps - 20)
        after = cpu_seconds(run.process.pid)
        run.end()
        seconds = run.step_seconds()
        shares = collections.Counter()
        for thread, (name, spent) in after.items():
            shares[name] += (spent - before.get(thread, (name, 0))[1]) / (end - begin)
        control = sum(share for (_, name), share in shares.items() if not name.startswith(COMPUTE))
        print(f"{options.ranks} {options.mode}, steps of {1000 * statistics.median(seconds):.1f} ms: "
              f"control threads {100 * control:.2f}% of the wall time")
        for (what, name), share in shares.most_common():
            print(f"  {what:<8}{name:<16}{100 * share:8.2f}%")


if __name__ == "__main__":
    main()

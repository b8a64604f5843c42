"""Includes point down: a file includes only files of a lower rank, or of its own group (docs/architecture.md)."""

import re

from project import CODE, run

# Folder prefix (or pattern) -> rank and group; the first match counts. Groups of one rank do not know each other.
RANKS = [
    (r"runtime/base/", 0, "base"),
    (r"runtime/(actor|wire|net)/", 1, "runtime"),
    (r"kernels/(tensor|autograd|ops|cpu|cuda)/", 1, "kernels"),
    (r"parallel/comm/", 2, "comm"),
    (r"parallel/(mesh|schedule|model|optim|plan)/", 3, "parallel"),
    (r"checkpoint/", 4, "checkpoint"),
    (r"actors/(data|train|serve|rl)/(.*/)?[^/]*_actor\.[^/]*$", 6, "actors"),
    (r"actors/(data|train|serve|rl)/", 5, "pure cores"),
    (r"launcher/", 7, "launcher"),
    (r"tests/", 8, "tests"),
]
# Folders that a rank above them must not know all the same: (rank, what, why).
NEVER = [
    (3, r"runtime/(actor|wire|net)/", "parallel code knows no actors"),
    (4, r"runtime/(actor|wire|net)/", "checkpoints know no actors"),
    (5, r"runtime/actor/", "a pure core is plain code; only *_actor files know actors"),
]
TOP = "runtime|kernels|parallel|checkpoint|actors|launcher|tests"
INCLUDE = re.compile(r'^\s*#\s*include\s*(["<])([^">]+)[">]')


def rank_of(path):
    for pattern, rank, group in RANKS:
        if re.match(pattern, path):
            return rank, group
    return None, None


def lint(project):
    names = project.files(CODE)
    for name in names:
        path = name.as_posix()
        rank, group = rank_of(path)
        if rank is None:
            project.find(path, "lies in no folder of the table in docs/architecture.md")
            continue
        for number, line in enumerate((project.read(name) or "").splitlines(), 1):
            match = INCLUDE.match(line)
            if not match:
                continue
            bracket, target = match.groups()
            where = f"{path}:{number}"
            ours = re.match(rf"({TOP})/", target)
            if not ours:
                if bracket == '"' and not (project.root / target).exists() and (
                        (project.root / path).parent / target).exists():
                    project.find(where, f'"{target}" is named relative to its folder; name it from the root')
                continue
            if bracket == "<":
                project.find(where, f"<{target}> is ours: use quotes")
            their_rank, their_group = rank_of(target)
            if their_rank is None:
                project.find(where, f'"{target}" lies in no folder of the table')
            elif their_rank > rank:
                project.find(where, f'"{target}" points up: {group} (rank {rank}) to {their_group} (rank {their_rank})')
            elif their_rank == rank and their_group != group:
                project.find(where, f'"{target}" points sideways: {group} and {their_group} do not know each other')
            for of_rank, pattern, why in NEVER:
                if rank == of_rank and re.match(pattern, target):
                    project.find(where, f'"{target}": {why}')


if __name__ == "__main__":
    run(lint)

"""Every header compiles alone, with the flags of the build, and says #pragma once.

A header named *-inl.h is included once for each SIMD target, so it has Highway's own guard instead.

A header that some built source includes first is shown to compile alone by the build itself. The others are
compiled here, and again only when they, a header of ours that they reach, or the flags changed.
"""

import concurrent.futures
import hashlib
import json
import os
import re
import shlex
import subprocess

from project import run

ANY_INCLUDE = re.compile(r'^#include ["<]([^">]+)[">]', re.MULTILINE)
INCLUDE = re.compile(r'^\s*#\s*include\s*"([^"]+)"', re.MULTILINE)
INL_GUARD = r"^#if defined\(\w+\) == defined\(HWY_TARGET_TOGGLE\)"


def flags_of_the_build(project):
    """The compiler; every include folder, definition and language flag that a source of ours is built with; and
    what those sources include first."""
    compiler, flags, proven = None, [], set()
    for entry in json.loads((project.build / "compile_commands.json").read_text()):
        if not entry["file"].endswith(".cpp"):
            continue
        source = project.root / entry["directory"] / entry["file"]
        first = ANY_INCLUDE.search(source.read_text()) if source.is_file() else None
        if first:
            proven.add(first.group(1))
        words = entry.get("arguments") or shlex.split(entry["command"])
        words = words[1:] if "ccache" in words[0] else words
        compiler = compiler or words[0]
        index = 1
        while index < len(words):
            word = words[index]
            if word in ("-I", "-isystem"):
                index += 1
                word = f"{word} {words[index]}"
            elif not word.startswith(("-I", "-D", "-std=")):
                word = ""
            if word.startswith("-DTROUPE_"):
                word = ""  # a test's own paths: a header depends on none
            if word and word not in flags:
                flags.append(word)
            index += 1
    return compiler, [part for flag in flags for part in flag.split(" ", 1)], proven


def reached(project, name, seen):
    """Adds `name` and every header of ours that it includes, at any depth."""
    if name in seen or not (project.root / name).is_file():
        return
    seen.add(name)
    for target in INCLUDE.findall(project.read(name) or ""):
        reached(project, target, seen)


def lint(project):
    if not (project.build / "compile_commands.json").is_file():
        project.find(project.build.name, "has no compile_commands.json; configure first (cmake --preset release)")
        return
    compiler, flags, proven = flags_of_the_build(project)
    cache_path = project.build / "lint-headers.json"
    try:
        passed = json.loads(cache_path.read_text())
    except (OSError, ValueError):
        passed = {}

    version = subprocess.run([compiler, "--version"], capture_output=True, text=True).stdout
    keys = {}
    for name in project.files({".h"}):
        inl = name.stem.endswith("-inl")
        if not re.search(INL_GUARD if inl else r"^#pragma once$", project.read(name) or "", re.MULTILINE):
            project.find(name, "lacks Highway's guard (HWY_TARGET_TOGGLE)" if inl else "lacks #pragma once")
        seen = set()
        reached(project, name.as_posix(), seen)
        key = hashlib.sha256(repr((version, flags)).encode())
        for part in sorted(seen):
            key.update(part.encode() + b"\0" + (project.root / part).read_bytes())
        keys[name.as_posix()] = key.hexdigest()

    def compile_alone(name):
        done = subprocess.run(
            [compiler, *flags, "-w", "-fsyntax-only", "-ferror-limit=3", "-x", "c++", "-"],
            input=f'#include "{name}"\n', capture_output=True, text=True, cwd=project.root)
        return name, done

    todo = [name for name, key in keys.items() if name not in proven and passed.get(name) != key]
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for name, done in pool.map(compile_alone, todo):
            if done.returncode == 0:
                passed[name] = keys[name]
            else:
                project.find(name, f"does not compile alone:\n{done.stderr.strip()}")
    cache_path.write_text(json.dumps({name: key for name, key in passed.items() if name in keys}, indent=0))


if __name__ == "__main__":
    run(lint)

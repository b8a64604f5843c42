"""The lints find what they are for: each test plants one violation in a small, clean tree."""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

LINTS = pathlib.Path(__file__).parent

CLEAN = {
    "CMakeLists.txt": "add_subdirectory(runtime)\nadd_subdirectory(kernels)\nadd_subdirectory(tests)\n",
    "runtime/CMakeLists.txt": "troupe_library(base SOURCES base/clock.cpp)\n",
    "runtime/base/clock.h": "#pragma once\nnamespace troupe {\nint seconds();\n}  // namespace troupe\n",
    "runtime/base/clock.cpp": '#include "runtime/base/clock.h"\n\nint troupe::seconds() { return TICKS; }\n',
    "kernels/CMakeLists.txt": "troupe_library(kernels DEPS base SOURCES cpu/add.cpp)  # not cpu/old.cpp\n",
    "kernels/ops/add.h": '#pragma once\n#include "runtime/base/clock.h"\n\nint add(int a, int b);\n',
    "kernels/cpu/add.cpp": '#include "kernels/ops/add.h"\n\nint add(int a, int b) { return a + b; }\n',
    "tests/CMakeLists.txt": "troupe_test(add_test DEPS kernels SOURCES unit/kernels/add_test.cpp)\n",
    "tests/unit/kernels/add_test.cpp": '#include "kernels/ops/add.h"\n\nint main() { return add(1, -1); }\n',
    "tests/run.sh": "#!/usr/bin/env bash\necho all passed\n",
    "README.md": "See [the tests](tests/run.sh).\n\n```sh\ngit clone URL && cd troupe\ntests/run.sh  # all of them\n```\n",
    "build/troupe": "#!/bin/sh\ncase $1 in train) echo '--set --out';; --help) echo train;; *) exit 2;; esac\n",
    ".clang-format": "BasedOnStyle: Google\nColumnLimit: 120\n",
}
PROGRAMS = ("tests/run.sh", "build/troupe")


class Lints(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.root = pathlib.Path(self.folder.name)
        for name, text in CLEAN.items():
            self.write(name, text)
        commands = [{"file": "runtime/base/clock.cpp", "directory": str(self.root),
                     "command": f"clang++-19 -DTICKS=60 -I{self.root} -std=c++20 -O3 -c runtime/base/clock.cpp"}]
        self.write("build/compile_commands.json", json.dumps(commands))

    def write(self, name, text):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        path.chmod(0o755 if name in PROGRAMS else 0o644)

    def run_lint(self, lint):
        return subprocess.run([sys.executable, str(LINTS / f"lint_{lint}.py"), "--root", str(self.root)],
                              capture_output=True, text=True)

    def finds(self, lint, *expected):
        done = self.run_lint(lint)
        self.assertEqual(done.returncode, 1, done.stdout + done.stderr)
        self.assertEqual(done.stderr, "")
        for text in expected:
            self.assertIn(text, done.stdout)

    def passes(self, lint):
        done = self.run_lint(lint)
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "", ""))

    def test_a_clean_tree_passes_every_lint(self):
        for path in sorted(LINTS.glob("lint_*.py")):
            self.passes(path.stem.removeprefix("lint_"))

    def test_an_include_that_points_up_is_found(self):
        self.write("runtime/base/clock.cpp", '#include "kernels/ops/add.h"\n')
        self.finds("includes", "runtime/base/clock.cpp:1", "points up")

    def test_runtime_and_kernels_do_not_know_each_other(self):
        self.write("runtime/actor/mailbox.h", "#pragma once\n")
        self.write("kernels/ops/add.h", '#pragma once\n#include "runtime/actor/mailbox.h"\n')
        self.finds("includes", "kernels/ops/add.h:2", "sideways")

    def test_only_actor_files_know_actors(self):
        self.write("runtime/actor/actor.h", "#pragma once\n")
        self.write("actors/train/trainer_actor.h", '#pragma once\n#include "runtime/actor/actor.h"\n')
        self.passes("includes")
        self.write("actors/train/trainer.h", '#pragma once\n#include "runtime/actor/actor.h"\n')
        self.finds("includes", "actors/train/trainer.h:2", "only *_actor files")
        self.write("actors/train/trainer.h", '#pragma once\n#include "actors/train/trainer_actor.h"\n')
        self.finds("includes", "actors/train/trainer.h:2", "points up")

    def test_a_folder_outside_the_table_is_found(self):
        self.write("kernels/misc/add.h", "#pragma once\n")
        self.finds("includes", "kernels/misc/add.h", "no folder of the table")

    def test_ours_is_included_from_the_root_in_quotes(self):
        self.write("kernels/cpu/add.cpp", '#include <kernels/ops/add.h>\n')
        self.finds("includes", "kernels/cpu/add.cpp:1", "use quotes")
        self.write("kernels/cpu/local.h", "#pragma once\n")
        self.write("kernels/cpu/add.cpp", '#include "local.h"\n')
        self.finds("includes", "kernels/cpu/add.cpp:1", "from the root")

    def test_a_header_that_leans_on_its_includer_is_found(self):
        self.write("kernels/ops/add.h", "#pragma once\nint add(std::vector<int> numbers);\n")
        self.finds("headers", "kernels/ops/add.h", "does not compile alone", "std")

    def test_a_header_is_judged_again_when_one_it_includes_changes(self):
        self.passes("headers")
        self.write("runtime/base/clock.h", "#pragma once\nint seconds()\n")
        self.finds("headers", "kernels/ops/add.h", "runtime/base/clock.h")

    def test_a_header_that_a_built_source_includes_first_is_left_to_the_build(self):
        self.write("runtime/base/clock.h", "#pragma once\nstd::string seconds();\n")
        self.write("kernels/ops/add.h", "#pragma once\n")
        self.passes("headers")
        self.write("runtime/base/clock.cpp", '#include <string>\n\n#include "runtime/base/clock.h"\n')
        self.finds("headers", "runtime/base/clock.h", "does not compile alone")

    def test_a_header_without_pragma_once_is_found(self):
        self.write("kernels/ops/add.h", "int add(int a, int b);\n")
        self.finds("headers", "kernels/ops/add.h", "#pragma once")

    def test_a_tree_that_is_not_configured_is_told_so(self):
        (self.root / "build/compile_commands.json").unlink()
        self.finds("headers", "configure first")

    def test_a_test_that_is_not_built_is_found(self):
        self.write("tests/unit/kernels/sub_test.cpp", "int main() {}\n")
        self.finds("sources", "tests/unit/kernels/sub_test.cpp", "its tests never run")

    def test_a_source_named_only_in_a_comment_is_found(self):
        self.write("kernels/cpu/old.cpp", "\n")
        self.finds("sources", "kernels/cpu/old.cpp")

    def test_a_source_in_a_folder_that_the_root_does_not_add_is_found(self):
        self.write("tests/e2e/CMakeLists.txt", "troupe_test(e2e SOURCES train_test.cpp)\n")
        self.write("tests/e2e/train_test.cpp", "int main() {}\n")
        self.finds("sources", "tests/e2e/train_test.cpp")

    def test_a_listed_source_that_does_not_exist_is_found(self):
        (self.root / "kernels/cpu/add.cpp").unlink()
        self.finds("sources", "kernels/CMakeLists.txt", "cpu/add.cpp")

    def test_bad_formatting_is_found(self):
        self.write("kernels/cpu/add.cpp", "int  add( int a,int b ){return a+b;}\n")
        self.finds("format", "kernels/cpu/add.cpp", "not formatted")

    def test_a_broken_script_and_a_script_without_its_run_bit_are_found(self):
        self.write("launcher/setup.sh", "#!/usr/bin/env bash\nif then\n")
        self.finds("format", "launcher/setup.sh", "syntax error", "run bit")

    def test_a_stranger_at_the_top_level_is_found(self):
        self.write("notes.txt", "hello\n")
        self.finds("words", "notes.txt")

    def test_forbidden_words_are_found_with_their_line(self):
        for text in ("set(DATA /home/me/data)", "see issue #12", "// TODO: later", "<<<<<<< HEAD"):
            self.write("kernels/CMakeLists.txt", "\n" + text + "\n")
            self.finds("words", "kernels/CMakeLists.txt:2")
        self.write("kernels/CMakeLists.txt", "# writes to ${CMAKE_BINARY_DIR}/work/x; mktemp -d troupe-XXXXXX\n")
        self.passes("words")

    def test_binary_files_have_no_words(self):
        self.write("tests/unit/golden.bin", b"\0TODO")
        self.passes("words")

    def test_a_dead_link_and_a_missing_program_are_found(self):
        self.write("README.md", "[gone](docs/gone.md)\n\n```sh\nlauncher/gone.sh\n```\n")
        self.finds("docs", "README.md:1: docs/gone.md", "README.md:4: launcher/gone.sh")

    def test_a_file_named_in_a_snippet_must_exist(self):
        self.write("README.md", "```console\n$ build/troupe train launcher/configs/gone.toml\nstep 1\n```\n")
        self.finds("docs", "README.md:2: launcher/configs/gone.toml")

    def test_a_command_or_option_that_troupe_lacks_is_found(self):
        self.write("README.md", "```sh\nbuild/troupe train --set a.b=1 --out /tmp/x\n```\n")
        self.passes("docs")
        self.write("README.md", "```sh\nbuild/troupe train --sett a.b=1\nbuild/troupe trane x | cat\n```\n")
        self.finds("docs", "README.md:2", "--sett", "README.md:3", "no command 'trane'")

    def test_a_file_named_in_a_sentence_must_exist(self):
        self.write("README.md", "An operation is `kernels/ops/x.h`, such as `kernels/ops/add.h`.\n")
        self.passes("docs")
        self.write("README.md", "First read\n`kernels/ops/sub.h`.\n")
        self.finds("docs", "README.md:2: kernels/ops/sub.h")

    def test_an_unknown_command_is_found(self):
        self.write("README.md", "```sh\nVERBOSE=1 no-such-command-anywhere --now\n```\n")
        self.finds("docs", "README.md:2", "no-such-command-anywhere")


if __name__ == "__main__":
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    unittest.main()

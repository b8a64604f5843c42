#!/usr/bin/env bash
# Everything that must hold before a change lands: installs, configures, lints, builds, tests.
#
#   tests/run.sh                     the whole of it, warnings as errors, in build/
#   tests/run.sh --asan              the same under AddressSanitizer and UBSan, in build/asan/
#   tests/run.sh --tsan              the same under ThreadSanitizer, in build/tsan/
#   tests/run.sh -L unit -R Tape     what follows goes to ctest: builds all, runs only what it selects
#   tests/run.sh -L slow             the long forms, which are left out otherwise
#
# Ends with ctest's summary. Exit code: 0 all passed, 1 something failed, 3 something could not be installed.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

preset=ci
build=build
select=()
for argument in "$@"; do
  case $argument in
    --asan | --tsan)
      preset=${argument#--}
      build=build/$preset
      ;;
    -h | --help)
      sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$0"
      exit 0
      ;;
    *) select+=("$argument") ;;
  esac
done

begun=$SECONDS
stage() { printf '== %4d s  %s\n' $((SECONDS - begun)) "$1"; }
fail() {
  printf 'tests/run.sh: %s\n' "$1" >&2
  exit 1
}

[ ${#select[@]} -gt 0 ] || select=(-LE slow)

stage "packages"
launcher/setup.sh --tests || exit 3

stage "configure ($preset)"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
cmake --preset "$preset" >"$log" 2>&1 || { cat "$log"; fail "cmake --preset $preset failed"; }

stage "lints"
for lint in tests/lint/lint_*.py; do
  python3 "$lint" --build "$build" || fail "$lint found something (above)"
done

stage "build"
cmake --build "$build" -j 2 >"$log" 2>&1 || { grep -v '^\[[0-9/]*\] ' "$log"; fail "the build failed"; }

stage "tests"
export UBSAN_OPTIONS=${UBSAN_OPTIONS:-print_stacktrace=1}
# The summary is held back until the skipped tests are counted, so that it comes last.
ctest --test-dir "$build" --output-on-failure --no-tests=error -j 2 "${select[@]}" 2>&1 | tee "$log" |
  sed '/ tests passed, .* failed out of /,$d'
status=${PIPESTATUS[0]}

# A GoogleTest program that skips single tests still passes for ctest: count those in its output.
tests_log=$build/Testing/Temporary/LastTest.log
skipped=$(sed -n 's/^\[  SKIPPED \] \([0-9]*\) tests\{0,1\}, listed below.*/\1/p' "$tests_log" 2>/dev/null |
  awk '{ n += $1 } END { print n + 0 }')
whole=$(grep -c '\*\*\*\(Skipped\|Not Run\)' "$log")
stage "skipped: $skipped single tests, $whole whole programs"
sed -n 's#^\[  SKIPPED \] \([A-Za-z0-9_/]*\.[A-Za-z0-9_/]*\)$#   skipped: \1#p' "$tests_log" 2>/dev/null | sort -u
sed -n '/ tests passed, .* failed out of /,$p' "$log"
grep -q ' tests passed, ' "$log" || fail "ctest ran nothing (exit code $status)"
[ "$status" -eq 0 ] || exit 1

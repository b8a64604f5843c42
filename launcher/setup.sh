#!/usr/bin/env bash
# Installs what Troupe is built from: Debian 12 packages, by name. Quiet unless something fails; what is
# installed already is skipped, so that a second run needs neither network nor root.
#
#   launcher/setup.sh            what `troupe` needs to be built and run
#   launcher/setup.sh --tests    also what only the tests and lints need
#   launcher/setup.sh --peers    also what golden files and side-by-side timings are made with
#   launcher/setup.sh --update   reads apt's package lists anew, even if nothing is to be installed
#   launcher/setup.sh --list     print the packages instead of installing them
#
# Exit code: 0 all there, 2 bad argument, 3 something could not be installed (the reason is printed).
set -euo pipefail

build=(
  clang-19 lld-19 libstdc++-12-dev libc6-dev cmake ninja-build ccache pkg-config  # compiler and build
  git ca-certificates gzip xz-utils                                               # fetch and unpack
  libboost1.81-dev libfmt-dev libspdlog-dev libtomlplusplus-dev libcli11-dev      # base and command line
  libcapnp-dev capnproto libssl-dev libucx-dev                                    # messages between nodes
  libopenmpi-dev openmpi-bin                                                      # ranks as processes
  libhwy-dev                                                                      # CPU kernels
  libhdf5-dev libxxhash-dev                                                       # checkpoints
  zlib1g-dev libzstd-dev libpcre2-dev libsentencepiece-dev                        # data and tokenizers
)
tests=(libgtest-dev libgmock-dev libbenchmark-dev libclang-rt-19-dev clang-format-19 python3)
peers=(python3-torch python3-numpy python3-sentencepiece libdnnl-dev libopenblas-dev libcaf-dev ucx-utils)

wanted=("${build[@]}")
list=no
update=no
for argument in "$@"; do
  case $argument in
    --tests) wanted+=("${tests[@]}") ;;
    --peers) wanted+=("${peers[@]}") ;;
    --list) list=yes ;;
    --update) update=yes ;;
    -h | --help)
      sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$0"
      exit 0
      ;;
    *)
      echo "setup.sh: unknown argument '$argument'; it takes --tests, --peers, --update and --list" >&2
      exit 2
      ;;
  esac
done
if [ $list = yes ]; then
  printf '%s\n' "${wanted[@]}"
  exit 0
fi
if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
  echo "setup.sh: this is not Debian (no apt-get); install the equivalents of: ${wanted[*]}" >&2
  exit 3
fi

installed=$(dpkg-query -W -f='${db:Status-Status} ${Package}\n' "${wanted[@]}" 2>/dev/null | sed -n 's/^installed //p' || true)
missing=()
for package in "${wanted[@]}"; do
  grep -qxF -- "$package" <<<"$installed" || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || [ $update = yes ] || exit 0

as_root=()
if [ "$(id -u)" -ne 0 ]; then
  if ! command -v sudo >/dev/null; then
    echo "setup.sh: neither root nor sudo; ask someone who is to run: apt-get update && apt-get install ${missing[*]}" >&2
    exit 3
  fi
  as_root=(sudo)
fi

log=$(mktemp)
trap 'rm -f "$log"' EXIT
# Waits for another apt, asks nothing, and shows its output only when it fails.
apt() {
  local status=0
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300 \
    -o Acquire::Retries=3 -o Dpkg::Use-Pty=0 "$@" </dev/null >>"$log" 2>&1 || status=$?
  if [ "$status" -ne 0 ]; then
    cat "$log" >&2
    echo "setup.sh: apt-get $1 failed${missing[*]:+; wanted: ${missing[*]}}" >&2
    exit 3
  fi
}
[ ${#missing[@]} -eq 0 ] || echo "setup.sh: installing ${#missing[@]} packages: ${missing[*]}"
apt update
[ ${#missing[@]} -eq 0 ] || apt install --no-install-recommends "${missing[@]}"

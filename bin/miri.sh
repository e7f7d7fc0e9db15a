#!/usr/bin/env bash
# Runs unit tests under Miri, an interpreter that sees each read and write: of memory that is not one's own or was not written yet,
# by two owners of one place, of what has been freed.
set -euo pipefail
base_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
. "$base_dir/bin/steps.sh"
cd "$base_dir"

# Of the server's own library: the log that fills the write buffers, and all that cuts frames and batches into parts of one piece.
FILTERS=(log::buffer record:: protocol::produce protocol::wire protocol::frame replica::receive)

usage() {
  cat <<USAGE
usage: bin/miri.sh [--all [FILTER...]]
Without arguments: the tests of tests/miri, which are those of the files that hand out memory by hand. Seconds; bin/test.sh runs it.
--all: the unit tests of the library whose names contain a FILTER, by default: ${FILTERS[*]}.
All crates are compiled anew, and a test takes a hundred times as long. What asks the kernel or a C library (zstd) ends with
"unsupported operation", which says nothing of the test.
Needs a nightly compiler (rustup toolchain install nightly --profile minimal), and adds its components miri and rust-src. The exit
code is 3 where they cannot be had.
USAGE
}

case ${1:-} in
  '' | --all) ;;
  --help | -h) usage; exit 0 ;;
  *) usage >&2; exit 1 ;;
esac
# Miri compiles the standard library for itself, once.
rustup component add miri rust-src --toolchain nightly >/dev/null 2>&1 || true
if ! cargo +nightly miri setup >/dev/null 2>&1; then
  fail "there is no Miri here: rustup toolchain install nightly --profile minimal --component miri,rust-src"
  exit 3
fi
target=${CARGO_TARGET_DIR:-$base_dir/target}/miri
# Golden frames are read from files. A write buffer that a device may still write from is never freed, on purpose.
export MIRIFLAGS="-Zmiri-disable-isolation -Zmiri-ignore-leaks ${MIRIFLAGS:-}"
if [[ ${1:-} != --all ]]; then
  exec cargo +nightly miri test --locked --target-dir "$target" --manifest-path tests/miri/Cargo.toml --color never
fi
shift
(($#)) && FILTERS=("$@")
export PROPTEST_CASES=${PROPTEST_CASES:-8}
exec cargo +nightly miri test --locked --target-dir "$target" --lib -- "${FILTERS[@]}"

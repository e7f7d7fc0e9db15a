#!/usr/bin/env bash
# Runs unit tests under Miri, an interpreter that sees each read and write: of memory that is not one's own or was not written yet,
# by two owners of one place, of what has been freed.
set -euo pipefail
base_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
. "$base_dir/bin/steps.sh"
cd "$base_dir"

# Of the server's own library: who hands out memory by hand, and all that cuts frames and batches into parts of one piece.
FILTERS=(log::buffer memory::mapped memory::pieces protocol::frame protocol::produce replica::receive record::)
# These decompress megabytes with other people's code, which would take hours, and zstd is in C, which Miri does not read.
SKIPPED=(record::compression record::inspect)

usage() {
  cat <<USAGE
usage: bin/miri.sh [--all [FILTER...]]
Without arguments: the tests of tests/miri, which are those of the files that hand out memory by hand. Seconds; bin/test.sh runs it.
--all: the unit tests of the library whose names contain a FILTER, one FILTER after the other, and how long each took. By default:
${FILTERS[*]}; never ${SKIPPED[*]}.
All crates are compiled anew, and a test takes a hundred times as long. What asks the kernel or a C library ends all of its FILTER with
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
failed=()
for filter in "${FILTERS[@]}"; do
  step "Miri: $filter"
  began=$(now_ms)
  cargo +nightly miri test --locked --target-dir "$target" --color never --lib -- "$filter" "${SKIPPED[@]/#/--skip=}" || failed+=("$filter")
  done_line "$filter: $(seconds_since "$began")"
done
((${#failed[@]} == 0)) || die "not all is well in ${failed[*]}"

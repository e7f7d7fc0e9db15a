#!/usr/bin/env bash
# Starts one node, with the name and the options of Kafka's own script. Builds the server where that is needed.
set -euo pipefail
base_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
. "$base_dir/bin/steps.sh"

if (($# == 0)) || [[ $1 == --help || $1 == -h ]]; then
  echo "usage: $0 [-daemon] FILE.properties [--override KEY=VALUE]... [OPTION...]
Starts one node from a properties file; logs go to stderr. SIGTERM or Ctrl-C stops it in good order.
  -daemon               run in the background; output in \$LOG_DIR (default: logs/)
  --override KEY=VALUE  a key that counts instead of the file's; may be repeated
  --cpus 0,1            pin one executor to each of these cores
  --print-config        show each effective value and where it came from, and exit
  --version             show the version, and exit
All options of the server: $(release_dir)/kraft-server --help"
  (($#)) && exit 0 || exit 1
fi

daemon=false
if [[ $1 == -daemon ]]; then
  daemon=true
  shift
fi

if is_stale kraft-server; then
  step "Building the server (release)"
  build kraft-server
fi

# A node serves up to max.connections clients; the usual soft limit of 1024 files is far below that.
ulimit -Sn "$(ulimit -Hn)" 2>/dev/null || true

server=("$(release_dir)/kraft-server" "$@")
if [[ $daemon == true ]]; then
  log_dir=${LOG_DIR:-$base_dir/logs}
  mkdir -p "$log_dir"
  out="$log_dir/raft-server-$(basename "${1:-server}" .properties).out"
  setsid nohup "${server[@]}" >"$out" 2>&1 </dev/null &
  pid=$!
  sleep 0.5
  kill -0 "$pid" 2>/dev/null || { tail -n 20 "$out" >&2; die "the server stopped at once; its output is in $out"; }
  echo "pid $pid, output in $out"
else
  exec "${server[@]}"
fi

#!/usr/bin/env bash
# Merges the latency logs that the server writes (latency-*.hlog) into one percentile table, .hgrm file or SVG plot.
set -euo pipefail
base_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
. "$base_dir/bin/steps.sh"
if server_is_stale; then build_server; fi
exec "$(release_dir)/kraft-latency" "$@"

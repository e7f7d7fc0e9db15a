#!/usr/bin/env bash
# Merges the latency logs that the server writes (latency-*.hlog) into one percentile table, .hgrm file or SVG plot.
set -euo pipefail
base_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
. "$base_dir/bin/steps.sh"
if [[ -z ${KRAFT_TOOLS_DIR:-} ]] && is_stale kraft-latency; then build kraft-latency; fi
exec "$(tools_dir)/kraft-latency" "$@"

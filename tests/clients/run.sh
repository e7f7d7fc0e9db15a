#!/usr/bin/env bash
# Every client of clients.py against a quorum of three nodes each: see README.md beside this file.
# Installs what is missing of toolchains (Debian's packages) and clients (from their registries, into build/clients).
set -euo pipefail
base_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
. "$base_dir/bin/steps.sh"
cd "$base_dir"

mkdir -p build/clients
ensure_packages python3:python3
venv="$base_dir/build/clients/venv"
if [[ ! -x $venv/bin/python ]]; then
  python3 -m venv "$venv" >/dev/null 2>&1 || { ensure_packages no-such-command:python3-venv; python3 -m venv "$venv"; }
fi
if [[ " $* " == *" --help "* || " $* " == *" -h "* ]]; then
  PYTHONPATH="$base_dir/tests/processes" exec "$venv/bin/python" tests/clients/matrix.py --help
fi
ensure_packages kcat:kcat ss:iproute2 javac:default-jdk-headless mvn:maven npm:npm cmake:cmake c++:g++ go:golang-go
if is_stale kraft-server; then build kraft-server; fi
exec env PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 PYTHONPATH="$base_dir/tests/processes" "KRAFT_RELEASE_DIR=$(release_dir)" \
  "$venv/bin/python" tests/clients/matrix.py "$@"

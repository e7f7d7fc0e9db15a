#!/usr/bin/env bash
# Debian's prometheus and promtool for the tests of the metrics, unpacked into build/prometheus: nothing is installed, no
# service is started. Prints the directory of the two programs, or the one where they are installed.
set -euo pipefail
base_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
. "$base_dir/bin/steps.sh"

place="$base_dir/build/prometheus"
if [[ ! -x $place/usr/bin/promtool ]]; then
  if command -v prometheus >/dev/null 2>&1 && command -v promtool >/dev/null 2>&1; then
    dirname "$(command -v promtool)"
    exit 0
  fi
  command -v apt-get >/dev/null 2>&1 || {
    fail "missing: prometheus and promtool, and there is no apt-get here: please put both into the PATH."
    exit 1
  }
  rm -rf "$place"
  mkdir -p "$place"
  cd "$place"
  # The package lists of a fresh machine are empty or old: update them only when that is seen to matter.
  if ! apt-get -q download prometheus >download.log 2>&1; then
    # shellcheck disable=SC2024 # The log is this user's.
    if [[ $EUID == 0 ]]; then apt-get -q update >download.log 2>&1; else sudo apt-get -q update >download.log 2>&1; fi || true
    apt-get -q download prometheus >download.log 2>&1 || {
      fail "Debian's package prometheus cannot be fetched: $place/download.log"
      exit 1
    }
  fi
  dpkg-deb -x prometheus_*.deb .
  rm -f prometheus_*.deb
fi
echo "$place/usr/bin"

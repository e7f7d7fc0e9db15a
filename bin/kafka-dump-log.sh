#!/usr/bin/env bash
# Kafka's DumpLogSegments. A live or killed node's last segment has zeros behind its last batch, the space ahead of the
# writer, at which the tool stops with an exception (Kafka's own preallocated segments do the same to it). Such a segment is
# shown up to its last batch, by the tool's own --max-bytes; all else goes to the tool as it came.
set -euo pipefail
base_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
. "$base_dir/bin/steps.sh"

tool=("$base_dir/bin/kafka-run-class.sh" org.apache.kafka.tools.DumpLogSegments)

# The options that matter here, in the two forms that Kafka's parser takes; the others go to the tool in any case.
arguments=("$@")
files='' max_bytes=2147483647
declare -a others=()
while (($#)); do
  case $1 in
    --files=*) files=${1#*=} ;;
    --max-bytes=*) max_bytes=${1#*=} ;;
    --files) files=${2:-}; shift ;;
    --max-bytes) max_bytes=${2:-}; shift ;;
    *) others+=("$1") ;;
  esac
  (($# == 0)) || shift
done
[[ $files == *.log* && $max_bytes =~ ^[0-9]{1,10}$ ]] || exec "${tool[@]}" "${arguments[@]}"
lengths="$(tools_dir)/kraft-dump-log"
[[ -n ${KRAFT_TOOLS_DIR:-} ]] || ! is_stale kraft-dump-log || build kraft-dump-log

# Sets `valid_bytes` where this is a segment with zeros, and only zeros, behind its last batch; fails of anything else.
has_zeros_behind() {
  local what zeros
  [[ $1 == *.log && -f $1 && -r $1 ]] || return 1
  read -r valid_bytes what zeros < <("$lengths" --valid-length -- "$1" 2>/dev/null) || return 1
  [[ $what == zeros ]] || return 1
  note "$1: the $zeros zeros behind its last batch, the space ahead of the writer, are left out"
}

# The runs of the tool, files and largest number of bytes of each: one for every file with zeros, which needs an end of its
# own, and one for all files between two of them.
declare -a run_files=() run_max_bytes=()
between='' has_zeros=false
IFS=, read -ra paths <<<"$files"
for path in "${paths[@]}" ''; do
  if [[ -n $path ]] && ! has_zeros_behind "$path"; then
    between+=${between:+,}$path
    continue
  fi
  [[ -z $between ]] || { run_files+=("$between") run_max_bytes+=("$max_bytes") between=''; }
  [[ -n $path ]] || continue
  has_zeros=true
  run_files+=("$path") run_max_bytes+=("$((valid_bytes < max_bytes ? valid_bytes : max_bytes))")
done
[[ $has_zeros == true ]] || exec "${tool[@]}" "${arguments[@]}"

status=0
for run in "${!run_files[@]}"; do
  "${tool[@]}" --files "${run_files[run]}" --max-bytes "${run_max_bytes[run]}" "${others[@]}" || status=$?
done
exit "$status"

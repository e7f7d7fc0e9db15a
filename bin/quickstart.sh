#!/usr/bin/env bash
# A quorum of three nodes on this machine, under Kafka's own load generator, with its latency histograms.
# Installs and builds what is missing, checks that everything written can be read back, and stops what it started.
set -euo pipefail
base_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
. "$base_dir/bin/steps.sh"

NODES=3 TOPIC=__cluster_metadata
READY_SECONDS_MAX=30 STOP_SECONDS_MAX=15 READ_IDLE_MS_MAX=30000
records=100000 record_size=100 throughput=-1 keep=false port_base=9092 data_dir='' cpus_choice=auto

usage() {
  cat <<USAGE
usage: bin/quickstart.sh [OPTION...]
Builds the server, fetches Apache Kafka's tools, starts three nodes from config/raft-quorum-{1,2,3}.properties, drives
them with kafka-producer-perf-test, reads everything back, and prints the latency histogram per stage.

  --records N       records to produce (default $records)
  --record-size B   bytes per record (default $record_size)
  --throughput R    records per second, -1 for as many as possible (default $throughput)
  --keep            leave the nodes running, and say how to reach and stop them
  --port-base N     nodes on ports N to N+2, HTTP on N+100 to N+102 (default $port_base)
  --data-dir DIR    where the nodes keep their data; new or empty (default build/quickstart-N, emptied first)
  --no-pin          never pin the nodes to cores (default: pin them where there are 4 cores or more)
  --help            this text
USAGE
}

# number OPTION VALUE MINIMUM
number() {
  if [[ ! $2 =~ ^-?[0-9]{1,15}$ ]] || (($2 < $3)); then die "$1 needs a whole number of at least $3, not '$2'"; fi
}

while (($#)); do
  option=$1
  case $option in
    --records | --record-size | --throughput | --port-base | --data-dir)
      (($# >= 2)) || die "$option needs a value; see --help"
      value=$2
      shift
      ;;&
    --records) number "$option" "$value" 1; records=$value ;;
    --record-size) number "$option" "$value" 1; record_size=$value ;;
    --throughput) number "$option" "$value" -1; throughput=$value ;;
    --port-base) number "$option" "$value" 1024; port_base=$value ;;
    --data-dir) data_dir=$value ;;
    --keep) keep=true ;;
    --no-pin) cpus_choice=never ;;
    --help | -h) usage; exit 0 ;;
    *) fail "unknown option $option"; usage >&2; exit 1 ;;
  esac
  shift
done
((port_base <= 65000)) || die "--port-base $port_base leaves no room below port 65536"

node_port() { echo $((port_base + $1 - 1)); }
http_port() { echo $((port_base + 100 + $1 - 1)); }
bootstrap="localhost:$(node_port 1),localhost:$(node_port 2),localhost:$(node_port 3)"
default_data_dir="$base_dir/build/quickstart-$port_base"
began=$(now_ms)

# ---------------------------------------------------------------------------------------------- what it starts it stops
declare -a pids=()
client_pid=''

stop_nodes() {
  local pid deadline
  ((${#pids[@]})) || return 0
  for pid in "${pids[@]}"; do kill -TERM "$pid" 2>/dev/null || true; done
  deadline=$(($(now_ms) + STOP_SECONDS_MAX * 1000))
  for pid in "${pids[@]}"; do
    while kill -0 "$pid" 2>/dev/null && (($(now_ms) < deadline)); do sleep 0.1; done
    if kill -0 "$pid" 2>/dev/null; then
      warn "pid $pid did not stop within $STOP_SECONDS_MAX s: killing it"
      kill -KILL "$pid" 2>/dev/null || true
    fi
    wait "$pid" 2>/dev/null || true
  done
  pids=()
  rm -f "$data_dir/pids"
}

on_exit() {
  local status=$?
  trap '' INT TERM
  for pid in $client_pid $RUNNING_PID; do kill -TERM "$pid" 2>/dev/null || true; done
  if ((${#pids[@]})); then
    note "stopping the nodes (pids ${pids[*]})"
    stop_nodes
  fi
  exit "$status"
}
trap on_exit EXIT
trap 'echo >&2; fail "interrupted"; exit 130' INT
trap 'fail "asked to stop"; exit 143' TERM

# client COMMAND...: in the background and waited for, so that a signal is served at once and not when it ends.
client() {
  local status=0
  "$@" </dev/null &
  client_pid=$!
  wait "$client_pid" || status=$?
  client_pid=''
  return "$status"
}

# failed_with_logs WHY: what went wrong, with what the nodes said last.
failed_with_logs() {
  local n
  fail "$1"
  for ((n = 1; n <= NODES; n++)); do
    [[ -s $data_dir/node-$n.log ]] || continue
    note "the end of $data_dir/node-$n.log:"
    tail -n 12 "$data_dir/node-$n.log" | sed 's/^/    | /' >&2
  done
  exit 1
}

# ------------------------------------------------------------------------------------------------------------ the steps
build_server() {
  step "Building the server (release)"
  if is_stale kraft-server; then
    note "the first build takes two minutes on two cores"
    build kraft-server || exit 1
  else
    done_line "$(release_dir)/kraft-server is up to date"
  fi
}

# Nodes that an earlier --keep left: they hold the ports, and the directory that would be emptied.
check_earlier_run() {
  local pid running=''
  [[ -f $default_data_dir/pids ]] || return 0
  for pid in $(<"$default_data_dir/pids"); do
    # A pid may have been given to another process since: look at what it is.
    if [[ $(readlink "/proc/$pid/exe" 2>/dev/null) == */kraft-server* ]]; then running+=" $pid"; fi
  done
  [[ -z $running ]] || die "the nodes of an earlier --keep still run in $default_data_dir. Stop them first: kill$running"
}

check_ports() {
  local n port holder free used=()
  step "Checking that ports $(node_port 1)-$(node_port 3) and $(http_port 1)-$(http_port 3) are free"
  for ((n = 1; n <= NODES; n++)); do
    for port in "$(node_port "$n")" "$(http_port "$n")"; do
      if port_is_open "$port"; then
        holder=$(port_holder "$port")
        used+=("port $port is in use${holder:+ by $holder}")
      fi
    done
  done
  ((${#used[@]})) || return 0
  for port in "${used[@]}"; do fail "$port"; done
  for ((free = port_base + 10; free < port_base + 1000; free += 10)); do
    for port in $free $((free + 1)) $((free + 2)) $((free + 100)) $((free + 101)) $((free + 102)); do
      port_is_open "$port" && continue 2
    done
    break
  done
  die "other ports: bin/quickstart.sh --port-base $free"
}

prepare_data_dir() {
  if [[ -n $data_dir ]]; then
    [[ ! -e $data_dir || (-d $data_dir && -z $(ls -A "$data_dir")) ]] || die "--data-dir $data_dir is neither new nor an empty directory"
  else
    data_dir=$default_data_dir
    rm -rf "$data_dir"
  fi
  mkdir -p "$data_dir"
  data_dir=$(cd "$data_dir" && pwd)
}

# The cores that this process may use, one per line.
allowed_cores() {
  local range
  sed -n 's/^Cpus_allowed_list:[[:space:]]*//p' /proc/self/status | tr ',' '\n' | while read -r range; do
    seq "${range%-*}" "${range#*-}"
  done
}

# Sets placement[N], the cores of node N, empty for no pinning.
choose_placement() {
  local cores n
  declare -ga placement=('' '' '' '')
  mapfile -t cores < <(allowed_cores)
  if [[ $cpus_choice == never ]]; then
    note "placement: not pinned, as asked"
  elif ((${#cores[@]} >= 4)); then
    for ((n = 1; n <= NODES; n++)); do placement[n]=${cores[n]}; done
    note "placement: nodes pinned to cores ${placement[1]}, ${placement[2]} and ${placement[3]}; the load generator keeps the other $((${#cores[@]} - NODES)) of ${#cores[@]}"
  else
    note "placement: not pinned. ${#cores[@]} cores for three nodes and a load generator: pinned nodes that share a core are slower than free ones"
  fi
}

listener_name() { sed -n 's/^[[:space:]]*listeners[[:space:]]*[=:][[:space:]]*\([A-Z_]*\):.*/\1/p' "$1" | tail -n 1; }

start_nodes() {
  local n config name arguments
  step "Starting three nodes, data in $data_dir"
  choose_placement
  ulimit -Sn "$(ulimit -Hn)" 2>/dev/null || true
  for ((n = 1; n <= NODES; n++)); do
    config="$base_dir/config/raft-quorum-$n.properties"
    [[ -f $config ]] || die "$config is missing"
    name=$(listener_name "$config")
    arguments=("$config" --override "log.dirs=$data_dir/node-$n"
      --override "listeners=${name:-PLAINTEXT}://localhost:$(node_port "$n")"
      --override "controller.quorum.voters=1@localhost:$(node_port 1),2@localhost:$(node_port 2),3@localhost:$(node_port 3)"
      --override "kraft.http.listener=127.0.0.1:$(http_port "$n")")
    [[ -z ${placement[n]} ]] || arguments+=(--cpus "${placement[n]}")
    mkdir -p "$data_dir/node-$n"
    # A session of its own: Ctrl-C reaches this script, which then stops the nodes in good order.
    setsid "$(release_dir)/kraft-server" "${arguments[@]}" \
      >"$data_dir/node-$n.out" 2>"$data_dir/node-$n.log" </dev/null &
    pids+=($!)
    note "node $n: pid ${pids[n - 1]}, localhost:$(node_port "$n"), http://127.0.0.1:$(http_port "$n")/status, log $data_dir/node-$n.log"
  done
  echo "${pids[*]}" >"$data_dir/pids"
}

wait_until_ready() {
  local n ready deadline began_waiting
  began_waiting=$(now_ms)
  deadline=$((began_waiting + READY_SECONDS_MAX * 1000))
  step "Waiting until a leader is known everywhere"
  while :; do
    ready=0
    for ((n = 1; n <= NODES; n++)); do
      kill -0 "${pids[n - 1]}" 2>/dev/null || failed_with_logs "node $n stopped by itself"
      if http_get "$(http_port "$n")" /ready >/dev/null; then ready=$((ready + 1)); fi
    done
    ((ready < NODES)) || break
    (($(now_ms) < deadline)) || failed_with_logs "only $ready of $NODES nodes are ready after $READY_SECONDS_MAX s"
    if [[ -t 2 ]] && (($(now_ms) - began_waiting > 2000)); then printf '\r\e[K    %d of %d ready … %s' "$ready" "$NODES" "$(seconds_since "$began_waiting")" >&2; fi
    sleep 0.05
  done
  [[ -t 2 ]] && printf '\r\e[K' >&2
  find_leader
  done_line "ready after $(seconds_since "$began_waiting"): node $leader leads epoch $(http_get "$(http_port "$leader")" /status | json_number epoch)"
}

find_leader() {
  local n
  for ((n = 1; n <= NODES; n++)); do
    leader=$(http_get "$(http_port "$n")" /status | json_number leader_id || true)
    if [[ -n $leader ]] && ((leader >= 1 && leader <= NODES)); then return 0; fi
  done
  failed_with_logs "no node knows the leader"
}

# The bound of a client's own patience: a quorum that commits nothing must not look like a slow one.
write_client_config() {
  printf 'bootstrap.servers=%s\ndelivery.timeout.ms=30000\nrequest.timeout.ms=10000\nmax.block.ms=20000\n' "$bootstrap" >"$data_dir/client.properties"
}

commit_one() {
  step "Committing one record (kafka-verifiable-producer)"
  run_with_progress "one record acknowledged by a majority" "$data_dir/first-record.log" \
    "$base_dir/bin/kafka-verifiable-producer.sh" --bootstrap-server "$bootstrap" --topic "$TOPIC" --max-messages 1 \
    --command-config "$data_dir/client.properties" || failed_with_logs "the first record was not accepted"
  grep -q '"acked":1[,}]' "$data_dir/first-record.log" ||
    failed_with_logs "the first record was not acknowledged: $(grep -v startup "$data_dir/first-record.log" | head -n 3)"
}

produce() {
  step "kafka-producer-perf-test: $records records of $record_size bytes, $( ((throughput < 0)) && echo 'as fast as possible' || echo "$throughput records/s")"
  client "$base_dir/bin/kafka-producer-perf-test.sh" --topic "$TOPIC" --num-records "$records" --record-size "$record_size" \
    --throughput "$throughput" --bootstrap-server "$bootstrap" --reporting-interval 2000 ||
    failed_with_logs "kafka-producer-perf-test failed"
}

# Everything in the log but control records: the first record, and the load.
read_back() {
  local wanted=$((records + 1)) got last high_watermark
  step "Reading everything back (kafka-console-consumer)"
  # One offset per record is kept, which is all that is compared.
  run_with_progress "read $wanted records" "$data_dir/consumer.log" \
    "$base_dir/bin/kafka-console-consumer.sh" --bootstrap-server "$bootstrap" --topic "$TOPIC" --partition 0 \
    --offset earliest --max-messages "$wanted" --timeout-ms "$READ_IDLE_MS_MAX" \
    --formatter-property print.offset=true --formatter-property print.value=false ||
    failed_with_logs "the consumer failed"
  sed -n 's/^Offset:\([0-9][0-9]*\).*/\1/p' "$data_dir/consumer.log" >"$data_dir/offsets"
  got=$(wc -l <"$data_dir/offsets")
  last=$(tail -n 1 "$data_dir/offsets")
  find_leader
  high_watermark=$(http_get "$(http_port "$leader")" /status | json_number high_watermark)
  if ((got != wanted)); then
    failed_with_logs "wrote $wanted records, read $got (the last at offset ${last:-none}, the high watermark is $high_watermark)"
  fi
  [[ -z $(sort -n "$data_dir/offsets" | uniq -d | head -n 1) ]] || failed_with_logs "the consumer saw an offset twice"
  done_line "wrote $wanted records, read $got: up to offset $last, the high watermark is $high_watermark"
}

# The table of a node that has stopped, which it prints itself; of one that runs, from its interval logs.
show_latency() {
  local files
  shopt -s nullglob
  files=("$data_dir/node-$leader"/latency-*.hlog)
  shopt -u nullglob
  step "Latency on the leader, node $leader, per stage"
  ((${#files[@]})) || failed_with_logs "there is no latency-*.hlog in $data_dir/node-$leader"
  if [[ $keep == true ]]; then
    "$base_dir/bin/kraft-latency.sh" "${files[@]}" || failed_with_logs "kraft-latency cannot read ${files[*]}"
  else
    sed -n '/^stage (us)/,/^Interval log:/{ /^Interval log:/!p }' "$data_dir/node-$leader.out" | grep . ||
      failed_with_logs "node $leader printed no latencies"
  fi
  note "interval logs (HdrHistogram format; merge or plot them with bin/kraft-latency.sh FILE... [--hgrm OUT] [--svg OUT]):"
  printf '      %s\n' "$data_dir"/node-*/latency-*.hlog >&2
}

leave_running() {
  pids=()
  step "The nodes are still running"
  note "bootstrap servers: $bootstrap"
  note "status:            http://127.0.0.1:$(http_port 1)/status (and $(http_port 2), $(http_port 3)); /metrics, /latency, /ready there too"
  note "drive:             bin/kafka-producer-perf-test.sh --topic $TOPIC --num-records 100000 --record-size 100 --throughput -1 --bootstrap-server localhost:$(node_port 1)"
  note "read:              bin/kafka-console-consumer.sh --bootstrap-server localhost:$(node_port 1) --topic $TOPIC --partition 0 --offset earliest"
  note "stop:              kill \$(cat $data_dir/pids)"
}

check_earlier_run
check_ports
prepare_data_dir
build_server
client "$base_dir/bin/fetch-kafka-tools.sh" || exit 1
start_nodes
wait_until_ready
write_client_config
commit_one
produce
read_back
if [[ $keep == true ]]; then
  sleep 6 & client_pid=$!
  note "waiting 6 s for the last interval of the latency log"
  wait "$client_pid"
  client_pid=''
  show_latency
  leave_running
else
  step "Stopping the nodes"
  stop_nodes
  done_line "stopped"
  show_latency
fi
step "Done in $(seconds_since "$began")"

#!/usr/bin/env bash
# Runs a class of Apache Kafka's own jars, with the variables that Kafka's script of this name knows.
# The jars are fetched on first use (fetch-kafka-tools.sh); CLASSPATH, where set, comes before them. KAFKA_TOOLS_VERSION takes those
# of another Kafka than pom.xml's, such as 4.4.0.
set -euo pipefail
base_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

daemon=false gc_log=false name=''
while (($#)); do
  case $1 in
    -daemon) daemon=true; shift ;;
    -loggc) gc_log=true; shift ;;
    -name) name=${2:?-name needs a value}; shift 2 ;;
    *) break ;;
  esac
done
if (($# == 0)); then
  echo "usage: $0 [-daemon] [-name SERVICE] [-loggc] CLASS [OPTION...]" >&2
  exit 1
fi

libs="$base_dir/build/kafka-libs"
if [[ -n ${KAFKA_TOOLS_VERSION:-} ]]; then
  "$base_dir/bin/fetch-kafka-tools.sh" --version "$KAFKA_TOOLS_VERSION" >&2
  [[ -s $libs/kafka-tools-$KAFKA_TOOLS_VERSION.jar ]] || libs+="-$KAFKA_TOOLS_VERSION"
else
  "$base_dir/bin/fetch-kafka-tools.sh" >&2
fi

log_dir=${LOG_DIR:-$base_dir/logs}
if [[ $daemon == true || $gc_log == true ]]; then mkdir -p "$log_dir"; fi

# Unquoted below, as in Kafka: each variable holds several options.
heap=${KAFKA_HEAP_OPTS:--Xmx256M}
performance=${KAFKA_JVM_PERFORMANCE_OPTS:--server -XX:+UseG1GC -XX:MaxGCPauseMillis=20 -XX:InitiatingHeapOccupancyPercent=35 -XX:+ExplicitGCInvokesConcurrent -Djava.awt.headless=true}
log4j=("-Dlog4j2.configurationFile=$base_dir/config/tools-log4j2.properties")
# shellcheck disable=SC2206
[[ -z ${KAFKA_LOG4J_OPTS:-} ]] || log4j=($KAFKA_LOG4J_OPTS)
gc=${KAFKA_GC_LOG_OPTS:-}
if [[ $gc_log == true && -z $gc ]]; then
  gc="-Xlog:gc*:file=$log_dir/${name:-kafka}-gc.log:time,tags:filecount=10,filesize=100M"
fi
# Kafka switches the JMX agent on always; here only where a port is asked for, since it delays the start of a tool.
jmx=${KAFKA_JMX_OPTS:-}
if [[ -n ${JMX_PORT:-} ]]; then
  jmx="${jmx:--Dcom.sun.management.jmxremote=true -Dcom.sun.management.jmxremote.authenticate=false -Dcom.sun.management.jmxremote.ssl=false} -Dcom.sun.management.jmxremote.port=$JMX_PORT -Dcom.sun.management.jmxremote.rmi.port=$JMX_PORT"
fi
extra=${KAFKA_OPTS:-}
if [[ -n ${KAFKA_DEBUG:-} ]]; then
  extra="${JAVA_DEBUG_OPTS:--agentlib:jdwp=transport=dt_socket,server=y,suspend=${DEBUG_SUSPEND_FLAG:-n},address=${JAVA_DEBUG_PORT:-5005}} $extra"
fi

# shellcheck disable=SC2206
command=("${JAVA_HOME:+$JAVA_HOME/bin/}java" $heap $performance $gc $jmx "-Dkafka.logs.dir=$log_dir" "${log4j[@]}"
  -cp "${CLASSPATH:+$CLASSPATH:}$libs/*" $extra "$@")
if [[ $daemon == true ]]; then
  out="$log_dir/${name:-kafka}.out"
  setsid nohup "${command[@]}" >"$out" 2>&1 </dev/null &
  echo "pid $!, output in $out" >&2
else
  exec "${command[@]}"
fi

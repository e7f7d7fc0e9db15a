#!/usr/bin/env bash
base_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# Kafka 4.4 has moved the class.
version=${KAFKA_TOOLS_VERSION:-$(sed -n 's:.*<kafka.version>\(.*\)</kafka.version>.*:\1:p' "$base_dir/pom.xml")}
class=kafka.admin.ConfigCommand
[[ $(printf '%s\n' 4.4 "$version" | sort -V | head -n 1) != 4.4 ]] || class=org.apache.kafka.tools.ConfigCommand
exec "$base_dir/bin/kafka-run-class.sh" "$class" "$@"

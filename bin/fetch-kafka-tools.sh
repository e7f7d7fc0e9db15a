#!/usr/bin/env bash
# Puts Apache Kafka's own command-line tools, at the version that pom.xml names, into build/kafka-libs; those of another
# version into build/kafka-libs-VERSION. Does nothing when they are there already. The other scripts call it on their
# first use.
set -euo pipefail
base_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
. "$base_dir/bin/steps.sh"

usage="usage: $0 [--force] [--version VERSION]
Fetches Apache Kafka's tools from Maven Central into build/kafka-libs (93 jars, 56 MB).
  --force             fetch them again, also when they are there
  --version VERSION   of another Kafka, such as 3.9.0, into build/kafka-libs-VERSION"

libs="$base_dir/build/kafka-libs"
version=$(sed -n 's:.*<kafka.version>\(.*\)</kafka.version>.*:\1:p' "$base_dir/pom.xml")
force=''
while (($#)); do
  case $1 in
    --help | -h) echo "$usage"; exit 0 ;;
    --force) force=yes; shift ;;
    --version)
      [[ ${2:-} =~ ^[0-9]+(\.[0-9]+)+$ ]] || die "--version ${2:-} is no version such as 3.9.0"
      [[ $2 == "$version" ]] || libs="$base_dir/build/kafka-libs-$2"
      version=$2
      shift 2
      ;;
    *) fail "unknown argument $1"; echo "$usage" >&2; exit 1 ;;
  esac
done
mkdir -p "$base_dir/build"

# One run at a time: two nodes or tests may ask for the tools at the same moment.
exec 9>"$base_dir/build/.kafka-libs.lock"
flock 9

# The marker holds the checksum of the pom.xml that the jars came from, so that a change there fetches again.
wanted=$(sha256sum "$base_dir/pom.xml" | cut -d' ' -f1)
if [[ -z $force && -f $libs/.complete && $(<"$libs/.complete") == "$wanted" ]]; then
  exit 0
fi

step "Fetching Apache Kafka $version's tools from Maven Central (56 MB, once)"
java_cmd=${JAVA_HOME:+$JAVA_HOME/bin/}java
ensure_packages "$java_cmd:default-jre-headless" mvn:maven
java_major=$("$java_cmd" -version 2>&1 | sed -n 's/.* version "\([0-9]*\).*/\1/p')
((${java_major:-0} >= 17)) || die "Java ${java_major:-of unknown version} found ($java_cmd); Kafka $version's tools need 17 or newer."

part="$libs.part.$$"
trap 'rm -rf "$part"; [[ -z $RUNNING_PID ]] || kill "$RUNNING_PID" 2>/dev/null' EXIT
run_with_progress "mvn dependency:copy-dependencies" "$base_dir/build/mvn.log" \
  mvn --batch-mode --no-transfer-progress --strict-checksums --file "$base_dir/pom.xml" \
  -Dkafka.version="$version" dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$part" ||
  die "Maven Central cannot be reached, or refused: see above. Proxies go into ~/.m2/settings.xml."

# Kafka 3.9 brings a binding of its own for SLF4J, which would take the place of pom.xml's.
rm -f "$part"/slf4j-reload4j-*.jar

for jar in "kafka-tools-$version" "kafka_2.13-$version" "kafka-clients-$version"; do
  [[ -s $part/$jar.jar ]] || die "$jar.jar is not among the jars that Maven fetched into $part"
done
said=$("$java_cmd" -cp "$part/*" org.apache.kafka.tools.TopicCommand --version 2>/dev/null || true)
[[ $said == "$version"* ]] || die "the fetched tools do not run: TopicCommand --version said '$said', not $version"

echo "$wanted" >"$part/.complete"
rm -rf "$libs"
mv "$part" "$libs"
done_line "$(find "$libs" -name '*.jar' | wc -l) jars in ${libs#"$base_dir/"}"

#!/usr/bin/env bash
# Kafka's own command for topics, against AGENTFLOW_KAFKA or the broker of `make kafka`.
#
#   infra/kafka/topics.sh --create --topic orders --partitions 4
#   infra/kafka/topics.sh --list
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
lib=$("$here/fetch.sh")
# Warnings go nowhere: the command prints what matters.
exec "${JAVA_HOME:+$JAVA_HOME/bin/}java" -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Xmx128m \
    -Dlog4j2.level=off -cp "$lib/*" org.apache.kafka.tools.TopicCommand \
    --bootstrap-server "${AGENTFLOW_KAFKA:-127.0.0.1:9092}" "$@"

#!/usr/bin/env bash
# A Kafka broker that is too old for AgentFlow, in the ZooKeeper of AGENTFLOW_ZOOKEEPER.
#
#   zookeeper.sh run -- broker.sh run -- COMMAND…
#
# COMMAND finds AGENTFLOW_KAFKA_OLD (host:port) in its environment. The other commands are those of
# ../broker.sh.
set -euo pipefail

# shellcheck disable=SC2034,SC2154 # service.sh reads and sets them
here=$(cd "$(dirname "$0")" && pwd)
service=kafka-old
fetch="$here/fetch.sh"
ports=1
heap=256m
# shellcheck source=infra/java/service.sh
source "$here/../../java/service.sh"

prepare() {
    local jars=("$lib"/*.jar)
    CLASSPATH=$(IFS=: && printf '%s' "${jars[*]}")
    export CLASSPATH
    {
        printf 'broker.id=1\nlisteners=PLAINTEXT://127.0.0.1:%d\n' "$2"
        printf 'log.dirs=%s/data\n' "$1"
        printf 'zookeeper.connect=%s\n' "${AGENTFLOW_ZOOKEEPER:?is not set: see the head of $0}"
        printf 'offsets.topic.replication.factor=1\noffsets.topic.num.partitions=1\n'
    } >"$1/server.properties"
    options=()
    main=(kafka.Kafka "$1/server.properties")
}

# One request Metadata, version 1, about no topics: it answers with itself as the only broker when it
# is registered. The answer: length, correlation id, number of brokers.
ready() {
    local length answer
    {
        exec 3<>"/dev/tcp/127.0.0.1/$2" || return 1
    } 2>/dev/null
    printf '\0\0\0\016\0\003\0\001\0\0\0\001\377\377\0\0\0\0' >&3
    length=$(timeout 5 od -An -v -tx1 -N4 <&3 | tr -d ' \n')
    answer=$(timeout 5 od -An -v -tx1 -N$((16#${length:-0})) <&3 | tr -d ' \n')
    exec 3>&-
    [ "${answer:0:16}" = 0000000100000001 ]
}

address() { printf '127.0.0.1:%d\n' "$1"; }

environment() { printf 'AGENTFLOW_KAFKA_OLD=%s\n' "$(address "$2")"; }

service_main "$@"

#!/usr/bin/env bash
# A real Kafka broker (KRaft, one node) for tests and local work, without Docker.
#
#   broker.sh start DIR [PORT]      starts one with its data under DIR; prints 127.0.0.1:PORT when it answers
#   broker.sh stop DIR              ends it in good order; its data stay
#   broker.sh restart DIR [PORT]    stop and start
#   broker.sh kill DIR              ends it as a crash would (SIGKILL)
#   broker.sh env DIR               how to reach it, as lines NAME=value
#   broker.sh foreground DIR [PORT] starts it and stays until Ctrl-C
#   broker.sh run -- COMMAND…       runs COMMAND beside a broker that is gone afterwards
#
# A start where data are continues with them, on the port that it had if that is free. Without PORT
# free ports are chosen. Beside PORT it uses the two after it: PORT + 1 is the same broker behind SASL
# (SASL_PLAINTEXT, mechanism PLAIN), PORT + 2 its controller. Everything listens on 127.0.0.1 only.
#
# COMMAND of `run` finds in its environment what `env` prints: AGENTFLOW_KAFKA (host:port),
# AGENTFLOW_KAFKA_SASL, AGENTFLOW_KAFKA_SASL_USER and _PASSWORD, AGENTFLOW_KAFKA_DIR,
# AGENTFLOW_KAFKA_LIB (the jars), AGENTFLOW_KAFKA_SCRIPT (this script).
#
# AGENTFLOW_KAFKA_ADVERTISED=HOST:PORT is where clients are told to connect instead, for a proxy that
# tests put in between.
# AGENTFLOW_KAFKA_LOG=info makes DIR/log/broker.log say more.
set -euo pipefail

# shellcheck disable=SC2034,SC2154 # service.sh reads and sets them
here=$(cd "$(dirname "$0")" && pwd)
service=kafka
fetch="$here/fetch.sh"
ports=3
heap=512m
# shellcheck source=infra/java/service.sh
source "$here/../java/service.sh"

prepare() {
    local dir=$1 port=$2 id jars
    {
        cat "$here/server.properties"
        printf '\n# From broker.sh.\n'
        printf 'listeners=PLAIN://127.0.0.1:%d,SASL://127.0.0.1:%d,CONTROLLER://127.0.0.1:%d\n' "$port" $((port + 1)) $((port + 2))
        [ -z "${AGENTFLOW_KAFKA_ADVERTISED:-}" ] || printf 'advertised.listeners=PLAIN://%s,SASL://127.0.0.1:%d\n' "$AGENTFLOW_KAFKA_ADVERTISED" $((port + 1))
        printf 'controller.quorum.voters=1@127.0.0.1:%d\n' $((port + 2))
        printf 'log.dirs=%s/data\n' "$dir"
    } >"$dir/server.properties"
    jars=("$lib"/*.jar)
    CLASSPATH=$(IFS=: && printf '%s' "${jars[*]}")
    export CLASSPATH
    options=(
        -Dkafka.logs.dir="$dir/log"
        -Dlog4j2.configurationFile="$here/log4j2.properties"
        -Dkafka.log.level="${AGENTFLOW_KAFKA_LOG:-warn}"
    )
    main=(kafka.Kafka "$dir/server.properties")
    [ ! -e "$dir/data/meta.properties" ] || return 0

    # 16 bytes in base64; of its 64 characters only those that no command line mistakes for an option.
    id=$(head -c 16 /dev/urandom | base64 | tr '+/' 'xy' | tr -d '=')
    java_options "$dir"
    [ ! -s "$archive" ] || java_options+=(-XX:SharedArchiveFile="$archive")
    if ! "$java" "${java_options[@]}" -Xmx128m "${options[@]}" kafka.tools.StorageTool \
        format --cluster-id "$id" --config "$dir/server.properties" </dev/null >"$dir/out" 2>&1; then
        tail_of "$dir"
        die "could not format $dir/data"
    fi
}

# A broker answers when it names itself as a member of its cluster; before, its port may be open
# already. One request Metadata, version 2, about no topics. The answer: length, correlation id,
# number of brokers, …, the id of the cluster, which tells this broker from any other on the port.
ready() {
    local dir=$1 port=$2 id length answer
    id=$(sed -n 's/^cluster.id=//p' "$dir/data/meta.properties" | tr -d '\n' | od -An -v -tx1 | tr -d ' \n')
    {
        exec 3<>"/dev/tcp/127.0.0.1/$port" || return 1
    } 2>/dev/null
    printf '\0\0\0\016\0\003\0\002\0\0\0\001\377\377\0\0\0\0' >&3
    length=$(timeout 5 od -An -v -tx1 -N4 <&3 | tr -d ' \n')
    answer=$(timeout 5 od -An -v -tx1 -N$((16#${length:-0})) <&3 | tr -d ' \n')
    exec 3>&-
    [ "${answer:8:8}" = 00000001 ] && [[ $answer == *"$id"* ]]
}

address() { printf '127.0.0.1:%d\n' "$1"; }

environment() {
    printf 'AGENTFLOW_KAFKA=127.0.0.1:%d\n' "$2"
    printf 'AGENTFLOW_KAFKA_SASL=127.0.0.1:%d\n' $(($2 + 1))
    # As in server.properties.
    printf 'AGENTFLOW_KAFKA_SASL_USER=agentflow\n'
    printf 'AGENTFLOW_KAFKA_SASL_PASSWORD=agentflow-test\n'
    printf 'AGENTFLOW_KAFKA_DIR=%q\n' "$1"
    printf 'AGENTFLOW_KAFKA_LIB=%q\n' "$lib"
    printf 'AGENTFLOW_KAFKA_SCRIPT=%q\n' "$here/broker.sh"
}

service_main "$@"

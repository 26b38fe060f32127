#!/usr/bin/env bash
# The ZooKeeper that an old Kafka broker keeps its cluster in.
#
#   zookeeper.sh run -- COMMAND…   runs COMMAND beside one that is gone afterwards
#
# COMMAND finds AGENTFLOW_ZOOKEEPER (host:port) in its environment. The other commands are those of
# ../broker.sh.
set -euo pipefail

# shellcheck disable=SC2034,SC2154 # service.sh reads and sets them
here=$(cd "$(dirname "$0")" && pwd)
service=zookeeper
fetch="$here/fetch.sh"
ports=1
heap=128m
# shellcheck source=infra/java/service.sh
source "$here/../../java/service.sh"

prepare() {
    local jars=("$lib"/*.jar)
    CLASSPATH=$(IFS=: && printf '%s' "${jars[*]}")
    export CLASSPATH
    {
        printf 'dataDir=%s/data\n' "$1"
        printf 'clientPortAddress=127.0.0.1\nclientPort=%d\n' "$2"
        printf 'admin.enableServer=false\nmaxClientCnxns=0\n4lw.commands.whitelist=ruok\n'
    } >"$1/zookeeper.properties"
    options=()
    main=(org.apache.zookeeper.server.quorum.QuorumPeerMain "$1/zookeeper.properties")
}

ready() {
    local answer=
    {
        exec 3<>"/dev/tcp/127.0.0.1/$2" || return 1
    } 2>/dev/null
    printf ruok >&3
    read -r -t 5 -N 4 answer <&3 || true
    exec 3>&-
    [ "$answer" = imok ]
}

address() { printf '127.0.0.1:%d\n' "$1"; }

environment() { printf 'AGENTFLOW_ZOOKEEPER=%s\n' "$(address "$2")"; }

service_main "$@"

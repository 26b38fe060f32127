#!/usr/bin/env bash
# A schema registry that speaks Confluent's API, for tests and local work, without Docker: Apicurio,
# with everything in memory. What it was told is gone when it ends.
#
#   registry.sh start DIR [PORT]      starts one, what it says goes to DIR; prints its URL when it answers
#   registry.sh stop DIR              ends it
#   registry.sh restart DIR [PORT]    stop and start: on the same port, and empty
#   registry.sh kill DIR              ends it as a crash would (SIGKILL)
#   registry.sh env DIR               how to reach it, as a line NAME=value
#   registry.sh foreground DIR [PORT] starts it and stays until Ctrl-C
#   registry.sh run -- COMMAND…       runs COMMAND beside a registry that is gone afterwards
#
# Without PORT a free one is chosen. It listens on 127.0.0.1 only. COMMAND of `run` finds
# AGENTFLOW_SCHEMA_REGISTRY in its environment: the URL under which /subjects and /schemas are.
set -euo pipefail

# shellcheck disable=SC2034,SC2154 # service.sh reads and sets them
here=$(cd "$(dirname "$0")" && pwd)
service=registry
fetch="$here/fetch.sh"
ports=1
heap=256m
# shellcheck source=infra/java/service.sh
source "$here/../java/service.sh"

path=/apis/ccompat/v7

prepare() {
    options=(
        -Dquarkus.http.host=127.0.0.1
        -Dquarkus.http.port="$2"
        -Dquarkus.log.level=WARN
        '-Dquarkus.log.category."io.apicurio".level=WARN'
        -Dquarkus.banner.enabled=false
        -Dquarkus.http.access-log.enabled=false
    )
    main=(-jar "$lib"/apicurio-registry-app-*-runner.jar)
}

ready() {
    local status=
    {
        exec 3<>"/dev/tcp/127.0.0.1/$2" || return 1
    } 2>/dev/null
    printf 'GET %s/subjects HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n' "$path" >&3
    read -r -t 5 _ status _ <&3 || true
    exec 3>&-
    [ "$status" = 200 ]
}

address() { printf 'http://127.0.0.1:%d%s\n' "$1" "$path"; }

environment() { printf 'AGENTFLOW_SCHEMA_REGISTRY=%s\n' "$(address "$2")"; }

service_main "$@"

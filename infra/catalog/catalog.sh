#!/usr/bin/env bash
# An Iceberg REST catalog for tests and local work, without Docker: the one with which Apache Iceberg
# tests clients of that protocol. Its warehouse is on S3.
#
#   catalog.sh start DIR [PORT]      starts one with its data under DIR; prints its URL when it answers
#   catalog.sh stop DIR              ends it; its data stay
#   catalog.sh restart DIR [PORT]    stop and start
#   catalog.sh kill DIR              ends it as a crash would (SIGKILL)
#   catalog.sh env DIR               how to reach it, as lines NAME=value
#   catalog.sh foreground DIR [PORT] starts it and stays until Ctrl-C
#   catalog.sh run -- COMMAND…       runs COMMAND beside a catalog that is gone afterwards
#
# Whatever starts it finds the S3 server in its environment, as `infra/s3/s3.sh env` names it:
# AGENTFLOW_S3_ENDPOINT, _ACCESS_KEY, _SECRET_KEY, _BUCKET and _REGION. So, with both:
#
#   infra/s3/s3.sh run -- infra/catalog/catalog.sh run -- COMMAND…
#
# A start where data are continues with the tables that it had. Without PORT a free one is chosen. It
# listens on 127.0.0.1 only and asks nobody who they are.
#
# COMMAND of `run` finds in its environment what `env` prints: AGENTFLOW_ICEBERG_REST, the URL that
# clients are given (they add /v1/…), and AGENTFLOW_ICEBERG_WAREHOUSE, where new tables go. Clients
# are told nothing about S3 by this catalog: they need the AGENTFLOW_S3_* themselves.
set -euo pipefail

# shellcheck disable=SC2034,SC2154 # service.sh reads and sets them
here=$(cd "$(dirname "$0")" && pwd)
service=catalog
fetch="$here/fetch.sh"
ports=1
heap=256m
# shellcheck source=infra/java/service.sh
source "$here/../java/service.sh"

prepare() {
    local jars=("$lib"/*.jar) name
    for name in ENDPOINT ACCESS_KEY SECRET_KEY BUCKET REGION; do
        name=AGENTFLOW_S3_$name
        if [ -z "${!name:-}" ]; then
            say "hint: infra/s3/s3.sh run -- $0 … sets it, and the rest"
            die "$name is not set"
        fi
    done
    printf 's3://%s/warehouse\n' "$AGENTFLOW_S3_BUCKET" >"$1/warehouse"
    CLASSPATH=$(IFS=: && printf '%s' "${jars[*]}")
    export CLASSPATH
    # For server.xml.
    options=(
        -Dagentflow.port="$2"
        -Dagentflow.tables="$1/tables.db"
        -Dagentflow.warehouse="$(cat "$1/warehouse")"
        -Dagentflow.s3.endpoint="$AGENTFLOW_S3_ENDPOINT"
        -Dagentflow.s3.access-key="$AGENTFLOW_S3_ACCESS_KEY"
        -Dagentflow.s3.secret-key="$AGENTFLOW_S3_SECRET_KEY"
        -Dagentflow.s3.region="$AGENTFLOW_S3_REGION"
        -Dorg.slf4j.simpleLogger.defaultLogLevel=warn
    )
    main=(org.eclipse.jetty.xml.XmlConfiguration "$here/server.xml")
}

ready() {
    local status=
    {
        exec 3<>"/dev/tcp/127.0.0.1/$2" || return 1
    } 2>/dev/null
    printf 'GET /v1/config HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n' >&3
    read -r -t 5 _ status _ <&3 || true
    exec 3>&-
    [ "$status" = 200 ]
}

address() { printf 'http://127.0.0.1:%d\n' "$1"; }

environment() {
    printf 'AGENTFLOW_ICEBERG_REST=%s\n' "$(address "$2")"
    printf 'AGENTFLOW_ICEBERG_WAREHOUSE=%q\n' "$(cat "$1/warehouse")"
}

service_main "$@"

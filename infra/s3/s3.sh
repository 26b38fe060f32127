#!/usr/bin/env bash
# An S3 server for tests and local work, without Docker: Versity's gateway, which keeps objects as
# files.
#
#   s3.sh start DIR [PORT]      starts one with its data under DIR; prints its URL when it answers
#   s3.sh stop DIR              ends it in good order; its data stay
#   s3.sh restart DIR [PORT]    stop and start
#   s3.sh kill DIR              ends it as a crash would (SIGKILL)
#   s3.sh env DIR               how to reach it, as lines NAME=value
#   s3.sh foreground DIR [PORT] starts it and stays until Ctrl-C
#   s3.sh run -- COMMAND…       runs COMMAND beside a server that is gone afterwards
#
# A start where data are continues with them, on the port that it had if that is free. Without PORT a
# free one is chosen. It listens on 127.0.0.1 only. There is one bucket, `lake`, and its name is part
# of the path, not of the host ("path style").
#
# COMMAND of `run` finds in its environment what `env` prints: AGENTFLOW_S3_ENDPOINT (a URL),
# AGENTFLOW_S3_ACCESS_KEY, AGENTFLOW_S3_SECRET_KEY, AGENTFLOW_S3_BUCKET and AGENTFLOW_S3_REGION.
set -euo pipefail

# shellcheck disable=SC2034,SC2154 # service.sh reads and sets them
here=$(cd "$(dirname "$0")" && pwd)
service=s3
fetch="$here/fetch.sh"
ports=1
# It is not Java.
heap=
# shellcheck source=infra/java/service.sh
source "$here/../java/service.sh"

access_key=agentflow
secret_key=agentflow-test
bucket=lake
region=us-east-1

mark() { printf '%s/data' "$1"; }

prepare() {
    # A folder there is a bucket. Beside it what S3 knows of an object and a file does not hold: not
    # every file system keeps extended attributes.
    mkdir -p "$1/data/$bucket" "$1/about"
    # Without --keep-alive, its default: with it, this version takes what is left of one request for
    # the next ("an error occurred when parsing the HTTP request").
    main=(
        "$lib/versitygw"
        --port "127.0.0.1:$2" --access "$access_key" --secret "$secret_key" --region "$region"
        --quiet
        posix --sidecar "$1/about" "$(mark "$1")"
    )
}

# Who asks without a key is told off, in the words of S3.
ready() {
    local answer=
    {
        exec 3<>"/dev/tcp/127.0.0.1/$2" || return 1
    } 2>/dev/null
    printf 'GET /%s HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n' "$bucket" >&3
    answer=$(timeout 5 cat <&3) || true
    exec 3>&-
    [[ $answer == *'<Code>AccessDenied</Code>'* ]]
}

address() { printf 'http://127.0.0.1:%d\n' "$1"; }

environment() {
    printf 'AGENTFLOW_S3_ENDPOINT=%s\n' "$(address "$2")"
    printf 'AGENTFLOW_S3_ACCESS_KEY=%s\n' "$access_key"
    printf 'AGENTFLOW_S3_SECRET_KEY=%s\n' "$secret_key"
    printf 'AGENTFLOW_S3_BUCKET=%s\n' "$bucket"
    printf 'AGENTFLOW_S3_REGION=%s\n' "$region"
}

service_main "$@"

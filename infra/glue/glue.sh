#!/usr/bin/env bash
# AWS Glue for tests and local work, without AWS: moto, which keeps everything in memory. The files of
# the tables go to an S3 server (infra/s3).
#
#   glue.sh start DIR [PORT]      starts one; prints its URL when it answers
#   glue.sh stop DIR              ends it, and what it has is gone
#   glue.sh restart DIR [PORT]    stop and start
#   glue.sh kill DIR              ends it as a crash would (SIGKILL)
#   glue.sh env DIR               how to reach it, as lines NAME=value
#   glue.sh foreground DIR [PORT] starts it and stays until Ctrl-C
#   glue.sh run -- COMMAND…       runs COMMAND beside a server that is gone afterwards
#
# Without PORT a free one is chosen, or the one that it had. It listens on 127.0.0.1 only. A new one has no
# tables, also where one was before.
#
# COMMAND of `run` finds in its environment what `env` prints: AWS_ENDPOINT_URL_GLUE, AWS_REGION,
# AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, which every client of AWS reads. Its key is that of infra/s3,
# so that one environment is good for both.
set -euo pipefail

# shellcheck disable=SC2034,SC2154 # service.sh reads and sets them
here=$(cd "$(dirname "$0")" && pwd)
service=glue
fetch="$here/fetch.sh"
ports=1
# It is not Java.
heap=
# shellcheck source=infra/java/service.sh
source "$here/../java/service.sh"

access_key=agentflow
secret_key=agentflow-test
region=us-east-1

mark() { printf '%s' "-Xagentflow.dir=$1"; }

# -I: nothing of the caller's Python settings and folders. The mark is an option of Python that nobody reads.
prepare() {
    main=("$lib/bin/python" -I "$(mark "$1")" "$here/server.py" "$2" "$access_key" "$secret_key")
}

# Who asks for a page of its own gets one.
ready() {
    local status=
    {
        exec 3<>"/dev/tcp/127.0.0.1/$2" || return 1
    } 2>/dev/null
    printf 'GET /moto-api/data.json HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n' >&3
    read -r -t 5 _ status _ <&3 || true
    exec 3>&-
    [ "$status" = 200 ]
}

address() { printf 'http://127.0.0.1:%d\n' "$1"; }

environment() {
    printf 'AWS_ENDPOINT_URL_GLUE=%s\n' "$(address "$2")"
    printf 'AWS_REGION=%s\nAWS_DEFAULT_REGION=%s\n' "$region" "$region"
    printf 'AWS_ACCESS_KEY_ID=%s\nAWS_SECRET_ACCESS_KEY=%s\n' "$access_key" "$secret_key"
    printf 'AWS_EC2_METADATA_DISABLED=true\n'
}

service_main "$@"

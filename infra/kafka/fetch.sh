#!/usr/bin/env bash
# Fetches the jars of an Apache Kafka broker and prints the directory that holds them.
#
#   infra/kafka/fetch.sh            fetch if they are not there yet (44 MB)
#   infra/kafka/fetch.sh --cached   only look; fail if they are not there
#   infra/kafka/fetch.sh --pin      after a change of pom.xml: write files.sha256 anew
#
# Fails, with the reason on stderr, where there is no Maven or no network.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
source "$here/../java/maven.sh"
fetch kafka "$here" "$@"

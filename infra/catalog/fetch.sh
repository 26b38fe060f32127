#!/usr/bin/env bash
# Fetches Apache Iceberg's REST catalog and prints the directory that holds its jars.
#
#   infra/catalog/fetch.sh            fetch if they are not there yet (43 MB)
#   infra/catalog/fetch.sh --cached   only look; fail if they are not there
#   infra/catalog/fetch.sh --pin      after a change of pom.xml: write files.sha256 anew
#
# Fails, with the reason on stderr, where there is no Maven or no network.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
source "$here/../java/maven.sh"
fetch catalog "$here" "$@"

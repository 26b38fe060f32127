#!/usr/bin/env bash
# Fetches Apicurio's schema registry and prints the directory that holds it.
#
#   infra/registry/fetch.sh            fetch if it is not there yet (109 MB)
#   infra/registry/fetch.sh --cached   only look; fail if it is not there
#   infra/registry/fetch.sh --pin      after a change of pom.xml: write files.sha256 anew
#
# Fails, with the reason on stderr, where there is no Maven or no network.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
source "$here/../java/maven.sh"
fetch registry "$here" "$@"

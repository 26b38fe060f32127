#!/usr/bin/env bash
# Fetches the jars of an old Kafka broker and of its ZooKeeper, and prints the directory that holds
# them. The same options as ../fetch.sh.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
source "$here/../../java/maven.sh"
fetch kafka-old "$here" "$@"

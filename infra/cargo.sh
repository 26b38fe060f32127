#!/usr/bin/env bash
# cargo, linking DuckDB's prebuilt library where it can be had.
#
#   infra/cargo.sh build --release
#
# With the prebuilt library the feature `bundled` is left out (the other default ones are not); it is copied
# beside the binary and found there, so nobody needs LD_LIBRARY_PATH. Where it cannot be had, cargo is called as it is and
# compiles DuckDB from source once. AGENTFLOW_DUCKDB=bundled asks for that.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
source "$root/infra/duckdb/env.sh"
command=$1
shift
features=()
[ "$AGENTFLOW_DUCKDB" = bundled ] || features=(--no-default-features --features glue)
cd "$root"
exec cargo "$command" "${features[@]}" "$@"

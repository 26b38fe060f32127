#!/usr/bin/env bash
# cargo, linking DuckDB's prebuilt library where it can be had.
#
#   infra/cargo.sh build --release
#
# Sets DUCKDB_LIB_DIR and leaves the feature `bundled` out, or, where the library cannot be had,
# calls cargo as it is: DuckDB is then compiled from source once. AGENTFLOW_DUCKDB=bundled asks
# for that. The library is copied beside the binary and found there, so nobody needs
# LD_LIBRARY_PATH.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
command=$1
shift

features=()
if [ "${AGENTFLOW_DUCKDB:-prebuilt}" = prebuilt ]; then
    if [ -n "${DUCKDB_LIB_DIR:-}" ] && [ -s "$DUCKDB_LIB_DIR/libduckdb.so" ]; then
        features=(--no-default-features)
    elif DUCKDB_LIB_DIR=$("$root/infra/duckdb/fetch.sh"); then
        export DUCKDB_LIB_DIR
        features=(--no-default-features)
    else
        printf 'duckdb: compiling it from source instead; this takes about 25 minutes, once\n' >&2
        unset DUCKDB_LIB_DIR
    fi
fi
cd "$root"
exec cargo "$command" "${features[@]}" "$@"

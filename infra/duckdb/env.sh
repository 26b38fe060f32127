# Sourced: decides once which DuckDB to link, and exports the answer.
#
# After it AGENTFLOW_DUCKDB is `prebuilt`, and DUCKDB_LIB_DIR holds the library, or `bundled`: DuckDB
# is compiled from source.

if [ "${AGENTFLOW_DUCKDB:-prebuilt}" = prebuilt ]; then
    if [ -n "${DUCKDB_LIB_DIR:-}" ] && [ -s "$DUCKDB_LIB_DIR/libduckdb.so" ]; then
        export AGENTFLOW_DUCKDB=prebuilt
    elif DUCKDB_LIB_DIR=$("$(dirname "${BASH_SOURCE[0]}")/fetch.sh"); then
        export AGENTFLOW_DUCKDB=prebuilt DUCKDB_LIB_DIR
    else
        printf 'duckdb: compiling it from source instead; this takes about 25 minutes, once\n' >&2
        export AGENTFLOW_DUCKDB=bundled
        unset DUCKDB_LIB_DIR
    fi
fi

#!/usr/bin/env bash
# Runs every test suite, one after another, and says how long each took.
#
# One profile (release), one selection of packages (the workspace): cargo then compiles each
# dependency once, for the binary, the unit tests and the whole-system tests alike. The times go to
# target/test-times.txt; cargo's own result lines come last. Fails if any suite failed, after
# running all of them.
#
# tests/lake_rest*.rs and tests/lake_glue*.rs start an S3 server and a catalog of their own (Apache Iceberg's;
# moto as AWS Glue); here they are only fetched.
#
# A real Kafka broker and a schema registry run for the unit tests and for the suites tests/kafka*.rs,
# which find them in the environment as `infra/kafka/broker.sh env` names them. Nobody else does: every
# other suite must pass without. Where they cannot be had (no Java, no Maven), those suites are left
# out and the last lines say so; under CI that is a failure.
set -uo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root" || exit 1
target="${CARGO_TARGET_DIR:-$root/target}"
mkdir -p "$target"
times="$target/test-times.txt"
log="$target/test-output.txt"
: >"$times"
: >"$log"

source infra/duckdb/env.sh
if AGENTFLOW_PYTHON=$(infra/setup/lake_readers.sh); then
    export AGENTFLOW_PYTHON
    python=""
else
    unset AGENTFLOW_PYTHON
    python="note: without PyIceberg the lake was read by our own reader only"
fi

# Schemathesis sends the API what it does not expect.
no_fuzzer=""
if AGENTFLOW_API_FUZZER=$(infra/setup/python.sh "api fuzzer" tests/api_fuzzer/requirements.txt); then
    export AGENTFLOW_API_FUZZER
else
    unset AGENTFLOW_API_FUZZER
    no_fuzzer="note: without Schemathesis the API was not asked for what it does not expect"
fi

if AGENTFLOW_CLIENTS_PYTHON=$(infra/setup/python.sh "client" tests/clients/requirements.txt); then
    export AGENTFLOW_CLIENTS_PYTHON
    no_client=""
else
    unset AGENTFLOW_CLIENTS_PYTHON
    no_client="note: tests/clients.rs did not run, the published Python client could not be installed"
fi

# The services: `kafka` holds how to reach them, as arguments for env(1); `no_kafka` why there are none.
kafka=()
no_kafka=""
place=$(mktemp -d "${TMPDIR:-/tmp}/agentflow-test.XXXXXX")
stop_services() {
    [ ! -e "$place/kafka" ] || infra/kafka/broker.sh stop "$place/kafka"
    [ ! -e "$place/registry" ] || infra/registry/registry.sh stop "$place/registry"
    rm -rf "$place"
}
trap stop_services EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM
start_services() {
    infra/kafka/broker.sh start "$place/kafka" && infra/registry/registry.sh start "$place/registry"
}
services() {
    local from=$SECONDS
    printf '\n== services\n'
    if start_services 2>"$place/reasons"; then
        eval "kafka=($(infra/kafka/broker.sh env "$place/kafka") $(infra/registry/registry.sh env "$place/registry"))"
    else
        no_kafka=$(grep -v ': hint: ' "$place/reasons" | tail -n 1)
        no_kafka=${no_kafka:-no reason given}
    fi
    cat "$place/reasons" >&2
    printf '%6d s  %-28s %s\n' $((SECONDS - from)) services "$([ -z "$no_kafka" ] && echo ok || echo none)" | tee -a "$times"
}

# Servers that a suite starts by itself: why there are none.
no_lake=""
no_glue=""
# cannot_fetch SERVER: succeeds, and says why, where it cannot be had.
cannot_fetch() {
    local reason
    if "infra/$1/fetch.sh" >/dev/null 2>"$place/reasons"; then
        cat "$place/reasons" >&2
        return 1
    fi
    cat "$place/reasons" >&2
    reason=$(grep -v ': hint: ' "$place/reasons" | tail -n 1)
    printf '%s\n' "${reason:-no reason given}"
}
lake_services() {
    local from=$SECONDS
    printf '\n== lake services\n'
    if no_lake=$(cannot_fetch s3); then
        no_glue=$no_lake
    else
        no_lake=$(cannot_fetch catalog) || true
        no_glue=$(cannot_fetch glue) || true
    fi
    printf '%6d s  %-28s %s\n' $((SECONDS - from)) "lake services" "$([ -z "$no_lake$no_glue" ] && echo ok || echo none)" | tee -a "$times"
}

failed=()
started=$SECONDS
# What the next suites find in their environment, and the scripts that start more for them.
with=()
beside=()
# suite NAME ARGUMENT…: cargo test with those arguments.
suite() {
    local name=$1 from=$SECONDS status=ok
    shift
    printf '\n== %s\n' "$name"
    if ! env "${with[@]}" "${beside[@]}" infra/cargo.sh test --release --locked --workspace --no-fail-fast "$@" </dev/null 2>&1 | tee -a "$log"; then
        failed+=("$name")
        status=FAILED
    fi
    printf '%6d s  %-28s %s\n' $((SECONDS - from)) "$name" "$status" | tee -a "$times"
}

suite build --no-run
if [ ${#failed[@]} -gt 0 ]; then
    printf 'error: the tests do not compile\n' >&2
    exit 1
fi
services
lake_services
with=("${kafka[@]}")
suite unit --lib --bins
for file in {contracts,pipeline,serving,.}/tests/*.rs; do
    [ -e "$file" ] || continue
    name=$(basename "$file" .rs)
    with=()
    if [[ $name == kafka* ]]; then
        [ -z "$no_kafka" ] || continue
        with=("${kafka[@]}")
    fi
    [[ $name != lake_rest* ]] || [ -z "$no_lake" ] || continue
    [[ $name != lake_glue* ]] || [ -z "$no_glue" ] || continue
    beside=()
    if [ "$name" = kafka_old ]; then
        beside=(infra/kafka/old/zookeeper.sh run -- infra/kafka/old/broker.sh run --)
    fi
    suite "$name" --test "$name"
done
with=()
beside=()
suite documentation --doc
if [ -n "$no_kafka$no_lake$no_client$no_glue" ] && [ "${CI:-}" = true ]; then
    failed+=(services)
fi
printf '%6d s  %-28s %s\n' $((SECONDS - started)) total "$([ ${#failed[@]} -eq 0 ] && echo ok || echo FAILED)" >>"$times"

printf '\n== time per suite (target/test-times.txt)\n'
cat "$times"
[ -z "$python" ] || printf '%s\n' "$python"
[ -z "$no_fuzzer" ] || printf '%s\n' "$no_fuzzer"
[ -z "$no_client" ] || printf '%s\n' "$no_client"
[ -z "$no_kafka" ] || printf 'note: tests/kafka*.rs did not run, there is no Kafka broker or schema registry: %s\n' "$no_kafka"
[ -z "$no_lake" ] || printf 'note: tests/lake_rest*.rs did not run, there is no S3 server or Iceberg catalog: %s\n' "$no_lake"
[ -z "$no_glue" ] || printf 'note: tests/lake_glue*.rs did not run, there is no S3 server or no moto: %s\n' "$no_glue"
printf '\n== results\n'
grep -E '^(     Running |   Doc-tests |test result:|test .*FAILED$)' "$log"
if [ ${#failed[@]} -gt 0 ]; then
    printf 'error: failed: %s\n' "${failed[*]}" >&2
    exit 1
fi

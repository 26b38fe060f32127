#!/usr/bin/env bash
# Runs the measurements of benches/ and leaves tables and JSON under target/bench-results.
#
# The defaults finish in a few minutes. To scale up:
#   AGENTFLOW_BENCH_EVENTS=10000000 make bench        events of the throughput run
#   AGENTFLOW_BENCH_SAMPLES=2000 make bench           samples of the freshness run
#   AGENTFLOW_BENCH_ONLY=throughput make bench        one of throughput, freshness, reads, metrics, http_load, streams, lake, backfill, search, kafka_backlog
# What they measure and what else can be set: docs/benchmarks.md and the first lines of each file of benches/.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root"
source infra/duckdb/env.sh
export AGENTFLOW_BENCH_RESULTS="${AGENTFLOW_BENCH_RESULTS:-${CARGO_TARGET_DIR:-$root/target}/bench-results}"
mkdir -p "$AGENTFLOW_BENCH_RESULTS"
for bench in throughput freshness reads metrics http_load streams lake backfill search; do
    if [ -z "${AGENTFLOW_BENCH_ONLY:-}" ] || [ "$AGENTFLOW_BENCH_ONLY" = "$bench" ]; then
        infra/cargo.sh bench --profile release --locked --bench "$bench"
    fi
done
if [ -z "${AGENTFLOW_BENCH_ONLY:-}" ] || [ "$AGENTFLOW_BENCH_ONLY" = kafka_backlog ]; then
    infra/kafka/broker.sh run -- infra/cargo.sh bench --profile release --locked --bench kafka_backlog
fi

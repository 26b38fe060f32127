#!/usr/bin/env bash
# Starts a broker, measures from "produced" to "visible in the metric", and leaves samples, percentiles
# and a page with the plot under target/bench-results.
#
#   AGENTFLOW_BENCH_SAMPLES=2000 AGENTFLOW_BENCH_LOAD=10000 infra/bench-freshness.sh
#   AGENTFLOW_BENCH_ARM=idle infra/bench-freshness.sh        one of idle, load, no_cache, ttl_only
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root"
source infra/duckdb/env.sh
export AGENTFLOW_BENCH_RESULTS="${AGENTFLOW_BENCH_RESULTS:-${CARGO_TARGET_DIR:-$root/target}/bench-results}"
mkdir -p "$AGENTFLOW_BENCH_RESULTS"
# Compiled before the clock runs.
infra/cargo.sh bench --profile release --locked --bench kafka_freshness --no-run
exec infra/kafka/broker.sh run -- infra/cargo.sh bench --profile release --locked --bench kafka_freshness

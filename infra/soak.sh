#!/usr/bin/env bash
# Fault schedules by the thousand, on a broker of their own. A schedule that fails names its seed:
#
#   AGENTFLOW_FAULT_SEEDS=17..18 infra/soak.sh     runs schedule 17 again
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root"
source infra/duckdb/env.sh
export AGENTFLOW_FAULT_SEEDS="${AGENTFLOW_FAULT_SEEDS:-0..1000}"
infra/cargo.sh test --release --locked --workspace --test kafka_faults --no-run
exec infra/kafka/broker.sh run -- infra/cargo.sh test --release --locked --workspace --test kafka_faults -- --nocapture

#!/usr/bin/env bash
# Runs every test suite, one after another, and says how long each took.
#
# One profile (release), one selection of packages (the workspace): cargo then compiles each
# dependency once, for the binary, the unit tests and the whole-system tests alike. The times go to
# target/test-times.txt; cargo's own result lines come last. Fails if any suite failed, after
# running all of them.
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
if AGENTFLOW_PYTHON=$(infra/setup/pyiceberg.sh); then
    export AGENTFLOW_PYTHON
    python=""
else
    unset AGENTFLOW_PYTHON
    python="note: without PyIceberg the lake was read by our own reader only"
fi

failed=()
started=$SECONDS
# suite NAME ARGUMENT…: cargo test with those arguments.
suite() {
    local name=$1 from=$SECONDS status=ok
    shift
    printf '\n== %s\n' "$name"
    if ! infra/cargo.sh test --release --locked --workspace --no-fail-fast "$@" </dev/null 2>&1 | tee -a "$log"; then
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
suite unit --lib --bins
for file in {contracts,pipeline,serving,.}/tests/*.rs; do
    [ -e "$file" ] || continue
    name=$(basename "$file" .rs)
    suite "$name" --test "$name"
done
suite documentation --doc
printf '%6d s  %-28s %s\n' $((SECONDS - started)) total "$([ ${#failed[@]} -eq 0 ] && echo ok || echo FAILED)" >>"$times"

printf '\n== time per suite (target/test-times.txt)\n'
cat "$times"
[ -z "$python" ] || printf '%s\n' "$python"
printf '\n== results\n'
grep -E '^(     Running |   Doc-tests |test result:|test .*FAILED$)' "$log"
if [ ${#failed[@]} -gt 0 ]; then
    printf 'error: failed: %s\n' "${failed[*]}" >&2
    exit 1
fi

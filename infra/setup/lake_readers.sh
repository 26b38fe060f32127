#!/usr/bin/env bash
# Makes the Python environment whose programs read the lake in the tests (about 700 MB) and prints its
# interpreter.
#
#   infra/setup/lake_readers.sh [REQUIREMENTS] [--cached]
#
# REQUIREMENTS is another list of pinned versions; with --cached it only looks.
set -euo pipefail

root=$(cd "$(dirname "$0")/../.." && pwd)
exec "$root/infra/setup/python.sh" "lake readers" "${1:-$root/tests/lake_readers/requirements.txt}" "${2:-}"

#!/usr/bin/env bash
# Makes the Python environment of infra/glue and prints the directory that holds it.
#
#   infra/glue/fetch.sh            make it if it is not there yet (about 400 MB)
#   infra/glue/fetch.sh --cached   only look; fail if it is not there
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
python=$("$here/../setup/lake_readers.sh" "$here/requirements.txt" "${1:-}")
dirname "$(dirname "$python")"

#!/usr/bin/env bash
# Makes the Python environment with the published client that tests/clients.rs drives, and prints its
# interpreter.
#
# One environment per list of pinned versions and per Python, in the cache; complete or absent.
set -euo pipefail

root=$(cd "$(dirname "$0")/../.." && pwd)
requirements="$root/tests/clients/requirements.txt"
home="${AGENTFLOW_CACHE:-$root/.cache}/python"
say() { printf 'clients: %s\n' "$*" >&2; }

key=$( (python3 -c 'import sys; print(sys.version, sys.base_prefix)'; cat "$requirements") | sha256sum | cut -c1-16)
into="$home/$key"
if [ ! -e "$into/complete" ]; then
    mkdir -p "$home"
    exec 9>"$home/.lock"
    flock 9
    if [ ! -e "$into/complete" ]; then
        say "installing the published client into a virtual environment (about 30 MB)"
        rm -rf "$into"
        if ! python3 -m venv "$into" >&2; then
            say "error: python3 cannot make a virtual environment"
            say "hint: apt-get install -y python3-venv"
            exit 1
        fi
        if ! "$into/bin/pip" install --quiet --disable-pip-version-check --require-hashes --only-binary :all: --requirement "$requirements" </dev/null >&2; then
            say "error: pip could not install the versions of tests/clients/requirements.txt"
            say "hint: the client needs Python 3.11 or newer, and a Python package index; check the network or the pip configuration"
            exit 1
        fi
        touch "$into/complete"
    fi
fi
printf '%s\n' "$into/bin/python"

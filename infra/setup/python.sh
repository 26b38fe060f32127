#!/usr/bin/env bash
# Makes a Python environment with the pinned versions of a list and prints its interpreter.
#
#   infra/setup/python.sh NAME REQUIREMENTS [--cached]
#
# One environment per list and per Python, in the cache; complete or absent. With --cached it only looks, and
# fails if it is not there. A list with hashes is held to them by pip.
set -euo pipefail

name=$1
requirements=$2
root=$(cd "$(dirname "$0")/../.." && pwd)
home="${AGENTFLOW_CACHE:-$root/.cache}/python"
say() { printf '%s: %s\n' "$name" "$*" >&2; }

key=$( (python3 -c 'import sys; print(sys.version, sys.base_prefix)'; cat "$requirements") | sha256sum | cut -c1-16)
into="$home/$key"
if [ ! -e "$into/complete" ]; then
    [ "${3:-}" != --cached ] || exit 1
    mkdir -p "$home"
    exec 9>"$home/.lock"
    flock 9
    if [ ! -e "$into/complete" ]; then
        say "installing the versions of ${requirements#"$root/"} into a virtual environment"
        rm -rf "$into"
        if ! python3 -m venv "$into" >&2; then
            say "error: python3 cannot make a virtual environment"
            say "hint: apt-get install -y python3-venv"
            exit 1
        fi
        if ! "$into/bin/pip" install --quiet --disable-pip-version-check --requirement "$requirements" </dev/null >&2; then
            say "error: pip could not install the versions of ${requirements#"$root/"}"
            say "hint: the tests need a Python package index; check the network or the pip configuration"
            exit 1
        fi
        touch "$into/complete"
    fi
fi
printf '%s\n' "$into/bin/python"

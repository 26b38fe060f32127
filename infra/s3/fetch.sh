#!/usr/bin/env bash
# Builds Versity's S3 gateway from its source and prints the directory that holds `versitygw`.
#
#   infra/s3/fetch.sh            build if it is not there yet (about two minutes; the program has 45 MB)
#   infra/s3/fetch.sh --cached   only look; fail if it is not there
#   infra/s3/fetch.sh --pin      after a change of the version in go.mod: write the rest of it and
#                                go.sum anew
#
# go.mod names the version, go.sum the checksums of everything that is compiled: one that differs or
# is not there is an error. The directory is complete or absent, and its name changes with both files.
# Fails, with the reason on stderr, where there is no Go, none that is new enough, or no network.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
mode=${1:-}
say() { printf 's3: %s\n' "$*" >&2; }

package=github.com/versity/versitygw
root=$(cd "$here/../.." && pwd)
home="${AGENTFLOW_CACHE:-$root/.cache}/s3"
version=$(sed -nE "s:^.*$package (v[^ ]+).*:\1:p" "$here/go.mod")
key=$(cat "$here/go.mod" "$here/go.sum" | sha256sum | cut -c1-8)
into="$home/$version-$key"

if [ "$mode" != --pin ]; then
    if [ -d "$into" ]; then
        printf '%s\n' "$into"
        exit 0
    fi
    [ "$mode" != --cached ] || exit 1
fi
if ! command -v go >/dev/null 2>&1; then
    say "go not found"
    say "hint: apt-get install -y golang"
    exit 1
fi

mkdir -p "$home"
# Two runs at once: the second waits and finds the program there.
exec 9>"$home/.lock"
flock 9
if [ "$mode" != --pin ] && [ -d "$into" ]; then
    printf '%s\n' "$into"
    exit 0
fi

work=$(mktemp -d "$home/.fetch.XXXXXX")
trap 'rm -rf "$work"' EXIT
# Sources and what is compiled of them have 700 MB together: not kept. Writable, or they could not
# be removed.
export GOMODCACHE="$work/sources" GOCACHE="$work/compiled" GOWORK=off
export GOFLAGS="${GOFLAGS:-} -modcacherw"
if [ "$mode" = --pin ]; then
    (cd "$here" && go mod tidy)
    exit 0
fi

say "building version $version with Go"
# The same on every machine: without what is installed there (C libraries) and without its paths.
if ! (cd "$here" && CGO_ENABLED=0 timeout 900 go build -mod=readonly -trimpath -ldflags='-s -w' \
    -o "$work/files/versitygw" "$package/cmd/versitygw") </dev/null >"$work/log" 2>&1; then
    say "Go could not build it: $(grep -v '^go: downloading ' "$work/log" | head -n 1 | cut -c1-300 || true)"
    exit 1
fi
# The directory appears under its name complete or not at all.
mv -T "$work/files" "$into"
printf '%s\n' "$into"

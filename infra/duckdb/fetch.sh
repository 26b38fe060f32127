#!/usr/bin/env bash
# Fetches DuckDB's own prebuilt library and prints the directory that holds libduckdb.so.
#
#   infra/duckdb/fetch.sh            fetch if it is not there yet
#   infra/duckdb/fetch.sh --cached   only look; fail if it is not there
#
# The library comes out of the npm package of DuckDB's Node bindings: the same engine, built by
# its authors. Version and checksum are pinned here; the version must be the one that the `duckdb`
# crate in Cargo.lock binds (1.10506 is DuckDB 1.5.6). Fails, with the reason on stderr, where
# there is no package for this machine, no npm or no network: the caller then compiles DuckDB.
set -euo pipefail

version=1.5.6
release=1.5.6-r.1
root=$(cd "$(dirname "$0")/../.." && pwd)
home="${AGENTFLOW_CACHE:-$root/.cache}/duckdb"
into="$home/$version"

say() { printf 'duckdb: %s\n' "$*" >&2; }

if [ -s "$into/libduckdb.so" ]; then
    printf '%s\n' "$into"
    exit 0
fi
[ "${1:-}" != --cached ] || exit 1

# There is no arm64 package of this release, so arm64 compiles it.
case "$(uname -s)-$(uname -m)" in
    Linux-x86_64)
        package=@duckdb/node-bindings-linux-x64@$release
        sha256=1b9f82478539bb9a1d1df44bd103121a12ae52142c07158dc52b97d2ec1d69ff
        ;;
    *)
        say "no prebuilt library for $(uname -s) on $(uname -m)"
        exit 1
        ;;
esac
if ! getconf GNU_LIBC_VERSION >/dev/null 2>&1; then
    say "the prebuilt library needs glibc"
    exit 1
fi
if ! command -v npm >/dev/null 2>&1; then
    say "npm not found"
    exit 1
fi

mkdir -p "$home"
# Two runs at once: the second waits and finds the library there.
exec 9>"$home/.lock"
flock 9
if [ -s "$into/libduckdb.so" ]; then
    printf '%s\n' "$into"
    exit 0
fi

work=$(mktemp -d "$home/.fetch.XXXXXX")
trap 'rm -rf "$work"' EXIT
say "fetching $package (24 MB)"
if ! (cd "$work" && npm pack --silent --ignore-scripts "$package" </dev/null >name 2>log); then
    say "npm could not fetch it: $(grep -m 1 -iE 'error|ERR' "$work/log" || echo 'no message')"
    exit 1
fi
tarball="$work/$(tail -n 1 "$work/name")"
if ! printf '%s  %s\n' "$sha256" "$tarball" | sha256sum --check --status; then
    say "error: checksum of $package differs from the pinned one; not used"
    exit 1
fi
mkdir "$work/lib"
tar -xzf "$tarball" -C "$work/lib" --strip-components=1 package/libduckdb.so package/LICENSE
# The directory appears under its name complete or not at all.
rm -rf "$into"
mv -T "$work/lib" "$into"
printf '%s\n' "$into"

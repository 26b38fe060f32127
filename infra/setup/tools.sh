#!/usr/bin/env bash
# Checks that the machine has what a build (or the tests) need and installs what is missing.
#
#   infra/setup/tools.sh build    C and C++ compilers, cmake, pkg-config, certificates, npm, Rust
#   infra/setup/tools.sh test     the same, Python with venv (PyIceberg reads the lake, the published client
#                                 asks, moto stands for AWS Glue), Java 17 or newer with Maven (the tests'
#                                 Kafka broker, schema registry and Iceberg catalog), Go (their S3
#                                 server), Redis and OpenSSL
#
# Installs with apt-get where that needs no password (root, or sudo without one). Otherwise it
# prints the command to run and fails, except for what can be done without: without npm DuckDB is
# compiled from source (about 25 minutes), without Python one test reads the lake with one reader
# less and those against AWS Glue do not run, without Java or Maven the tests against Kafka do not run, and without those or Go the tests
# against an Iceberg catalog do not.
set -euo pipefail

scope=${1:-build}
say() { printf 'setup: %s\n' "$*" >&2; }

missing=()   # packages without which nothing works
wanted=()    # packages that it is better to have
need() { command -v "$1" >/dev/null 2>&1 || missing+=("${@:2}"); }

need cc build-essential
need c++ build-essential
need make make
need git git
need cmake cmake
need pkg-config pkg-config
need flock util-linux
[ -e /etc/ssl/certs/ca-certificates.crt ] || [ "$(uname -s)" != Linux ] || missing+=(ca-certificates)

# npm is only the way to DuckDB's prebuilt library; one that is there already is good enough.
if ! command -v npm >/dev/null 2>&1 && [ -z "${DUCKDB_LIB_DIR:-}" ] \
    && [ "${AGENTFLOW_DUCKDB:-prebuilt}" = prebuilt ] \
    && ! "$(dirname "$0")/../duckdb/fetch.sh" --cached >/dev/null; then
    wanted+=(npm)
fi

if [ "$scope" = test ]; then
    command -v openssl >/dev/null 2>&1 || wanted+=(openssl)
    command -v redis-server >/dev/null 2>&1 || command -v valkey-server >/dev/null 2>&1 || wanted+=(redis-server)
    python3 -c 'import venv, ensurepip' >/dev/null 2>&1 || wanted+=(python3 python3-venv)
    command -v mvn >/dev/null 2>&1 || wanted+=(maven)
    # infra/s3/go.mod says which Go; an older one (from 1.21) fetches that by itself where it may.
    command -v go >/dev/null 2>&1 || wanted+=(golang)
    java=$({ java -version || true; } 2>&1 | sed -nE 's/.*version "([0-9]+).*/\1/p')
    if [ "${java:-0}" -lt 17 ]; then
        # The default of these is Java 11.
        case "$(. /etc/os-release 2>/dev/null && printf '%s' "$ID ${VERSION_ID:-}")" in
            "ubuntu 20."* | "ubuntu 22."*) wanted+=(openjdk-17-jre-headless) ;;
            *) wanted+=(default-jre-headless) ;;
        esac
    fi
fi

if [ ${#missing[@]} -gt 0 ] || [ ${#wanted[@]} -gt 0 ]; then
    mapfile -t packages < <(printf '%s\n' "${missing[@]}" "${wanted[@]}" | sort -u | sed '/^$/d')
    command="apt-get update && apt-get install -y --no-install-recommends ${packages[*]}"
    as_root=()
    may_install=no
    if command -v apt-get >/dev/null 2>&1; then
        if [ "$(id -u)" = 0 ]; then
            may_install=yes
        elif command -v sudo >/dev/null 2>&1 && sudo -n true >/dev/null 2>&1; then
            as_root=(sudo -n)
            may_install=yes
        fi
    fi
    if [ $may_install = yes ]; then
        say "installing ${packages[*]}"
        export DEBIAN_FRONTEND=noninteractive
        apt() { "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 "$@" </dev/null >&2; }
        apt update -q || say "apt-get update failed; trying with the package lists that are here"
        if [ ${#missing[@]} -gt 0 ] && ! apt install -y -q --no-install-recommends "${missing[@]}"; then
            say "error: could not install ${missing[*]}"
            say "hint: run this as root, then try again: $command"
            exit 1
        fi
        if [ ${#wanted[@]} -gt 0 ] && ! apt install -y -q --no-install-recommends "${wanted[@]}"; then
            say "could not install ${wanted[*]}; going on without"
        fi
    elif [ ${#missing[@]} -gt 0 ]; then
        say "error: ${missing[*]} not found, and this user may not install packages"
        say "hint: run this as root, then try again: $command"
        exit 1
    else
        say "${wanted[*]} not found; going on without"
        say "hint: to have it, run as root: $command"
    fi
fi

# Rust is not installed behind your back: which toolchain to use is your choice.
if ! command -v cargo >/dev/null 2>&1; then
    say "error: cargo not found"
    say "hint: install Rust from https://rustup.rs, open a new shell, then try again"
    exit 1
fi
root=$(cd "$(dirname "$0")/../.." && pwd)
required=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$root/Cargo.toml" | head -n 1)
have=$(cd "$root" && cargo --version | sed -E 's/^cargo ([0-9]+\.[0-9]+).*/\1/')
if [ "$(printf '%s\n%s\n' "$required" "$have" | sort -V | head -n 1)" != "$required" ]; then
    say "error: Rust $have is too old, this needs $required or newer"
    say "hint: rustup update stable"
    exit 1
fi

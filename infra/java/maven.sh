# shellcheck shell=bash
#
# Sourced by the fetch.sh of each Java program: fetches what a pom.xml names, into the cache.
#
#   fetch NAME FOLDER [--cached | --pin]
#
# FOLDER holds `pom.xml`, whose phase `package` copies what is wanted to `outputDirectory` and whose
# property `program.version` names the version, and `files.sha256`, the pinned checksum of every file that this must bring: one
# file more, less or different is an error. `--pin` writes that list anew, after a change of the pom.
# Prints the directory that holds the files, archives unpacked. It is complete or absent, and its
# name changes with the pom and the list, so clones that share a cache never replace each other's.

fetch() {
    local name=$1 here=$2 mode=${3:-} root home version key into work
    say() { printf '%s: %s\n' "$name" "$*" >&2; }
    root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
    home="${AGENTFLOW_CACHE:-$root/.cache}/$name"
    version=$(sed -n 's:.*<program.version>\(.*\)</program.version>.*:\1:p' "$here/pom.xml")
    [ "$mode" != --pin ] || : >"$here/files.sha256"
    key=$(cat "$here/pom.xml" "$here/files.sha256" | sha256sum | cut -c1-8)
    into="$home/$version-$key"

    if [ "$mode" != --pin ]; then
        if [ -d "$into" ]; then
            printf '%s\n' "$into"
            return 0
        fi
        [ "$mode" != --cached ] || return 1
    fi
    if ! command -v mvn >/dev/null 2>&1; then
        say "mvn not found"
        say "hint: apt-get install -y maven"
        return 1
    fi

    mkdir -p "$home"
    # Two runs at once: the second waits and finds the files there.
    exec 9>"$home/.lock"
    flock 9
    if [ "$mode" != --pin ] && [ -d "$into" ]; then
        printf '%s\n' "$into"
        return 0
    fi

    work=$(mktemp -d "$home/.fetch.XXXXXX")
    # shellcheck disable=SC2064 # the directory of now
    trap "rm -rf '$work'" EXIT
    say "fetching version $version with Maven"
    # A local repository of its own: Maven does not lock the usual one against another run.
    if ! timeout 900 mvn --batch-mode --quiet -Dstyle.color=never --file "$here/pom.xml" \
        -Dmaven.repo.local="$work/repository" package \
        -DoutputDirectory="$work/files" </dev/null >"$work/log" 2>&1; then
        say "Maven could not fetch it: $(grep -m 1 ERROR "$work/log" | sed 's/\x1b\[[0-9;]*m//g' | cut -c1-300 || true)"
        return 1
    fi
    (cd "$work/files" && LC_ALL=C && sha256sum -- *) >"$work/files.sha256"
    if [ "$mode" = --pin ]; then
        cp "$work/files.sha256" "$here/files.sha256"
        return 0
    fi
    if ! diff "$here/files.sha256" "$work/files.sha256" >"$work/log"; then
        say "error: not the pinned files: $(grep -m 1 '^[<>]' "$work/log"); not used"
        return 1
    fi
    find "$work/files" -name '*.tar.gz' -execdir tar -xzf {} --no-same-owner \; -delete
    # The directory appears under its name complete or not at all.
    mv -T "$work/files" "$into"
    printf '%s\n' "$into"
}

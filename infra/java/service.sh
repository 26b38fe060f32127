# shellcheck shell=bash disable=SC2154 # what the sourcing script sets
#
# Sourced by the scripts that start a server, most of them Java programs: the commands that all of
# them share.
#
# The sourcing script sets
#   service        its name in messages
#   fetch          the script that prints the directory of its files (`lib` holds it afterwards)
#   ports          how many consecutive ports it needs; the first is the one that callers know
#   heap           its largest heap; empty for a program that is not Java
# and defines
#   prepare DIR PORT    writes what a start needs and sets the arrays `options` and `main`: of a Java
#                       program the options for Java and what follows them, of any other `main` alone,
#                       its command line
#   ready DIR PORT      does it answer a real request?
#   address PORT        what callers connect to
#   environment DIR PORT   lines NAME=value for whoever uses it
#   mark DIR            only if it is not Java: an argument of its command line that tells it from the
#                       same program in another folder
# Then `service_main "$@"` does the rest.
#
# What a program keeps is all in DIR: its data, `out` and `log/` (what it said), `pid`, `port`,
# `tmp/`, and `.agentflow-SERVICE`, by which DIR is known. It listens on 127.0.0.1 and nowhere else.
# Needs Linux, and Java 17 or newer for what is Java.
#
# The first Java program that is started and stopped leaves an archive of its loaded classes beside the
# jars (class data sharing); starts after it take half the time. Java ignores an archive that was
# made by another Java or of other jars.

say() { printf '%s: %s\n' "$service" "$*" >&2; }

die() {
    say "error: $*"
    exit 1
}

# Sets `java` and `archive`; fails with the reason.
find_java() {
    local text major
    java="${JAVA_HOME:+$JAVA_HOME/bin/}java"
    if ! text=$("$java" -version 2>&1); then
        say "java not found"
        say "hint: apt-get install -y default-jre-headless"
        return 1
    fi
    major=$(sed -nE 's/.*version "([0-9]+).*/\1/p' <<<"$text")
    if [ "${major:-0}" -lt 17 ]; then
        say "needs Java 17 or newer, this is ${major:-unknown}"
        return 1
    fi
    archive="$lib/classes-$(sha256sum <<<"$text" | cut -c1-8).jsa"
}

# java_options DIR: what every call of Java gets, into the array `java_options`.
java_options() {
    java_options=(
        # Small and quick to start: the machine has two cores, and the tests need them too.
        -XX:+UseSerialGC -XX:TieredStopAtLevel=1
        # Nothing outside DIR: a killed Java would leave it behind.
        -XX:-UsePerfData -Djava.io.tmpdir="$1/tmp"
        -Djava.net.preferIPv4Stack=true
        -Xlog:disable -Xlog:all=error:stderr
    )
}

# Does anything listen on this port of 127.0.0.1?
listens() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

all_free() {
    local port
    for ((port = $1; port < $1 + ports; port++)); do
        ! listens "$port" || return 1
    done
}

# Below the range from which systems take the ports of outgoing connections. Not by RANDOM, whose
# seeds in shells that start together are too much alike.
choose_port() {
    local port
    for _ in {1..200}; do
        port=$((10000 + $(od -An -N2 -tu2 /dev/urandom) % 22000))
        if all_free "$port"; then
            printf '%s\n' "$port"
            return 0
        fi
    done
    return 1
}

# mark DIR: the argument by which a program is known to be the one of DIR.
mark() { printf '%s' "-Dagentflow.dir=$1"; }

# running DIR: prints the process that runs there. A number in the file that belongs to another
# process by now is not it.
running() {
    local pid
    pid=$(cat "$1/pid" 2>/dev/null) || return 1
    grep -qzxF -- "$(mark "$1")" "/proc/$pid/cmdline" 2>/dev/null || return 1
    printf '%s\n' "$pid"
}

# gone DIR PID SECONDS: waits for its end.
gone() {
    local deadline=$((SECONDS + $3))
    while [ "$(running "$1")" = "$2" ]; do
        [ $SECONDS -lt $deadline ] || return 1
        sleep 0.05
    done
}

# Called after an orderly end only: others leave half an archive. It appears whole or not at all, also
# where the cache is on another file system.
keep_archive() {
    local new="$1/tmp/classes.jsa" archive
    archive=$(cat "$1/tmp/archive" 2>/dev/null) || return 0
    if [ ! -s "$new" ] || [ -e "$archive" ]; then return 0; fi
    cp "$new" "$archive.$$" && mv "$archive.$$" "$archive"
}

stop() {
    local dir=$1 pid
    if pid=$(running "$dir"); then
        kill -TERM "$pid" 2>/dev/null || true
        if gone "$dir" "$pid" 20; then
            keep_archive "$dir" || true
        else
            say "did not end within 20 s; killing it"
            kill -KILL "$pid" 2>/dev/null || true
            gone "$dir" "$pid" 10 || say "process $pid does not end"
        fi
    fi
    rm -rf "$dir/pid" "$dir/tmp"
}

kill_now() {
    local dir=$1 pid
    if pid=$(running "$dir"); then
        kill -KILL "$pid" 2>/dev/null || true
        gone "$dir" "$pid" 10 || die "process $pid does not end"
    fi
    rm -rf "$dir/pid" "$dir/tmp"
}

# java_line DIR: the whole command line of a Java program, into the array `line`.
java_line() {
    local sharing=(-XX:ArchiveClassesAtExit="$1/tmp/classes.jsa")
    printf '%s\n' "$archive" >"$1/tmp/archive"
    [ ! -s "$archive" ] || sharing=(-XX:SharedArchiveFile="$archive")
    java_options "$1"
    line=(
        "$java" "${java_options[@]}" "${sharing[@]}" -Xmx"$heap"
        -XX:+ExitOnOutOfMemoryError "$(mark "$1")" "${options[@]}" "${main[@]}"
    )
}

# spawn DIR: the program as a process of its own, which outlives this script and keeps
# nothing of it open: a caller that reads our output to its end would wait for the program.
spawn() {
    local dir=$1 line=("${main[@]}")
    [ -z "$heap" ] || java_line "$dir"
    (
        cd "$dir" || exit 1
        for fd in "/proc/$BASHPID/fd"/*; do
            fd=${fd##*/}
            [ "$fd" -le 2 ] || eval "exec $fd>&-"
        done
        exec setsid "${line[@]}"
    ) </dev/null >"$dir/out" 2>&1 &
    started=$!
    printf '%s\n' "$started" >"$dir/pid"
}

tail_of() {
    local file
    for file in "$1/out" "$1"/log/*.log; do
        [ ! -s "$file" ] || { say "the end of $file:" && tail -n 20 "$file" >&2; }
    done
}

# start DIR [PORT]: returns when it answers. Sets `port`.
start() {
    local dir=$1 wanted=${2:-} kept deadline attempt
    if [ -n "$wanted" ]; then
        all_free "$wanted" || die "something else listens on 127.0.0.1, port $wanted or one of the $((ports - 1)) after it"
    fi
    # `stop` removes files; never those of a folder that is somebody else's.
    [ -e "$dir/.agentflow-$service" ] || [ -z "$(ls -A "$dir")" ] || die "$dir is not empty and no folder of this script"
    exec 8>"$dir/.agentflow-$service"
    flock --nonblock 8 || die "$dir is being started by somebody else"
    ! running "$dir" >/dev/null || die "one runs in $dir already"

    port=$wanted
    if [ -z "$port" ] && kept=$(cat "$dir/port" 2>/dev/null); then
        if all_free "$kept"; then
            port=$kept
        else
            say "port $kept, which it had before, is taken; using another"
        fi
    fi
    for attempt in 1 2 3 4 5; do
        [ -n "$port" ] || port=$(choose_port) || die "no free port"
        mkdir -p "$dir/tmp" "$dir/log"
        prepare "$dir" "$port"
        printf '%s\n' "$port" >"$dir/port"
        spawn "$dir"
        deadline=$((SECONDS + 60))
        while kill -0 "$started" 2>/dev/null; do
            if ready "$dir" "$port"; then
                exec 8>&-
                return 0
            fi
            if [ $SECONDS -ge $deadline ]; then
                kill_now "$dir"
                tail_of "$dir"
                die "no answer within 60 s"
            fi
            sleep 0.05
        done
        rm -rf "$dir/pid"
        # Another process was quicker to take a port that looked free.
        if [ -n "$wanted" ] || [ "$attempt" = 5 ] \
            || ! grep -qsiE 'address already in use|already bound|failed to bind' "$dir/out" "$dir"/log/*.log; then
            tail_of "$dir"
            die "it ended while starting"
        fi
        rm -f "$dir/out" "$dir"/log/*.log
        port=
    done
}

# on_signals COMMAND: COMMAND is the last thing that this script does, however it ends.
on_signals() {
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 143' TERM
    # shellcheck disable=SC2064 # the name of now
    trap "$1" EXIT
}

# A start that was not finished leaves no process.
abandon() {
    local status=$?
    [ -z "${started:-}" ] || kill -KILL "$started" 2>/dev/null || true
    exit "$status"
}

# The end of `run`, however it comes about.
finish_run() {
    local status=$? deadline=$((SECONDS + 10))
    trap - EXIT
    trap '' HUP INT TERM
    if [ -n "${child:-}" ] && kill -TERM "$child" 2>/dev/null; then
        while kill -0 "$child" 2>/dev/null && [ $SECONDS -lt $deadline ]; do sleep 0.05; done
        kill -KILL "$child" 2>/dev/null || true
        wait "$child" 2>/dev/null || true
    fi
    stop "$place"
    rm -rf "$place"
    exit "$status"
}

run() {
    local status=0 line
    place=$(mktemp -d "${TMPDIR:-/tmp}/agentflow-$service.XXXXXX")
    place=$(cd "$place" && pwd -P)
    on_signals finish_run
    start "$place"
    while IFS= read -r line; do
        eval "export $line"
    done < <(environment "$place" "$port")
    # In the background, because bash runs no trap while it waits for a command in the foreground;
    # with the input and the reaction to Ctrl-C of one in the foreground.
    (
        trap - HUP INT QUIT TERM EXIT
        exec "$@"
    ) <&0 &
    child=$!
    wait "$child" || status=$?
    child=
    exit "$status"
}

foreground() {
    place=$1
    on_signals abandon
    start "$@"
    trap 'exit 0' HUP INT TERM
    trap 'stop "$place"' EXIT
    say "runs, data in $place; ends with Ctrl-C"
    environment "$place" "$port"
    # `wait` and not `sleep` alone: a trap interrupts it.
    while running "$place" >/dev/null; do
        sleep 1 &
        wait $!
    done
    tail_of "$place"
    die "it ended by itself"
}

service_main() {
    local command=${1:-} dir
    case "$command" in
        start | restart | foreground) if [ $# -lt 2 ] || [ $# -gt 3 ]; then usage; fi ;;
        stop | kill | env) [ $# -eq 2 ] || usage ;;
        run) if [ "${2:-}" != -- ] || [ $# -lt 3 ]; then usage; fi ;;
        *) usage ;;
    esac
    case "$command" in
        start | restart | foreground | run)
            lib=$("$fetch") || exit 1
            [ -z "$heap" ] || find_java || exit 1
            ;;
        # Ending needs neither Java nor the files.
        stop | kill | env)
            [ -e "$2/.agentflow-$service" ] || die "nothing was ever started in $2"
            lib=$("$fetch" --cached) || lib=
            ;;
    esac
    if [ "$command" != run ]; then
        mkdir -p "$2"
        # The same name for a folder, whoever names it.
        dir=$(cd "$2" && pwd -P)
    fi
    case "$command" in
        start | restart)
            [ "$command" = start ] || stop "$dir"
            on_signals abandon
            start "$dir" "${@:3}"
            trap - EXIT
            address "$port"
            ;;
        stop) stop "$dir" ;;
        kill) kill_now "$dir" ;;
        env)
            running "$dir" >/dev/null || die "nothing runs in $dir"
            environment "$dir" "$(cat "$dir/port")"
            ;;
        foreground) foreground "$dir" "${@:3}" ;;
        run) run "${@:3}" ;;
    esac
}

# Prints the comment at the head of the script.
usage() {
    sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0" >&2
    exit 2
}

#!/usr/bin/env bash
# Compares two servers under the same load: A B A B A B, medians and their ratio. See README.md.
set -euo pipefail

usage() {
    cat >&2 <<'TEXT'
usage: compare.sh '<command that starts A>' '<command that starts B>'
In a command {port}, {port2} and {dir} become two free ports and an empty directory; it must stay in the foreground.
environment: A_ARGS, B_ARGS   more arguments of the bench, such as '--root /bench-bucket --create-bucket'
             ROUNDS=3         how often each server is measured
             APPEND, SSE      arguments of the loads; SSE=- leaves it out
             BENCH            the load generator; without it the script builds it
TEXT
    exit 2
}
[ $# -eq 2 ] || usage

rounds=${ROUNDS:-3}
append_args=${APPEND:---streams 500 --connections 64 --bytes 256 --duration 10s --warmup 2s}
sse_args=${SSE:---streams 1 --readers 1000 --rate 20 --bytes 256 --duration 10s}
# No run may take longer than this, whatever the server does.
run_seconds_max=${RUN_SECONDS_MAX:-120}
bench=${BENCH:-}
if [ -z "$bench" ]; then
    root=$(cd "$(dirname "$0")/.." && pwd)
    cargo build --quiet --release --manifest-path "$root/Cargo.toml" -p ursula-bench
    bench=${CARGO_TARGET_DIR:-$root/target}/release/ursula-bench
fi

scratch=$(mktemp -d)
server=
stop_server() {
    [ -n "$server" ] || return 0
    kill "$server" 2>/dev/null || true
    for _ in $(seq 50); do
        kill -0 "$server" 2>/dev/null || break
        sleep 0.1
    done
    kill -KILL "$server" 2>/dev/null || true
    wait "$server" 2>/dev/null || true
    server=
}
trap 'stop_server; rm -rf "$scratch"' EXIT
trap 'exit 130' INT TERM

# shellcheck source=ports.sh
. "$(dirname "$0")/ports.sh"

# start <name> <command>: sets `server` and `port`.
start() {
    local name=$1 command=$2
    port=$(free_port)
    rm -rf "$scratch/$name"
    mkdir "$scratch/$name"
    command=${command//\{port\}/$port}
    command=${command//\{port2\}/$(free_port)}
    command=${command//\{dir\}/$scratch/$name}
    bash -c "exec $command" >"$scratch/$name.log" 2>&1 &
    server=$!
    for _ in $(seq 200); do
        listening "$port" && return
        kill -0 "$server" 2>/dev/null || break
        sleep 0.1
    done
    echo "server $name does not listen on port $port:" >&2
    tail -20 "$scratch/$name.log" >&2
    exit 1
}

# run <name> <load> <arguments...>: appends one line of JSON to the results of both.
run() {
    local name=$1 load=$2
    shift 2
    timeout "$run_seconds_max" "$bench" "$load" --url "http://127.0.0.1:$port" --server-pid "$server" \
        --output json "$@" >>"$scratch/$name.$load.json" || echo "  $name: $load exited with $?" >&2
}

# warn <name>: says so when the last appends of a server did not all succeed.
warn() {
    tail -n 1 "$scratch/$1.append.json" | grep -q '"errors":{}' || echo "  $1: appends failed: no result about speed" >&2
}

# figure <name> <load> <figure>: the median over the rounds.
figure() {
    sed -n "s/.*\"$3\":\([0-9.]*\).*/\1/p" "$scratch/$1.$2.json" | sort -n |
        awk '{ v[NR] = $1 } END { if (NR) print (NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2); else print "-" }'
}

compare() {
    local load=$1 name a b
    shift
    for name in "$@"; do
        a=$(figure A "$load" "$name")
        b=$(figure B "$load" "$name")
        printf '%-8s %-26s %12s %12s %10s\n' "$load" "$name" "$a" "$b" \
            "$(awk -v a="$a" -v b="$b" 'BEGIN { if (a + 0 > 0 && b != "-") printf "%.2f", b / a; else printf "-" }')"
    done
}

for round in $(seq "$rounds"); do
    for name in A B; do
        if [ "$name" = A ]; then command=$1 own_args=${A_ARGS:-}; else command=$2 own_args=${B_ARGS:-}; fi
        echo "round $round of $rounds: $name" >&2
        start "$name" "$command"
        # Arguments are words, so they are split on purpose.
        # shellcheck disable=SC2086
        run "$name" append $own_args $append_args
        warn "$name"
        # shellcheck disable=SC2086
        [ "$sse_args" = - ] || run "$name" sse $own_args $sse_args
        stop_server
    done
done

printf '%-8s %-26s %12s %12s %10s\n' load 'figure (median)' A B 'B / A'
compare append appends_per_s p50_ms p99_ms p99.9_ms server_cpu_us_per_append server_rss_after_mib
[ "$sse_args" = - ] || compare sse events_delivered p50_ms p99_ms max_ms server_cpu_us_per_event server_rss_after_mib

#!/usr/bin/env bash
# A stream that has left the machine, read through our server, beside a plain GET of the same objects from the same
# store, Garage (an S3 server that is not built on our libraries). See README.md.
set -euo pipefail

# usage: cold.sh [arguments of `ursula-bench cold`]; CACHE_BYTES is the cache of the server (32 MiB). `just cold`
# builds what it needs.
root=$(cd "$(dirname "$0")/.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}

scratch=$(mktemp -d "$target/cold.XXXXXX")
server=
stop() {
    [ -z "$server" ] || { kill "$server" && wait "$server" || true; } 2>/dev/null
    rm -rf "$scratch"
}
trap stop EXIT
trap 'exit 130' INT TERM

# shellcheck source=ports.sh
. "$(dirname "$0")/ports.sh"

AWS_ACCESS_KEY_ID=GK0123456789abcdef01234567
AWS_SECRET_ACCESS_KEY=$(printf '0123456789abcdef%.0s' 1 2 3 4)
export AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY
port=$(free_port)
endpoint=http://127.0.0.1:$port
"$root/tests/garage.sh" "$target/garage/bin/garage" "$scratch" "127.0.0.1:$port" "127.0.0.1:$(free_port)" >"$scratch/garage.log" 2>&1 &
server=$!

cat >"$scratch/curl" <<CURL
silent
fail
aws-sigv4 = "aws:amz:garage:s3"
user = "$AWS_ACCESS_KEY_ID:$AWS_SECRET_ACCESS_KEY"
header = "x-amz-content-sha256: UNSIGNED-PAYLOAD"
CURL
list="curl --config '$scratch/curl' '$endpoint/bucket?list-type=2'"
for _ in $(seq 300); do
    ! bash -c "$list" >/dev/null || break
    kill -0 "$server" 2>/dev/null || { cat "$scratch/garage.log" >&2; exit 1; }
    sleep 0.1
done

# Every object on one connection, one after the other.
plain="$list | grep -o '<Key>[^<]*' | sed 's|<Key>|url = \"$endpoint/bucket/|; s|\$|\"\noutput = /dev/null|' |
    curl --config '$scratch/curl' --config - --write-out '%{size_download}\n' | awk '{ bytes += \$1 } END { printf \"%.0f\n\", bytes }'"

cat >"$scratch/ursula.toml" <<TOML
[node]
ring_bytes = 67108864
log_bytes = 134217728
segment_bytes = 25165824
checkpoint_bytes = 8388608
entries_kept = 1
disk_reserve_bytes = 0
store = "s3://bucket/bench"
store_endpoint = "$endpoint"
store_region = "garage"
store_path_style = true
cache_bytes = ${CACHE_BYTES:-33554432}
TOML
"$target/release/ursula-bench" cold --dir "$scratch/server" --plain "$plain" \
    --gone "curl --silent http://127.0.0.1:{port3}/metrics | grep -q '^ursula_node_unpacked_bytes.* 0$'" \
    --server "$target/release/ursula dev --config $scratch/ursula.toml --data-dir {dir}/data --listen 127.0.0.1:{port}
        --operations-listen 127.0.0.1:{port2} --node-operations-listen 127.0.0.1:{port3}" \
    "$@"

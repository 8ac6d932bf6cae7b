#!/usr/bin/env bash
# Runs Garage, alone, with one bucket, `bucket` in the region `garage`, for whom AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY name.
# usage: garage.sh PROGRAM FOLDER ADDRESS OTHER_ADDRESS; it serves S3 on the first address and keeps its files in the folder.
set -euo pipefail
program=$1 folder=$2 api=$3 rpc=$4
cat >"$folder/garage.toml" <<TOML
metadata_dir = "$folder/meta"
data_dir = "$folder/objects"
db_engine = "sqlite"
replication_factor = 1
rpc_bind_addr = "$rpc"
rpc_secret = "$(printf '00%.0s' {1..32})"
[s3_api]
s3_region = "garage"
api_bind_addr = "$api"
TOML
export GARAGE_DEFAULT_BUCKET=bucket GARAGE_DEFAULT_ACCESS_KEY=$AWS_ACCESS_KEY_ID
export GARAGE_DEFAULT_SECRET_KEY=$AWS_SECRET_ACCESS_KEY RUST_LOG=garage=info
exec "$program" -c "$folder/garage.toml" server --single-node --default-bucket

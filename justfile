# Shorter names for the commands that CI and people run. `just` alone lists them.

_list:
    @just --list

# Serve streams on 127.0.0.1:4437, in memory
dev *flags:
    cargo run -- dev {{ flags }}

# Everything that a change must pass; changes no file of the tree
verify:
    ./.ci/run

# Format and lint, changing files
fix:
    cargo fmt --all
    cargo clippy --workspace --all-targets --fix --allow-dirty --allow-staged
    cargo fmt --all

# What the tests start
build:
    cargo build --workspace --bins

# Tests whose name contains the filter, or all, without the official suites
test *filter: build
    cargo test --workspace -- --skip conformance_of --skip client_and --skip yjs_and {{ filter }}

# The official suites against every deployment
conformance: build
    cargo test -p ursula-tests --test official

# Measure a server that is already up, such as `just bench append --url http://127.0.0.1:4437`
bench *flags:
    cargo run --release -p ursula-bench -- {{ flags }}

# Load on a cluster of processes that are killed, frozen and cut off, with every answer judged: `just soak --minutes 60`
soak *flags:
    cargo build --release --workspace --bins
    target/release/ursula-soak {{ flags }}

# The same, as much of it as a change must pass
soak-ci *flags: (soak "--appends 1000000 --faults 76 --minutes 15" flags)

# How long writes stand still when the leader is killed, fifty times: the median is to be 2 s at most, p99 4 s
leader-kills *flags: (soak "--kinds kill-leader --faults 50 --minutes 10" flags)

# Without a store: what is measured is the log
own := "target/release/ursula dev --store none --listen 127.0.0.1:{port} --operations-listen 127.0.0.1:{port2} --node-operations-listen 127.0.0.1:{port3} --data-dir {dir}/data --ring-bytes 268435456"

# How long a node with 1 GiB of log and 100,000 streams takes from exec to ready, killed before: at most 10 s
restart *flags:
    cargo build --release -p ursula -p ursula-bench
    target/release/ursula-bench restart --server '{{ own }}' --dir target/restart {{ flags }}

# Memory of a process while 10 GiB pass through it: at most its 256 MiB for bytes, 192 MiB, and 400 bytes a stream
memory *flags:
    cargo build --release -p ursula -p ursula-bench
    target/release/ursula-bench memory --server '{{ own }}' --dir target/memory --budget 448MiB --total 10GiB \
        --bytes 8KiB --stream-bytes 16KiB {{ flags }}

# Three nodes take in more than they may keep, the store may go away, everything is read back; draws memory and disks
history *flags:
    cargo build --release -p ursula-history -p ursula-gateway -p ursula-storage-node -p ursula
    target/release/ursula-history --chart target/history.svg {{ flags }}

# The cluster of compose.yaml in containers: `just compose`, or `just compose --long`, which wants Garage and a quarter of an hour
compose *flags: build
    tests/compose/run {{ flags }}

_install-garage:
    cargo install garage --version 2.5.0 --locked --no-default-features --features bundled-libs,sqlite \
        --root target/garage --target-dir target/garage-build

# Installs Garage, a server of S3's protocol that shares no code with ours, and keeps the history of a cluster in it
garage: _install-garage build
    cargo test -p ursula-cold -p ursula-tests -- --ignored garage

# How fast a stream of 1 GiB that has left the machine is read, beside a plain GET of the same objects from Garage
cold *flags: _install-garage
    cargo build --release -p ursula -p ursula-bench
    bench/cold.sh {{ flags }}

# Licences, versions and origins of the dependencies; needs cargo-deny
deny:
    cargo deny check

# Whole clusters in simulated time, with faults and a judge: `just simulate --seed 1000 --count 5000`, or one `--seed 7 --verbose`
simulate *flags="--count 300":
    cargo run --config tests/simulation/fast.toml -p ursula-simulation -- {{ flags }}

# Plants mistakes in the program, and looks whether the simulation finds each; or those that are named
mutants *names:
    tests/simulation/mutants/run {{ names }}

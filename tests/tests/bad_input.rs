//! Malformed and refused requests, and the exact answer to each. None of them may change anything, take the
//! server down, or make the next request on its connection fail if HTTP lets that go on.
//!
//! The rows are the expectation, whatever the server does.

#[path = "bad_input/appends.rs"]
mod appends;
#[path = "bad_input/bodies.rs"]
mod bodies;
#[path = "bad_input/conflicts.rs"]
mod conflicts;
#[path = "bad_input/creates.rs"]
mod creates;
#[path = "bad_input/framing.rs"]
mod framing;
#[path = "bad_input/methods.rs"]
mod methods;
#[path = "bad_input/oversized.rs"]
mod oversized;
#[path = "bad_input/paths.rs"]
mod paths;
#[path = "bad_input/reads.rs"]
mod reads;
#[path = "bad_input/row.rs"]
mod row;
#[path = "bad_input/run.rs"]
mod run;
#[path = "bad_input/snapshots.rs"]
mod snapshots;
#[path = "bad_input/world.rs"]
mod world;

use std::collections::BTreeSet;
use std::io::Write;

use row::Row;
use tempfile::NamedTempFile;
use ursula_tests::Server;

/// Fewer rows than this, and some were lost.
const ROWS_MIN: usize = 600;

/// Short, for the rows in which a client stops; long enough for the largest body on a busy machine.
const TIMEOUTS: &str = "header_timeout_ms = 2000\nbody_timeout_ms = 2000\n";

/// Codes that no row can bring about: they need 10 PB in a stream, retention, an object store, a fault between the tiers,
/// another request at the same moment, or an operator.
const OUT_OF_REACH: [&str; 18] = [
    "bucket_busy",
    "bucket_exists",
    "cluster_refused",
    "disk_full",
    "history_damaged",
    "malformed_message",
    "memory_full",
    "not_leader",
    "offset_gone",
    "offset_invalid",
    "outcome_unknown",
    "overloaded",
    "restoring",
    "result_forgotten",
    "snapshot_incomplete",
    "store_away",
    "stream_full",
    "unavailable",
];

fn table() -> Vec<Row> {
    let topics = [
        paths::rows(),
        methods::rows(),
        reads::rows(),
        appends::rows(),
        creates::rows(),
        conflicts::rows(),
        snapshots::rows(),
        bodies::rows(),
        framing::rows(),
        oversized::rows(),
    ];
    topics.into_iter().flatten().collect()
}

/// Sends the whole table; returns how many rows it has.
fn answers(server: &Server) -> usize {
    let rows = table();
    let mut http = server.connect();
    world::build(&mut http);
    let failures = run::run(server, &rows);
    for process in run::processes(server) {
        assert!(!process.output().contains("panicked"), "a panic:\n{}", process.output());
    }
    assert!(failures.is_empty(), "{} of {} rows:\n{}", failures.len(), rows.len(), failures.join("\n"));
    world::check_hidden_state(&mut server.connect());
    rows.len()
}

fn settings(prefix: &str) -> NamedTempFile {
    let mut file = NamedTempFile::new().expect("a file");
    file.write_all(format!("{prefix}{TIMEOUTS}").as_bytes()).expect("settings are written");
    file
}

fn path(file: &NamedTempFile) -> &str {
    file.path().to_str().expect("the path of a temporary file is UTF-8")
}

#[test]
fn one_process() {
    let file = settings("[gateway]\n");
    println!("{} rows", answers(&Server::dev_with(&["--config", path(&file)])));
}

#[test]
fn two_processes() {
    let file = settings("");
    println!("{} rows", answers(&Server::tiers_with(&["--config", path(&file)], &[])));
}

#[test]
fn the_table_is_complete() {
    let rows = table();
    println!("{} rows", rows.len());
    assert!(rows.len() >= ROWS_MIN, "{} rows", rows.len());
    let mut names = BTreeSet::new();
    let twice: Vec<&str> = rows.iter().map(|row| row.what.as_str()).filter(|what| !names.insert(*what)).collect();
    assert!(twice.is_empty(), "more than one row is called {twice:?}");

    let document = include_str!("../../docs/errors.md");
    let code = |line: &'static str| line.strip_prefix("| `")?.split('`').next();
    let documented: BTreeSet<&str> = document.lines().filter_map(code).collect();
    let reached: BTreeSet<&str> = rows.iter().map(|row| row.code).filter(|code| *code != row::NO_CODE).collect();
    let missing: Vec<_> = documented.difference(&reached).filter(|code| !OUT_OF_REACH.contains(code)).collect();
    assert!(missing.is_empty(), "no row for {missing:?}");
    let unknown: Vec<_> = reached.difference(&documented).collect();
    assert!(unknown.is_empty(), "not in docs/errors.md: {unknown:?}");
}

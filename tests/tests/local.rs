//! `ursula cluster local`: its processes end with it, whatever ends it.

use std::fs;

use ursula_tests::{Http, Process, eventually};

/// Whether a process is there and not only waits to be buried.
fn lives(process: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(')').and_then(|(_, rest)| rest.trim_start().chars().next());
    state.is_some_and(|state| !matches!(state, 'Z' | 'X'))
}

#[test]
fn all_processes_end_with_one_that_is_killed() {
    let folder = tempfile::tempdir().expect("a folder");
    // Its ports are fixed, so it gets an address that no other test has.
    let [_, a, b, c] = std::process::id().to_be_bytes();
    let address = format!("127.{}.{b}.{}", a.saturating_add(100), c.max(1));
    let listen = format!("{address}:4437");
    let dir = folder.path().to_str().expect("a path of text");
    let args = ["cluster", "local", "--dir", dir, "--listen", &listen, "--gateways", "1"];
    let cluster = Process::start("ursula", &args, &[]);
    cluster.line_with("Ursula serves streams on ");
    assert_eq!(Http::connect(&format!("http://{listen}")).request("GET", "/health", &[], "").status, 200);
    let processes: Vec<String> = eventually("the list of processes", || {
        let output = cluster.output();
        let found = output.lines().filter_map(|line| Some(line.split_once(" process ")?.1.trim().to_owned()));
        let found: Vec<String> = found.filter(|id| id.parse::<u32>().is_ok()).collect();
        (found.len() == 4).then_some(found)
    });
    assert!(processes.iter().all(|process| lives(process)), "{processes:?}");
    cluster.kill();
    eventually("the end of all", || processes.iter().all(|process| !lives(process)).then_some(()));
}

//! `ursula log dump`: what is in a log and what is wrong with it, said without touching anything.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;
use tempfile::TempDir;
use ursula_tests::tree::{self, RECORD_HEADER_BYTES, Tree};
use ursula_tests::{Server, run};

const STREAM: &str = "/v1/stream/dump/log";
const TEXT: (&str, &str) = ("Content-Type", "text/plain");

fn serve(dir: &Path) -> Server {
    let file = dir.with_extension("toml");
    fs::write(&file, "[node]\nsegment_bytes = 25165824\ndisk_reserve_bytes = 0\n").expect("a file");
    Server::dev_with(&["--config", text(&file), "--data-dir", text(dir)])
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path of text")
}

fn dump(dir: &Path, flags: &[&str]) -> Output {
    run("ursula", &[&["log", "dump", text(dir)], flags].concat(), &[])
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The log of a process that was killed after some appends.
fn written() -> (TempDir, PathBuf) {
    let folder = TempDir::new().expect("a folder");
    let dir = folder.path().join("node");
    let server = serve(&dir);
    let mut http = server.connect();
    assert_eq!(http.request("PUT", STREAM, &[TEXT], "").status, 201);
    for _ in 0..20 {
        assert_eq!(http.request("POST", STREAM, &[TEXT], "some text").status, 204);
    }
    server.gateway().kill();
    (folder, dir)
}

#[test]
fn a_whole_log() {
    let (_folder, dir) = written();
    let before = Tree::of(&dir);
    let output = dump(&dir, &[]);
    let said = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("entry 3, ") && said.ends_with(": nothing is wrong\n"), "{said}");
    let summary = stdout(&dump(&dir, &["--summary"]));
    assert!(said.ends_with(&summary) && summary.lines().count() == 2, "{summary}");
    // The folder of the log does as well.
    assert_eq!(stdout(&dump(&dir.join("log"), &[])), said);
    let objects: Vec<Value> = stdout(&dump(&dir, &["--output", "json"]))
        .lines()
        .map(|line| serde_json::from_str(line).expect("an object on each line"))
        .collect();
    let entries = objects.iter().filter(|object| object["record"] == "entry").count();
    let summary = &objects.last().expect("a summary")["summary"];
    assert!(entries >= 30, "{entries}");
    assert_eq!((&summary["wrong"], &summary["segments"]), (&0.into(), &1.into()));
    assert_eq!(Tree::of(&dir), before, "it only reads");
}

#[test]
fn a_damaged_log_is_shown_with_what_is_wrong() {
    let (_folder, dir) = written();
    let records = tree::records(&dir);
    let entry = records.iter().find(|record| record.kind == "entry" && record.group > Some(0)).expect("an entry");
    let name = entry.segment.file_name().and_then(|name| name.to_str()).expect("a name of text");
    tree::flip(&entry.segment, entry.at + RECORD_HEADER_BYTES + 1, 7);
    fs::write(dir.join("log/00000000000000aa.log"), "too short").expect("a file");
    fs::write(dir.join("log/stranger.log"), "something else").expect("a file");
    let before = Tree::of(&dir);
    let output = dump(&dir, &[]);
    let said = stdout(&output);
    assert_eq!(output.status.code(), Some(3), "{said}");
    let damage = format!("{name} is damaged at byte {}, in what group {} said", entry.at, entry.group.expect("one"));
    for sentence in [
        damage.as_str(),
        "00000000000000aa.log is wrong: a segment that was cut off within its header",
        "stranger.log is wrong",
        "NOT WHOLE",
        "Restore the files from a copy",
    ] {
        assert!(said.contains(sentence), "no {sentence:?} in {said}");
    }
    let object = stdout(&dump(&dir, &["--summary", "--output", "json"]));
    let object: Value = serde_json::from_str(&object).expect("one object");
    assert_eq!(object["summary"]["wrong"], 3);
    assert_eq!(Tree::of(&dir), before, "it only reads");
}

#[test]
fn what_is_no_log_is_told() {
    let folder = TempDir::new().expect("a folder");
    for (path, words) in
        [(folder.path().join("nothing"), "is not a directory"), (folder.path().to_owned(), "holds no log")]
    {
        let output = dump(&path, &[]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.starts_with("error: ") && said.contains(words), "{said}");
    }
}

/// What is being written is no damage, and a segment that becomes another one is none.
#[test]
fn a_log_that_is_being_written() {
    let folder = TempDir::new().expect("a folder");
    let dir = folder.path().join("node");
    let server = serve(&dir);
    assert_eq!(server.request("PUT", STREAM, &[TEXT], "").status, 201);
    let stop = AtomicBool::new(false);
    let dumps = std::thread::scope(|threads| {
        for size in [9, 3_000, 2_000_000] {
            let (server, stop) = (&server, &stop);
            threads.spawn(move || {
                let (mut http, body) = (server.connect(), "x".repeat(size));
                while !stop.load(Ordering::Relaxed) {
                    assert_eq!(http.request("POST", STREAM, &[TEXT], &body).status, 204);
                }
            });
        }
        let mut dumps = Vec::new();
        while dumps.len() < 25 {
            let output = dump(&dir, &["--summary"]);
            dumps.push((output.status.code(), stdout(&output)));
        }
        stop.store(true, Ordering::Relaxed);
        dumps
    });
    for (code, said) in dumps {
        assert_eq!(code, Some(0), "{said}");
    }
}

//! What an earlier build has written is read by this one, with everything in it; and nodes that speak other versions of
//! the protocol between them understand each other or say that they do not.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;
use ursula_tests::{Response, Server};

const TEXT: (&str, &str) = ("Content-Type", "text/plain");
const JSON: (&str, &str) = ("Content-Type", "application/json");
/// So that there are checkpoints, a log that was purged, and segments with an index.
const SETTINGS: &str = "[node]
segment_bytes = 25165824
disk_reserve_bytes = 0
checkpoint_bytes = 65536
entries_kept = 1
";
const LARGE_BYTES: usize = 9 << 20;
const LARGE_APPENDS: usize = 3;
const STREAMS: usize = 20;

/// A directory for each format that was ever written.
const RECORDED: [&str; 1] = ["directory-1"];

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path of text")
}

fn serve(dir: &Path, more: &str) -> Server {
    let file = dir.with_extension("toml");
    fs::write(&file, format!("{SETTINGS}{more}")).expect("a file");
    Server::dev_with(&["--config", text(&file), "--data-dir", text(dir)])
}

fn large(number: usize) -> String {
    let line = format!("large record {number} of the stream\n");
    line.repeat(LARGE_BYTES / line.len())
}

fn produce(server: &Server, seq: &str, body: &str) -> Response {
    let headers = [TEXT, ("Producer-Id", "p"), ("Producer-Epoch", "3"), ("Producer-Seq", seq)];
    server.request("POST", "/v1/stream/produced", &headers, body)
}

/// What there is of each kind.
fn fill(server: &Server) {
    let put =
        |path: &str, kind, body: &str| assert_eq!(server.request("PUT", path, &[kind], body).status, 201, "{path}");
    let post = |path: &str, kind, body: &str| {
        assert_eq!(server.request("POST", path, &[kind], body).status, 204, "{path}");
    };
    assert_eq!(server.request("PUT", "/recorded", &[], "").status, 201);
    for index in 0..STREAMS {
        let path = format!("/recorded/text-{index}");
        put(&path, TEXT, "created with this, ");
        for number in 0..5 {
            post(&path, TEXT, &format!("record {number} of {index}, "));
        }
    }
    put("/v1/stream/json", JSON, "");
    post("/v1/stream/json", JSON, r#"[{"n":1},{"n":2}]"#);
    post("/v1/stream/json", JSON, r#"{"n":3}"#);
    put("/v1/stream/produced", TEXT, "");
    for seq in ["0", "1", "2"] {
        assert_eq!(produce(server, seq, &format!("produced {seq}, ")).status, 200);
    }
    put("/v1/stream/closed", TEXT, "all there ever was");
    assert_eq!(server.request("POST", "/v1/stream/closed", &[("Stream-Closed", "true")], "").status, 204);
    let from = [TEXT, ("Stream-Forked-From", "/recorded/text-3")];
    assert_eq!(server.request("PUT", "/v1/stream/forked", &from, "").status, 201);
    post("/v1/stream/forked", TEXT, "only in the fork");
    put("/v1/stream/deleted", TEXT, "gone");
    assert_eq!(server.request("DELETE", "/v1/stream/deleted", &[], "").status, 204);
    put("/v1/stream/large", TEXT, "");
    for number in 0..LARGE_APPENDS {
        post("/v1/stream/large", TEXT, &large(number));
    }
}

fn read(server: &Server, path: &str) -> String {
    let (mut http, mut all, mut offset) = (server.connect(), String::new(), "-1".to_owned());
    loop {
        let page = http.request("GET", &format!("{path}?offset={offset}"), &[], "");
        assert_eq!(page.status, 200, "{path}: {}", page.text());
        all += &page.text();
        offset = page.header("stream-next-offset").expect("an offset").to_owned();
        if page.header("stream-up-to-date").is_some() {
            return all;
        }
    }
}

/// Everything that [`fill`] made, after so many further visits.
fn check(server: &Server, visits: usize) {
    let visited = "visited, ".repeat(visits);
    for index in 0..STREAMS {
        let records: String = (0..5).map(|number| format!("record {number} of {index}, ")).collect();
        let expected = format!("created with this, {records}{visited}");
        assert_eq!(read(server, &format!("/recorded/text-{index}")), expected);
    }
    assert_eq!(read(server, "/v1/stream/json"), r#"[{"n":1},{"n":2},{"n":3}]"#);
    assert_eq!(produce(server, "2", "produced 2, ").status, 204, "it is known to have been there");
    assert!(produce(server, "4", "too early").has_code("producer_gap"));
    assert_eq!(read(server, "/v1/stream/produced"), "produced 0, produced 1, produced 2, ");
    assert_eq!(read(server, "/v1/stream/closed"), "all there ever was");
    assert!(server.request("POST", "/v1/stream/closed", &[TEXT], "more").has_code("stream_closed"));
    let source: String = (0..5).map(|number| format!("record {number} of 3, ")).collect();
    assert_eq!(read(server, "/v1/stream/forked"), format!("created with this, {source}only in the fork"));
    assert!(server.request("GET", "/v1/stream/deleted", &[], "").has_code("stream_not_found"));
    let expected: String = (0..LARGE_APPENDS).map(large).collect();
    assert!(read(server, "/v1/stream/large") == expected, "the large stream");
    assert!(server.request("DELETE", "/recorded", &[], "").has_code("bucket_not_empty"));
}

fn visit(server: &Server) {
    for index in 0..STREAMS {
        let path = format!("/recorded/text-{index}");
        assert_eq!(server.request("POST", &path, &[TEXT], "visited, ").status, 204, "{path}");
    }
}

fn tar(args: &[&str]) {
    let status = Command::new("tar").args(args).status().expect("tar runs");
    assert!(status.success(), "tar {args:?}");
}

#[test]
fn a_directory_of_an_earlier_build_opens_with_everything_in_it() {
    for name in RECORDED {
        let folder = TempDir::new().expect("a folder");
        tar(&["-xzf", text(&data().join(format!("{name}.tar.gz"))), "-C", text(folder.path())]);
        let dir = folder.path().join("node");
        for (visits, more) in ["", "cores = 3\n", ""].into_iter().enumerate() {
            let server = serve(&dir, more);
            check(&server, visits);
            visit(&server);
            check(&server, visits + 1);
            server.gateway().kill();
        }
    }
}

/// Makes the directory that the test above reads, when a format has a new version: see `tests/data/README.md`.
#[test]
#[ignore = "makes a new file of the tree"]
fn record_a_directory() {
    let name = RECORDED.last().expect("one at least");
    let folder = TempDir::new().expect("a folder");
    let dir = folder.path().join("node");
    for part in 0..2 {
        let server = serve(&dir, "");
        if part == 0 {
            fill(&server);
        }
        check(&server, 0);
        server.gateway().kill();
    }
    let archive = data().join(format!("{name}.tar.gz"));
    tar(&["-czSf", text(&archive), "-C", text(folder.path()), "node"]);
}

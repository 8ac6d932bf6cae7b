//! `ursula stream` as people and scripts meet it: content comes and goes as it is, nothing is stored or written twice
//! whatever happens to connections, and each end has its code (docs/cli.md).

use std::io::{Read, Write};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use ursula_tests::{Flow, Link, Proxy, Server, address_of, eventually, program, run};

/// `ursula stream` at a server, with its input in a pipe that stays open.
struct Shell {
    child: Child,
}

impl Shell {
    fn start(url: &str, args: &[&str]) -> Shell {
        let mut command = Command::new(program("ursula"));
        command.arg("stream").args(args).env("URSULA_URL", url);
        let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Shell { child: pipes.spawn().expect("it starts") }
    }

    fn type_in(&mut self, text: &[u8]) {
        self.child.stdin.as_mut().expect("a pipe").write_all(text).expect("it reads");
    }

    /// Waits until it has written so much.
    fn written(&mut self, bytes: usize) -> Vec<u8> {
        let mut written = vec![0; bytes];
        self.child.stdout.as_mut().expect("a pipe").read_exact(&mut written).expect("so much");
        written
    }

    fn interrupt(&self) {
        kill_process(Pid::from_child(&self.child), Signal::INT).expect("it runs");
    }

    /// Closes its input and waits for its end.
    fn end(mut self) -> (i32, String, String) {
        drop(self.child.stdin.take());
        told(self.child.wait_with_output().expect("it ends"))
    }
}

fn told(output: Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

/// Runs `ursula stream` without input to its end.
fn stream(url: &str, args: &[&str]) -> (i32, String, String) {
    told(run("ursula", &[&["stream"], args].concat(), &[("URSULA_URL", url)]))
}

#[track_caller]
fn done(url: &str, args: &[&str]) -> String {
    let (code, out, err) = stream(url, args);
    assert_eq!(code, 0, "{args:?}: {err}");
    out
}

#[track_caller]
fn fails(url: &str, args: &[&str], expected: i32, words: &[&str]) {
    let (code, out, err) = stream(url, args);
    assert_eq!((code, out.as_str()), (expected, ""), "{args:?}: {err}");
    assert!(words.iter().all(|word| err.contains(word)), "no {words:?} in {err}");
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// The tail of a stream, asked without a proxy.
fn tail_of(server: &Server, name: &str) -> String {
    let head = server.request("HEAD", &format!("/v1/stream/{name}"), &[], "");
    head.header("stream-next-offset").unwrap_or_default().to_owned()
}

/// A way to a server that breaks when it is told to.
fn fragile(server: &Server) -> (Proxy, Arc<Link>, String) {
    let link = Arc::new(Link::default());
    let identified = link.clone();
    let proxy = Proxy::start(move |_| Some(identified.clone()));
    proxy.lead_to(&[address_of(&server.base_url).0.parse().expect("an address")]);
    let url = format!("http://{}", proxy.address());
    (proxy, link, url)
}

#[test]
fn a_stream_lives_from_create_to_delete() {
    let server = Server::dev();
    let url = &server.base_url;
    assert!(done(url, &["create", "notes/a b", "--content-type", "text/plain"]).starts_with("created"));
    assert!(done(url, &["create", "notes/a b", "--content-type", "text/plain"]).starts_with("it is there already"));
    assert!(done(url, &["append", "notes/a b", "one\r\n"]).starts_with("appended 1 record"));
    let mut input = Shell::start(url, &["append", "notes/a b", "--output", "json"]);
    input.type_in(b"two\r\rthree");
    let (code, out, err) = input.end();
    assert_eq!((code, &json(&out)["records"]), (0, &1.into()), "{err}");
    let middle = tail_of(&server, "notes/a%20b");
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), "\nfour").expect("it is written");
    done(url, &["append", "notes/a b", "--file", file.path().to_str().expect("a path")]);

    let (code, out, err) = stream(url, &["read", "notes/a b"]);
    assert_eq!((code, out.as_str()), (0, "one\r\ntwo\r\rthree\nfour"));
    assert_eq!(err.trim(), format!("next offset {}", tail_of(&server, "notes/a%20b")));
    assert_eq!(done(url, &["read", "notes/a b", "--offset", &middle]), "\nfour");
    assert_eq!(done(url, &["ls", "--prefix", "notes/"]), "notes/a b\n");
    assert_eq!(json(&done(url, &["ls", "--output", "json"]))["name"], "notes/a b");

    assert!(done(url, &["trim", "notes/a b", "--before", &middle]).contains(&middle));
    let head = json(&done(url, &["head", "notes/a b", "--output", "json"]));
    assert_eq!((&head["content_type"], &head["earliest_offset"]), (&"text/plain".into(), &middle.clone().into()));
    fails(
        url,
        &["read", "notes/a b", "--offset", "0000000000000000_0000000000000000"],
        1,
        &["offset_gone", "--offset"],
    );

    done(url, &["close", "notes/a b"]);
    fails(url, &["append", "notes/a b", "more"], 1, &["stream_closed", "it ends at"]);
    let (code, out, err) = stream(url, &["tail", "notes/a b", "--offset", &middle]);
    assert_eq!((code, out.as_str()), (0, "\nfour"), "{err}");
    assert!(err.contains("closed at"), "{err}");
    done(url, &["delete", "notes/a b"]);
    fails(url, &["read", "notes/a b"], 1, &["stream_not_found", "ursula stream create"]);
    fails(url, &["head", "notes/a b"], 1, &["stream_not_found", "ursula stream create"]);
    fails(url, &["append", "notes/a b", "x"], 1, &["stream_not_found", "ursula stream create"]);
}

#[test]
fn bytes_come_out_as_they_went_in() {
    let server = Server::dev();
    let url = &server.base_url;
    let bytes: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    done(url, &["create", "bytes"]);
    let mut tail = Command::new(program("ursula"));
    let tail = tail.args(["stream", "tail", "bytes", "--offset", "-1", "--url", url]).stdout(Stdio::piped()).spawn();
    let mut input = Shell::start(url, &["append", "bytes"]);
    input.type_in(&bytes);
    assert_eq!(input.end().0, 0);
    done(url, &["close", "bytes"]);
    let followed = tail.expect("it starts").wait_with_output().expect("it ends with the stream");
    assert!(followed.stdout == bytes);
    let read = run("ursula", &["stream", "read", "bytes", "--url", url], &[]);
    assert!(read.status.success() && read.stdout == bytes);
}

#[test]
fn messages_are_lines_and_lines_are_messages() {
    let server = Server::dev();
    let url = &server.base_url;
    done(url, &["create", "messages", "--content-type", "application/json"]);
    let mut input = Shell::start(url, &["append", "messages", "--lines"]);
    input.type_in(b"{\"n\": 12345678901234567890}\n\n[1, [2]]\n  \"a\\nb\"  \nnull");
    let (code, out, err) = input.end();
    assert_eq!(code, 0, "{err}");
    assert!(out.starts_with("appended 4 records"), "{out}");
    // A message that has an end of line within.
    done(url, &["append", "messages", "[{\"a\":\n1}, 7]"]);
    assert_eq!(
        done(url, &["read", "messages"]),
        "{\"n\":12345678901234567890}\n[1,[2]]\n\"a\\nb\"\nnull\n{\"a\":1}\n7\n"
    );

    let mut bad = Shell::start(url, &["append", "messages", "--lines"]);
    bad.type_in(b"8\n9\n{\"cut\":");
    let (code, _, err) = bad.end();
    assert_eq!(code, 1, "{err}");
    assert!(err.contains("line 3 is not JSON") && err.contains("the first 2 lines are stored"), "{err}");
}

#[test]
fn snapshots_are_left_and_read() {
    let server = Server::dev();
    let url = &server.base_url;
    done(url, &["create", "folded", "--content-type", "text/plain"]);
    done(url, &["append", "folded", "1 and 2"]);
    fails(url, &["snapshot", "folded"], 1, &["snapshot_not_found"]);
    let at = tail_of(&server, "folded");
    let mut input = Shell::start(url, &["publish", "folded", "--at", &at, "--content-type", "text/plain"]);
    input.type_in(b"3\r\n");
    assert_eq!(input.end(), (0, "published\n".to_owned(), String::new()));
    let (code, out, err) = stream(url, &["snapshot", "folded"]);
    assert_eq!((code, out.as_str(), err.trim()), (0, "3\r\n", format!("next offset {at}").as_str()));
}

#[test]
fn long_streams_are_read_page_by_page() {
    let server = Server::dev();
    let url = &server.base_url;
    done(url, &["create", "long", "--content-type", "text/plain"]);
    let records: Vec<String> = ["a", "b", "c"].map(|letter| letter.repeat(3 << 20)).into();
    for record in &records {
        let mut input = Shell::start(url, &["append", "long", "--file", "-"]);
        input.type_in(record.as_bytes());
        assert_eq!(input.end().0, 0);
    }
    assert!(done(url, &["read", "long"]) == records.concat());
    let pipe = format!(
        "'{}' stream read long --url {url} | head -c 1 >/dev/null; exit ${{PIPESTATUS[0]}}",
        program("ursula").display()
    );
    let (code, _, err) = told(Command::new("bash").args(["-c", &pipe]).output().expect("bash"));
    assert_eq!((code, err.as_str()), (0, ""), "a reader that has enough is no mistake");
}

#[test]
fn what_is_sent_again_is_stored_once() {
    let server = Server::dev();
    let (_proxy, link, url) = fragile(&server);
    done(&url, &["create", "once", "--content-type", "text/plain"]);
    let before = tail_of(&server, "once");
    // The answer gets lost.
    link.set(Flow::Pass, Flow::Stall);
    let mut lines = Shell::start(&url, &["append", "once", "--lines", "--content-type", "text/plain"]);
    lines.type_in(b"first\n");
    eventually("the line to be stored", || (tail_of(&server, "once") != before).then_some(()));
    link.cut();
    link.heal();
    lines.type_in(b"second\nthird");
    let (code, out, err) = lines.end();
    assert_eq!(code, 0, "{err}");
    assert!(out.starts_with("appended 3 records"), "{out}");
    assert_eq!(done(&url, &["read", "once"]), "first\nsecond\nthird");

    // Without a producer nobody can know, and it is said.
    let before = tail_of(&server, "once");
    link.set(Flow::Pass, Flow::Stall);
    let mut record = Shell::start(&url, &["append", "once", "--content-type", "text/plain"]);
    record.type_in(b"fourth\n");
    drop(record.child.stdin.take());
    eventually("the record to be stored", || (tail_of(&server, "once") != before).then_some(()));
    link.cut();
    link.heal();
    let (code, _, err) = record.end();
    assert_eq!(code, 4, "{err}");
    assert!(err.contains("may have been done"), "{err}");
}

#[test]
fn a_tail_that_is_cut_goes_on_without_a_gap_or_a_repetition() {
    let server = Server::dev();
    let (_proxy, link, url) = fragile(&server);
    for (name, content_type) in
        [("cut/text", "text/plain"), ("cut/json", "application/json"), ("cut/bytes", "image/png")]
    {
        done(&url, &["create", name, "--content-type", content_type]);
        let mut tail = Shell::start(&url, &["tail", name, "--offset", "-1"]);
        for number in 1..=4 {
            // The server is asked directly: the way to it is cut in the middle of this.
            done(&server.base_url, &["append", name, &format!("{number}\n")]);
            if number == 2 {
                link.refuse(true);
                done(&server.base_url, &["append", name, "22\n"]);
                link.heal();
            }
            let expected = if number == 2 { "2\n22\n".to_owned() } else { format!("{number}\n") };
            assert_eq!(String::from_utf8_lossy(&tail.written(expected.len())), expected, "{name}");
        }
        let at = tail_of(&server, name);
        tail.interrupt();
        let (code, rest, err) = tail.end();
        assert_eq!((code, rest.as_str()), (130, ""), "{err}");
        assert!(err.contains(&format!("next offset {at}")), "{err}");
    }
}

#[test]
fn input_that_is_interrupted_is_told_line_by_line() {
    let server = Server::dev();
    done(&server.base_url, &["create", "halfway", "--content-type", "text/plain"]);
    let start = tail_of(&server, "halfway");
    let mut lines = Shell::start(&server.base_url, &["append", "halfway", "--lines", "--output", "json"]);
    lines.type_in(b"one\ntwo\nthr");
    eventually("two lines to be stored", || {
        (done(&server.base_url, &["read", "halfway"]) == "one\ntwo\n").then_some(())
    });
    lines.interrupt();
    let (code, out, err) = lines.end();
    assert_eq!(code, 130, "{err}");
    assert!(err.contains("the first 2 lines are stored"), "{err}");
    assert!(json(&out)["error"]["message"].as_str().is_some_and(|text| text.contains("interrupted")), "{out}");
    assert_ne!(tail_of(&server, "halfway"), start);
}

#[test]
fn a_producer_that_is_taken_over_is_refused() {
    let server = Server::dev();
    let url = &server.base_url;
    done(url, &["create", "owned", "--content-type", "text/plain"]);
    done(url, &["append", "owned", "a", "--producer", "me"]);
    done(url, &["append", "owned", "b", "--producer", "me"]);
    // A run from the future.
    let later = [
        ("Content-Type", "text/plain"),
        ("Producer-Id", "me"),
        ("Producer-Epoch", "9007199254740991"),
        ("Producer-Seq", "0"),
    ];
    assert_eq!(server.request("POST", "/v1/stream/owned", &later, "c").status, 200);
    fails(url, &["append", "owned", "d", "--producer", "me"], 1, &["producer_epoch_stale", "taken over"]);
    assert_eq!(done(url, &["read", "owned"]), "abc");
}

#[test]
fn a_server_that_is_none_is_told() {
    let server = Server::dev();
    let nobody = "http://127.0.0.1:1";
    for command in [&["read", "x"][..], &["append", "x", "y"], &["tail", "x"], &["ls"], &["delete", "x"]] {
        fails(nobody, command, 3, &["cannot connect to http://127.0.0.1:1", "URSULA_URL"]);
    }
    fails("127.0.0.1:4437", &["read", "x"], 2, &["a gateway looks like http://127.0.0.1:4437"]);
    let operations = server.gateway_metrics_url.trim_end_matches("/metrics");
    fails(operations, &["read", "x"], 1, &["not_found"]);
    fails(&server.base_url, &["ls", "--bucket", "nothing-here"], 1, &["bucket_not_found"]);
    fails(&server.base_url, &["ls", "--bucket", "No"], 2, &["a bucket name is"]);
    fails(&server.base_url, &["read", "x", "--offset", "middle"], 1, &["invalid_query"]);
    fails(
        &server.base_url,
        &["append", "x", "--file", "no-such-file", "--content-type", "text/plain"],
        1,
        &["no-such-file"],
    );
}

//! Sends every row to a server and compares. Goes on after a failure, so that one run finds them all.

use std::io::ErrorKind;
use std::iter;
use std::net::Shutdown;
use std::thread::sleep;
use std::time::Duration;

use ursula_tests::{Http, Process, Response, Server};

use crate::row::{NO_ANSWER, NO_CODE, Request, Row};
use crate::world::{CLOSED, MISSING, Snapshot};

/// Between the head and the body of a request whose body is late.
const LATE: Duration = Duration::from_millis(30);

/// Rows after which the world is looked at.
const ROWS_BETWEEN_LOOKS: usize = 8;

/// Sends the rows; returns what was not as expected.
pub(crate) fn run(server: &Server, rows: &[Row]) -> Vec<String> {
    let mut observer = server.connect();
    let mut before = Snapshot::take(&mut observer);
    let mut failures = Vec::new();
    for group in rows.chunks(ROWS_BETWEEN_LOOKS) {
        for row in group {
            if let Err(problem) = check(server, row) {
                failures.push(format!("{}: {problem}\n    request {}", row.what, row.request.summary()));
            }
            let died = processes(server).any(|process| process.try_wait().is_some());
            assert!(!died, "a process died of: {}", row.what);
        }
        let after = Snapshot::take(&mut observer);
        let changes = after.changes(&before);
        if !changes.is_empty() {
            let names: Vec<&str> = group.iter().map(|row| row.what.as_str()).collect();
            failures.push(format!("one of these changed something: {names:?}{changes}"));
            // What should not have been created is in the way of the rows that follow.
            observer.request("DELETE", MISSING, &[], "");
        }
        before = if changes.is_empty() { after } else { Snapshot::take(&mut observer) };
    }
    failures
}

/// The processes of a server: one with both tiers, or one for each.
pub(crate) fn processes(server: &Server) -> impl Iterator<Item = &Process> {
    let node = server.node_address.is_some().then(|| server.node());
    iter::once(server.gateway()).chain(node)
}

/// Sends one row on a connection of its own.
fn check(server: &Server, row: &Row) -> Result<(), String> {
    let mut http =
        if row.request.to_operations { Http::connect(&server.gateway_metrics_url) } else { server.connect() };
    send(&mut http, &row.request);
    let answer = match http.try_response(row.request.is_head()) {
        Ok(answer) => Some(answer),
        // Frames of HTTP/2, or the end of the connection.
        Err(error) if is_end(error.kind()) || error.kind() == ErrorKind::InvalidData => None,
        Err(error) => return Err(format!("no answer: {error}")),
    };
    match answer {
        None if row.status == NO_ANSWER => {}
        None => return Err("the connection ended without an answer".to_owned()),
        Some(answer) => check_answer(&answer, row)?,
    }
    if row.closes { check_end(&mut http) } else { check_next(&mut http, row) }
}

fn send(http: &mut Http, request: &Request) {
    for (place, packet) in request.packets().iter().enumerate() {
        if place > 0 {
            sleep(LATE);
        }
        // The server may have answered and gone before it has everything.
        if http.try_send(packet).is_err() {
            return;
        }
    }
    if request.half_closes {
        // The same.
        let _ = http.socket().shutdown(Shutdown::Write);
    }
}

fn check_answer(answer: &Response, row: &Row) -> Result<(), String> {
    let is_error = answer.header("content-type") == Some("application/json") && answer.status >= 400;
    let shown = format!("{} {}", answer.status, answer.text());
    if answer.status != row.status {
        return Err(format!("expected {} {}, got {shown}", row.status, row.code));
    }
    for (name, value) in &row.headers {
        if answer.header(name) != Some(value) {
            return Err(format!("expected {name}: {value}, got {:?}", answer.head));
        }
    }
    // Otherwise clients would send their next request into the end.
    if row.closes && answer.header("connection") != Some("close") {
        return Err(format!("{shown} does not say that the connection closes"));
    }
    match row.code {
        NO_CODE if is_error => Err(format!("expected no code, got {shown}")),
        NO_CODE => Ok(()),
        _ if !is_error => Err(format!("expected code {}, got {shown}", row.code)),
        code => check_error(answer, code, row.request.is_head()),
    }
}

/// An error has one form, and headers that hold for all of them.
fn check_error(answer: &Response, code: &str, to_head: bool) -> Result<(), String> {
    let expected = [
        ("cache-control", "no-store"),
        ("x-content-type-options", "nosniff"),
        ("cross-origin-resource-policy", "cross-origin"),
        ("access-control-allow-origin", "*"),
    ];
    for (name, value) in expected {
        if answer.header(name) != Some(value) {
            return Err(format!("expected {name}: {value}, got {:?}", answer.header(name)));
        }
    }
    if answer.status == 405 && answer.header("allow").is_none_or(|allow| !allow.ends_with("OPTIONS")) {
        return Err(format!("a 405 without Allow: {:?}", answer.head));
    }
    if (answer.status == 429) != answer.header("retry-after").is_some() {
        return Err(format!("whether to wait, and how long: {:?}", answer.head));
    }
    if to_head {
        return Ok(());
    }
    let body: serde_json::Value = serde_json::from_slice(&answer.body).map_err(|error| error.to_string())?;
    let later = ["body_timeout", "body_incomplete", "too_many_producers"].contains(&code);
    let (found, retry) = (&body["error"]["code"], &body["error"]["retry"]);
    if *found != code || *retry != if later { "later" } else { "no" } {
        return Err(format!("expected {code}, got {}", answer.text()));
    }
    let complete = body["error"]["message"].as_str().is_some_and(|message| message.len() > 10);
    if complete { Ok(()) } else { Err(format!("no message: {}", answer.text())) }
}

/// Nothing more comes, whatever was sent after the row.
fn check_end(http: &mut Http) -> Result<(), String> {
    match http.read_to_end() {
        Ok(rest) if rest.starts_with(b"HTTP/") => Err(format!("a second answer: {}", String::from_utf8_lossy(&rest))),
        Ok(_) => Ok(()),
        Err(error) if is_end(error.kind()) => Ok(()),
        Err(error) => Err(format!("the connection stays open: {error}")),
    }
}

/// The connection goes on, and server and client agree on where requests begin.
fn check_next(http: &mut Http, row: &Row) -> Result<(), String> {
    let (path, expected) =
        if row.request.to_operations { ("/health", "{\"status\":\"ok\"}") } else { (CLOSED, "the end") };
    let next = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
    let answer = http.try_send(next).and_then(|()| http.try_response(false));
    match answer {
        Ok(answer) if answer.status == 200 && answer.text() == expected => Ok(()),
        Ok(answer) => Err(format!("the next answer on this connection is {} {}", answer.status, answer.text())),
        Err(error) => Err(format!("the connection does not go on: {error}")),
    }
}

fn is_end(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)
}

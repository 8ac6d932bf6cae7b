//! Stands between clients and a gateway, passes requests and answers on, and lies now and then.

use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::AtomicU64;
use std::thread;

use ursula_tests::{Http, Response};

use super::*;
use crate::record::{offset, place};

/// One way to lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lying {
    Never,
    /// Says of an append that it was made, and does not pass it on.
    Forget,
    /// Passes an append on twice.
    Double,
    /// Passes an append on, and says that it was not made.
    Refuse,
    /// Tells the first tail of a stream for ever.
    OldTails,
    /// Leaves a record out of a page, and moves its end.
    Omit,
    /// Swaps two records of a page.
    Swap,
    /// Leaves out the last record of a page.
    Cut,
    /// Says of a delete that it was made, and does not pass it on.
    Keep,
    /// Says of a close that it was made, and does not pass it on.
    LeaveOpen,
}

/// Of the answers that could be a lie, one in so many is.
const ONE_IN: u64 = 10;

struct Liar {
    lying: Lying,
    base_url: String,
    chances: AtomicU64,
    tails: Mutex<HashMap<String, Response>>,
}

/// Listens for clients of the server; returns where.
#[expect(clippy::disallowed_methods, reason = "forwards in threads of its own")]
pub(super) fn lie_to(server: &Server, lying: Lying) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let (base_url, chances) = (server.base_url.clone(), AtomicU64::new(0));
    let liar = Arc::new(Liar { lying, base_url, chances, tails: Mutex::default() });
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let liar = liar.clone();
            thread::spawn(move || liar.serve(client));
        }
    });
    address
}

/// A request as it came.
struct Asked {
    method: String,
    path: String,
    /// Without `Host` and `Content-Length`.
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Asked {
    /// The next one of a connection; `None` at its end.
    fn read(client: &mut TcpStream, input: &mut Vec<u8>) -> Option<Asked> {
        let end = loop {
            match input.windows(4).position(|window| window == b"\r\n\r\n") {
                Some(end) => break end,
                None => fill(client, input)?,
            }
        };
        let head = String::from_utf8(input.drain(..end + 4).collect()).expect("text");
        let mut lines = head.trim_end().split("\r\n");
        let mut words = lines.next()?.split(' ').map(str::to_owned);
        let (method, path) = (words.next()?, words.next()?);
        let header = |line: &str| line.split_once(": ").map(|(name, value)| (name.to_owned(), value.to_owned()));
        let mut headers: Vec<(String, String)> = lines.filter_map(header).collect();
        let length = headers
            .iter()
            .find(|(name, _)| name == "Content-Length")
            .map_or(0, |(_, value)| value.parse().expect("a length"));
        headers.retain(|(name, _)| name != "Content-Length" && name != "Host");
        while input.len() < length {
            fill(client, input)?;
        }
        Some(Asked { method, path, headers, body: input.drain(..length).collect() })
    }

    fn pass(&self, server: &mut Http) -> Response {
        let headers: Vec<(&str, &str)> = self.headers.iter().map(|(name, value)| (&name[..], &value[..])).collect();
        server.request(&self.method, &self.path, &headers, &self.body)
    }

    fn has(&self, name: &str) -> bool {
        self.headers.iter().any(|(header, _)| header == name)
    }

    /// An append that nothing guards.
    fn is_plain(&self) -> bool {
        let guards = ["Producer-Id", "If-Match", "Stream-Expected-Offset", "Stream-Closed"];
        self.method == "POST" && !guards.iter().any(|guard| self.has(guard))
    }

    fn is_text(&self) -> bool {
        self.has("Content-Type") && self.headers.iter().any(|(_, value)| value == "text/plain")
    }
}

fn fill(client: &mut TcpStream, input: &mut Vec<u8>) -> Option<()> {
    let mut buffer = [0; 16 << 10];
    let count = client.read(&mut buffer).ok().filter(|count| *count > 0)?;
    input.extend_from_slice(&buffer[..count]);
    Some(())
}

fn answer(status: u16, headers: &[(&str, String)]) -> Response {
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    Response { status, head: ursula_tests::Head { status, headers }, body: Vec::new() }
}

impl Liar {
    fn serve(&self, mut client: TcpStream) {
        let mut server = Http::connect(&self.base_url);
        let mut input = Vec::new();
        while let Some(asked) = Asked::read(&mut client, &mut input) {
            let Response { status, head, body } = self.answer(&asked, &mut server);
            let mut text = format!("HTTP/1.1 {status} X\r\n");
            for (name, value) in head.headers.iter().filter(|(name, _)| !name.ends_with("-encoding")) {
                let value = if name == "content-length" { body.len().to_string() } else { value.clone() };
                text += &format!("{name}: {value}\r\n");
            }
            let sent = client.write_all(&[text.as_bytes(), b"\r\n", &body].concat());
            if sent.is_err() {
                return;
            }
        }
    }

    /// Whether to lie this time.
    fn may(&self, lying: Lying, fits: bool) -> bool {
        self.lying == lying && fits && (self.chances.fetch_add(1, Ordering::Relaxed) + 1).is_multiple_of(ONE_IN)
    }

    fn answer(&self, asked: &Asked, server: &mut Http) -> Response {
        let tail = |server: &mut Http| {
            let head = server.request("HEAD", &asked.path, &[], "");
            head.header("stream-next-offset").and_then(place)
        };
        if self.may(Lying::Forget, asked.is_plain() && asked.is_text())
            && let Some((number, tail)) = tail(server)
        {
            return answer(204, &[("stream-next-offset", offset(number, tail + asked.body.len() as u64))]);
        }
        if self.may(Lying::Keep, asked.method == "DELETE") {
            return answer(204, &[]);
        }
        if self.may(Lying::LeaveOpen, asked.has("Stream-Closed"))
            && let Some((number, tail)) = tail(server)
        {
            return answer(204, &[("stream-next-offset", offset(number, tail))]);
        }
        let mut response = asked.pass(server);
        if self.may(Lying::Double, asked.is_plain()) {
            asked.pass(server);
        }
        if self.may(Lying::Refuse, asked.is_plain() && response.status == 204) {
            return answer(503, &[("content-length", "0".to_owned())]);
        }
        if self.lying == Lying::OldTails && asked.method == "HEAD" && response.status == 200 {
            let mut tails = self.tails.lock().unwrap_or_else(PoisonError::into_inner);
            return tails.entry(asked.path.clone()).or_insert(response).clone();
        }
        let is_page = asked.method == "GET" && response.header("content-type") == Some("text/plain");
        if is_page && response.status == 200 {
            self.falsify(&mut response);
        }
        response
    }

    /// Changes a page, if it has some records.
    fn falsify(&self, response: &mut Response) {
        let mut lines: Vec<&[u8]> = response.body.split_inclusive(|byte| *byte == b'\n').collect();
        let count = lines.len();
        let gone = match count {
            0..3 => return,
            _ if self.may(Lying::Omit, true) => lines.remove(count / 2).len(),
            _ if self.may(Lying::Swap, true) => {
                lines.swap(count / 2 - 1, count / 2);
                0
            }
            _ if self.may(Lying::Cut, true) => {
                lines.pop();
                0
            }
            _ => return,
        };
        response.body = lines.concat();
        for (name, value) in &mut response.head.headers {
            if let Some((number, next)) = place(value).filter(|_| name == "stream-next-offset") {
                *value = offset(number, next - gone as u64);
            }
        }
    }
}

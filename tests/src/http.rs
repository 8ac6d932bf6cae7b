//! HTTP/1.1 in the raw: bytes out as the test gives them, responses taken apart, connections kept.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;

use crate::PATIENCE;

/// The host and port of a URL, and its path.
pub fn address_of(url: &str) -> (&str, &str) {
    let rest = url.strip_prefix("http://").unwrap_or_else(|| panic!("{url} is not an http URL"));
    rest.find('/').map_or((rest, "/"), |slash| rest.split_at(slash))
}

/// The status line and headers of a response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The status.
    pub status: u16,
    /// Names in lower case, in the order they came.
    pub headers: Vec<(String, String)>,
}

impl Head {
    /// The value of a header that comes at most once; its name is given in lower case.
    ///
    /// # Panics
    /// If it came more than once.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str());
        let first = values.next();
        assert!(values.next().is_none(), "{name} came more than once: {self:?}");
        first
    }

    fn parse(text: &str) -> io::Result<Head> {
        let mut lines = text.split("\r\n");
        let status_line = lines.next().unwrap_or_default();
        let status = status_line.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
        let header = |line: &str| {
            let (name, value) = line.split_once(':')?;
            Some((name.to_ascii_lowercase(), value.trim_matches([' ', '\t']).to_owned()))
        };
        let headers = lines.map(header).collect::<Option<_>>();
        match (status, headers) {
            (Some(status), Some(headers)) => Ok(Head { status, headers }),
            _ => Err(malformed(text)),
        }
    }
}

/// A whole response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The status.
    pub status: u16,
    /// Status and headers.
    pub head: Head,
    /// The body, without its transfer coding.
    pub body: Vec<u8>,
}

impl Response {
    /// See [`Head::header`].
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.header(name)
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Whether the body is an error with this code; see `docs/errors.md`.
    pub fn has_code(&self, code: &str) -> bool {
        self.text().starts_with(&format!("{{\"error\":{{\"code\":\"{code}\","))
    }
}

/// Takes responses apart, from whatever bytes have come. Does no I/O of its own.
#[derive(Debug, Default)]
pub struct Decoder {
    input: Vec<u8>,
    rest: Option<Rest>,
}

/// What is still to come of a body.
#[derive(Debug)]
enum Rest {
    Bytes(usize),
    /// In the current chunk; 0 means that the next chunk begins.
    Chunk(usize),
    UntilEnd,
    Nothing,
}

impl Decoder {
    /// Takes bytes from the connection.
    pub fn push(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
    }

    /// Bytes that belong to no response yet.
    pub fn pending(&self) -> &[u8] {
        &self.input
    }

    /// The next head, once it is complete; afterwards its body follows. `to_head`: it answers HEAD.
    ///
    /// # Errors
    /// If it is not HTTP/1.1.
    pub fn head(&mut self, to_head: bool) -> io::Result<Option<Head>> {
        let Some(end) = self.input.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(None) };
        let bytes: Vec<u8> = self.input.drain(..end + 4).collect();
        let head = Head::parse(&String::from_utf8_lossy(&bytes[..end]))?;
        let length = head.header("content-length").map(str::parse);
        let rest = match (head.header("transfer-encoding"), length) {
            _ if to_head || head.status < 200 || matches!(head.status, 204 | 304) => Rest::Nothing,
            (Some("chunked"), None) => Rest::Chunk(0),
            (None, Some(Ok(length))) => Rest::Bytes(length),
            (None, None) => Rest::UntilEnd,
            _ => return Err(malformed("contradicting lengths")),
        };
        self.rest = Some(rest);
        Ok(Some(head))
    }

    /// The part of the body that has come, and whether that was all of it.
    ///
    /// # Errors
    /// If chunks are malformed.
    pub fn body(&mut self) -> io::Result<(Vec<u8>, bool)> {
        let mut body = Vec::new();
        loop {
            match self.rest {
                None | Some(Rest::Nothing) => return Ok((body, true)),
                Some(Rest::UntilEnd) => {
                    body.append(&mut self.input);
                    return Ok((body, false));
                }
                Some(Rest::Bytes(ref mut left)) => {
                    let taken = (*left).min(self.input.len());
                    *left -= taken;
                    body.extend(self.input.drain(..taken));
                    return Ok((body, *left == 0));
                }
                Some(Rest::Chunk(0)) => {
                    let Some(end) = self.input.windows(2).position(|window| window == b"\r\n") else {
                        return Ok((body, false));
                    };
                    let line = String::from_utf8_lossy(&self.input[..end]).into_owned();
                    let size = usize::from_str_radix(&line, 16).map_err(|_| malformed(&line))?;
                    if size == 0 && self.input.len() < end + 4 {
                        return Ok((body, false));
                    }
                    // The last chunk is followed by an empty line: this server sends no trailers.
                    self.input.drain(..end + if size == 0 { 4 } else { 2 });
                    self.rest = Some(if size == 0 { Rest::Nothing } else { Rest::Chunk(size + 2) });
                }
                Some(Rest::Chunk(left)) => {
                    if self.input.is_empty() {
                        return Ok((body, false));
                    }
                    let taken = left.min(self.input.len());
                    let data = taken.min(left.saturating_sub(2));
                    body.extend_from_slice(&self.input[..data]);
                    self.input.drain(..taken);
                    self.rest = Some(Rest::Chunk(left - taken));
                }
            }
        }
    }
}

/// One connection, on which the test decides every byte. No read waits longer than [`PATIENCE`].
#[derive(Debug)]
pub struct Http {
    stream: TcpStream,
    host: String,
    decoder: Decoder,
}

impl Http {
    /// Connects to the host and port of a URL.
    ///
    /// # Panics
    /// If nobody listens there.
    pub fn connect(url: &str) -> Http {
        let (host, _) = address_of(url);
        let stream = TcpStream::connect(host).unwrap_or_else(|error| panic!("no connection to {host}: {error}"));
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket takes a timeout");
        stream.set_nodelay(true).expect("a socket takes options");
        Http { stream, host: host.to_owned(), decoder: Decoder::default() }
    }

    /// The socket, for half-closing and the like.
    pub fn socket(&self) -> &TcpStream {
        &self.stream
    }

    /// Sends bytes as they are.
    ///
    /// # Panics
    /// If the connection is broken: use [`Http::try_send`] where it may be.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).expect("bytes can be sent");
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// If the connection is broken.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref())
    }

    /// Sends a well-formed request, and returns its response. The connection stays open.
    pub fn request(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Response {
        self.send_request(method, path, headers, body);
        self.response(method == "HEAD")
    }

    /// Sends a well-formed request without waiting for anything.
    pub fn send_request(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: impl AsRef<[u8]>) {
        let body = body.as_ref();
        let mut request = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\n", self.host);
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        if !body.is_empty() || matches!(method, "POST" | "PUT") {
            request.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        request.push_str("\r\n");
        let mut bytes = request.into_bytes();
        bytes.extend_from_slice(body);
        self.send(bytes);
    }

    /// The next response on this connection; `to_head`: it answers HEAD.
    ///
    /// # Panics
    /// If none comes: use [`Http::try_response`] where the connection may end.
    pub fn response(&mut self, to_head: bool) -> Response {
        self.try_response(to_head).unwrap_or_else(|error| panic!("no response: {error}"))
    }

    /// The next response on this connection; `to_head`: it answers HEAD.
    ///
    /// # Errors
    /// [`ErrorKind::UnexpectedEof`] if the connection ends before or within it.
    pub fn try_response(&mut self, to_head: bool) -> io::Result<Response> {
        let head = self.try_head(to_head)?;
        let mut body = Vec::new();
        loop {
            let (part, complete) = self.decoder.body()?;
            body.extend(part);
            if complete {
                break;
            }
            if self.fill()? == 0 {
                let until_end = matches!(self.decoder.rest, Some(Rest::UntilEnd));
                if until_end {
                    break;
                }
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(Response { status: head.status, head, body })
    }

    /// The head of the next response; its body follows with [`Http::body_part`].
    ///
    /// # Errors
    /// [`ErrorKind::UnexpectedEof`] if the connection ends before.
    pub fn try_head(&mut self, to_head: bool) -> io::Result<Head> {
        loop {
            if let Some(head) = self.decoder.head(to_head)? {
                return Ok(head);
            }
            if self.fill()? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Some more of the body; `None` at its end.
    ///
    /// # Errors
    /// [`ErrorKind::UnexpectedEof`] if the connection ends within the body.
    pub fn body_part(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            let (part, complete) = self.decoder.body()?;
            if !part.is_empty() {
                return Ok(Some(part));
            }
            if complete {
                return Ok(None);
            }
            if self.fill()? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Waits until the server closes the connection; returns what it sent before.
    ///
    /// # Errors
    /// If it stays open, or is reset.
    pub fn read_to_end(&mut self) -> io::Result<Vec<u8>> {
        while self.fill()? > 0 {}
        Ok(std::mem::take(&mut self.decoder.input))
    }

    fn fill(&mut self) -> io::Result<usize> {
        let mut buffer = [0; 64 << 10];
        let count = self.stream.read(&mut buffer)?;
        self.decoder.push(&buffer[..count]);
        Ok(count)
    }
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("not HTTP/1.1: {what:?}"))
}

#[cfg(test)]
mod tests;

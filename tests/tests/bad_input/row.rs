//! One row of the table: a request, byte for byte, and the answer that it must get. Sends nothing.

/// Instead of a status: the connection ends without an answer in HTTP/1.1.
pub(crate) const NO_ANSWER: u16 = 0;
/// Instead of a code: the answer is no error of the dialect. It is a success, or comes from the HTTP library,
/// which could not make a request of what it was sent.
pub(crate) const NO_CODE: &str = "-";

/// A request and what becomes of it.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) what: String,
    pub(crate) request: Request,
    pub(crate) status: u16,
    pub(crate) code: &'static str,
    pub(crate) closes: bool,
    /// Headers of the answer that clients go by.
    pub(crate) headers: Vec<(&'static str, String)>,
}

/// A request with the status and code of its answer, after which the connection goes on.
pub(crate) fn row(what: impl Into<String>, request: Request, status: u16, code: &'static str) -> Row {
    Row { what: what.into(), request, status, code, closes: false, headers: Vec::new() }
}

impl Row {
    /// Where the next request begins cannot be known, or is too far away: the connection ends.
    pub(crate) fn closes(self) -> Row {
        Row { closes: true, ..self }
    }

    /// The answer has this header.
    pub(crate) fn telling(mut self, name: &'static str, value: impl Into<String>) -> Row {
        self.headers.push((name, value.into()));
        self
    }
}

/// A request as it is sent.
#[derive(Debug, Clone, Default)]
pub(crate) struct Request {
    head: Vec<u8>,
    body: Vec<u8>,
    is_raw: bool,
    body_is_late: bool,
    /// Nothing more will be sent, and the server can see that.
    pub(crate) half_closes: bool,
    /// Goes to the operations listener of the gateway.
    pub(crate) to_operations: bool,
}

/// A request that HTTP understands, without headers other than `Host`.
pub(crate) fn ask(method: &str, target: impl AsRef<str>) -> Request {
    let head = format!("{method} {} HTTP/1.1\r\nHost: 127.0.0.1\r\n", target.as_ref());
    Request { head: head.into(), ..Request::default() }
}

/// Bytes that need not be a request.
pub(crate) fn raw(bytes: impl AsRef<[u8]>) -> Request {
    Request { head: bytes.as_ref().to_vec(), is_raw: true, ..Request::default() }
}

impl Request {
    /// Adds a header, given as a line without its end.
    pub(crate) fn with(mut self, line: impl AsRef<[u8]>) -> Request {
        self.head.extend_from_slice(line.as_ref());
        self.head.extend_from_slice(b"\r\n");
        self
    }

    /// Adds a body of known length.
    pub(crate) fn body(self, body: impl AsRef<[u8]>) -> Request {
        let length = format!("Content-Length: {}", body.as_ref().len());
        Request { body: body.as_ref().to_vec(), ..self }.with(length)
    }

    /// Adds what follows the head of a chunked request, right or wrong.
    pub(crate) fn chunked(self, chunks: impl AsRef<[u8]>) -> Request {
        Request { body: chunks.as_ref().to_vec(), ..self }.with("Transfer-Encoding: chunked")
    }

    /// Adds what follows the head, which says nothing of it yet.
    pub(crate) fn followed_by(self, bytes: impl AsRef<[u8]>) -> Request {
        Request { body: bytes.as_ref().to_vec(), ..self }
    }

    /// The body is sent a moment after the head.
    pub(crate) fn late(self) -> Request {
        Request { body_is_late: true, ..self }
    }

    /// Afterwards the client closes its side of the connection.
    pub(crate) fn half_close(self) -> Request {
        Request { half_closes: true, ..self }
    }

    /// Goes to the operations listener of the gateway.
    pub(crate) fn operations(self) -> Request {
        Request { to_operations: true, ..self }
    }

    /// Whether the answer has no body, whatever its head says.
    pub(crate) fn is_head(&self) -> bool {
        self.head.starts_with(b"HEAD ")
    }

    /// The packets in which the request is sent.
    pub(crate) fn packets(&self) -> Vec<Vec<u8>> {
        if self.is_raw {
            return vec![self.head.clone()];
        }
        let head = [&self.head[..], b"\r\n"].concat();
        match self.body_is_late {
            true => vec![head, self.body.clone()],
            false => vec![[head, self.body.clone()].concat()],
        }
    }

    /// Its beginning, for people.
    pub(crate) fn summary(&self) -> String {
        const SHOWN: usize = 160;
        let text = String::from_utf8_lossy(&self.head[..self.head.len().min(SHOWN)]);
        let dots = if self.head.len() > SHOWN { "..." } else { "" };
        format!("{}{dots}", text.escape_debug())
    }
}

//! HTTP/1.1 responses, parsed from bytes as they come. Owns no socket.

use std::ops::Range;

/// Bytes that are not an HTTP/1.1 response.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed response: {0}")]
pub struct Malformed(&'static str);

/// What the load generator wants to know of a response.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) status: u16,
    pub(crate) body: Body,
    /// Whether another request may follow on the connection.
    pub(crate) keep_alive: bool,
    /// `Stream-Next-Offset`.
    pub(crate) next_offset: Option<String>,
    /// `Stream-Up-To-Date: true`.
    pub(crate) up_to_date: bool,
}

impl Head {
    /// Parses a head; `None` if it is not complete yet. Also returns its length.
    pub(crate) fn parse(input: &[u8]) -> Result<Option<(Head, usize)>, Malformed> {
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut response = httparse::Response::new(&mut headers);
        let length = match response.parse(input) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(_) => return Err(Malformed("head")),
        };
        let status = response.code.ok_or(Malformed("status"))?;
        let mut head = Head {
            status,
            body: Body::UntilClose,
            keep_alive: response.version == Some(1),
            next_offset: None,
            up_to_date: false,
        };
        for header in response.headers.iter() {
            let value = std::str::from_utf8(header.value).map_err(|_| Malformed("header value"))?.trim();
            let is = |name: &str| header.name.eq_ignore_ascii_case(name);
            if is("content-length") {
                head.body = Body::Length(value.parse().map_err(|_| Malformed("content-length"))?);
            } else if is("transfer-encoding") {
                if !value.eq_ignore_ascii_case("chunked") {
                    return Err(Malformed("transfer-encoding"));
                }
                head.body = Body::Chunked(Chunked::Size { value: 0, digits: 0 });
            } else if is("connection") {
                head.keep_alive &= !value.eq_ignore_ascii_case("close");
            } else if is("stream-next-offset") {
                head.next_offset = Some(value.to_owned());
            } else if is("stream-up-to-date") {
                head.up_to_date = value.eq_ignore_ascii_case("true");
            }
        }
        if matches!(status, 100..=199 | 204 | 304) {
            head.body = Body::Length(0);
        }
        head.keep_alive &= head.body != Body::UntilClose;
        Ok(Some((head, length)))
    }
}

/// How much of a body is still to come.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Body {
    /// So many bytes.
    Length(u64),
    /// Chunks.
    Chunked(Chunked),
    /// Everything until the server closes the connection.
    UntilClose,
}

/// Where in a chunked body the next byte falls.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Chunked {
    Size { value: u64, digits: u8 },
    Extension { size: u64 },
    SizeEnd { size: u64 },
    Data { left: u64 },
    DataCr,
    DataLf,
    Trailer { line_bytes: usize },
    Done,
}

/// What one look at the input gave: `data` is a range of it, and `consumed` bytes of it are used up.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Taken {
    pub(crate) data: Range<usize>,
    pub(crate) consumed: usize,
}

impl Body {
    /// Whether the body is complete; never so for a body that ends with the connection.
    pub(crate) fn is_done(&self) -> bool {
        matches!(self, Body::Length(0) | Body::Chunked(Chunked::Done))
    }

    /// Takes the next piece of the body from the front of `input`; at most one chunk at a time.
    pub(crate) fn take(&mut self, input: &[u8]) -> Result<Taken, Malformed> {
        match self {
            Body::Length(left) => {
                let taken = clamp(*left, input.len());
                *left -= taken as u64;
                Ok(Taken { data: 0..taken, consumed: taken })
            }
            Body::UntilClose => Ok(Taken { data: 0..input.len(), consumed: input.len() }),
            Body::Chunked(state) => state.take(input),
        }
    }
}

impl Chunked {
    fn take(&mut self, input: &[u8]) -> Result<Taken, Malformed> {
        let mut at = 0;
        while at < input.len() && *self != Chunked::Done {
            if let Chunked::Data { left } = *self {
                let taken = clamp(left, input.len() - at);
                let left = left - taken as u64;
                *self = if left == 0 { Chunked::DataCr } else { Chunked::Data { left } };
                return Ok(Taken { data: at..at + taken, consumed: at + taken });
            }
            self.step(input[at])?;
            at += 1;
        }
        Ok(Taken { data: at..at, consumed: at })
    }

    /// Moves over one byte that is not data.
    fn step(&mut self, byte: u8) -> Result<(), Malformed> {
        *self = match (&*self, byte) {
            (&Chunked::Size { value, digits }, _) if byte.is_ascii_hexdigit() && digits < 15 => {
                let digit = char::from(byte).to_digit(16).unwrap_or_default();
                Chunked::Size { value: value * 16 + u64::from(digit), digits: digits + 1 }
            }
            (&Chunked::Size { value, digits: 1.. }, b'\r') => Chunked::SizeEnd { size: value },
            (&Chunked::Size { value, digits: 1.. }, b';' | b' ' | b'\t') => Chunked::Extension { size: value },
            (&Chunked::Extension { size }, b'\r') => Chunked::SizeEnd { size },
            (&Chunked::Extension { size }, _) => Chunked::Extension { size },
            (&Chunked::SizeEnd { size: 0 }, b'\n') => Chunked::Trailer { line_bytes: 0 },
            (&Chunked::SizeEnd { size }, b'\n') => Chunked::Data { left: size },
            (Chunked::DataCr, b'\r') => Chunked::DataLf,
            (Chunked::DataLf, b'\n') => Chunked::Size { value: 0, digits: 0 },
            (Chunked::Trailer { line_bytes: 0 }, b'\n') => Chunked::Done,
            (Chunked::Trailer { .. }, b'\n') => Chunked::Trailer { line_bytes: 0 },
            (&Chunked::Trailer { line_bytes }, b'\r') => Chunked::Trailer { line_bytes },
            (&Chunked::Trailer { line_bytes }, _) => Chunked::Trailer { line_bytes: line_bytes + 1 },
            _ => return Err(Malformed("chunk")),
        };
        Ok(())
    }
}

fn clamp(left: u64, available: usize) -> usize {
    usize::try_from(left).map_or(available, |left| left.min(available))
}

#[cfg(test)]
mod tests;

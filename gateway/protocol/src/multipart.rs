//! Several bodies in one, as RFC 2046 has it.

use bytes::{BufMut, Bytes, BytesMut};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Response};

use crate::respond::{self, NO_STORE};
use crate::status;

/// The lines around the parts of one body.
#[derive(Debug, Clone)]
pub struct Multipart {
    boundary: String,
    has_parts: bool,
}

impl Multipart {
    /// A body without parts. `random` must be drawn for it: no part can have it by chance or by design.
    pub fn new(random: u128) -> Multipart {
        Multipart { boundary: format!("ursula-{random:032x}"), has_parts: false }
    }

    /// The head of a response that goes on with parts, which are of this moment.
    pub fn response<B>(&self, body: B) -> Response<B> {
        let mut response = respond::response(status::OK, body);
        let content_type = HeaderValue::try_from(format!("multipart/mixed; boundary={}", self.boundary));
        response.headers_mut().insert(CONTENT_TYPE, content_type.expect("digits and letters are valid in a header"));
        response.headers_mut().insert(CACHE_CONTROL, NO_STORE);
        response
    }

    /// What comes before the bytes of the next part.
    pub fn part(&mut self, headers: &HeaderMap) -> Bytes {
        let mut text = BytesMut::new();
        if std::mem::replace(&mut self.has_parts, true) {
            text.put_slice(b"\r\n");
        }
        text.put_slice(format!("--{}\r\n", self.boundary).as_bytes());
        for (name, value) in headers {
            text.put_slice(name.as_str().as_bytes());
            text.put_slice(b": ");
            text.put_slice(value.as_bytes());
            text.put_slice(b"\r\n");
        }
        text.put_slice(b"\r\n");
        text.freeze()
    }

    /// What comes after the last part.
    pub fn end(&self) -> Bytes {
        format!("\r\n--{}--\r\n", self.boundary).into()
    }
}

#[cfg(test)]
mod tests;

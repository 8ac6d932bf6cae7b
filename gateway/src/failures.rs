//! One line in the log for each request that failed here, but not more than a person can read.

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use http::{HeaderName, HeaderValue, Method, Response, Uri};
use tokio::time::Instant;
use tracing::warn;
use ursula_protocol::{ErrorCode, status_number};

use crate::origin::{Peer, Trusted};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// A longer one of a client is not taken.
const REQUEST_ID_BYTES_MAX: usize = 128;
/// Lines in each interval; of the others the first line of the next says how many there were.
const LINES_MAX: u32 = 20;
const INTERVAL: Duration = Duration::from_secs(1);

/// What tells requests apart, noted before it is known whether they fail.
pub(crate) struct Asked {
    method: Method,
    uri: Uri,
    client: Option<IpAddr>,
    id: Option<HeaderValue>,
}

impl Asked {
    /// Notes a request.
    pub(crate) fn new(trusted: &Trusted, head: &http::request::Parts) -> Asked {
        let is_plain = |id: &&HeaderValue| (1..=REQUEST_ID_BYTES_MAX).contains(&id.len()) && id.to_str().is_ok();
        let peer = head.extensions.get::<Peer>();
        Asked {
            method: head.method.clone(),
            uri: head.uri.clone(),
            client: peer.map(|peer| trusted.client(*peer, &head.headers)),
            id: head.headers.get(REQUEST_ID).filter(is_plain).cloned(),
        }
    }
}

/// Lines that were written lately.
#[derive(Default)]
pub(crate) struct Failures(Mutex<Lately>);

#[derive(Default)]
struct Lately {
    since: Option<Instant>,
    lines: u32,
    left_out: u64,
}

impl Failures {
    /// Whether there may be one more line, and how many were left out before it.
    fn line(&self) -> Option<u64> {
        let mut lately = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lately.since.is_none_or(|since| since.elapsed() >= INTERVAL) {
            lately.since = Some(Instant::now());
            lately.lines = 0;
        }
        if lately.lines == LINES_MAX {
            lately.left_out += 1;
            return None;
        }
        lately.lines += 1;
        Some(std::mem::take(&mut lately.left_out))
    }

    /// Gives an answer the id of its request, if the client gave one or will ask about it; writes the line if it says that
    /// something failed here. `since` is when the request came.
    pub(crate) fn note(&self, asked: Asked, since: Instant, mut response: Response<Body>) -> Response<Body> {
        let failed = response.status().is_server_error();
        let Some(id) = asked.id.or_else(|| failed.then(new_id)) else { return response };
        if failed && let Some(left_out) = self.line() {
            warn!(
                request_id = id.to_str().unwrap_or_default(),
                client = asked.client.map(tracing::field::display),
                method = %asked.method,
                path = asked.uri.path(),
                status = status_number(response.status()),
                code = response.extensions().get::<ErrorCode>().map(|code| code.0),
                took_ms = since.elapsed().as_millis() as u64,
                left_out,
                "a request failed"
            );
        }
        response.headers_mut().insert(REQUEST_ID, id);
        response
    }
}

fn new_id() -> HeaderValue {
    HeaderValue::try_from(format!("{:032x}", rand::random::<u128>())).unwrap_or(HeaderValue::from_static("-"))
}

#[cfg(test)]
mod tests;

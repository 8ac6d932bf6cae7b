//! Ends connections that send no request, do not finish the head of one, or do not read their answer.
//! One timer for each connection that fires now and then, instead of one set and cleared for each request.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, sleep};

use crate::pages::Held;

/// How long a connection may do nothing.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// From the first byte of a head to its end.
    pub(super) header: Duration,
    /// From the end of an answer to the first byte of the next request.
    pub(super) idle: Duration,
    /// While bytes are to be sent, without the client taking any.
    pub(super) write: Duration,
}

/// A body is handed on in parts of at most so many bytes.
const PART_BYTES_MAX: usize = 256 << 10;
/// Looks at a connection so often, at least; limits are kept to this precision.
const LOOK_EVERY_MAX: Duration = Duration::from_secs(2);

/// What is known of one connection.
#[derive(Debug, Clone)]
pub(super) struct Watchdog(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    limits: Limits,
    born: Instant,
    /// Requests whose answer is not sent yet.
    requests: AtomicUsize,
    /// Bytes came since the last request.
    head_begun: AtomicBool,
    /// When `requests` or `head_begun` changed last, or a blocked client took bytes, in milliseconds after
    /// `born`.
    since_ms: AtomicU64,
    /// Since when the client takes no bytes, in milliseconds after `born`; [`NEVER`] while it does.
    blocked_since_ms: AtomicU64,
    /// HTTP/2 has frames between requests, so that bytes do not tell the begin of a head.
    is_http2: AtomicBool,
}

const NEVER: u64 = u64::MAX;
/// How an HTTP/2 connection begins.
const HTTP2_PREFACE: &[u8] = b"PRI ";

impl Inner {
    fn now_ms(&self) -> u64 {
        u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn note(&self) {
        self.since_ms.store(self.now_ms(), Ordering::Relaxed);
    }

    fn is_late(&self) -> bool {
        // Also the end of an answer whose body was taken already is under way while the client is slow.
        let blocked_since = self.blocked_since_ms.load(Ordering::Relaxed);
        if blocked_since != NEVER {
            return u128::from(self.now_ms().saturating_sub(blocked_since)) >= self.limits.write.as_millis();
        }
        if self.requests.load(Ordering::Relaxed) > 0 {
            return false;
        }
        let limit = if self.head_begun.load(Ordering::Relaxed) { self.limits.header } else { self.limits.idle };
        let waited = self.now_ms().saturating_sub(self.since_ms.load(Ordering::Relaxed));
        u128::from(waited) >= limit.as_millis()
    }

    fn note_write<T>(&self, written: &Poll<T>) {
        let blocked = self.blocked_since_ms.load(Ordering::Relaxed) != NEVER;
        match written {
            Poll::Ready(_) if blocked => {
                self.blocked_since_ms.store(NEVER, Ordering::Relaxed);
                self.note();
            }
            Poll::Pending if !blocked => self.blocked_since_ms.store(self.now_ms(), Ordering::Relaxed),
            _ => {}
        }
    }
}

impl Watchdog {
    /// A request has come; its answer is under way until the returned value is dropped.
    pub(super) fn request(&self) -> Busy {
        self.0.requests.fetch_add(1, Ordering::Relaxed);
        self.0.head_begun.store(false, Ordering::Relaxed);
        Busy(self.0.clone())
    }

    /// Returns when the connection was idle for too long.
    pub(super) async fn bites(&self) {
        let Limits { header, idle, write } = self.0.limits;
        let look_every = (header.min(idle).min(write) / 4).clamp(Duration::from_millis(10), LOOK_EVERY_MAX);
        while !self.0.is_late() {
            sleep(look_every).await;
        }
    }
}

/// A request under way.
pub(super) struct Busy(Arc<Inner>);

impl Busy {
    /// The request stays under way until its answer was sent.
    pub(super) fn until_sent(self, body: Body, held: Option<Arc<Held>>) -> Sending {
        Sending { body, rest: Bytes::new(), _busy: self, _held: held }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.note();
        self.0.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A body that keeps its request under way, and the memory of its page. It is given in small parts,
/// because what sends it takes as much as there is, and would be done with it long before the client.
pub(super) struct Sending {
    body: Body,
    /// What is left of the last part of `body`.
    rest: Bytes,
    _busy: Busy,
    _held: Option<Arc<Held>>,
}

impl HttpBody for Sending {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.rest.is_empty() {
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.rest = data,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                end => return Poll::Ready(end),
            }
        }
        let len = self.rest.len().min(PART_BYTES_MAX);
        Poll::Ready(Some(Ok(Frame::data(self.rest.split_to(len)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (body, rest) = (HttpBody::size_hint(&self.body), self.rest.len() as u64);
        let mut hint = SizeHint::new();
        hint.set_lower(body.lower() + rest);
        if let Some(upper) = body.upper() {
            hint.set_upper(upper + rest);
        }
        hint
    }
}

/// A socket that tells its watchdog when bytes come.
#[derive(Debug)]
pub(super) struct Watched<S> {
    socket: S,
    watchdog: Watchdog,
}

impl<S> Watched<S> {
    pub(super) fn new(socket: S, limits: Limits) -> (Watched<S>, Watchdog) {
        let inner = Inner {
            limits,
            born: Instant::now(),
            requests: AtomicUsize::new(0),
            head_begun: AtomicBool::new(false),
            since_ms: AtomicU64::new(0),
            blocked_since_ms: AtomicU64::new(NEVER),
            is_http2: AtomicBool::new(false),
        };
        let watchdog = Watchdog(Arc::new(inner));
        (Watched { socket, watchdog: watchdog.clone() }, watchdog)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.socket).poll_read(cx, buffer))?;
        let inner = &self.watchdog.0;
        let read = &buffer.filled()[before..];
        if read.starts_with(HTTP2_PREFACE) && inner.requests.load(Ordering::Relaxed) == 0 {
            inner.is_http2.store(true, Ordering::Relaxed);
        }
        let begins =
            !read.is_empty() && inner.requests.load(Ordering::Relaxed) == 0 && !inner.is_http2.load(Ordering::Relaxed);
        if begins && !inner.head_begun.swap(true, Ordering::Relaxed) {
            inner.note();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write(cx, bytes);
        self.watchdog.0.note_write(&written);
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write_vectored(cx, parts);
        self.watchdog.0.note_write(&written);
        written
    }
}

#[cfg(test)]
mod tests;

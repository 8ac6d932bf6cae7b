//! Reads a stream page by page, and follows it live. What was written is known by its offset, so a connection that is cut
//! costs neither a gap nor a repetition.

use std::cell::RefCell;
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use tokio::time::sleep;

use super::encoded;
use super::http::{Answer, Ask, Gateway, Repeat};
use super::live;
use super::sink::{Sink, lines_of};
use crate::cluster::failure::{End, Failure};

/// Pause before a server is asked again that ended a connection at once.
const PAUSE: Duration = Duration::from_millis(500);

/// How the content of a stream comes, and is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Messages, each written as a line.
    Json,
    /// Bytes. In an event stream lines of text lose how they end, so they are not read by one.
    Text,
    /// Bytes, in an event stream as base64.
    Binary,
}

impl Kind {
    pub(super) fn of(content_type: &str) -> Kind {
        let media = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        if media == "application/json" {
            Kind::Json
        } else if media.starts_with("text/") {
            Kind::Text
        } else {
            Kind::Binary
        }
    }
}

/// A reader of one stream.
pub(super) struct Reader<'a> {
    gateway: &'a Gateway,
    path: String,
    sink: &'a Sink,
    began: String,
    /// Everything before it is written.
    next: RefCell<String>,
}

/// One page, or what a long poll brought.
struct Page {
    kind: Option<Kind>,
    body: Bytes,
    next: String,
    up_to_date: bool,
    closed: bool,
}

/// How a live connection ended.
pub(super) enum Ended {
    /// The stream is closed, and all of it is written.
    Closed,
    /// It is gone; events had come or not.
    Cut { came: bool },
}

impl Reader<'_> {
    pub(super) fn new<'a>(gateway: &'a Gateway, path: String, sink: &'a Sink, offset: &str) -> Reader<'a> {
        Reader { gateway, path, sink, began: offset.to_owned(), next: RefCell::new(offset.to_owned()) }
    }

    /// Where to go on.
    pub(super) fn next(&self) -> String {
        self.next.borrow().clone()
    }

    /// A failure, and how far it came before.
    pub(super) fn reached(&self, failure: Failure) -> Failure {
        let next = self.next();
        match failure.end {
            End::Refused | End::Late if next != self.began => {
                let text = format!("{}; everything before {next} is written: go on with --offset {next}", failure.text);
                Failure { text, ..failure }
            }
            End::Refused | End::Late | End::Unknown | End::Interrupted | End::Unread => failure,
        }
    }

    /// Reads up to the tail. True if the stream is closed there.
    ///
    /// # Errors
    /// Those of the gateway and of the sink.
    pub(super) async fn read(&self) -> Result<bool, Failure> {
        self.read_up().await.map(|(closed, _)| closed)
    }

    /// Reads up to the tail and goes on with what comes, until the stream is closed.
    ///
    /// # Errors
    /// Those of the gateway and of the sink.
    pub(super) async fn follow(&self) -> Result<(), Failure> {
        loop {
            let (closed, kind) = self.read_up().await?;
            if closed {
                return Ok(());
            }
            let ended = match kind {
                Kind::Text => self.poll(kind).await?,
                Kind::Json | Kind::Binary => live::events(self, kind).await?,
            };
            match ended {
                Ended::Closed => return Ok(()),
                Ended::Cut { came: true } => {}
                Ended::Cut { came: false } => sleep(PAUSE).await,
            }
        }
    }

    async fn read_up(&self) -> Result<(bool, Kind), Failure> {
        loop {
            let page = self.page("").await?;
            let kind = page.kind.unwrap_or(Kind::Binary);
            self.write(kind, &page.body, page.next).await?;
            if page.up_to_date {
                return Ok((page.closed, kind));
            }
        }
    }

    async fn poll(&self, kind: Kind) -> Result<Ended, Failure> {
        loop {
            let page = self.page("&live=long-poll").await?;
            self.write(kind, &page.body, page.next).await?;
            if page.closed && page.up_to_date {
                return Ok(Ended::Closed);
            }
        }
    }

    async fn page(&self, live: &str) -> Result<Page, Failure> {
        let path = format!("{}?offset={}{live}", self.path, encoded(&self.next()));
        let answer: Answer = self.gateway.ask(&Ask::new(Method::GET, path, Repeat::Read)).await?;
        Ok(Page {
            kind: answer.header("content-type").map(Kind::of),
            next: answer.next_offset()?,
            up_to_date: answer.is("stream-up-to-date"),
            closed: answer.is("stream-closed"),
            body: answer.body,
        })
    }

    /// Opens the event stream from where it stands.
    pub(super) async fn open(&self) -> Result<http::Response<hyper::body::Incoming>, Failure> {
        let path = format!("{}?offset={}&live=sse", self.path, encoded(&self.next()));
        self.gateway.open(&Ask::new(Method::GET, path, Repeat::Read)).await
    }

    /// Writes what lies before `next`.
    pub(super) async fn write(&self, kind: Kind, content: &[u8], next: String) -> Result<(), Failure> {
        match kind {
            Kind::Json if content.is_empty() => {}
            Kind::Json => self.sink.write(&lines_of(content)?).await?,
            Kind::Text | Kind::Binary => self.sink.write(content).await?,
        }
        self.next.replace(next);
        Ok(())
    }
}

//! The server under load: its address, the requests it understands, and what must exist before a run.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::Error;
use crate::args::ServerArgs;
use crate::client::Connection;

/// How long a server may take until it accepts requests, and a busy one until it creates a stream.
const SETUP_PATIENCE: Duration = Duration::from_secs(15);
const SETUP_PAUSE: Duration = Duration::from_millis(100);
const SETUP_CONNECTIONS: usize = 16;
const BUFFER_BYTES: usize = 8 * 1024;

/// Where streams are, and under which names this run may use them.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    authority: Arc<str>,
    root: Arc<str>,
    /// Makes the names of this run unlike those of any other.
    run: Arc<str>,
}

impl Target {
    /// Understands the address, and creates the bucket if that was asked for.
    pub(crate) async fn prepare(args: &ServerArgs) -> Result<Target, Error> {
        let authority = args.url.strip_prefix("http://").map(|rest| rest.trim_end_matches('/'));
        let authority = authority.filter(|rest| !rest.is_empty() && !rest.contains('/')).ok_or(Error::Url)?;
        let authority = if authority.contains(':') { authority.to_owned() } else { format!("{authority}:80") };
        let target = Target::at(&authority, &args.root);
        if args.create_bucket {
            let request =
                format!("PUT {} HTTP/1.1\r\nHost: {}\r\nContent-Length: 0\r\n\r\n", target.root, target.authority);
            // A conflict is how some servers say that the bucket is there already.
            target.set_up(&mut target.connection(), request.as_bytes(), |status| status < 300 || status == 409).await?;
        }
        Ok(target)
    }

    /// A server at `host:port`, with names that no other run uses.
    pub(crate) fn at(authority: &str, root: &str) -> Target {
        Target {
            authority: authority.into(),
            root: format!("/{}", root.trim_matches('/')).into(),
            run: format!("bench-{:016x}", RandomState::new().build_hasher().finish()).into(),
        }
    }

    /// A connection for small answers.
    pub(crate) fn connection(&self) -> Connection {
        self.connection_with(BUFFER_BYTES)
    }

    /// A connection with a buffer of a given size.
    pub(crate) fn connection_with(&self, buffer_bytes: usize) -> Connection {
        Connection::new(self.authority.clone(), buffer_bytes)
    }

    /// Creates stream `index` of this run.
    pub(crate) fn put(&self, index: usize, content_type: &str) -> Vec<u8> {
        self.request("PUT", index, "", &format!("Content-Type: {content_type}\r\nContent-Length: 0\r\n"))
    }

    /// Appends `body` to stream `index`.
    pub(crate) fn post(&self, index: usize, content_type: &str, body: &[u8]) -> Vec<u8> {
        let headers = format!("Content-Type: {content_type}\r\nContent-Length: {}\r\n", body.len());
        let mut request = self.request("POST", index, "", &headers);
        request.extend_from_slice(body);
        request
    }

    /// Deletes stream `index`.
    pub(crate) fn delete(&self, index: usize) -> Vec<u8> {
        self.request("DELETE", index, "", "")
    }

    /// Reads stream `index`; `query` starts with a question mark.
    pub(crate) fn get(&self, index: usize, query: &str) -> Vec<u8> {
        self.request("GET", index, query, "")
    }

    fn request(&self, method: &str, index: usize, query: &str, headers: &str) -> Vec<u8> {
        let Target { authority, root, run } = self;
        format!("{method} {root}/{run}-{index}{query} HTTP/1.1\r\nHost: {authority}\r\n{headers}\r\n").into_bytes()
    }

    /// Creates streams `0..count`.
    pub(crate) async fn create_streams(&self, count: usize, content_type: &'static str) -> Result<(), Error> {
        let next = Arc::new(AtomicUsize::new(0));
        let mut tasks = JoinSet::<Result<(), Error>>::new();
        for _ in 0..SETUP_CONNECTIONS.min(count) {
            let (target, next) = (self.clone(), next.clone());
            tasks.spawn(async move {
                let mut connection = target.connection();
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= count {
                        return Ok(());
                    }
                    let request = target.put(index, content_type);
                    target.set_up(&mut connection, &request, |status| status < 300).await?;
                }
            });
        }
        tasks.join_all().await.into_iter().collect()
    }

    /// Sends a request of the preparations until it is answered well, or is refused for good.
    pub(crate) async fn set_up(
        &self,
        connection: &mut Connection,
        request: &[u8],
        good: fn(u16) -> bool,
    ) -> Result<(), Error> {
        let give_up = Instant::now() + SETUP_PATIENCE;
        loop {
            let trouble = match connection.exchange(request).await {
                Ok(head) if good(head.status) => return Ok(()),
                Ok(head) if head.status < 500 && head.status != 429 => return Err(Error::Status(head.status)),
                Ok(head) => format!("status {}", head.status),
                Err(error) => error.to_string(),
            };
            if Instant::now() >= give_up {
                return Err(Error::Setup(trouble));
            }
            sleep(SETUP_PAUSE).await;
        }
    }
}

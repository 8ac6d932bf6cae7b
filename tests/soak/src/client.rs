//! One connection to one of the gateways, with one request in flight; goes on at another gateway after a failure.
//! Never sends a request a second time: whether that is allowed is for the caller to know.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use ursula_tests::{Decoder, Head, Response};

/// A connection that is open.
pub trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Socket for S {}

/// Opens a connection to an address.
pub type Connect = dyn Fn(String) -> Pin<Box<dyn Future<Output = io::Result<Box<dyn Socket>>> + Send>> + Send + Sync;

/// Where gateways are at this moment, and how they are reached; those that do not run are nowhere.
pub struct Gateways {
    addresses: RwLock<Vec<Option<String>>>,
    connect: Box<Connect>,
}

impl Gateways {
    /// None yet.
    pub fn new(connect: Box<Connect>) -> Gateways {
        Gateways { addresses: RwLock::default(), connect }
    }

    /// None yet, reached by the network of the machine.
    pub(crate) fn over_tcp() -> Gateways {
        Gateways::new(Box::new(|address| {
            Box::pin(async move {
                let socket = TcpStream::connect(address).await?;
                // It only makes things faster.
                let _ = socket.set_nodelay(true);
                Ok(Box::new(socket) as Box<dyn Socket>)
            })
        }))
    }

    /// Where they are from now on.
    pub fn set(&self, addresses: Vec<Option<String>>) {
        *self.addresses.write().unwrap_or_else(PoisonError::into_inner) = addresses;
    }

    pub(crate) fn count(&self) -> usize {
        self.addresses.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// The address of number `at`, wherever the counting begins.
    fn get(&self, at: usize) -> Option<String> {
        let addresses = self.addresses.read().unwrap_or_else(PoisonError::into_inner);
        addresses.get(at % addresses.len().max(1)).cloned().flatten()
    }
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Nothing was sent.
    NotSent,
    /// The request was sent, or a part of it.
    Lost,
}

/// One request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Request<'a> {
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    pub(crate) headers: &'a [(&'a str, &'a str)],
    pub(crate) body: &'a [u8],
}

impl<'a> Request<'a> {
    pub(crate) fn new(method: &'a str, path: &'a str) -> Request<'a> {
        Request { method, path, headers: &[], body: &[] }
    }

    fn bytes(&self, host: &str) -> Vec<u8> {
        let Request { method, path, headers, body } = self;
        let mut text = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n");
        for (name, value) in *headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        if !body.is_empty() || matches!(*method, "POST" | "PUT") {
            text.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        text.push_str("\r\n");
        let mut bytes = text.into_bytes();
        bytes.extend_from_slice(body);
        bytes
    }
}

pub(crate) struct Client {
    gateways: Arc<Gateways>,
    /// The number of the gateway that is used.
    at: usize,
    stays: bool,
    open: Option<Open>,
    buffer: Box<[u8]>,
}

struct Open {
    socket: Box<dyn Socket>,
    decoder: Decoder,
}

const BUFFER_BYTES: usize = 32 << 10;
const CONNECT_PATIENCE: Duration = Duration::from_secs(1);

impl Client {
    /// Begins at gateway number `at`.
    pub(crate) fn new(gateways: Arc<Gateways>, at: usize) -> Client {
        Client { gateways, at, stays: false, open: None, buffer: vec![0; BUFFER_BYTES].into() }
    }

    /// Uses one gateway only.
    pub(crate) fn staying(gateways: Arc<Gateways>, at: usize) -> Client {
        Client { stays: true, ..Client::new(gateways, at) }
    }

    /// Goes to the next gateway.
    pub(crate) fn turn(&mut self) {
        self.open = None;
        self.at += usize::from(!self.stays);
    }

    /// Sends a request, and waits for the whole answer for so long.
    pub(crate) async fn request(&mut self, request: &Request<'_>, patience: Duration) -> Result<Response, Failure> {
        let to_head = request.method == "HEAD";
        self.send(request).await?;
        let answer = async {
            let head = self.read_head(to_head).await?;
            let mut body = Vec::new();
            while let Some(part) = self.read_part().await? {
                body.extend(part);
            }
            io::Result::Ok(Response { status: head.status, head, body })
        };
        let answer = timeout(patience, answer).await;
        self.judged(answer)
    }

    /// Sends a request, and waits for the head of the answer for so long; its body follows.
    pub(crate) async fn open(&mut self, request: &Request<'_>, patience: Duration) -> Result<Head, Failure> {
        self.send(request).await?;
        let answer = timeout(patience, self.read_head(false)).await;
        self.judged(answer)
    }

    /// Some more of the body, waiting for so long; `None` at its end.
    pub(crate) async fn part(&mut self, patience: Duration) -> Result<Option<Vec<u8>>, Failure> {
        let answer = timeout(patience, self.read_part()).await;
        self.judged(answer)
    }

    fn judged<T, E>(&mut self, answer: Result<io::Result<T>, E>) -> Result<T, Failure> {
        let answer = answer.map_err(|_| Failure::Lost).and_then(|answer| answer.map_err(|_| Failure::Lost));
        if answer.is_err() {
            self.turn();
        }
        answer
    }

    async fn send(&mut self, request: &Request<'_>) -> Result<(), Failure> {
        let Some(host) = self.gateways.get(self.at) else {
            self.turn();
            return Err(Failure::NotSent);
        };
        if self.open.is_none() {
            let Ok(Ok(socket)) = timeout(CONNECT_PATIENCE, (self.gateways.connect)(host.clone())).await else {
                self.turn();
                return Err(Failure::NotSent);
            };
            self.open = Some(Open { socket, decoder: Decoder::default() });
        }
        let sent = match &mut self.open {
            Some(open) => open.socket.write_all(&request.bytes(&host)).await,
            None => Err(io::ErrorKind::NotConnected.into()),
        };
        self.judged(Ok::<_, ()>(sent))
    }

    async fn read_head(&mut self, to_head: bool) -> io::Result<Head> {
        loop {
            let open = self.open.as_mut().ok_or(io::ErrorKind::NotConnected)?;
            match open.decoder.head(to_head)? {
                Some(head) if head.status == 100 => {}
                Some(head) => return Ok(head),
                None => self.fill().await?,
            }
        }
    }

    async fn read_part(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            let open = self.open.as_mut().ok_or(io::ErrorKind::NotConnected)?;
            let (part, complete) = open.decoder.body()?;
            if !part.is_empty() {
                return Ok(Some(part));
            }
            if complete {
                return Ok(None);
            }
            self.fill().await?;
        }
    }

    async fn fill(&mut self) -> io::Result<()> {
        let open = self.open.as_mut().ok_or(io::ErrorKind::NotConnected)?;
        let count = open.socket.read(&mut self.buffer).await?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        open.decoder.push(&self.buffer[..count]);
        Ok(())
    }
}

//! Connections that do too little, over a real socket, under a clock that the test moves.

use std::net::SocketAddr;
use std::sync::mpsc;
use std::thread;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::spawn_blocking;
use tokio::time::advance;
use ursula_common::clock::ManualClock;
use ursula_common::limits::PAGE_BYTES_MAX;

use super::*;
use crate::app::Gateway;
use crate::config::GatewayConfig;
use crate::tests::{FakeNode, Stored};

const HEADER: Duration = Duration::from_secs(10);
const IDLE: Duration = Duration::from_secs(75);
const WRITE: Duration = Duration::from_secs(30);
const LONG_POLL: Duration = Duration::from_secs(200);
/// By how much time moves on at once, and what a cut may take to be seen.
const STEP: Duration = Duration::from_millis(500);
const SEEN_AFTER: Duration = Duration::from_secs(3);

struct World {
    address: SocketAddr,
    gateway: Gateway,
    stored: Arc<Stored>,
    _node: FakeNode,
    _time_stands: mpsc::Sender<()>,
}

/// Moves the clock on until `event` has come.
async fn while_time_passes<T>(event: impl Future<Output = T>) -> T {
    tokio::pin!(event);
    loop {
        // What is on its way through the sockets arrives in the meantime.
        let arrived = spawn_blocking(|| thread::sleep(Duration::from_millis(1)));
        tokio::select! {
            biased;
            output = &mut event => return output,
            _ = arrived => advance(STEP).await,
        }
    }
}

async fn pass(time: Duration) {
    while_time_passes(sleep(time)).await;
}

impl World {
    async fn new() -> World {
        // While something blocks, paused time does not move by itself: a socket that is slow is no reason.
        let (time_stands, end) = mpsc::channel();
        spawn_blocking(move || end.recv());
        let node = FakeNode::new();
        let stored = node.store("stream", "text/plain");
        let milliseconds = |duration: Duration| duration.as_millis() as u64;
        let config = GatewayConfig {
            header_timeout_ms: milliseconds(HEADER),
            idle_timeout_ms: milliseconds(IDLE),
            write_timeout_ms: milliseconds(WRITE),
            long_poll_timeout_ms: milliseconds(LONG_POLL),
            sse_lifetime_ms: milliseconds(LONG_POLL),
            ..GatewayConfig::default()
        };
        let gateway = Gateway::start(config, vec![node.seed()], Arc::new(ManualClock::default())).expect("a gateway");
        let bind = || TcpListener::bind("127.0.0.1:0");
        let (listener, operations) = (bind().await.expect("a port"), bind().await.expect("a port"));
        let address = listener.local_addr().expect("an address");
        tokio::spawn(crate::server::serve(gateway.clone(), listener, operations, std::future::pending()));
        World { address, gateway, stored, _node: node, _time_stands: time_stands }
    }

    fn metric(&self, name: &str) -> f64 {
        let text = self.gateway.render_metrics();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no metric {name}"))
    }

    async fn connect(&self) -> Client {
        self.connect_from(TcpSocket::new_v4().expect("a socket")).await
    }

    async fn connect_from(&self, socket: TcpSocket) -> Client {
        let socket = socket.connect(self.address).await.expect("a connection");
        socket.set_nodelay(true).expect("a socket");
        Client { socket, since: Instant::now() }
    }
}

struct Client {
    socket: TcpStream,
    since: Instant,
}

impl Client {
    /// Sends bytes; a connection that was cut refuses them.
    async fn send(&mut self, bytes: &str) -> bool {
        self.socket.write_all(bytes.as_bytes()).await.is_ok()
    }

    async fn get(&mut self, query: &str) {
        assert!(self.send(&format!("GET /v1/stream/stream{query} HTTP/1.1\r\nhost: here\r\n\r\n")).await);
    }

    /// Reads until the head of an answer has come, and returns its first line.
    async fn answer(&mut self) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(self.socket.read_u8().await.expect("an answer"));
        }
        String::from_utf8(head).expect("text").lines().next().unwrap_or_default().to_owned()
    }

    /// Reads until the connection is cut, and returns how long it was open, and how many bytes came.
    async fn cut(&mut self) -> (Duration, usize) {
        let mut rest = Vec::new();
        // Cut with bytes on their way, a socket tells of an error instead of its end.
        drop(while_time_passes(self.socket.read_to_end(&mut rest)).await);
        (self.since.elapsed(), rest.len())
    }
}

/// A limit is kept to the precision of the looks at it.
#[track_caller]
fn assert_about(elapsed: Duration, limit: Duration) {
    let latest = limit + LOOK_EVERY_MAX + SEEN_AFTER;
    assert!((limit..latest).contains(&elapsed), "cut after {elapsed:?}, not {limit:?}");
}

#[tokio::test(start_paused = true)]
async fn a_head_that_does_not_end_is_cut() {
    let world = World::new().await;
    let mut client = world.connect().await;
    assert!(client.send("GET /v1/stream/stream HTTP/1.1\r\nhost: he").await);
    assert_about(client.cut().await.0, HEADER);

    // A byte now and then does not help.
    let mut client = world.connect().await;
    assert!(client.send("GET /v1/stream/stream HTTP/1.1\r\nx: ").await);
    let mut sent = 0;
    while client.send("y").await {
        pass(Duration::from_secs(1)).await;
        sent += 1;
        assert!(sent < 20, "{sent} bytes");
    }
    assert_about(client.since.elapsed(), HEADER);
}

#[tokio::test(start_paused = true)]
async fn a_second_head_has_as_much_time_as_the_first() {
    let world = World::new().await;
    let mut client = world.connect().await;
    client.get("").await;
    assert_eq!(client.answer().await, "HTTP/1.1 200 OK");
    pass(Duration::from_secs(40)).await;
    // In two parts, in time.
    assert!(client.send("GET /v1/stream/stream HTTP/1.1\r\n").await);
    pass(Duration::from_secs(7)).await;
    assert!(client.send("host: here\r\n\r\n").await);
    assert_eq!(client.answer().await, "HTTP/1.1 200 OK");
    pass(Duration::from_secs(40)).await;
    client.since = Instant::now();
    assert!(client.send("GET ").await);
    assert_about(client.cut().await.0, HEADER);
}

#[tokio::test(start_paused = true)]
async fn a_connection_without_requests_is_cut() {
    let world = World::new().await;
    let mut silent = world.connect().await;
    assert_about(silent.cut().await.0, IDLE);

    let mut client = world.connect().await;
    for _ in 0..3 {
        pass(Duration::from_secs(60)).await;
        client.get("").await;
        assert_eq!(client.answer().await, "HTTP/1.1 200 OK");
    }
    client.since = Instant::now();
    assert_about(client.cut().await.0, IDLE);
}

#[tokio::test(start_paused = true)]
async fn an_answer_may_take_longer_than_every_limit() {
    let world = World::new().await;
    let mut client = world.connect().await;
    client.get("?live=long-poll&offset=now").await;
    assert_eq!(while_time_passes(client.answer()).await, "HTTP/1.1 204 No Content");
    let waited = client.since.elapsed();
    assert!((LONG_POLL..LONG_POLL + SEEN_AFTER).contains(&waited), "{waited:?}");
    // The next request finds the connection as it was.
    client.get("").await;
    assert_eq!(client.answer().await, "HTTP/1.1 200 OK");

    let mut events = world.connect().await;
    events.get("?live=sse&offset=now").await;
    assert_eq!(events.answer().await, "HTTP/1.1 200 OK");
    let mut body = Vec::new();
    while !body.ends_with(b"0\r\n\r\n") {
        body.push(while_time_passes(events.socket.read_u8()).await.expect("an event"));
    }
    let lived = events.since.elapsed();
    assert!(lived >= LONG_POLL.mul_f64(0.9), "cut after {lived:?}");
    assert!(body.windows(4).filter(|piece| piece == b"\r\n:\n").count() >= 10, "comments on the way");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_no_bytes_is_cut_and_a_slow_one_is_not() {
    const LEN: usize = 15 << 20;
    let world = World::new().await;
    world.stored.append(&vec![b'x'; LEN]);
    let connect = async || {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(64 << 10).expect("a small buffer");
        world.connect_from(socket).await
    };
    let (mut dead, mut slow) = (connect().await, connect().await);
    for client in [&mut dead, &mut slow] {
        client.get("").await;
        assert_eq!(client.answer().await, "HTTP/1.1 200 OK");
    }
    // One takes a part now and then; the other nothing, until it is too late.
    let mut part = vec![0; LEN / 3];
    for (connections, pages) in [(2.0, 2.0), (1.0, 1.0), (1.0, 1.0)] {
        pass(WRITE - 2 * LOOK_EVERY_MAX).await;
        assert_eq!(world.metric("ursula_gateway_connections"), connections);
        let held = world.metric("ursula_gateway_page_bytes");
        assert_eq!(held, pages * PAGE_BYTES_MAX as f64, "memory is held until the client has taken the page");
        slow.socket.read_exact(&mut part).await.expect("the next part");
    }
    assert!(slow.since.elapsed() > 2 * WRITE);
    pass(Duration::from_secs(1)).await;
    assert_eq!(world.metric("ursula_gateway_page_bytes"), 0.0);
    let (_, taken) = dead.cut().await;
    assert!(taken < LEN, "all of it was taken by the buffers on the way");
}

/// A frame of HTTP/2 without content.
fn http2_frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    [&[0, 0, payload.len() as u8, kind, flags, 0, 0, 0, 0], payload].concat()
}

#[tokio::test(start_paused = true)]
async fn frames_of_an_idle_http2_connection_are_no_heads() {
    const SETTINGS: u8 = 4;
    const PING: u8 = 6;
    const ACK: u8 = 1;
    let world = World::new().await;
    let mut client = world.connect().await;
    client.socket.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.expect("an open connection");
    client.socket.write_all(&http2_frame(SETTINGS, 0, &[])).await.expect("an open connection");
    let mut pings = 0;
    // Answers what the server asks until it ends the connection.
    loop {
        let mut head = [0; 9];
        if while_time_passes(client.socket.read_exact(&mut head)).await.is_err() {
            break;
        }
        let mut payload = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
        client.socket.read_exact(&mut payload).await.expect("a whole frame");
        let answer = match head[3] {
            PING if head[4] & ACK == 0 => http2_frame(PING, ACK, &payload),
            SETTINGS if head[4] & ACK == 0 => http2_frame(SETTINGS, ACK, &[]),
            _ => continue,
        };
        pings += usize::from(head[3] == PING);
        client.socket.write_all(&answer).await.expect("an open connection");
    }
    assert_about(client.since.elapsed(), IDLE);
    assert!(pings >= 2, "{pings} pings");
}

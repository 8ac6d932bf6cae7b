//! Event streams and long polls as clients get them, against a node that the test plays.

use std::time::Duration;

use http::Request;
use http_body_util::BodyExt;
use tower::ServiceExt;
use ursula_common::clock::ManualClock;

use super::*;
use crate::app::Gateway;
use crate::config::GatewayConfig;
use crate::tests::{FakeNode, Stored, quiet, within};

const TEXT: &str = "text/plain";

struct World {
    gateway: Gateway,
    stored: Arc<Stored>,
    _node: FakeNode,
}

impl World {
    fn new(content_type: &str) -> World {
        let node = FakeNode::new();
        let stored = node.store("stream", content_type);
        let config = GatewayConfig { sse_heartbeat_ms: 15_000, sse_lifetime_ms: 60_000, ..GatewayConfig::default() };
        let gateway = Gateway::start(config, vec![node.seed()], Arc::new(ManualClock::default())).expect("a gateway");
        World { gateway, stored, _node: node }
    }

    async fn get(&self, query: &str) -> Response<Body> {
        get(self.gateway.clone(), query.to_owned()).await
    }

    async fn events(&self, from: &str) -> Client {
        Client { body: self.get(&format!("live=sse&offset={from}")).await.into_body(), ended: false }
    }

    fn reads(&self) -> usize {
        self.stored.reads.lock().expect("no panic").len()
    }
}

async fn get(gateway: Gateway, query: String) -> Response<Body> {
    let request = Request::get(format!("/v1/stream/stream?{query}")).header("host", "here").body(Body::empty());
    gateway.app().public_routes().oneshot(request.expect("a request")).await.expect("an answer")
}

/// A client of an event stream.
struct Client {
    body: Body,
    ended: bool,
}

impl Client {
    /// The next piece of the response.
    async fn piece(&mut self) -> Option<String> {
        let Some(piece) = within(self.body.frame()).await else {
            self.ended = true;
            return None;
        };
        let bytes = piece.expect("no error").into_data().expect("data");
        Some(String::from_utf8(bytes.to_vec()).expect("text"))
    }

    /// What comes at this moment; no more than `most` pieces.
    async fn take(&mut self, most: usize) -> Vec<String> {
        let mut taken = Vec::new();
        while taken.len() < most && !self.ended {
            tokio::select! {
                biased;
                piece = self.piece() => taken.extend(piece),
                () = quiet() => break,
            }
        }
        taken
    }

    /// The data of the events that come at this moment.
    async fn data(&mut self) -> String {
        let pieces = self.take(1000).await.concat();
        let lines = pieces.lines().filter_map(|line| line.strip_prefix("data:"));
        lines.filter(|line| !line.starts_with('{')).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn events_begin_with_what_is_stored_and_follow_what_comes() {
    let world = World::new(TEXT);
    world.stored.append(b"one");
    let (mut early, mut late) = (world.events("-1").await, world.events("now").await);
    assert_eq!(early.data().await, "one");
    assert_eq!(late.take(10).await.len(), 1, "a control event tells where the reader is");
    for record in ["two", "three"] {
        world.stored.append(record.as_bytes());
        assert_eq!((early.data().await, late.data().await), (record.to_owned(), record.to_owned()));
    }
    assert_eq!(world.stored.tails.lock().expect("no panic").len(), 1);
    world.stored.close();
    for client in [&mut early, &mut late] {
        let last = client.take(10).await;
        assert!(last.len() == 1 && last[0].contains("streamClosed"), "{last:?}");
        assert!(client.ended, "the response ends with the stream");
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_stream_has_comments_and_ends_after_its_time() {
    let world = World::new(TEXT);
    let started = Instant::now();
    let mut client = world.events("-1").await;
    client.take(10).await;
    let mut comments = 0;
    while let Some(piece) = client.piece().await {
        assert_eq!(piece.as_bytes(), sse::HEARTBEAT);
        comments += 1;
    }
    let lived = started.elapsed();
    assert!((54..=66).contains(&lived.as_secs()), "{lived:?}");
    assert_eq!(comments, lived.as_secs() / 15, "one each 15 s");
}

#[tokio::test(start_paused = true)]
async fn a_character_that_is_not_complete_is_waited_for_in_silence() {
    let world = World::new(TEXT);
    let character = "€".as_bytes();
    world.stored.append(&[b"a", &character[..1]].concat());
    // This one has the first byte already, as long polls send bytes as they are.
    let poll = tokio::spawn(get(world.gateway.clone(), format!("live=long-poll&offset={}", Offset(2))));
    quiet().await;
    let mut client = world.events("-1").await;
    let first = client.take(100).await;
    assert!(first.len() <= 2, "{} pieces for one page", first.len());
    let reads = world.reads();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(client.take(100).await, [""; 0], "nothing new, nothing to say");
    assert_eq!(world.reads(), reads, "and nothing to read");

    world.stored.append(&[&character[1..], b"b"].concat());
    assert_eq!(client.data().await, "€b");
    let polled = poll.await.expect("no panic").into_body().collect().await.expect("a body").to_bytes();
    assert_eq!(polled, [&character[1..], b"b"].concat());
    world.stored.append(b"c");
    assert_eq!(client.data().await, "c");
    // From here on it is served from the frames that all share.
    let reads = world.reads();
    world.stored.append(b"d");
    assert_eq!((client.data().await, world.reads()), ("d".to_owned(), reads));
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_stream_brings_the_rest_of_a_character() {
    let world = World::new(TEXT);
    world.stored.append(b"a\xE2");
    let mut poll = Box::pin(world.get("live=long-poll&offset=now"));
    tokio::select! {
        biased;
        _ = &mut poll => panic!("there is nothing to answer"),
        () = quiet() => {}
    }
    let mut client = world.events("-1").await;
    assert_eq!(client.data().await, "a");
    world.stored.close();
    let last = client.take(10).await.concat();
    assert!(last.contains("data:\u{FFFD}") && last.contains("streamClosed"), "{last}");
}

#[tokio::test(start_paused = true)]
async fn another_stream_under_the_name_ends_the_events() {
    let world = World::new(TEXT);
    let mut client = world.events("-1").await;
    client.take(10).await;
    world.stored.replace();
    world.stored.append(b"other");
    assert_eq!(client.take(10).await, [""; 0]);
    assert!(client.ended);
    assert_eq!(world.events("-1").await.data().await, "other");
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_fell_behind_does_not_go_on_with_another_stream() {
    let world = World::new(TEXT);
    let mut client = world.events("-1").await;
    client.take(10).await;
    // Frames that this one does not take, and more than are kept.
    for _ in 0..20 {
        world.stored.append(&[b'x'; 100_000]);
        quiet().await;
    }
    world.stored.replace();
    world.stored.append(&[b'y'; 3_000_000]);
    assert_eq!(client.data().await, "");
    assert!(client.ended);
}

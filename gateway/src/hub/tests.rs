//! Feeds and their readers, against a node that the test plays.

use std::time::Duration;

use ursula_common::clock::ManualClock;
use ursula_common::verb::ReadFrom;
use ursula_common::{ContentType, Error};

use super::*;
use crate::pages::{self, PageBudget};
use crate::tests::{FakeNode, Stored, quiet, within};

mod replicas;

const NAME: &str = "stream";
const TEXT: &str = "text/plain";
const BINARY: &str = "application/octet-stream";
/// What a feed keeps, and how long it lingers.
const KEPT_BYTES: usize = 1 << 20;
const LINGER: Duration = Duration::from_secs(1);

struct World {
    hub: Hub,
    stored: Arc<Stored>,
    node: FakeNode,
}

impl World {
    fn new(content_type: &str) -> World {
        World::with_budget(content_type, usize::MAX)
    }

    fn with_budget(content_type: &str, kept_bytes_max: usize) -> World {
        let node = FakeNode::new();
        let stored = node.store(NAME, content_type);
        let metrics = crate::tests::metrics();
        let cluster = Cluster::reach(
            vec![node.seed()],
            Arc::new(ursula_proto::remote),
            1,
            Duration::from_secs(5),
            usize::MAX,
            metrics.clone(),
        );
        let hub = Hub::new(cluster, kept_bytes_max, Arc::new(ManualClock::default()), metrics);
        World { hub, stored, node }
    }

    fn follow(&self, from: u64) -> Reader {
        self.hub.follow(&key(), &self.stored.info().try_into().expect("a description"), Offset(from))
    }

    /// How many feeds there are.
    fn feeds(&self) -> usize {
        self.hub.0.feeds.lock().expect("no panic").len()
    }

    fn tails(&self) -> Vec<u64> {
        self.stored.tails.lock().expect("no panic").clone()
    }

    fn metric(&self, name: &str) -> f64 {
        let text = self.hub.0.metrics.registry.render();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no metric {name}"))
    }

    /// Does what a client's connection does until `reader` is at `to`: sends frames, and pages where frames
    /// are no longer kept. Returns the bytes, and how often there were pages.
    async fn read_to(&self, reader: &mut Reader, to: usize) -> (Vec<u8>, usize) {
        self.read_while(reader, to, || ()).await
    }

    /// The same; `meanwhile` happens between a page and what follows it.
    async fn read_while(&self, reader: &mut Reader, to: usize, meanwhile: impl Fn()) -> (Vec<u8>, usize) {
        let budget =
            PageBudget::new(64 << 20, Duration::from_secs(1), metrics::Gauge::noop(), metrics::Counter::noop());
        let (mut bytes, mut pages) = (Vec::new(), 0);
        while reader.next().0 < to as u64 {
            let from = reader.next();
            match within(reader.step()).await {
                Step::Frame(frame) => bytes.extend_from_slice(&unread(&frame, from)),
                Step::CatchUp => {
                    pages += 1;
                    let read = pages::read(&self.hub.0.cluster, &budget, &key(), ReadFrom::At(from), false).await;
                    let page = read.expect("a page");
                    assert_eq!(page.start, from);
                    bytes.extend(page.pieces.concat());
                    meanwhile();
                    *reader = self.hub.follow(&key(), &page.info, page.next);
                }
                Step::Ended(error) => panic!("ended: {error}"),
            }
        }
        (bytes, pages)
    }
}

fn key() -> StreamKey {
    StreamKey::parse("default", NAME).expect("a name")
}

async fn frame(reader: &mut Reader) -> Arc<Frame> {
    match within(reader.step()).await {
        Step::Frame(frame) => frame,
        Step::CatchUp => panic!("fell behind"),
        Step::Ended(error) => panic!("ended: {error}"),
    }
}

/// Whether nothing comes for the reader at this moment.
async fn waits(reader: &mut Reader) -> bool {
    tokio::select! {
        biased;
        _ = reader.step() => false,
        () = quiet() => true,
    }
}

#[tokio::test(start_paused = true)]
async fn many_readers_share_one_tail_and_every_frame() {
    let world = World::new(BINARY);
    let mut readers: Vec<Reader> = (0..50).map(|_| world.follow(0)).collect();
    quiet().await;
    for (i, record) in ["one", "two", "three"].into_iter().enumerate() {
        world.stored.append(record.as_bytes());
        let first = frame(&mut readers[0]).await;
        assert_eq!((&first.data[..], first.up_to_date, first.closed), (record.as_bytes(), true, false));
        for reader in &mut readers[1..] {
            assert!(Arc::ptr_eq(&frame(reader).await, &first), "one frame for all");
        }
        assert_eq!(world.metric("ursula_gateway_tail_frames_total"), i as f64 + 1.0);
    }
    assert_eq!(world.tails(), [0]);
    assert_eq!(world.metric("ursula_gateway_tail_readers"), 50.0);
    assert_eq!(world.metric("ursula_gateway_tail_upstreams"), 1.0);
    assert_eq!(world.metric("ursula_gateway_tail_deliveries_total"), 150.0);
    assert!(waits(&mut readers[7]).await);
}

#[tokio::test(start_paused = true)]
async fn another_stream_has_another_tail() {
    let world = World::new(BINARY);
    let mut old = world.follow(0);
    quiet().await;
    world.stored.replace();
    // The same name, and the offset of the other one.
    let mut new = world.follow(0);
    world.stored.append(b"new");
    assert!(matches!(within(old.step()).await, Step::Ended(Error::StreamNotFound)));
    assert_eq!(frame(&mut new).await.data, "new");
    let other = world.node.store("other", BINARY);
    let other_key = StreamKey::parse("default", "other").expect("a name");
    let mut reader = world.hub.follow(&other_key, &other.info().try_into().expect("a description"), Offset(0));
    other.append(b"other");
    assert_eq!(frame(&mut reader).await.data, "other");
    assert!(waits(&mut new).await);
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_lags_catches_up_and_misses_nothing() {
    let world = World::new(BINARY);
    let (mut slow, mut fast) = (world.follow(0), world.follow(0));
    let (mut seen, mut caught_up) = (Vec::new(), Vec::new());
    // Fewer than are kept, more, and more than one page.
    for (round, frames) in [3, 10, 70, 20].into_iter().enumerate() {
        for i in 0..frames {
            world.stored.append(&vec![i as u8 ^ round as u8; 100_000 + i]);
            seen.extend_from_slice(&frame(&mut fast).await.data);
            let kept = world.metric("ursula_gateway_tail_frame_bytes");
            assert!(kept <= KEPT_BYTES as f64, "{kept} bytes are kept");
        }
        let meanwhile = || world.stored.append(b"between a page and the next frame");
        let (bytes, pages) = world.read_while(&mut slow, seen.len(), meanwhile).await;
        caught_up.extend(bytes);
        assert_eq!(pages, [0, 1, 2, 1][round], "pages in round {round}");
        let to = world.stored.content().len();
        seen.extend(world.read_to(&mut fast, to).await.0);
        caught_up.extend(world.read_to(&mut slow, to).await.0);
    }
    assert!(caught_up == world.stored.content(), "no gap and no repeat");
    assert!(seen == world.stored.content());
    assert_eq!(world.tails(), [0], "all that with one tail");
    assert!(world.metric("ursula_gateway_tail_lagged_total") >= 1.0);
}

#[tokio::test(start_paused = true)]
async fn a_reader_a_little_behind_needs_no_pages() {
    let world = World::new(BINARY);
    let (mut slow, mut fast) = (world.follow(0), world.follow(0));
    for i in 0..100u8 {
        world.stored.append(&[i; 1000]);
        frame(&mut fast).await;
    }
    let (bytes, pages) = world.read_to(&mut slow, 100_000).await;
    assert!(bytes == world.stored.content());
    assert_eq!((pages, world.stored.reads.lock().expect("no panic").len()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_frame_larger_than_what_is_kept_reaches_readers_that_wait() {
    let world = World::new(BINARY);
    let mut reader = world.follow(0);
    quiet().await;
    world.stored.append(&[9; 2 * KEPT_BYTES]);
    assert_eq!(frame(&mut reader).await.data.len(), 2 * KEPT_BYTES);
    world.stored.append(b"next");
    assert_eq!(frame(&mut reader).await.data, "next");
}

#[tokio::test(start_paused = true)]
async fn without_memory_for_frames_readers_read_pages() {
    let world = World::with_budget(BINARY, 3000);
    let mut reader = world.follow(0);
    let mut seen = Vec::new();
    for i in 0..50u8 {
        world.stored.append(&[i; 5000]);
        quiet().await;
        assert!(world.metric("ursula_gateway_tail_frame_bytes") <= 3000.0);
        let (bytes, pages) = world.read_to(&mut reader, seen.len() + 5000).await;
        assert_eq!(pages, 1);
        seen.extend(bytes);
    }
    assert!(seen == world.stored.content());
    // What is small is kept, and the end is told in any case.
    world.stored.append(b"small");
    assert_eq!(frame(&mut reader).await.data, "small");
    world.stored.append(&[7; 9000]);
    world.stored.close();
    let last = frame(&mut reader).await;
    assert_eq!((last.data.len(), last.closed), (9000, true));
    drop((reader, last));
    quiet().await;
    assert_eq!(world.metric("ursula_gateway_tail_frame_bytes"), 0.0, "a feed that has ended keeps nothing");
}

#[tokio::test(start_paused = true)]
async fn a_feed_lingers_and_then_closes() {
    let world = World::new(BINARY);
    let upstreams = || world.metric("ursula_gateway_tail_upstreams");
    let reader = world.follow(0);
    quiet().await;
    assert_eq!((world.feeds(), upstreams()), (1, 1.0));
    drop(reader);
    tokio::time::sleep(LINGER / 2).await;
    assert_eq!((world.feeds(), upstreams()), (1, 1.0), "it lingers");
    // Whoever comes now finds the tail open, and it stays for as long as there is one reader.
    let (first, mut second) = (world.follow(0), world.follow(0));
    drop(first);
    tokio::time::sleep(3 * LINGER).await;
    assert_eq!((world.feeds(), upstreams(), world.tails().len()), (1, 1.0, 1));
    world.stored.append(b"here");
    assert_eq!(frame(&mut second).await.data, "here");
    drop(second);
    tokio::time::sleep(LINGER + Duration::from_millis(10)).await;
    assert_eq!((world.feeds(), upstreams()), (0, 0.0));
    assert_eq!(world.metric("ursula_gateway_tail_frame_bytes"), 0.0);
    assert_eq!(world.metric("ursula_gateway_tail_readers"), 0.0);

    let mut late = world.follow(4);
    world.stored.append(b"again");
    assert_eq!(frame(&mut late).await.data, "again");
    assert_eq!(world.tails(), [0, 4]);
}

#[tokio::test(start_paused = true)]
async fn a_tail_that_was_lost_goes_on_where_it_was() {
    let world = World::new(BINARY);
    let mut reader = world.follow(0);
    let mut seen = Vec::new();
    for i in 0..20u8 {
        world.stored.append(&[i; 10]);
        if i % 3 == 0 {
            quiet().await;
        }
        if i % 4 == 1 {
            // With and without bytes that the feed has not heard of, and sometimes for a while.
            world.stored.break_tails(i % 8 == 1);
            world.stored.append(&[100 + i; 5]);
            tokio::time::sleep(Duration::from_millis(u64::from(i) * 30)).await;
            world.stored.append(&[200 + i; 5]);
            world.stored.break_tails(true);
        }
        let to = world.stored.content().len();
        let (bytes, pages) = world.read_to(&mut reader, to).await;
        seen.extend(bytes);
        assert_eq!(pages, 0, "readers notice nothing");
    }
    assert!(seen == world.stored.content());
    let tails = world.tails();
    assert!(tails.len() >= 6 && tails.is_sorted(), "{tails:?}");
}

#[tokio::test(start_paused = true)]
async fn characters_that_an_append_cuts_come_whole() {
    let world = World::new(TEXT);
    let mut reader = world.follow(0);
    quiet().await;
    let text = "aé€𐍈z";
    let mut shown = String::new();
    for byte in text.as_bytes() {
        world.stored.append(&[*byte]);
        quiet().await;
        let stored = world.stored.content();
        let whole = (0..=stored.len()).rev().find_map(|end| std::str::from_utf8(&stored[..end]).ok()).expect("text");
        if whole.len() > shown.len() {
            let frame = frame(&mut reader).await;
            shown.push_str(std::str::from_utf8(&frame.data).expect("whole characters"));
            assert!(!String::from_utf8_lossy(&frame.events).contains('\u{FFFD}'));
        }
        assert_eq!(shown, whole);
        assert!(waits(&mut reader).await, "a part of a character is held back");
    }
    assert_eq!(shown, text);
}

#[tokio::test(start_paused = true)]
async fn what_is_held_back_survives_a_lost_tail() {
    let world = World::new(TEXT);
    let mut reader = world.follow(0);
    quiet().await;
    let character = "€".as_bytes();
    world.stored.append(&[b"x", &character[..1]].concat());
    assert_eq!(frame(&mut reader).await.data, "x");
    world.stored.break_tails(true);
    tokio::time::sleep(LINGER / 2).await;
    world.stored.append(&character[1..2]);
    quiet().await;
    world.stored.break_tails(true);
    tokio::time::sleep(LINGER / 2).await;
    world.stored.append(&[&character[2..], b"y"].concat());
    let frame = frame(&mut reader).await;
    assert_eq!((frame.start, &frame.data[..]), (Offset(1), "€y".as_bytes()));
    assert_eq!(world.tails(), [0, 2, 3], "no byte was asked for twice");
}

#[tokio::test(start_paused = true)]
async fn only_text_that_can_become_whole_is_held_back() {
    // Bytes that no more bytes can make text, and streams that are not text.
    for (content_type, bytes) in
        [(TEXT, &b"\xFF"[..]), (TEXT, b"\xC3("), (BINARY, b"\xC3"), ("application/json", b"\"\xC3\",")]
    {
        let world = World::new(content_type);
        let mut reader = world.follow(0);
        world.stored.append(bytes);
        assert_eq!(frame(&mut reader).await.data, bytes, "{content_type}");
    }
    // The rest of a character that never comes is sent with the end.
    let world = World::new(TEXT);
    let mut reader = world.follow(0);
    quiet().await;
    world.stored.append(b"\xE2\x82");
    assert!(waits(&mut reader).await);
    world.stored.close();
    let last = frame(&mut reader).await;
    assert_eq!((&last.data[..], last.closed, last.next), (&b"\xE2\x82"[..], true, Offset(2)));
}

#[tokio::test(start_paused = true)]
async fn a_reader_inside_a_frame_gets_exactly_the_rest() {
    let world = World::new(BINARY);
    let mut whole = world.follow(0);
    quiet().await;
    // Readers that have read pages up to there, before and after the frame was made.
    let mut early: Vec<Reader> = [3, 9, 10].map(|from| world.follow(from)).into();
    world.stored.append(b"0123456789");
    assert_eq!(frame(&mut whole).await.data, "0123456789");
    let late: Vec<Reader> = [3, 9, 10].map(|from| world.follow(from)).into();
    early.extend(late);
    world.stored.append(b"abc");
    quiet().await;
    for mut reader in early {
        let from = reader.next();
        let (bytes, pages) = world.read_to(&mut reader, 13).await;
        assert_eq!((&bytes[..], pages), (&b"0123456789abc"[from.0 as usize..], 0), "from {from}");
        assert!(waits(&mut reader).await);
    }
    // From before the feed began there are pages.
    let ahead = World::new(BINARY);
    ahead.stored.append(b"before");
    let _at_tail = ahead.follow(6);
    quiet().await;
    ahead.stored.append(b"after");
    quiet().await;
    let mut behind = ahead.follow(2);
    assert_eq!(ahead.read_to(&mut behind, 11).await, (b"foreafter".to_vec(), 1));
}

#[tokio::test(start_paused = true)]
async fn readers_hear_of_the_end_with_its_last_bytes_or_without() {
    for last in [&b"last"[..], b""] {
        let world = World::new(BINARY);
        let mut readers = [world.follow(0), world.follow(0)];
        quiet().await;
        if !last.is_empty() {
            world.stored.append(last);
        }
        world.stored.close();
        for reader in &mut readers {
            let frame = frame(reader).await;
            assert_eq!((&frame.data[..], frame.closed), (last, true));
        }
        quiet().await;
        assert_eq!(world.feeds(), 0, "nothing more comes");
        // One that asks now is told by the node, also if it has had everything.
        let mut late = world.follow(last.len() as u64);
        let end = frame(&mut late).await;
        assert_eq!((end.closed, end.data.is_empty()), (true, true));
    }
}

#[tokio::test(start_paused = true)]
async fn readers_hear_that_their_stream_was_deleted_after_what_was_kept() {
    let world = World::new(BINARY);
    let (mut fast, mut slow) = (world.follow(0), world.follow(0));
    world.stored.append(b"kept");
    assert_eq!(frame(&mut fast).await.data, "kept");
    world.stored.delete();
    assert!(matches!(within(fast.step()).await, Step::Ended(Error::StreamNotFound)));
    assert_eq!(frame(&mut slow).await.data, "kept");
    assert!(matches!(within(slow.step()).await, Step::Ended(Error::StreamNotFound)));
    quiet().await;
    assert_eq!(world.feeds(), 0);
}

#[test]
fn a_frame_holds_its_bytes_in_both_forms() {
    let kind = ursula_protocol::sse::DataKind::of(&ContentType::parse(TEXT));
    let frame = Frame::new(kind, Offset(7), "two\nlines".into(), 3, true, false);
    assert_eq!((frame.start, frame.next), (Offset(7), Offset(16)));
    let events = std::str::from_utf8(&frame.events).expect("text");
    assert!(events.starts_with("event: data\ndata:two\ndata:lines\n"), "{events}");
    assert!(events.contains("event: control\n") && events.contains("\"streamCursor\":\"3\""), "{events}");
    assert!(frame.memory_bytes() >= frame.data.len() + frame.events.len());
    assert_eq!(unread(&frame, Offset(7)), "two\nlines");
    assert_eq!(unread(&frame, Offset(11)), "lines");
    assert_eq!(unread(&frame, Offset(16)), "");
    let end = Frame::new(kind, Offset(7), Default::default(), 3, true, true);
    let events = std::str::from_utf8(&end.events).expect("text");
    assert!(events.starts_with("event: control\n") && events.contains("\"streamClosed\":true"), "{events}");
}

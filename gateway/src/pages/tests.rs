//! Pages of streams and of forks, and the memory they take.

use std::sync::Arc;
use std::time::Duration;

use metrics::{Counter, Gauge};
use tokio::time::Instant;
use ursula_proto::v1;

use super::*;
use crate::tests::{FakeNode, Stored, quiet};

const TEXT: &str = "text/plain";

struct World {
    node: FakeNode,
    cluster: Cluster,
    budget: PageBudget,
}

impl World {
    fn new() -> World {
        let node = FakeNode::new();
        let cluster = Cluster::reach(
            vec![node.seed()],
            Arc::new(ursula_proto::remote),
            1,
            Duration::from_secs(1),
            usize::MAX,
            crate::tests::metrics(),
        );
        World {
            node,
            cluster,
            budget: PageBudget::new(64 << 20, Duration::from_secs(1), Gauge::noop(), Counter::noop()),
        }
    }

    async fn read(&self, name: &str, from: ReadFrom) -> Result<Page, Error> {
        read(&self.cluster, &self.budget, &key(name), from, false).await
    }

    /// A fork of `source` that begins at `at`.
    fn fork(&self, name: &str, source: &str, at: u64, depth: u32) -> Arc<Stored> {
        let (bucket, source) = ("default".to_owned(), source.to_owned());
        let fork = v1::Fork { bucket, name: source, source_id: 1, anchor: at, sub_offset: 0, at, depth };
        self.node.store_fork(name, TEXT, fork)
    }
}

fn key(name: &str) -> StreamKey {
    StreamKey::parse("default", name).expect("a name")
}

fn at(offset: usize) -> ReadFrom {
    ReadFrom::At(Offset(offset as u64))
}

fn bytes(page: &Page) -> Vec<u8> {
    page.pieces.concat()
}

#[tokio::test(start_paused = true)]
async fn a_fork_begins_with_the_bytes_of_its_sources() {
    let world = World::new();
    let (a, b) = (world.node.store("a", TEXT), world.fork("b", "a", 4, 1));
    let (c, d, e) = (world.fork("c", "b", 7, 2), world.fork("d", "c", 5, 3), world.fork("e", "d", 7, 4));
    for (stored, record) in [(&a, "aaaaAAAA"), (&b, "bbbB"), (&c, "cccc"), (&d, "dd"), (&e, "e")] {
        stored.append(record.as_bytes());
        stored.append(b"+");
    }
    // The fourth was cut inside what its source had inherited.
    for (name, whole) in [("b", "aaaabbbB+"), ("c", "aaaabbbcccc+"), ("d", "aaaabdd+"), ("e", "aaaabdde+")] {
        for from in 0..=whole.len() {
            let page = world.read(name, at(from)).await.expect("a page");
            assert_eq!(bytes(&page), whole.as_bytes()[from..], "{name} from {from}");
            assert_eq!((page.start.0, page.next.0), (from as u64, whole.len() as u64));
            assert!(page.up_to_date() && !page.closed());
        }
    }
    d.close();
    assert!(world.read("d", ReadFrom::Start).await.expect("a page").closed());
    let now = world.read("d", ReadFrom::Now).await.expect("a page");
    assert_eq!((now.start, now.next, now.pieces.len(), now.closed()), (Offset(8), Offset(8), 0, true));
}

#[tokio::test(start_paused = true)]
async fn pages_are_bounded_across_the_sources_of_a_fork() {
    const LEN: usize = 100_000;
    let world = World::new();
    let source = world.node.store("source", TEXT);
    let records: Vec<Vec<u8>> = (0..130u8).map(|i| vec![i; LEN]).collect();
    records[..70].iter().for_each(|record| source.append(record));
    // Cut inside a record.
    let forked = world.fork("fork", "source", 65 * LEN as u64 + 7, 1);
    records[70..].iter().for_each(|record| forked.append(record));
    let top = world.fork("top", "fork", 85 * LEN as u64 + 7, 2);
    (0..30).for_each(|_| top.append(&records[0]));
    let whole = [&records[..65].concat(), &records[65][..7], &records[70..].concat()].concat();
    let whole_top = [&whole[..85 * LEN + 7], &vec![0; 30 * LEN]].concat();
    for (name, whole) in [("fork", whole), ("top", whole_top)] {
        let (mut read, mut pages) = (0, 0);
        while read < whole.len() {
            let page = world.read(name, at(read)).await.expect("a page");
            assert_eq!(page.start.0 as usize, read);
            let bytes = bytes(&page);
            assert!(bytes == whole[read..read + bytes.len()], "{name} from {read}");
            assert!(bytes.len() < PAGE_BYTES_MAX + LEN, "a page of {}", bytes.len());
            read += bytes.len();
            pages += 1;
            assert_eq!((page.next.0 as usize, page.up_to_date()), (read, read == whole.len()));
        }
        assert_eq!(pages, whole.len().div_ceil(PAGE_BYTES_MAX));
    }
}

#[tokio::test(start_paused = true)]
async fn a_fork_whose_inherited_bytes_are_not_there_cannot_be_read() {
    let world = World::new();
    let source = world.node.store("source", TEXT);
    source.append(b"short");
    world.fork("fork", "source", 10, 1).append(b"own");
    assert_eq!(world.read("fork", at(0)).await.expect_err("bytes are missing"), Error::Unavailable);
    assert_eq!(bytes(&world.read("fork", at(10)).await.expect("its own bytes")), b"own");
    source.replace();
    source.append(b"0123456789");
    assert_eq!(world.read("fork", at(0)).await.expect_err("another stream"), Error::StreamNotFound);
}

#[tokio::test(start_paused = true)]
async fn answers_that_make_no_sense_are_errors() {
    let world = World::new();
    let stored = world.node.store("stream", TEXT);
    stored.append(b"bytes");
    let headless = v1::ReadChunk { head: None, pieces: vec![Bytes::from_static(b"bytes")] };
    let nameless =
        v1::ReadChunk { head: Some(v1::ReadHead { info: None, start: 0, next: 5, proven: true }), ..headless.clone() };
    for (chunks, expected) in
        [(vec![], Error::Unavailable), (vec![headless], Error::Malformed), (vec![nameless], Error::Malformed)]
    {
        *stored.scripted.lock().expect("no panic") = Some(chunks);
        assert_eq!(world.read("stream", at(0)).await.expect_err("no page"), expected);
    }
    *stored.scripted.lock().expect("no panic") = None;
    assert_eq!(bytes(&world.read("stream", at(0)).await.expect("a page")), b"bytes");
    assert_eq!(world.read("unknown", at(0)).await.expect_err("no stream"), Error::StreamNotFound);
}

#[tokio::test(start_paused = true)]
async fn pages_share_their_memory() {
    let mut world = World::new();
    let patience = Duration::from_secs(3);
    // Room for two of the largest.
    world.budget = PageBudget::new(2 * PAGE_BYTES_MAX, patience, Gauge::noop(), Counter::noop());
    let world = Arc::new(world);
    let (small, large) = (world.node.store("small", TEXT), world.node.store("large", TEXT));
    small.append(b"small");
    large.append(&vec![b'x'; PAGE_BYTES_MAX]);
    // Small pages give back what they do not need.
    let mut held = Vec::new();
    for _ in 0..100 {
        held.push(world.read("small", at(0)).await.expect("a page"));
    }
    held.push(world.read("large", at(0)).await.expect("a page"));
    let started = Instant::now();
    assert_eq!(world.read("small", at(0)).await.expect_err("no room"), Error::Overloaded);
    assert_eq!(started.elapsed().as_secs(), patience.as_secs());

    let waiting = tokio::spawn({
        let world = world.clone();
        async move { world.read("large", at(0)).await }
    });
    quiet().await;
    assert!(!waiting.is_finished());
    drop(held);
    assert_eq!(bytes(&waiting.await.expect("no panic").expect("a page")).len(), PAGE_BYTES_MAX);
}

//! What a stream costs in memory, counted by the allocator. One test, alone in its process.

#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use ursula_common::packs::PackRef;
use ursula_common::verb::{Append, Create, Lifetime, Op, Producer, Retention};
use ursula_common::{ContentType, GroupId, Millis, StreamKey};
use ursula_stream_core::{Command, State};

/// Counts what is in use, with the 8 bytes and the rounding to 16 that a common allocator adds.
struct Counting;

static IN_USE: AtomicUsize = AtomicUsize::new(0);

fn cost(layout: Layout) -> usize {
    (layout.size() + 8).next_multiple_of(16).max(32)
}

// SAFETY: hands everything to the allocator of the system.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        IN_USE.fetch_add(cost(layout), Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(cost(layout), Ordering::Relaxed);
        unsafe { System.dealloc(place, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const STREAMS: usize = 100_000;

fn key(n: usize) -> StreamKey {
    // Not in the order of their names, as names of clients are not.
    let name = format!("user/{:015}", n.wrapping_mul(0x9e37_79b9_7f4a_7c15) % 1_000_000_000_000);
    StreamKey::parse("default", &name).expect("a name of 20 bytes")
}

fn create(n: usize, lifetime: Lifetime) -> Op {
    let content_type = Some(ContentType::parse("application/json"));
    Op::Create(Create {
        key: key(n),
        content_type,
        lifetime,
        closed: false,
        body: Bytes::new(),
        fork: None,
        numbered: true,
        retention: Retention::default(),
    })
}

fn append(n: usize, producer: Option<Producer>) -> Op {
    Op::Append(Append {
        key: key(n),
        content_type: Some(ContentType::parse("application/json")),
        body: Bytes::from_static(b"{}"),
        close: false,
        producer,
        stream_seq: None,
        expected_offset: None,
    })
}

/// Bytes per stream after these ops on each.
fn per_stream(ops: impl Fn(usize) -> Vec<Op>) -> usize {
    per_stream_after(ops, |_| ())
}

/// The same after something with them all.
fn per_stream_after(ops: impl Fn(usize) -> Vec<Op>, after: impl Fn(&mut State)) -> usize {
    let mut effects = Vec::new();
    let mut state = State::new(GroupId(1), 1);
    let before = IN_USE.load(Ordering::Relaxed);
    for op in (0..STREAMS).flat_map(ops) {
        state.apply(Command { at: Millis(1), origin: None, op }, &mut effects);
        effects = Vec::new();
    }
    drop(effects);
    after(&mut state);
    assert_eq!(state.stats().streams, STREAMS);
    (IN_USE.load(Ordering::Relaxed) - before) / STREAMS
}

/// Puts all streams into packs.
fn pack(state: &mut State) {
    let apply = |state: &mut State, op| state.apply(Command { at: Millis(1), origin: None, op }, &mut Vec::new());
    apply(state, Op::BeginPacks);
    while let Some(plan) = state.plan_pack(u64::MAX, usize::MAX) {
        let ends: Vec<_> = plan.streams.iter().map(|planned| planned.end).collect();
        let pack = PackRef { first: plan.pack, last: plan.pack, maker: 1, bytes: 1, hash: [0; 32] };
        apply(state, Op::CommitPack(Box::new(plan.commit(pack, &ends))));
    }
}

#[test]
fn an_idle_stream_is_small() {
    let idle = per_stream(|n| vec![create(n, Lifetime::Forever), append(n, None)]);
    let expiring = per_stream(|n| vec![create(n, Lifetime::Ttl(60))]);
    let producer = || Some(Producer { id: "a-producer".into(), epoch: 0, seq: 0 });
    let produced = per_stream(|n| vec![create(n, Lifetime::Forever), append(n, producer())]);
    let packed = per_stream_after(|n| vec![create(n, Lifetime::Forever), append(n, None)], pack);
    assert!(idle < 200, "{idle} bytes");
    assert!(expiring < 320, "{expiring} bytes");
    assert!(produced < 450, "{produced} bytes");
    assert!(packed < 250, "{packed} bytes");
}

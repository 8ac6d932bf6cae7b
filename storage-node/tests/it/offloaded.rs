//! Buckets whose ops are acknowledged once they are in packs: nobody hears of anything before, whatever happens meanwhile.

use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use tempfile::TempDir;
use tokio::sync::watch;
use ursula_cold::store::{Answer, Listed, MemoryStore, Name, Put, Store, StoreError};
use ursula_common::clock::SystemClock;
use ursula_common::cluster::{ClusterChange, NodeState};
use ursula_common::verb::{Ack, Append, Op, Producer, Reply, Trim};
use ursula_common::{BucketName, Error, GroupId, NodeId, Offset, StreamKey};
use ursula_storage_node::{Formation, Node, NodeConfig, Platform};

use super::cluster::Cluster;
use super::world::{BINARY, GROUPS, Lane, OpResult, World, append, appended, close, create, created, eventually, fork};

const HELD: &str = "ursula_node_held_answers";

/// How a store takes packs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mood {
    Open,
    /// They are on their way, and do not arrive.
    Slow,
    /// It fails at once, whatever it is asked.
    Away,
}

/// A store in memory whose mood the test sets.
struct Gate {
    inner: MemoryStore,
    mood: watch::Sender<Mood>,
}

impl Gate {
    fn new() -> Arc<Gate> {
        Arc::new(Gate { inner: MemoryStore::default(), mood: watch::channel(Mood::Open).0 })
    }

    fn set(&self, mood: Mood) {
        self.mood.send_replace(mood);
    }

    fn ask<'a, T: Send + 'a>(&'a self, work: Answer<'a, T>) -> Answer<'a, T> {
        let is_away = *self.mood.borrow() == Mood::Away;
        let away = || Err(StoreError::Unavailable("the test says so".to_owned()));
        Box::pin(async move { if is_away { away() } else { work.await } })
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate").finish_non_exhaustive()
    }
}

impl Store for Gate {
    fn put<'a>(&'a self, name: &'a Name, body: Bytes) -> Answer<'a, Put> {
        Box::pin(async move {
            let mut mood = self.mood.subscribe();
            drop(mood.wait_for(|mood| *mood != Mood::Slow).await);
            self.ask(self.inner.put(name, body)).await
        })
    }

    fn get<'a>(&'a self, name: &'a Name, range: Range<u64>) -> Answer<'a, Bytes> {
        self.ask(self.inner.get(name, range))
    }

    fn size<'a>(&'a self, name: &'a Name) -> Answer<'a, u64> {
        self.ask(self.inner.size(name))
    }

    fn delete<'a>(&'a self, name: &'a Name) -> Answer<'a, ()> {
        self.ask(self.inner.delete(name))
    }

    fn list<'a>(&'a self, folder: &'a Name, after: Option<&'a Name>) -> Answer<'a, Vec<Listed>> {
        self.ask(self.inner.list(folder, after))
    }
}

fn bucket() -> BucketName {
    BucketName::parse("safe").expect("a name")
}

fn safe(name: &str) -> StreamKey {
    StreamKey::parse("safe", name).expect("a name")
}

/// Packs only when somebody waits for one.
fn config(dir: &Path) -> NodeConfig {
    NodeConfig {
        cores: 1,
        groups: GROUPS,
        data_dir: Some(dir.to_owned()),
        disk_reserve_bytes: 0,
        pack_interval_ms: 1_000_000,
        ..NodeConfig::default()
    }
}

/// A node with a bucket of the kind, and its store.
async fn start(dir: &Path) -> (World, Arc<Gate>) {
    let gate = Gate::new();
    let platform = Platform { store: Some(gate.clone()), ..Platform::system(Arc::new(SystemClock)) };
    let node = Node::start_on(&config(dir), Formation::Alone, platform).await.expect("a node");
    let mut world = World::around(node).await;
    let new = Op::CreateBucket(bucket(), Ack::Offloaded);
    let mut made = world.submit(new.clone()).await;
    while made == Err(Error::StoreAway) {
        // Its place in the store is being made its own.
        made = world.submit(new.clone()).await;
    }
    assert_eq!(made, Ok(Reply::Bucket(true)));
    (world, gate)
}

/// Returns when it is told that no answer waits: what is told lags behind.
async fn nothing_waits(world: &World) {
    eventually("nothing waits", async || world.metric(HELD) == 0.0).await;
}

/// A lane with ops on their way, of which none is answered before the store takes packs.
struct Waiting {
    lane: Lane,
    ops: u64,
}

impl Waiting {
    async fn on(world: &World, session: u64) -> Waiting {
        Waiting { lane: world.lane(session).await, ops: 0 }
    }

    /// Sends an op; returns when its answer waits, and so many do.
    async fn send(&mut self, world: &World, op: Op, held: u32) {
        self.lane.send(&[(self.ops, world.group(&op), op)]).await;
        self.ops += 1;
        eventually("an answer that waits", async || world.metric(HELD) == f64::from(held)).await;
    }

    /// All answers, in the order of the ops.
    async fn answers(&mut self) -> Vec<OpResult> {
        let mut answers = std::collections::BTreeMap::new();
        while answers.len() < self.ops as usize {
            answers.extend([self.lane.answer().await.expect("an open lane")]);
        }
        answers.into_values().collect()
    }
}

#[tokio::test]
async fn nothing_is_told_before_a_pack_that_counts_has_it() {
    let dir = TempDir::new().expect("a directory");
    let (mut world, gate) = start(dir.path()).await;
    let (stream, plain) = (safe("s"), super::world::key("plain"));
    created(world.submit(create(&stream, BINARY)).await);
    nothing_waits(&world).await;
    let before = world.metric("ursula_node_packs_total");
    gate.set(Mood::Slow);
    let mut waiting = Waiting::on(&world, 7).await;
    waiting.send(&world, append(&stream, BINARY, "one"), 1).await;
    // Whoever reads may see it, and other buckets do not wait.
    assert_eq!(world.content(&stream, 0).await, b"one");
    world.create(&plain, BINARY).await;
    world.append(&plain, BINARY, "at once").await;
    // It comes while a pack is on its way that does not have it.
    waiting.send(&world, append(&stream, BINARY, "two"), 2).await;
    assert_eq!(world.metric("ursula_node_packs_total"), before);
    gate.set(Mood::Open);
    let tails: Vec<_> = waiting.answers().await.into_iter().map(|answer| appended(answer).tail).collect();
    assert_eq!(tails, [Offset(3), Offset(6)]);
    assert!(world.metric("ursula_node_packs_total") >= before + 2.0, "one has the first, another the second");
    nothing_waits(&world).await;
    assert!(world.metric("ursula_node_held_seconds_count") >= 3.0);
}

/// Also answers that are told again, those that refuse, and that a stream is gone.
#[tokio::test]
async fn what_is_told_of_a_stream_is_in_packs() {
    let dir = TempDir::new().expect("a directory");
    let (mut world, gate) = start(dir.path()).await;
    let [one, two, three, four] = ["one", "two", "three", "four"].map(safe);
    for key in [&one, &two, &three, &four] {
        created(world.submit(create(key, BINARY)).await);
    }
    appended(world.submit(append(&three, BINARY, "abc")).await);
    nothing_waits(&world).await;
    gate.set(Mood::Slow);
    let by = |key: &StreamKey| match append(key, BINARY, "x") {
        Op::Append(append) => {
            Op::Append(Append { producer: Some(Producer { id: "p".into(), epoch: 0, seq: 0 }), ..append })
        }
        _ => unreachable!(),
    };
    let mut first = Waiting::on(&world, 7).await;
    first.send(&world, by(&one), 1).await;
    first.send(&world, close(&two, "end"), 2).await;
    first.send(&world, Op::Trim(Trim { key: three.clone(), to: Offset(3), cut: None }), 3).await;
    first.send(&world, Op::Delete(four.clone()), 4).await;
    // The same session again, and others that ask the same.
    let mut again = Waiting::on(&world, 7).await;
    again.send(&world, by(&one), 5).await;
    let mut other = Waiting::on(&world, 8).await;
    for op in
        [by(&one), close(&two, ""), append(&two, BINARY, "more"), create(&three, BINARY), Op::Delete(four.clone())]
    {
        other.send(&world, op, 6 + other.ops as u32).await;
    }
    gate.set(Mood::Open);
    let answers = first.answers().await;
    assert_eq!(again.answers().await, answers[..1]);
    assert!(!appended(answers[0].clone()).duplicate && appended(answers[1].clone()).closed);
    assert_eq!(answers[2..], [Ok(Reply::Trimmed(Offset(3))), Ok(Reply::Done)]);
    let answers = other.answers().await;
    assert!(appended(answers[0].clone()).duplicate && appended(answers[1].clone()).duplicate);
    assert_eq!(answers[2], Err(Error::StreamClosed { tail: Offset(3) }));
    assert!(!created(answers[3].clone()).new);
    assert_eq!(answers[4], Err(Error::StreamNotFound));
}

/// A fork is restored only together with what it inherits, which may be of a stream that nobody waits for.
#[tokio::test]
async fn a_fork_waits_for_what_it_inherits() {
    let dir = TempDir::new().expect("a directory");
    let (mut world, gate) = start(dir.path()).await;
    let (source, forked) = (world.key_in(2, "source"), safe("forked"));
    world.create(&source, BINARY).await;
    world.append(&source, BINARY, "inherited").await;
    nothing_waits(&world).await;
    gate.set(Mood::Slow);
    let mut waiting = Waiting::on(&world, 7).await;
    // First the reference that it takes on its source, then itself.
    waiting.send(&world, fork(&forked, &source, None, 0), 1).await;
    assert_eq!(world.describe(&forked).await, Err(Error::StreamNotFound));
    gate.set(Mood::Open);
    assert_eq!(created(waiting.answers().await.remove(0)).tail, Offset(9));
    assert_eq!(world.content(&forked, 0).await, b"inherited");
}

#[tokio::test]
async fn a_store_that_is_away_is_said_before_anything_is_done() {
    let dir = TempDir::new().expect("a directory");
    let (mut world, gate) = start(dir.path()).await;
    let (stream, plain) = (safe("s"), super::world::key("plain"));
    created(world.submit(create(&stream, BINARY)).await);
    nothing_waits(&world).await;
    gate.set(Mood::Away);
    let mut waiting = Waiting::on(&world, 7).await;
    waiting.send(&world, append(&stream, BINARY, "one"), 1).await;
    let (lane, mut tries) = (world.lane(8).await, 0);
    eventually("a store that is left alone", async || {
        let op = create(&safe("new"), BINARY);
        lane.send(&[(tries, world.group(&op), op)]).await;
        tries += 1;
        world.metric("ursula_node_refused_store_total") > 0.0
    })
    .await;
    for op in [append(&stream, BINARY, "two"), Op::Delete(stream.clone())] {
        assert_eq!(world.submit(op).await, Err(Error::StoreAway));
    }
    assert_eq!(world.content(&stream, 0).await, b"one", "it was not done");
    world.create(&plain, BINARY).await;
    world.append(&plain, BINARY, "other buckets go on").await;
    // What was done before is not refused.
    let mut again = world.lane(7).await;
    let one = append(&stream, BINARY, "one");
    let more = Op::Delete(stream.clone());
    again.send(&[(0, world.group(&one), one), (9, world.group(&more), more)]).await;
    assert_eq!(again.answer().await, Ok((9, Err(Error::StoreAway))));
    gate.set(Mood::Open);
    assert_eq!(appended(waiting.answers().await.remove(0)).tail, Offset(3));
    assert_eq!(appended(again.answer().await.expect("an open lane").1).tail, Offset(3));
    assert_eq!(appended(world.submit(append(&stream, BINARY, "two")).await).tail, Offset(6));
}

#[tokio::test]
async fn a_bucket_has_one_way_to_be_acknowledged_and_keeps_it() {
    let dir = TempDir::new().expect("a directory");
    let (mut world, gate) = start(dir.path()).await;
    assert_eq!(world.submit(Op::CreateBucket(bucket(), Ack::Offloaded)).await, Ok(Reply::Bucket(false)));
    assert_eq!(world.submit(Op::CreateBucket(bucket(), Ack::Quorum)).await, Err(Error::BucketExists));
    let default = BucketName::default_bucket();
    assert_eq!(world.submit(Op::CreateBucket(default, Ack::Offloaded)).await, Err(Error::BucketExists));
    created(world.submit(create(&safe("s"), BINARY)).await);
    // The same node without its store promises no less.
    world.node.stop().await.expect("a stop");
    let node = Node::start(&config(dir.path()), Formation::Alone, Arc::new(SystemClock)).await.expect("a node");
    let mut world = World::around(node).await;
    assert_eq!(world.submit(append(&safe("s"), BINARY, "x")).await, Err(Error::StoreAway));
    let other = Op::CreateBucket(BucketName::parse("other").expect("a name"), Ack::Offloaded);
    assert_eq!(world.submit(other).await, Err(Error::StoreMissing));
    drop(gate);
}

/// Whoever led leads no more while answers wait: they are asked for again, and wait at the next leader.
#[tokio::test(flavor = "multi_thread")]
async fn the_next_leader_lets_answers_wait_too() {
    let gate = Gate::new();
    let mut cluster = Cluster::three(Some(gate.clone())).await;
    let new = Op::CreateBucket(bucket(), Ack::Offloaded);
    while cluster.submit(new.clone()).await != Ok(Reply::Bucket(true)) {}
    let stream = cluster.key_in("safe", 1, "s");
    created(cluster.submit(create(&stream, BINARY)).await);
    let group = GroupId(1);
    let first = cluster.led_by(group).await;
    eventually("nothing waits", async || cluster.metric(first, HELD) == 0.0).await;
    gate.set(Mood::Slow);
    let (seq, op) = (0, append(&stream, BINARY, "once"));
    let mut lane = Lane::open(&cluster.client(first), 77).await;
    lane.send(&[(seq, group, op.clone())]).await;
    eventually("an answer that waits", async || cluster.metric(first, HELD) == 1.0).await;
    cluster.change(ClusterChange::SetNodeState { node: NodeId(first), state: NodeState::Draining }).await;
    assert_eq!(lane.answer().await, Ok((seq, Err(Error::OutcomeUnknown))));
    eventually("another leader", async || cluster.leader(group).await.is_some_and(|leader| leader != first)).await;
    let second = cluster.led_by(group).await;
    let mut lane = Lane::open(&cluster.client(second), 77).await;
    lane.send(&[(seq, group, op)]).await;
    eventually("an answer that waits", async || cluster.metric(second, HELD) == 1.0).await;
    gate.set(Mood::Open);
    let (_, answer) = lane.answer().await.expect("an open lane");
    assert_eq!(appended(answer).tail, Offset(4), "it was done once");
    cluster.stop().await;
}

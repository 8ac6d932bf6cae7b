//! A node in this process and clients of its contract, for the tests beside it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use ursula_common::clock::SystemClock;
use ursula_common::placement::SlotTable;
use ursula_common::verb::{
    Append, Appended, Create, Created, ForkFrom, Lifetime, Op, ReadFrom, Reply, Retention, StreamInfo,
};
use ursula_common::wire::{self, reply};
use ursula_common::{Clock, ContentType, Error, GroupId, Offset, StreamId, StreamKey};
use ursula_proto::{NodeClient, TargetRef, from_status, node_client, v1};
use ursula_storage_node::{Formation, Node, NodeConfig};

pub(crate) type OpResult = Result<Reply, Error>;

/// What every test is done in, or it fails.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) const CORES: usize = 2;
pub(crate) const GROUPS: u32 = 8;
pub(crate) const BINARY: &str = "application/octet-stream";
pub(crate) const JSON: &str = "application/json";
pub(crate) const TEXT: &str = "text/plain";

/// Sessions of callers, from the top, where no test has its own.
static NEXT_SESSION: AtomicU64 = AtomicU64::new(u64::MAX);

/// The output of `future`, which must come in time.
pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.expect("an answer in time")
}

/// Returns when `holds` does.
pub(crate) async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let waited = timeout(PATIENCE, async {
        while !holds().await {
            sleep(Duration::from_millis(5)).await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("never came: {what}"));
}

/// A node with [`CORES`] cores and [`GROUPS`] groups, and a caller that does everything once.
pub(crate) struct World {
    pub(crate) node: Node,
    pub(crate) client: NodeClient,
    slots: SlotTable,
    caller: Lane,
    calls: u64,
}

impl World {
    pub(crate) async fn start() -> World {
        World::with(NodeConfig::default().ring_bytes, Arc::new(SystemClock)).await
    }

    pub(crate) async fn with_clock(clock: Arc<dyn Clock>) -> World {
        World::with(NodeConfig::default().ring_bytes, clock).await
    }

    pub(crate) async fn with(ring_bytes: usize, clock: Arc<dyn Clock>) -> World {
        World::configured(NodeConfig { cores: CORES, groups: GROUPS, ring_bytes, ..NodeConfig::default() }, clock).await
    }

    pub(crate) async fn configured(config: NodeConfig, clock: Arc<dyn Clock>) -> World {
        World::around(within(Node::start(&config, Formation::Alone, clock)).await.expect("a node")).await
    }

    /// The same around a node that runs, with [`GROUPS`] groups.
    pub(crate) async fn around(node: Node) -> World {
        let client = node_client(node.channel());
        // A node that was started again remembers the sessions of its last life.
        let caller = Lane::open(&client, NEXT_SESSION.fetch_sub(1, Ordering::Relaxed)).await;
        World { node, client, slots: SlotTable::spread(GROUPS), caller, calls: 0 }
    }

    pub(crate) async fn lane(&self, session: u64) -> Lane {
        Lane::open(&self.client, session).await
    }

    /// A name in the default bucket that lies in `group`.
    pub(crate) fn key_in(&self, group: u32, name: &str) -> StreamKey {
        let names = (0..).map(|i| key(&format!("{name}-{i}")));
        names.into_iter().find(|key| self.group_of(key) == GroupId(group)).expect("names enough")
    }

    pub(crate) fn group_of(&self, key: &StreamKey) -> GroupId {
        self.slots.group_of(key)
    }

    pub(crate) fn group(&self, op: &Op) -> GroupId {
        match op {
            Op::Create(create) => self.group_of(&create.key),
            Op::Append(append) => self.group_of(&append.key),
            Op::Delete(key) => self.group_of(key),
            Op::Trim(trim) => self.group_of(&trim.key),
            Op::PublishSnapshot(publish) => self.group_of(&publish.key),
            Op::RemoveSnapshot(remove) => self.group_of(&remove.key),
            _ => GroupId::META,
        }
    }

    /// Carries out an op once.
    pub(crate) async fn submit(&mut self, op: Op) -> OpResult {
        let (seq, group) = (self.calls, self.group(&op));
        self.calls += 1;
        self.caller.acked = seq;
        self.caller.ask(seq, group, &op).await
    }

    pub(crate) async fn create(&mut self, key: &StreamKey, content_type: &str) -> Created {
        created(self.submit(create(key, content_type)).await)
    }

    pub(crate) async fn append(&mut self, key: &StreamKey, content_type: &str, body: impl Into<Bytes>) -> Appended {
        appended(self.submit(append(key, content_type, body)).await)
    }

    pub(crate) async fn delete(&mut self, key: &StreamKey) {
        assert_eq!(self.submit(Op::Delete(key.clone())).await, Ok(Reply::Done));
    }

    fn target(&self, key: &StreamKey, inherited: Option<StreamId>) -> v1::Target {
        TargetRef { group: self.group_of(key), key: key.clone(), inherited }.into()
    }

    pub(crate) async fn describe(&self, key: &StreamKey) -> Result<StreamInfo, Error> {
        let request = v1::DescribeRequest { target: Some(self.target(key, None)), touch: false };
        let answer = within(self.client.clone().describe(request)).await.map_err(|status| from_status(&status))?;
        Ok(answer.into_inner().try_into().expect("a description"))
    }

    /// Reads from one group.
    pub(crate) async fn read(&self, key: &StreamKey, range: Range) -> Result<Got, Error> {
        let request = v1::ReadRequest {
            target: Some(self.target(key, range.inherited)),
            from: Some(range.from.into()),
            bytes_max: range.bytes_max,
            until: range.until.map(|until| until.0),
            touch: range.touch,
            applied_is_enough: false,
        };
        let mut chunks =
            within(self.client.clone().read(request)).await.map_err(|status| from_status(&status))?.into_inner();
        let first = within(chunks.message()).await.expect("a chunk").expect("a first chunk");
        let head = first.head.expect("a head");
        let mut parts = vec![Bytes::from(first.pieces.concat())];
        while let Some(chunk) = within(chunks.message()).await.expect("a chunk") {
            assert_eq!(chunk.head, None, "only the first chunk has a head");
            parts.push(chunk.pieces.concat().into());
        }
        let info = head.info.expect("a description").try_into().expect("a description");
        Ok(Got { info, start: head.start, next: head.next, parts })
    }

    /// Everything from `from` to the tail, inherited bytes included.
    pub(crate) async fn content(&self, key: &StreamKey, from: u64) -> Vec<u8> {
        let mut content = Vec::new();
        let mut at = from;
        loop {
            let own = self.read(key, Range::from(at)).await.expect("a stream");
            if at == 0 {
                at = own.info.earliest.0;
            }
            if at >= own.info.tail.0 {
                return content;
            }
            let (mut got, mut until) = (own, u64::MAX);
            // The bytes are those of the first stream in the chain of sources that has them.
            while let Some(link) = got.info.fork.clone().filter(|link| at < link.at.0) {
                until = until.min(link.at.0);
                let range = Range { inherited: Some(link.source_id), until: Some(Offset(until)), ..Range::from(at) };
                got = self.read(&link.source, range).await.expect("the source of a fork");
            }
            assert!(got.next > at, "bytes at {at} of {key}");
            content.extend_from_slice(&got.bytes()[(at - got.start) as usize..]);
            at = got.next;
        }
    }

    /// Follows the stream as it is now.
    pub(crate) async fn tail(&self, key: &StreamKey, from: u64) -> Tail {
        let stream = self.describe(key).await.expect("a stream").id;
        self.tail_of(key, stream, from).await
    }

    pub(crate) async fn tail_of(&self, key: &StreamKey, stream: StreamId, from: u64) -> Tail {
        let target = Some(self.target(key, None));
        let request = v1::TailRequest { target, from, stream_id: stream.0, tell_up_to_date: false };
        Tail(within(self.client.clone().tail(request)).await.expect("a tail").into_inner())
    }

    /// The sum of a metric over its labels.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        metric(&self.node, name)
    }
}

/// The sum of a metric of a node over its labels.
pub(crate) fn metric(node: &Node, name: &str) -> f64 {
    let text = node.render_metrics();
    let of_name = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{']));
    let values: Vec<f64> = text
        .lines()
        .filter(of_name)
        .map(|line| line.rsplit(' ').next().and_then(|value| value.parse().ok()).expect("a number"))
        .collect();
    assert!(!values.is_empty(), "no metric {name}");
    values.iter().sum()
}

/// A range to read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Range {
    pub(crate) from: ReadFrom,
    pub(crate) until: Option<Offset>,
    pub(crate) bytes_max: u64,
    pub(crate) inherited: Option<StreamId>,
    pub(crate) touch: bool,
}

impl Range {
    pub(crate) fn at(from: ReadFrom) -> Range {
        Range { from, until: None, bytes_max: u64::MAX, inherited: None, touch: false }
    }

    pub(crate) fn from(at: u64) -> Range {
        Range::at(ReadFrom::At(Offset(at)))
    }
}

/// What a read gave.
#[derive(Debug)]
pub(crate) struct Got {
    pub(crate) info: StreamInfo,
    pub(crate) start: u64,
    pub(crate) next: u64,
    /// The bytes, as they came in messages.
    pub(crate) parts: Vec<Bytes>,
}

impl Got {
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.parts.concat()
    }
}

/// The events of one tail.
pub(crate) struct Tail(Streaming<v1::TailEvent>);

impl Tail {
    /// The next event; `None` after the last one.
    pub(crate) async fn next(&mut self) -> Result<Option<v1::TailEvent>, Error> {
        within(self.0.message()).await.map_err(|status| from_status(&status))
    }

    pub(crate) async fn event(&mut self) -> v1::TailEvent {
        self.next().await.expect("no error").expect("an event")
    }

    pub(crate) async fn error(&mut self) -> Error {
        self.next().await.expect_err("an error")
    }
}

/// A lane whose session, sequences and acknowledgements are the test's.
pub(crate) struct Lane {
    session: u64,
    pub(crate) acked: u64,
    pub(crate) credit_ops: u32,
    pub(crate) credit_bytes: u64,
    frames: mpsc::Sender<v1::OpBatch>,
    answers: Streaming<v1::ReplyBatch>,
    ready: VecDeque<(u64, OpResult)>,
}

impl Lane {
    pub(crate) async fn open(client: &NodeClient, session: u64) -> Lane {
        let (frames, outgoing) = mpsc::channel(16);
        let opened = within(client.clone().lane(ReceiverStream::new(outgoing))).await;
        let mut answers = opened.expect("a lane").into_inner();
        let hello = within(answers.message()).await.expect("no error").expect("a first batch");
        assert_eq!(hello.sessions, [], "the first batch grants credit");
        let v1::ReplyBatch { credit_ops, credit_bytes, .. } = hello;
        Lane { session, acked: 0, credit_ops, credit_bytes, frames, answers, ready: VecDeque::new() }
    }

    /// Sends one frame of encoded ops.
    pub(crate) async fn send_encoded(&self, ops: Vec<(u64, GroupId, Bytes)>) {
        let (session, acked) = (self.session, self.acked);
        let mut sessions: Vec<v1::SessionOps> = Vec::new();
        for (seq, GroupId(group), op) in ops {
            if sessions.last().is_none_or(|last| last.group != group) {
                sessions.push(v1::SessionOps { group, session, acked, ops: Vec::new() });
            }
            sessions.last_mut().expect("the one of its group").ops.push(v1::SequencedOp { seq, op, traceparent: None });
        }
        within(self.frames.send(v1::OpBatch { sessions })).await.expect("an open lane");
    }

    /// Sends one frame of ops.
    pub(crate) async fn send(&self, ops: &[(u64, GroupId, Op)]) {
        let encode = |(seq, group, op): &(u64, GroupId, Op)| (*seq, *group, wire::encode_op(op).into());
        self.send_encoded(ops.iter().map(encode).collect()).await;
    }

    /// The next answer, or why the lane ended.
    pub(crate) async fn answer(&mut self) -> Result<(u64, OpResult), Error> {
        loop {
            if let Some(answer) = self.ready.pop_front() {
                return Ok(answer);
            }
            let batch = within(self.answers.message()).await.map_err(|status| from_status(&status))?;
            for v1::SessionReplies { session, replies } in batch.expect("an open lane").sessions {
                assert_eq!(session, self.session, "an answer to another session");
                let decode = |v1::SequencedReply { seq, outcome }| (seq, reply::decode(&outcome).expect("an answer"));
                self.ready.extend(replies.into_iter().map(decode));
            }
        }
    }

    /// Sends one op and waits for its answer, the next one to come.
    pub(crate) async fn ask(&mut self, seq: u64, group: GroupId, op: &Op) -> OpResult {
        self.send(&[(seq, group, op.clone())]).await;
        let (answered, result) = self.answer().await.expect("an answer");
        assert_eq!(answered, seq, "the answer to another op");
        result
    }
}

pub(crate) fn key(name: &str) -> StreamKey {
    StreamKey::parse("default", name).expect("a name")
}

pub(crate) fn create(key: &StreamKey, content_type: &str) -> Op {
    Op::Create(Create {
        key: key.clone(),
        content_type: Some(ContentType::parse(content_type)),
        lifetime: Lifetime::Forever,
        closed: false,
        body: Bytes::new(),
        fork: None,
        numbered: true,
        retention: Retention::default(),
    })
}

/// A fork of `source` at `offset` and `sub_offset` bytes or messages further.
pub(crate) fn fork(key: &StreamKey, source: &StreamKey, offset: Option<u64>, sub_offset: u64) -> Op {
    let fork = Some(ForkFrom { source: source.clone(), offset: offset.map(Offset), sub_offset });
    Op::Create(Create {
        key: key.clone(),
        content_type: None,
        lifetime: Lifetime::Forever,
        closed: false,
        body: Bytes::new(),
        fork,
        numbered: true,
        retention: Retention::default(),
    })
}

pub(crate) fn append(key: &StreamKey, content_type: &str, body: impl Into<Bytes>) -> Op {
    Op::Append(Append {
        key: key.clone(),
        content_type: Some(ContentType::parse(content_type)),
        body: body.into(),
        close: false,
        producer: None,
        stream_seq: None,
        expected_offset: None,
    })
}

/// Closes a binary stream, after `body` if there is any.
pub(crate) fn close(key: &StreamKey, body: &'static str) -> Op {
    let Op::Append(append) = append(key, BINARY, body) else { unreachable!() };
    Op::Append(Append { close: true, ..append })
}

#[track_caller]
pub(crate) fn created(result: OpResult) -> Created {
    match result {
        Ok(Reply::Created(created)) => created,
        other => panic!("not created: {other:?}"),
    }
}

#[track_caller]
pub(crate) fn appended(result: OpResult) -> Appended {
    match result {
        Ok(Reply::Appended(appended)) => appended,
        other => panic!("not appended: {other:?}"),
    }
}

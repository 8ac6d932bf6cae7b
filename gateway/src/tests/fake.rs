//! A storage node without storage: lanes are the test's to answer, streams are what the test stored.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use ursula_common::placement::SLOTS;
use ursula_common::verb::OpResult;
use ursula_common::wire::reply;
use ursula_common::{Error, Offset};
use ursula_proto::{NodeChannel, local, node_server, to_status, v1};

use crate::cluster::Seed;
use crate::tests::within;

type Messages<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// No test reads a stream more often.
const READS_MAX: usize = 1000;

/// How a connection breaks: without a word of the node.
fn broken() -> Status {
    Status::unavailable("the connection is broken")
}

/// The test's end of the node.
pub(crate) struct FakeNode {
    inner: Arc<Inner>,
    lanes: mpsc::UnboundedReceiver<LaneCall>,
}

struct Inner {
    lanes: mpsc::UnboundedSender<LaneCall>,
    streams: Mutex<BTreeMap<String, Arc<Stored>>>,
    topologies: watch::Sender<Vec<v1::Topology>>,
}

impl FakeNode {
    /// A node that leads every group and has no stream.
    pub(crate) fn new() -> FakeNode {
        let node = FakeNode::unannounced();
        node.announce(topology(1));
        node
    }

    /// A node that has not told of any topology yet.
    pub(crate) fn unannounced() -> FakeNode {
        let (calls, lanes) = mpsc::unbounded_channel();
        let topologies = watch::channel(Vec::new()).0;
        FakeNode { inner: Arc::new(Inner { lanes: calls, streams: Mutex::default(), topologies }), lanes }
    }

    pub(crate) fn channel(&self) -> NodeChannel {
        local(node_server(Service(self.inner.clone())))
    }

    pub(crate) fn seed(&self) -> Seed {
        Seed { name: "fake".to_owned(), channel: self.channel() }
    }

    /// The next attempt to open a lane.
    pub(crate) async fn lane_call(&mut self) -> LaneCall {
        within(self.lanes.recv()).await.expect("the node is there")
    }

    /// Takes the next lane in, and grants it credit.
    pub(crate) async fn lane(&mut self, credit_ops: u32) -> FakeLane {
        let lane = self.lane_call().await.accept();
        lane.grant(credit_ops);
        lane
    }

    /// Adds a stream to the default bucket.
    pub(crate) fn store(&self, name: &str, content_type: &str) -> Arc<Stored> {
        let stored = Arc::new(Stored::new(content_type, None));
        self.inner.streams.lock().expect("no panic").insert(name.to_owned(), stored.clone());
        stored
    }

    /// Adds a fork.
    pub(crate) fn store_fork(&self, name: &str, content_type: &str, fork: v1::Fork) -> Arc<Stored> {
        let stored = Arc::new(Stored::new(content_type, Some(fork)));
        self.inner.streams.lock().expect("no panic").insert(name.to_owned(), stored.clone());
        stored
    }

    /// Tells everyone who watches.
    pub(crate) fn announce(&self, topology: v1::Topology) {
        self.inner.topologies.send_modify(|known| known.push(topology));
    }
}

/// One node that has group 1 for all streams, and the meta group.
pub(crate) fn topology(version: u64) -> v1::Topology {
    v1::Topology {
        version,
        slots: vec![1; usize::from(SLOTS)],
        groups: [0, 1].map(|id| v1::Group { id, replicas: vec![7], leader: None, term: 0 }).to_vec(),
        nodes: vec![v1::NodeAddress { id: 7, address: String::new() }],
    }
}

/// An attempt to open a lane.
pub(crate) struct LaneCall {
    frames: Streaming<v1::OpBatch>,
    accept: oneshot::Sender<Result<mpsc::UnboundedReceiver<Result<v1::ReplyBatch, Status>>, Status>>,
}

impl LaneCall {
    pub(crate) fn accept(self) -> FakeLane {
        let (replies, outgoing) = mpsc::unbounded_channel();
        self.accept.send(Ok(outgoing)).expect("the gateway waits for its lane");
        FakeLane { frames: self.frames, replies }
    }

    pub(crate) fn refuse(self) {
        drop(self.accept.send(Err(broken())));
    }
}

/// A lane as the node sees it. Dropped, the lane ends.
pub(crate) struct FakeLane {
    frames: Streaming<v1::OpBatch>,
    replies: mpsc::UnboundedSender<Result<v1::ReplyBatch, Status>>,
}

impl FakeLane {
    /// The next frame, or `None` when the gateway has ended the lane.
    pub(crate) async fn frame(&mut self) -> Option<v1::OpBatch> {
        within(self.frames.message()).await.ok().flatten()
    }

    pub(crate) fn grant(&self, credit_ops: u32) {
        self.reply(v1::ReplyBatch { credit_ops, replies: Vec::new() });
    }

    pub(crate) fn answer(&self, seq: u64, result: OpResult) {
        self.answer_encoded(seq, reply::encode(&result).into());
    }

    pub(crate) fn answer_encoded(&self, seq: u64, outcome: Bytes) {
        self.reply(v1::ReplyBatch { credit_ops: 0, replies: vec![v1::SequencedReply { seq, outcome }] });
    }

    /// Ends the lane with an error.
    pub(crate) fn fail(self, error: Error) {
        drop(self.replies.send(Err(to_status(error))));
    }

    fn reply(&self, batch: v1::ReplyBatch) {
        // The gateway may have gone.
        drop(self.replies.send(Ok(batch)));
    }
}

/// A stream: its own bytes, in records.
pub(crate) struct Stored {
    content_type: String,
    fork: Option<v1::Fork>,
    state: watch::Sender<State>,
    /// Where each tail that was opened began.
    pub(crate) tails: Mutex<Vec<u64>>,
    /// Where each read of own bytes began.
    pub(crate) reads: Mutex<Vec<u64>>,
    /// What reads are answered with, whatever they ask.
    pub(crate) scripted: Mutex<Option<Vec<v1::ReadChunk>>>,
}

#[derive(Clone, Default)]
struct State {
    id: u64,
    bytes: Vec<u8>,
    /// Where records end, after the first own byte.
    ends: Vec<usize>,
    closed: bool,
    deleted: bool,
    /// Counts how often the connections of tails were broken.
    breaks: u64,
    /// While set, no tail can be opened.
    unreachable: bool,
    /// While set, the node answers nothing about it.
    silent: bool,
}

impl Stored {
    fn new(content_type: &str, fork: Option<v1::Fork>) -> Stored {
        Stored {
            content_type: content_type.to_owned(),
            fork,
            state: watch::channel(State { id: 1, ..State::default() }).0,
            tails: Mutex::default(),
            reads: Mutex::default(),
            scripted: Mutex::default(),
        }
    }

    /// The first offset of its own.
    fn base(&self) -> u64 {
        self.fork.as_ref().map_or(0, |fork| fork.at)
    }

    pub(crate) fn append(&self, record: &[u8]) {
        self.state.send_modify(|state| {
            state.bytes.extend_from_slice(record);
            state.ends.push(state.bytes.len());
        });
    }

    pub(crate) fn close(&self) {
        self.state.send_modify(|state| state.closed = true);
    }

    pub(crate) fn delete(&self) {
        self.state.send_modify(|state| state.deleted = true);
    }

    /// Becomes another stream under the same name.
    pub(crate) fn replace(&self) {
        self.state.send_modify(|state| *state = State { id: state.id + 1, ..State::default() });
    }

    pub(crate) fn fall_silent(&self, silent: bool) {
        self.state.send_modify(|state| state.silent = silent);
    }

    /// Breaks the connection of every tail; new ones can be opened if `reachable`.
    pub(crate) fn break_tails(&self, reachable: bool) {
        self.state.send_modify(|state| {
            state.breaks += 1;
            state.unreachable = !reachable;
        });
    }

    /// Everything that was appended.
    pub(crate) fn content(&self) -> Vec<u8> {
        self.state.borrow().bytes.clone()
    }

    pub(crate) fn info(&self) -> v1::StreamInfo {
        let state = self.state.borrow();
        v1::StreamInfo {
            id: state.id,
            content_type: self.content_type.clone(),
            tail: self.base() + state.bytes.len() as u64,
            closed: state.closed,
            fork: self.fork.clone(),
            ..v1::StreamInfo::default()
        }
    }

    fn range(&self, request: &v1::ReadRequest) -> Result<v1::ReadChunk, Error> {
        use v1::position::Position;
        let info = self.info();
        let from = match request.from.and_then(|from| from.position).ok_or(Error::Malformed)? {
            Position::Start(_) => 0,
            Position::Now(_) => info.tail,
            Position::Offset(at) => at.min(info.tail),
        };
        let state = self.state.borrow();
        if state.deleted
            || request.target.as_ref().is_some_and(|target| target.inherited_id.is_some_and(|id| id != state.id))
        {
            return Err(Error::StreamNotFound);
        }
        if from < self.base() || from == info.tail {
            return Ok(v1::ReadChunk { head: Some(head(info, from, from)), data: Bytes::new() });
        }
        let mut reads = self.reads.lock().expect("no panic");
        assert!(reads.len() < READS_MAX, "somebody reads in a circle");
        reads.push(from);
        let first = (from - self.base()) as usize;
        let wanted = first.saturating_add(usize::try_from(request.bytes_max).unwrap_or(usize::MAX));
        let end = *state.ends.iter().find(|end| **end >= wanted).unwrap_or(&state.bytes.len());
        let until = request.until.map_or(usize::MAX, |until| (until - self.base()) as usize);
        let end = end.min(until);
        let data = Bytes::copy_from_slice(&state.bytes[first..end]);
        Ok(v1::ReadChunk { head: Some(head(info, from, self.base() + end as u64)), data })
    }
}

fn head(info: v1::StreamInfo, start: u64, next: u64) -> v1::ReadHead {
    v1::ReadHead { info: Some(info), start, next }
}

/// A tail of a stored stream.
struct Tail {
    stored: Arc<Stored>,
    state: watch::Receiver<State>,
    id: u64,
    breaks: u64,
    at: Offset,
    ended: bool,
}

impl Tail {
    async fn next(mut self) -> Option<(Result<v1::TailEvent, Status>, Tail)> {
        if self.ended {
            return None;
        }
        let base = self.stored.base();
        let (id, breaks, at) = (self.id, self.breaks, (self.at.0 - base) as usize);
        let changed = |state: &State| {
            state.breaks > breaks || state.deleted || state.id != id || state.bytes.len() > at || state.closed
        };
        let state = self.state.wait_for(changed).await.ok()?.clone();
        if state.breaks > breaks {
            self.ended = true;
            return Some((Err(broken()), self));
        }
        if state.deleted || state.id != id {
            self.ended = true;
            return Some((Err(to_status(Error::StreamNotFound)), self));
        }
        let data = Bytes::copy_from_slice(&state.bytes[at..]);
        let event = v1::TailEvent { start: self.at.0, data, closed: state.closed, up_to_date: true };
        self.at = Offset(base + state.bytes.len() as u64);
        self.ended = state.closed;
        Some((Ok(event), self))
    }
}

struct Service(Arc<Inner>);

impl Service {
    async fn stored(&self, target: Option<&v1::Target>) -> Result<Arc<Stored>, Status> {
        let name = &target.ok_or_else(|| to_status(Error::Malformed))?.name;
        let known = self.0.streams.lock().expect("no panic").get(name).cloned();
        let stored = known.ok_or_else(|| to_status(Error::StreamNotFound))?;
        drop(stored.state.subscribe().wait_for(|state| !state.silent).await);
        Ok(stored)
    }
}

#[tonic::async_trait]
impl v1::node_server::Node for Service {
    type LaneStream = Messages<v1::ReplyBatch>;
    type ReadStream = Messages<v1::ReadChunk>;
    type TailStream = Messages<v1::TailEvent>;
    type WatchTopologyStream = Messages<v1::Topology>;

    async fn lane(&self, request: Request<Streaming<v1::OpBatch>>) -> Result<Response<Self::LaneStream>, Status> {
        let (accept, accepted) = oneshot::channel();
        drop(self.0.lanes.send(LaneCall { frames: request.into_inner(), accept }));
        let replies = accepted.await.unwrap_or_else(|_| Err(broken()))?;
        Ok(Response::new(UnboundedReceiverStream::new(replies).boxed()))
    }

    async fn describe(&self, request: Request<v1::DescribeRequest>) -> Result<Response<v1::StreamInfo>, Status> {
        Ok(Response::new(self.stored(request.into_inner().target.as_ref()).await?.info()))
    }

    async fn read(&self, request: Request<v1::ReadRequest>) -> Result<Response<Self::ReadStream>, Status> {
        let request = request.into_inner();
        let stored = self.stored(request.target.as_ref()).await?;
        let scripted = stored.scripted.lock().expect("no panic").clone();
        let chunks = match scripted {
            Some(chunks) => chunks,
            None => vec![stored.range(&request).map_err(to_status)?],
        };
        Ok(Response::new(stream::iter(chunks.into_iter().map(Ok)).boxed()))
    }

    async fn tail(&self, request: Request<v1::TailRequest>) -> Result<Response<Self::TailStream>, Status> {
        let v1::TailRequest { target, from, stream_id } = request.into_inner();
        let stored = self.stored(target.as_ref()).await?;
        let state = stored.state.subscribe();
        let (breaks, unreachable) = (state.borrow().breaks, state.borrow().unreachable);
        if unreachable {
            return Err(broken());
        }
        stored.tails.lock().expect("no panic").push(from);
        let tail = Tail { stored, state, id: stream_id, breaks, at: Offset(from), ended: false };
        Ok(Response::new(stream::unfold(tail, Tail::next).boxed()))
    }

    async fn list(&self, _: Request<v1::ListRequest>) -> Result<Response<v1::ListReply>, Status> {
        Err(broken())
    }

    async fn describe_bucket(
        &self,
        _: Request<v1::DescribeBucketRequest>,
    ) -> Result<Response<v1::DescribeBucketReply>, Status> {
        Err(broken())
    }

    async fn watch_topology(
        &self,
        _: Request<v1::WatchTopologyRequest>,
    ) -> Result<Response<Self::WatchTopologyStream>, Status> {
        let next = async |(mut known, told): (watch::Receiver<Vec<v1::Topology>>, usize)| {
            let news = known.wait_for(|known| known.len() > told).await.ok()?[told].clone();
            Some((Ok(news), (known, told + 1)))
        };
        Ok(Response::new(stream::unfold((self.0.topologies.subscribe(), 0), next).boxed()))
    }
}

//! Storage nodes without storage: lanes are the test's to answer, streams are what the test stored, and a node leads,
//! dies or freezes when the test says so.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use ursula_common::placement::SLOTS;
use ursula_common::verb::OpResult;
use ursula_common::wire::reply;
use ursula_common::{Error, NodeId};
use ursula_proto::{NodeChannel, local, node_server, to_status, v1};

use super::stored::{Stored, Tail};
use crate::cluster::{Connect, Seed};
use crate::link::Link;
use crate::tests::within;

type Messages<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The bucket whose ops wait for the object store.
pub(crate) const OFFLOADED: &str = "offloaded";

/// How a connection breaks: without a word of the node.
pub(super) fn broken() -> Status {
    Status::unavailable("the connection is broken")
}

/// Whether a node can be talked to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Alive,
    /// Its connections stay open, and nothing comes.
    Frozen,
    /// Its connections break.
    Dead,
}

/// What a node says of its groups when it is asked to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Leads,
    /// It has a replica, and knows or does not know who leads.
    Follows {
        leader: Option<u64>,
        term: u64,
    },
}

/// The test's end of the node.
pub(crate) struct FakeNode {
    id: u64,
    inner: Arc<Inner>,
    lanes: mpsc::UnboundedReceiver<LaneCall>,
}

struct Inner {
    lanes: mpsc::UnboundedSender<LaneCall>,
    streams: Mutex<BTreeMap<String, Arc<Stored>>>,
    topologies: watch::Sender<Vec<v1::Topology>>,
    mode: watch::Sender<Mode>,
    role: watch::Sender<Role>,
}

impl FakeNode {
    /// The only node, which leads every group and has no stream.
    pub(crate) fn new() -> FakeNode {
        let node = FakeNode::unannounced();
        node.announce(topology(1));
        node
    }

    /// A node that has not told of any topology yet.
    pub(crate) fn unannounced() -> FakeNode {
        FakeNode::numbered(7)
    }

    /// One of several.
    pub(crate) fn numbered(id: u64) -> FakeNode {
        let (calls, lanes) = mpsc::unbounded_channel();
        let topologies = watch::channel(Vec::new()).0;
        let (mode, role) = (watch::channel(Mode::Alive).0, watch::channel(Role::Leads).0);
        let inner = Inner { lanes: calls, streams: Mutex::default(), topologies, mode, role };
        FakeNode { id, inner: Arc::new(inner), lanes }
    }

    pub(crate) fn id(&self) -> NodeId {
        NodeId(self.id)
    }

    pub(crate) fn channel(&self) -> NodeChannel {
        local(node_server(Service(self.inner.clone())))
    }

    pub(crate) fn link(&self) -> Link {
        Link::new(address(self.id), self.channel())
    }

    pub(crate) fn seed(&self) -> Seed {
        Seed { name: address(self.id), channel: self.channel() }
    }

    /// The next attempt to open a lane.
    pub(crate) async fn lane_call(&mut self) -> LaneCall {
        within(self.lanes.recv()).await.expect("the node is there")
    }

    /// The attempts to open a lane that have come.
    pub(crate) fn lane_calls(&mut self) -> Vec<LaneCall> {
        std::iter::from_fn(|| self.lanes.try_recv().ok()).collect()
    }

    /// Takes the next lane in, and grants it credit.
    pub(crate) async fn lane(&mut self, credit_ops: u32) -> FakeLane {
        loop {
            let call = self.lane_call().await;
            // One that was not taken in for too long was given up.
            if !call.is_given_up() {
                let lane = call.accept();
                lane.grant(credit_ops);
                return lane;
            }
        }
    }

    /// Adds a stream to the default bucket.
    pub(crate) fn store(&self, name: &str, content_type: &str) -> Arc<Stored> {
        self.put(name, Arc::new(Stored::new(content_type, None)))
    }

    /// Adds a fork.
    pub(crate) fn store_fork(&self, name: &str, content_type: &str, fork: v1::Fork) -> Arc<Stored> {
        self.put(name, Arc::new(Stored::new(content_type, Some(fork))))
    }

    /// Adds a stream that other nodes may have as well.
    pub(crate) fn put(&self, name: &str, stored: Arc<Stored>) -> Arc<Stored> {
        self.inner.streams.lock().expect("no panic").insert(name.to_owned(), stored.clone());
        stored
    }

    /// Tells everyone who watches.
    pub(crate) fn announce(&self, topology: v1::Topology) {
        self.inner.topologies.send_modify(|known| known.push(topology));
    }

    pub(crate) fn turn(&self, mode: Mode) {
        self.inner.mode.send_replace(mode);
    }

    pub(crate) fn play(&self, role: Role) {
        self.inner.role.send_replace(role);
    }

    pub(crate) fn is_alive(&self) -> bool {
        *self.inner.mode.borrow() == Mode::Alive
    }

    /// How many follow its topology.
    pub(crate) fn watchers(&self) -> usize {
        self.inner.topologies.receiver_count()
    }
}

/// Nodes 1 to `count`, which all have group 1, and the way to each.
pub(crate) fn nodes(count: u64) -> (Vec<FakeNode>, Arc<Connect>) {
    let nodes: Vec<FakeNode> = (1..=count).map(FakeNode::numbered).collect();
    let channels: BTreeMap<String, NodeChannel> = nodes.iter().map(|node| (address(node.id), node.channel())).collect();
    let connect = move |address: &str| match channels.get(address) {
        Some(channel) => Ok(channel.clone()),
        None => ursula_proto::remote(address),
    };
    (nodes, Arc::new(connect))
}

pub(crate) fn address(node: u64) -> String {
    format!("node-{node}:1")
}

/// One node that has group 1 for all streams, and the meta group.
pub(crate) fn topology(version: u64) -> v1::Topology {
    let mut topology = topology_of(version, &[7], Some(7), 1);
    topology.nodes[0].address = String::new();
    topology
}

/// Nodes that all have group 1 for all streams, and the meta group.
pub(crate) fn topology_of(version: u64, nodes: &[u64], leader: Option<u64>, term: u64) -> v1::Topology {
    v1::Topology {
        cluster: Default::default(),
        version,
        slots: vec![1; usize::from(SLOTS)],
        groups: [0, 1].map(|id| v1::Group { id, replicas: nodes.to_vec(), leader, term }).to_vec(),
        nodes: nodes.iter().map(|id| v1::NodeAddress { id: *id, address: address(*id) }).collect(),
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
        // The gateway may have given up at this moment.
        drop(self.accept.send(Ok(outgoing)));
        FakeLane { frames: self.frames, replies, seen: BTreeMap::new() }
    }

    /// Whether the gateway has stopped to wait for it.
    pub(crate) fn is_given_up(&self) -> bool {
        self.accept.is_closed()
    }

    pub(crate) fn refuse(self) {
        drop(self.accept.send(Err(broken())));
    }
}

/// A lane as the node sees it. Dropped, the lane ends.
pub(crate) struct FakeLane {
    frames: Streaming<v1::OpBatch>,
    replies: mpsc::UnboundedSender<Result<v1::ReplyBatch, Status>>,
    /// The last session that sent an op of each sequence, and the size of the op.
    seen: BTreeMap<u64, (u64, u64)>,
}

/// An op as it came over a lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SentOp {
    pub(crate) group: u32,
    pub(crate) session: u64,
    pub(crate) acked: u64,
    pub(crate) seq: u64,
    pub(crate) op: Bytes,
}

impl FakeLane {
    /// The ops of the next frame, or `None` when the gateway has ended the lane.
    pub(crate) async fn frame(&mut self) -> Option<Vec<SentOp>> {
        let frame = within(self.frames.message()).await.ok().flatten()?;
        let ops = frame.sessions.into_iter().flat_map(|v1::SessionOps { group, session, acked, ops }| {
            ops.into_iter().map(move |v1::SequencedOp { seq, op, .. }| SentOp { group, session, acked, seq, op })
        });
        let ops: Vec<SentOp> = ops.collect();
        self.seen.extend(ops.iter().map(|sent| (sent.seq, (sent.session, sent.op.len() as u64))));
        Some(ops)
    }

    pub(crate) fn grant(&self, credit_ops: u32) {
        self.reply(v1::ReplyBatch { credit_ops, credit_bytes: 64 << 20, ..v1::ReplyBatch::default() });
    }

    /// Answers the last op of this sequence.
    pub(crate) fn answer(&self, seq: u64, result: OpResult) {
        self.answer_encoded(seq, reply::encode(&result).into());
    }

    pub(crate) fn answer_encoded(&self, seq: u64, outcome: Bytes) {
        let (session, answered_bytes) = self.seen.get(&seq).copied().unwrap_or_default();
        let sessions = vec![v1::SessionReplies { session, replies: vec![v1::SequencedReply { seq, outcome }] }];
        self.reply(v1::ReplyBatch { sessions, answered_bytes, ..v1::ReplyBatch::default() });
    }

    /// Answers an op.
    pub(crate) fn answer_op(&self, sent: &SentOp, result: OpResult) {
        let replies = vec![v1::SequencedReply { seq: sent.seq, outcome: reply::encode(&result).into() }];
        let sessions = vec![v1::SessionReplies { session: sent.session, replies }];
        self.reply(v1::ReplyBatch { sessions, answered_bytes: sent.op.len() as u64, ..v1::ReplyBatch::default() });
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

struct Service(Arc<Inner>);

impl Service {
    /// Waits while the node is frozen.
    async fn alive(&self) -> Result<(), Status> {
        awake(&mut self.0.mode.subscribe()).await
    }

    async fn stored(&self, target: Option<&v1::Target>) -> Result<Arc<Stored>, Status> {
        self.alive().await?;
        let name = &target.ok_or_else(|| to_status(Error::Malformed))?.name;
        let known = self.0.streams.lock().expect("no panic").get(name).cloned();
        let stored = known.ok_or_else(|| to_status(Error::StreamNotFound))?;
        stored.speaks().await;
        Ok(stored)
    }

    fn role(&self) -> Role {
        *self.0.role.borrow()
    }

    fn refusal(&self) -> Option<Status> {
        let Role::Follows { leader, term } = self.role() else { return None };
        Some(to_status(Error::NotLeader { leader: leader.map(NodeId), term }))
    }

    /// Lets nothing through while the node is frozen, and breaks when it dies.
    fn guard<T: Send + 'static>(&self, inner: Messages<T>) -> Messages<T> {
        let guarded = stream::unfold(Some((inner, self.0.mode.subscribe())), async |open| {
            let (mut inner, mut mode) = open?;
            let mut watched = mode.clone();
            let item = tokio::select! {
                _ = watched.wait_for(|mode| *mode == Mode::Dead) => return Some((Err(broken()), None)),
                item = inner.next() => item?,
            };
            match awake(&mut mode).await {
                Ok(()) => Some((item, Some((inner, mode)))),
                Err(status) => Some((Err(status), None)),
            }
        });
        guarded.boxed()
    }
}

async fn awake(mode: &mut watch::Receiver<Mode>) -> Result<(), Status> {
    let awake = mode.wait_for(|mode| *mode != Mode::Frozen).await;
    awake.is_ok_and(|mode| *mode == Mode::Alive).then_some(()).ok_or_else(broken)
}

#[tonic::async_trait]
impl v1::node_server::Node for Service {
    type LaneStream = Messages<v1::ReplyBatch>;
    type ReadStream = Messages<v1::ReadChunk>;
    type TailStream = Messages<v1::TailEvent>;
    type WatchTopologyStream = Messages<v1::Topology>;

    async fn lane(&self, request: Request<Streaming<v1::OpBatch>>) -> Result<Response<Self::LaneStream>, Status> {
        self.alive().await?;
        let (accept, accepted) = oneshot::channel();
        drop(self.0.lanes.send(LaneCall { frames: request.into_inner(), accept }));
        let replies = accepted.await.unwrap_or_else(|_| Err(broken()))?;
        Ok(Response::new(self.guard(UnboundedReceiverStream::new(replies).boxed())))
    }

    async fn describe(&self, request: Request<v1::DescribeRequest>) -> Result<Response<v1::StreamInfo>, Status> {
        let v1::DescribeRequest { target, touch } = request.into_inner();
        let stored = self.stored(target.as_ref()).await?;
        self.refusal().map_or(Ok(()), Err)?;
        stored.visits.fetch_add(usize::from(touch), Ordering::Relaxed);
        Ok(Response::new(stored.info()))
    }

    async fn read(&self, request: Request<v1::ReadRequest>) -> Result<Response<Self::ReadStream>, Status> {
        let request = request.into_inner();
        let stored = self.stored(request.target.as_ref()).await?;
        let chunks = stored.read(&request, self.role()).map_err(|error| match error {
            Some(error) => to_status(error),
            None => self.refusal().expect("only those that do not lead refuse"),
        })?;
        Ok(Response::new(stream::iter(chunks.into_iter().map(Ok)).boxed()))
    }

    async fn tail(&self, request: Request<v1::TailRequest>) -> Result<Response<Self::TailStream>, Status> {
        let v1::TailRequest { target, from, stream_id, tell_up_to_date } = request.into_inner();
        let stored = self.stored(target.as_ref()).await?;
        let tail = Tail::open(stored, stream_id, from, tell_up_to_date, self.role())?;
        Ok(Response::new(self.guard(stream::unfold(tail, Tail::next).boxed())))
    }

    async fn list(&self, _: Request<v1::ListRequest>) -> Result<Response<v1::ListReply>, Status> {
        Err(broken())
    }

    async fn describe_bucket(
        &self,
        request: Request<v1::DescribeBucketRequest>,
    ) -> Result<Response<v1::DescribeBucketReply>, Status> {
        match request.into_inner().bucket.as_str() {
            OFFLOADED => Ok(Response::new(v1::DescribeBucketReply { ack: 1 })),
            _ => Err(broken()),
        }
    }

    async fn watch_topology(
        &self,
        _: Request<v1::WatchTopologyRequest>,
    ) -> Result<Response<Self::WatchTopologyStream>, Status> {
        self.alive().await?;
        let next = async |(mut known, told): (watch::Receiver<Vec<v1::Topology>>, usize)| {
            let changed = async { Some(known.wait_for(|known| known.len() > told).await.ok()?[told].clone()) };
            // Without news there is a sign of life.
            match timeout(Duration::from_secs(1), changed).await {
                Ok(news) => Some((Ok(news?), (known, told + 1))),
                Err(_) => Some((Ok(v1::Topology::default()), (known, told))),
            }
        };
        let known = self.0.topologies.subscribe();
        let newest = known.borrow().len().saturating_sub(1);
        Ok(Response::new(self.guard(stream::unfold((known, newest), next).boxed())))
    }
}

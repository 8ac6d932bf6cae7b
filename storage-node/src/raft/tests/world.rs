//! Several nodes in one task set, with a wire between each two that can be cut and can misbehave.

use std::collections::{BTreeMap, BTreeSet};
use std::future::ready;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::stream::BoxStream;
use futures_util::{FutureExt, StreamExt, stream};
use tokio::sync::{mpsc, watch};
use tokio::task::{LocalSet, spawn_local};
use tokio::time::{sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use ursula_common::verb::Op;
use ursula_common::{Millis, NodeId};
use ursula_proto::peer::v1::message::Body;
use ursula_proto::peer::v1::peer_server::Peer;
use ursula_proto::peer::v1::{Delivered, Delivery, Frame, Message, Record, RecordRequest, SnapshotDone, SnapshotPart};
use ursula_proto::{local, peer_client, peer_server, refusal};

use super::super::*;
use crate::core::{Request as Asked, RequestKind};
use crate::directory::Directory;
use crate::metrics::Metrics;
use crate::peers::{PeerAddress, PeerService};

pub(super) const CLUSTER: u128 = 0xC1;
/// Longer than anything takes that works.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// Remembers the stamps of all commands.
#[derive(Default)]
pub(super) struct Journal(pub(super) Vec<u64>);

impl StateMachine for Journal {
    fn apply(&mut self, commands: Vec<Command>, _entry: Option<&Stored>) -> Vec<Answer> {
        let answer = |command: Command| {
            self.0.push(command.at.0);
            Answer::Done(Err(Error::StaleEpoch { current: self.0.len() as u64 }))
        };
        commands.into_iter().map(answer).collect()
    }

    fn freeze(&self) -> StateParts {
        let state: Vec<u8> = self.0.iter().flat_map(|at| at.to_be_bytes()).collect();
        Box::new(move |put| put(&state))
    }

    fn places(&self) -> Places {
        Places::default()
    }

    fn restore(&mut self, state: Bytes, _places: Places) -> io::Result<()> {
        self.0 = state.chunks(8).map(|at| u64::from_be_bytes(at.try_into().expect("eight bytes"))).collect();
        Ok(())
    }
}

pub(super) fn command(at: u64) -> Command {
    Command { at: Millis(at), origin: None, op: Op::Expire }
}

/// What happens on the way from one node to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Mode {
    #[default]
    Open,
    /// Calls fail, and those that are open end.
    Cut,
    /// Every seventh frame is lost.
    Lose,
    /// Everything arrives twice.
    Repeat,
    /// Answers arrive in any order.
    Shuffle,
    /// No answer arrives.
    Hold,
    /// Nothing arrives, in either direction.
    Freeze,
    /// No question arrives, but answers do.
    Mute,
}

/// The way from one node to another.
pub(super) struct Wire {
    mode: watch::Sender<Mode>,
    /// Questions with entries that went through.
    pub(super) appends: AtomicUsize,
    /// Votes and questions whether a vote would be given.
    pub(super) ballots: AtomicUsize,
    pub(super) snapshots: AtomicUsize,
}

#[derive(Clone)]
struct Proxy {
    wire: Arc<Wire>,
    to: PeerService,
}

impl Wire {
    pub(super) fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }

    fn mode(&self) -> Mode {
        *self.mode.borrow()
    }

    fn is_cut(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut mode = self.mode.subscribe();
        async move { drop(mode.wait_for(|mode| *mode == Mode::Cut).await) }
    }

    fn count(&self, frame: &Frame) {
        for message in &frame.messages {
            match &message.body {
                Some(Body::Append(append)) if !append.entries.is_empty() => &self.appends,
                Some(Body::Vote(_) | Body::PreVote(_)) => &self.ballots,
                _ => continue,
            }
            .fetch_add(1, Ordering::Relaxed);
        }
    }

    fn questions(self: Arc<Self>, frames: Streaming<Frame>) -> BoxStream<'static, Frame> {
        let (cut, mut seen) = (self.is_cut(), 0);
        let frames = frames.filter_map(|frame| ready(frame.ok()));
        let wire = self.clone();
        let held = move |frame: Frame| {
            let mut mode = wire.mode.subscribe();
            async move {
                drop(mode.wait_for(|mode| !matches!(mode, Mode::Freeze | Mode::Mute)).await);
                frame
            }
        };
        let through = move |frame: Frame| {
            seen += 1;
            self.count(&frame);
            stream::iter(match self.mode() {
                Mode::Lose if seen % 7 == 0 => vec![],
                Mode::Repeat => vec![frame.clone(), frame],
                _ => vec![frame],
            })
        };
        frames.then(held).flat_map(through).take_until(cut).boxed()
    }

    fn answers(self: Arc<Self>, frames: Streaming<Frame>) -> BoxStream<'static, Result<Frame, Status>> {
        let cut = self.is_cut();
        let single = frames.flat_map(|frame| match frame {
            Ok(frame) if frame.messages.is_empty() => stream::iter(vec![Ok(frame)]),
            Ok(frame) => stream::iter(frame.messages.into_iter().map(one).map(Ok).collect::<Vec<_>>()),
            Err(status) => stream::iter(vec![Err(status)]),
        });
        let through = move |(number, frame): (u64, Result<Frame, Status>)| {
            let mut mode = self.mode.subscribe();
            async move {
                drop(mode.wait_for(|mode| !matches!(mode, Mode::Hold | Mode::Freeze)).await);
                let shuffled = *mode.borrow() == Mode::Shuffle;
                // Every other answer is overtaken by the next.
                sleep(Duration::from_millis(if shuffled && number % 2 == 0 { 5 } else { 0 })).await;
                frame
            }
        };
        let numbers = stream::iter(0..);
        let frames = numbers.zip(single).map(through).buffer_unordered(1024);
        frames.take_until(cut).boxed()
    }
}

fn pump<T: Send + 'static>(mut from: BoxStream<'static, T>) -> ReceiverStream<T> {
    let (to, received) = mpsc::channel(1);
    tokio::spawn(async move {
        while let Some(item) = from.next().await {
            if to.send(item).await.is_err() {
                return;
            }
        }
    });
    ReceiverStream::new(received)
}

fn one(message: Message) -> Frame {
    Frame { messages: vec![message] }
}

#[tonic::async_trait]
impl Peer for Proxy {
    type ExchangeStream = BoxStream<'static, Result<Frame, Status>>;

    async fn exchange(&self, request: Request<Streaming<Frame>>) -> Result<Response<Self::ExchangeStream>, Status> {
        if self.wire.mode() == Mode::Cut {
            return Err(refusal("cut"));
        }
        let (metadata, extensions, frames) = request.into_parts();
        let request = Request::from_parts(metadata, extensions, pump(self.wire.clone().questions(frames)));
        let answers = peer_client(local(peer_server(self.to.clone()))).exchange(request).await?;
        Ok(Response::new(self.wire.clone().answers(answers.into_inner())))
    }

    async fn deliver(&self, request: Request<Delivery>) -> Result<Response<Delivered>, Status> {
        peer_client(local(peer_server(self.to.clone()))).deliver(request).await
    }

    async fn record(&self, request: Request<RecordRequest>) -> Result<Response<Record>, Status> {
        peer_client(local(peer_server(self.to.clone()))).record(request).await
    }

    async fn snapshot(&self, request: Request<Streaming<SnapshotPart>>) -> Result<Response<SnapshotDone>, Status> {
        if self.wire.mode() == Mode::Cut {
            return Err(refusal("cut"));
        }
        self.wire.snapshots.fetch_add(1, Ordering::Relaxed);
        let (metadata, extensions, parts) = request.into_parts();
        let parts = parts.filter_map(|part| ready(part.ok()));
        let request = Request::from_parts(metadata, extensions, pump(parts.boxed()));
        let mut to = peer_client(local(peer_server(self.to.clone())));
        tokio::select! {
            done = to.snapshot(request) => done,
            () = self.wire.is_cut() => Err(refusal("cut")),
        }
    }
}

/// One node: a core of its own, with one replica for each group.
pub(super) struct Node {
    pub(super) peers: Peers,
    service: PeerService,
    pub(super) replicas: Vec<Rc<Replica<Journal>>>,
    pub(super) machines: Vec<Rc<RefCell<Journal>>>,
    logs: Vec<MemoryLog>,
}

pub(super) struct World {
    pub(super) nodes: BTreeMap<u64, Node>,
    pub(super) wires: BTreeMap<(u64, u64), Arc<Wire>>,
    groups: u32,
    /// Counts starts of nodes: an address is of one life.
    lives: usize,
}

/// Runs `test` with `nodes` nodes that have the replicas of `groups` groups; none is initialised.
pub(super) async fn with_nodes(nodes: u64, groups: u32, test: impl AsyncFnOnce(&mut World)) {
    let run = async {
        let pairs = (1..=nodes).flat_map(|from| (1..=nodes).map(move |to| (from, to))).filter(|(from, to)| from != to);
        let wire = || Wire {
            mode: watch::channel(Mode::Open).0,
            appends: AtomicUsize::new(0),
            ballots: AtomicUsize::new(0),
            snapshots: AtomicUsize::new(0),
        };
        let wires = pairs.map(|pair| (pair, Arc::new(wire()))).collect();
        let mut world = World { nodes: BTreeMap::new(), wires, groups, lives: 0 };
        for node in 1..=nodes {
            world.start(node, (0..groups).map(|_| MemoryLog::default()).collect()).await;
        }
        timeout(10 * PATIENCE, test(&mut world)).await.expect("the test ends");
    };
    LocalSet::new().run_until(run.boxed_local()).await;
}

/// The same with all nodes as voters of every group, and a leader for each.
pub(super) async fn with_voters(nodes: u64, groups: u32, test: impl AsyncFnOnce(&mut World)) {
    with_nodes(nodes, groups, async |world| {
        for replica in &world.nodes[&1].replicas {
            replica.initialize((1..=nodes).map(NodeId)).await.expect("a group");
        }
        world.leader().await;
        test(world).await;
    })
    .await;
}

impl World {
    async fn start(&mut self, id: u64, logs: Vec<MemoryLog>) {
        let metrics = Metrics::new(1).expect("metrics");
        let peers = Peers::new(NodeId(id), id << 8, Some(CLUSTER), metrics);
        let (mailbox, mut requests) = mpsc::channel(128);
        let directory = Directory::new(self.groups, vec![mailbox]);
        let machines: Vec<_> = logs.iter().map(|_| Rc::new(RefCell::new(Journal::default()))).collect();
        let mut replicas = Vec::new();
        for (index, (log, machine)) in logs.iter().zip(&machines).enumerate() {
            let group = GroupId(index as u32);
            let replica = Replica::start_in_memory(group, machine.clone(), log.clone(), peers.clone()).await;
            replicas.push(Rc::new(replica.expect("a replica")));
        }
        let hosted = replicas.clone();
        spawn_local(async move {
            while let Some(Asked { kind, .. }) = requests.recv().await {
                match kind {
                    RequestKind::Peers(questions) => {
                        questions.into_iter().for_each(|asked| hosted[asked.group.0 as usize].answer(asked));
                    }
                    RequestKind::Install(snapshot) => hosted[snapshot.group.0 as usize].install(snapshot),
                    other => panic!("{other:?}"),
                }
            }
        });
        let service = PeerService::new(peers.clone(), directory);
        self.nodes.insert(id, Node { peers, service, replicas, machines, logs });
        self.lives += 1;
        for other in self.nodes.keys().copied().filter(|other| *other != id) {
            self.introduce(id, other);
            self.introduce(other, id);
            self.wires[&(id, other)].set(Mode::Open);
            self.wires[&(other, id)].set(Mode::Open);
        }
    }

    /// Tells `from` where `to` is.
    fn introduce(&self, from: u64, to: u64) {
        let proxy = Proxy { wire: self.wires[&(from, to)].clone(), to: self.nodes[&to].service.clone() };
        let address = PeerAddress::local(&format!("life {}", self.lives), local(peer_server(proxy)), to << 8);
        self.nodes[&from].peers.set(NodeId(to), address);
    }

    /// Sets the ways between `node` and all others, in both directions.
    pub(super) fn set(&self, node: u64, mode: Mode) {
        for (_, wire) in self.wires.iter().filter(|((from, to), _)| *from == node || *to == node) {
            wire.set(mode);
        }
    }

    /// Sets every way.
    pub(super) fn set_all(&self, mode: Mode) {
        self.wires.values().for_each(|wire| wire.set(mode));
    }

    /// Ends a node as a kill does: its log stays, as it is.
    pub(super) async fn kill(&mut self, id: u64) -> Dead {
        self.set(id, Mode::Cut);
        let node = self.nodes.remove(&id).expect("a node that lives");
        for replica in &node.replicas {
            replica.stop().await;
        }
        Dead(id, node.logs)
    }

    pub(super) async fn restart(&mut self, Dead(id, logs): Dead) {
        self.start(id, logs).await;
    }

    pub(super) fn replica(&self, node: u64) -> &Rc<Replica<Journal>> {
        &self.nodes[&node].replicas[0]
    }

    pub(super) fn journal(&self, node: u64) -> Vec<u64> {
        self.nodes[&node].machines[0].borrow().0.clone()
    }

    /// The node that leads the first group, proven by a majority; waits for one.
    pub(super) async fn leader(&self) -> u64 {
        self.leader_of(0).await
    }

    pub(super) async fn leader_of(&self, group: usize) -> u64 {
        let found = async {
            loop {
                for (id, node) in &self.nodes {
                    if node.replicas[group].leads() && node.replicas[group].confirm_leadership().await.is_ok() {
                        return *id;
                    }
                }
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(PATIENCE, found).await.expect("a leader")
    }

    /// Proposes to whoever leads until somebody takes it.
    pub(super) async fn append(&self, at: u64) {
        loop {
            let leader = self.leader().await;
            match timeout(Duration::from_secs(2), self.replica(leader).propose(vec![command(at)])).await {
                Ok(Ok(_)) => return,
                Ok(Err(_)) | Err(_) => sleep(Duration::from_millis(10)).await,
            }
        }
    }

    /// Waits until these nodes have applied the same, with the last of it, and says what.
    pub(super) async fn agreed(&self, nodes: &[u64], last: u64) -> Vec<u64> {
        let agreed = async {
            loop {
                let journals: BTreeSet<Vec<u64>> = nodes.iter().map(|node| self.journal(*node)).collect();
                match journals.first() {
                    Some(journal) if journals.len() == 1 && journal.last() == Some(&last) => return journal.clone(),
                    Some(_) | None => sleep(Duration::from_millis(10)).await,
                }
            }
        };
        timeout(PATIENCE, agreed).await.expect("they agree")
    }

    /// Questions about votes that were asked so far, by anybody.
    pub(super) fn ballots(&self) -> usize {
        self.wires.values().map(|wire| wire.ballots.load(Ordering::Relaxed)).sum()
    }
}

/// What is left of a node that was killed.
pub(super) struct Dead(u64, Vec<MemoryLog>);

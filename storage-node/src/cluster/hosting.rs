//! What the cluster side of a node needs of its engine. Plain data and one trait; knows no cores and no
//! consensus library.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use ursula_common::cluster::{Cluster, ClusterOp};
use ursula_common::verb::{Op, OpResult};
use ursula_common::{ClusterId, Error, GroupId, NodeId};
use ursula_proto::NodeChannel;

use crate::data_dir::{Forgotten, Standing};

/// Who this node is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) node: NodeId,
    /// The number of its data directory.
    pub(crate) incarnation: u64,
    /// How many groups that hold streams it is set up for.
    pub(crate) groups: u32,
    /// The cluster that it belongs to.
    pub(crate) cluster: Option<ClusterId>,
}

/// Another node of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Peer {
    pub(crate) node: NodeId,
    pub(crate) address: Arc<str>,
    pub(crate) incarnation: u64,
}

/// What a replica is at this moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Leader,
    Follower,
    Candidate,
    Learner,
}

/// Everything that this node knows of a group from its own replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ReplicaStatus {
    pub(crate) group: GroupId,
    pub(crate) role: Role,
    pub(crate) lead: Lead,
    /// The last entry of the log, and the last one applied.
    pub(crate) last: u64,
    pub(crate) applied: u64,
    /// Sets of voters: two while they change from the first to the second, none before the group is made.
    pub(crate) voters: Vec<BTreeSet<NodeId>>,
    pub(crate) learners: BTreeSet<NodeId>,
    /// Of the other members; only the leader has it.
    pub(crate) progress: BTreeMap<NodeId, Progress>,
    /// Whether it has never heard of its group: no entry, no vote, no snapshot.
    pub(crate) pristine: bool,
    /// Bytes of its streams that no pack has, if packs have begun.
    pub(crate) unpacked_bytes: Option<u64>,
}

/// How far another member has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Progress {
    /// The last entry that it is known to have.
    pub(crate) matched: u64,
    /// How long ago it answered; `None` for never.
    pub(crate) silent: Option<Duration>,
}

/// Who leads a group, and since which term. Ordered: what is greater is newer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Lead {
    pub(crate) term: u64,
    pub(crate) leader: Option<NodeId>,
}

/// The leaders of groups.
pub(crate) type Leads = BTreeMap<GroupId, Lead>;

/// Groups that belong here and whose replica cannot be started, or has lost something since, each with a sentence that says
/// why and what to do.
pub(crate) type Refusals = BTreeMap<GroupId, Arc<str>>;

/// What a replica can be told to do. All but the first are for the leader, which otherwise answers
/// [`Error::NotLeader`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ReplicaCommand {
    /// Make the group, with these voters. Fails unless the replica is pristine.
    Initialize(BTreeSet<NodeId>),
    /// Let a node follow without a vote. Done when the change is committed, not when it has caught up.
    AddLearner(NodeId),
    /// Change to these voters, in a joint change. Those that lose their vote follow on.
    ChangeVoters(BTreeSet<NodeId>),
    /// Let followers without a vote go.
    RemoveLearners(BTreeSet<NodeId>),
    /// Let a voter lead.
    TransferLeader(NodeId),
}

/// The engine of a node, as the cluster side uses it.
#[tonic::async_trait]
pub(crate) trait Hosting: Send + Sync + 'static {
    /// Who this node is.
    fn identity(&self) -> Identity;

    /// Makes the node a member of a cluster for ever, on disk; fails if it is of another one.
    /// `alone` is for one that has no others and is not reached by any.
    async fn claim(&self, cluster: ClusterId, alone: bool) -> io::Result<()>;

    /// Notes on disk that the node knows its cluster, or was taken out of it.
    async fn stand(&self, standing: Standing) -> io::Result<()>;

    /// The peers that were remembered last.
    fn remembered(&self) -> Vec<Peer>;

    /// Keeps on disk where the others are: after a restart of all nodes, the log that says so is not applied
    /// before they have talked to each other.
    async fn remember(&self, peers: Vec<Peer>) -> io::Result<()>;

    /// Connects to these nodes, and to no others.
    fn connect(&self, peers: &[Peer]);

    /// The way to a node that was connected.
    fn channel(&self, node: NodeId) -> Option<NodeChannel>;

    /// The cluster as the replica of the meta group here has applied it.
    fn cluster(&self) -> watch::Receiver<Option<Arc<Cluster>>>;

    /// Who leads the groups that are hosted here.
    fn leads(&self) -> watch::Receiver<Leads>;

    /// Groups that the data directory holds something of.
    fn stored(&self) -> BTreeSet<GroupId>;

    /// Groups whose replica could not be started, or has lost something.
    fn refused(&self) -> Refusals;

    /// Starts the replica of a group, if it is not there. One that cannot be started is noted as refused, and fails
    /// with the sentence.
    async fn host(&self, group: GroupId) -> Result<(), Error>;

    /// Lets the replica of a group, if it is there, answer no other replica any more, or again. What it has answered before
    /// was asked before this returns.
    async fn hold(&self, group: GroupId, held: bool) -> Result<(), Error>;

    /// Stops the replica of a group, if it is there, and forgets everything about it but what a new one must have before
    /// it votes.
    async fn forget(&self, forgotten: Forgotten) -> Result<(), Error>;

    /// The groups that are hosted here.
    fn hosted(&self) -> BTreeSet<GroupId>;

    /// The replica of a group here; `None` if there is none.
    async fn status(&self, group: GroupId) -> Option<ReplicaStatus>;

    /// Tells the replica of a group to do something.
    async fn command(&self, group: GroupId, command: ReplicaCommand) -> Result<(), Error>;

    /// Proposes a change of the cluster to the meta group here.
    async fn propose(&self, op: ClusterOp) -> OpResult;

    /// Proposes a step of an import to a group, wherever it is led.
    async fn import(&self, group: GroupId, op: Op) -> OpResult;
}

impl ReplicaStatus {
    /// All members, with a vote or without.
    pub(crate) fn members(&self) -> BTreeSet<NodeId> {
        self.voters.iter().flatten().chain(&self.learners).copied().collect()
    }

    /// Whether this replica leads.
    pub(crate) fn leads(&self) -> bool {
        self.role == Role::Leader
    }
}

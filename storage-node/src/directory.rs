//! Where the groups are: which group has a stream, and which core has a group.

use std::sync::{Arc, OnceLock};

use tokio::sync::{mpsc, oneshot};
use ursula_common::placement::SlotTable;
use ursula_common::verb::{Op, OpResult};
use ursula_common::{Error, GroupId, Offset, StreamId, StreamKey};

use crate::core::{RecordResult, Request, RequestKind};
use crate::elsewhere::Elsewhere;
use crate::group::{Proposal, ReplyTo};
use crate::peers::{Inbound, InboundSnapshot};

/// A handle to every core. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Directory(Arc<Inner>);

struct Inner {
    slots: SlotTable,
    groups: u32,
    elsewhere: OnceLock<Elsewhere>,
    cores: Vec<mpsc::Sender<Request>>,
}

/// The core of a group, for `cores` cores.
pub(crate) fn core_of(group: GroupId, cores: usize) -> usize {
    group.0 as usize % cores
}

impl Directory {
    /// `groups` counts those that hold streams; the meta group comes on top.
    pub(crate) fn new(groups: u32, cores: Vec<mpsc::Sender<Request>>) -> Directory {
        Directory(Arc::new(Inner { slots: SlotTable::spread(groups), groups, elsewhere: OnceLock::new(), cores }))
    }

    /// Whether there is such a group.
    pub(crate) fn has(&self, group: GroupId) -> bool {
        group.0 <= self.0.groups
    }

    /// How many cores there are.
    pub(crate) fn cores(&self) -> usize {
        self.0.cores.len()
    }

    /// The group of a stream.
    pub(crate) fn group_of(&self, key: &StreamKey) -> GroupId {
        self.0.slots.group_of(key)
    }

    /// Hands a request to the core of its group; waits while its mailbox is full.
    ///
    /// # Errors
    /// [`Error::NotLeader`] if the group is not here, [`Error::Unavailable`] if its core has stopped.
    pub(crate) async fn send(&self, group: GroupId, kind: RequestKind) -> Result<(), Error> {
        if !self.has(group) {
            return Err(Error::NOT_HERE);
        }
        let core = &self.0.cores[core_of(group, self.0.cores.len())];
        core.send(Request { group, kind }).await.map_err(|_| Error::Unavailable)
    }

    /// The core that owns a group, whether the group is here or not.
    pub(crate) fn core_of(&self, group: GroupId) -> usize {
        core_of(group, self.cores())
    }

    /// Hands questions of another node to the core of their groups; waits while its mailbox is full.
    pub(crate) async fn ask(&self, core: usize, questions: Vec<Inbound>) {
        let Some(group) = questions.first().map(|question| question.group) else { return };
        // A core that has stopped drops the questions, which answers them.
        drop(self.0.cores[core].send(Request { group, kind: RequestKind::Peers(questions) }).await);
    }

    /// Hands a snapshot of another node to the core of its group; waits while its mailbox is full.
    pub(crate) async fn install(&self, snapshot: InboundSnapshot) {
        let group = snapshot.group;
        let core = &self.0.cores[self.core_of(group)];
        drop(core.send(Request { group, kind: RequestKind::Install(snapshot) }).await);
    }

    /// Opens the way to groups that are led on other nodes.
    pub(crate) fn connect(&self, elsewhere: Elsewhere) {
        // There is one way for the life of a node.
        let _ = self.0.elsewhere.set(elsewhere);
    }

    /// Proposes an op to a group, wherever it is led, and waits for its answer.
    pub(crate) async fn propose(&self, group: GroupId, op: Op) -> OpResult {
        match (self.propose_here(group, op.clone()).await, self.0.elsewhere.get()) {
            (Err(Error::NotLeader { leader, .. }), Some(elsewhere)) => elsewhere.propose(group, &op, leader).await,
            (outcome, _) => outcome,
        }
    }

    /// Proposes an op to a group that this node leads, and waits for its answer.
    pub(crate) async fn propose_here(&self, group: GroupId, op: Op) -> OpResult {
        let (reply, answer) = oneshot::channel();
        let proposal = Proposal { group, origin: None, op, encoded: None, reply: ReplyTo::Task(reply) };
        self.send(group, RequestKind::Propose(vec![proposal])).await?;
        answer.await.unwrap_or(Err(Error::OutcomeUnknown))
    }

    /// The record of one incarnation that `at` lies in, up to `until`, wherever it is.
    ///
    /// # Errors
    /// If the incarnation is gone, or its group cannot be asked.
    pub(crate) async fn record(&self, key: &StreamKey, id: StreamId, at: Offset, until: Offset) -> RecordResult {
        let group = self.group_of(key);
        match (self.record_here(group, key, id, (at, until)).await, self.0.elsewhere.get()) {
            (Err(Error::NotLeader { leader, .. }), Some(elsewhere)) => {
                elsewhere.record(group, key, id, (at, until), leader).await
            }
            (found, _) => found,
        }
    }

    /// The same from a group that this node leads.
    ///
    /// # Errors
    /// If the incarnation is gone, or the group is not led here.
    pub(crate) async fn record_here(
        &self,
        group: GroupId,
        key: &StreamKey,
        id: StreamId,
        (at, until): (Offset, Offset),
    ) -> RecordResult {
        let (reply, answer) = oneshot::channel();
        let kind = RequestKind::Record { key: key.clone(), id, at, until, reply };
        self.send(group, kind).await?;
        // A core that has no replica of the group drops the question.
        answer.await.unwrap_or(Err(Error::NOT_HERE))
    }
}

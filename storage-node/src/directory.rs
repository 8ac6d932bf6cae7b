//! Where the groups are: which group has a stream, and which core has a group.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use ursula_common::placement::SlotTable;
use ursula_common::verb::{Op, OpResult};
use ursula_common::{Error, GroupId, Offset, StreamId, StreamKey};

use crate::core::{Request, RequestKind};
use crate::group::{Proposal, ReplyTo};
use crate::peers::{Inbound, InboundSnapshot};

/// A handle to every core. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Directory(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    slots: SlotTable,
    groups: u32,
    cores: Vec<mpsc::Sender<Request>>,
}

/// The core of a group, for `cores` cores.
pub(crate) fn core_of(group: GroupId, cores: usize) -> usize {
    group.0 as usize % cores
}

impl Directory {
    /// `groups` counts those that hold streams; the meta group comes on top.
    pub(crate) fn new(groups: u32, cores: Vec<mpsc::Sender<Request>>) -> Directory {
        Directory(Arc::new(Inner { slots: SlotTable::spread(groups), groups, cores }))
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

    /// Proposes an op and waits for its answer.
    pub(crate) async fn propose(&self, group: GroupId, op: Op) -> OpResult {
        let (reply, answer) = oneshot::channel();
        let proposal = Proposal { group, origin: None, op, reply: ReplyTo::Task(reply) };
        self.send(group, RequestKind::Propose(vec![proposal])).await?;
        answer.await.unwrap_or(Err(Error::OutcomeUnknown))
    }

    /// The record of one incarnation that `at` lies in, up to `until`.
    ///
    /// # Errors
    /// If the incarnation is gone or its core has stopped.
    pub(crate) async fn record(
        &self,
        key: &StreamKey,
        id: StreamId,
        at: Offset,
        until: Offset,
    ) -> Result<Option<(Offset, Bytes)>, Error> {
        let (reply, answer) = oneshot::channel();
        let kind = RequestKind::Record { key: key.clone(), id, at, until, reply };
        self.send(self.group_of(key), kind).await?;
        answer.await.unwrap_or(Err(Error::Unavailable))
    }
}

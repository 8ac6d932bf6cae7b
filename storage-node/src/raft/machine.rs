//! The state machine as openraft drives it.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;

use futures_util::{Stream, TryStreamExt};
use openraft::alias::{LogIdOf, SnapshotMetaOf, SnapshotOf, StoredMembershipOf};
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend, RaftSnapshotBuilder, Snapshot, StoredMembership};

use super::types::{Answers, TypeConfig};
use super::{SnapshotData, StateMachine};

/// Adds what Raft has to know of a state machine: how far it has come, and with which members.
pub(crate) struct Machine<M> {
    state: Rc<RefCell<M>>,
    applied: Option<LogIdOf<TypeConfig>>,
    membership: StoredMembershipOf<TypeConfig>,
    /// How far the log is no longer needed to rebuild the state.
    snapshot: Option<SnapshotMetaOf<TypeConfig>>,
}

impl<M> Machine<M> {
    pub(super) fn new(state: Rc<RefCell<M>>) -> Machine<M> {
        Machine { state, applied: None, membership: StoredMembership::default(), snapshot: None }
    }

    fn meta(&self) -> SnapshotMetaOf<TypeConfig> {
        SnapshotMetaOf::<TypeConfig> { last_log_id: self.applied, last_membership: self.membership.clone() }
    }
}

impl<M: StateMachine> RaftStateMachine<TypeConfig> for Machine<M> {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = Builder;

    async fn applied_state(
        &mut self,
    ) -> Result<(Option<LogIdOf<TypeConfig>>, StoredMembershipOf<TypeConfig>), io::Error> {
        Ok((self.applied, self.membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + OptionalSend,
    {
        while let Some((entry, responder)) = entries.try_next().await? {
            self.applied = Some(entry.log_id);
            let answers = match entry.payload {
                EntryPayload::Blank => Vec::new(),
                EntryPayload::Normal(batch) => self.state.borrow_mut().apply(batch.commands()?),
                EntryPayload::Membership(membership) => {
                    self.membership = StoredMembership::new(Some(entry.log_id), membership);
                    Vec::new()
                }
            };
            if let Some(responder) = responder {
                responder.send(Answers::new(answers));
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        let meta = self.meta();
        self.snapshot = Some(meta.clone());
        Builder(meta)
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMetaOf<TypeConfig>,
        snapshot: SnapshotData,
    ) -> Result<(), io::Error> {
        let snapshot = snapshot.into_bytes().await?;
        self.state.borrow_mut().restore(snapshot)?;
        self.applied = meta.last_log_id;
        self.membership = meta.last_membership.clone();
        self.snapshot = Some(meta.clone());
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<SnapshotOf<TypeConfig, SnapshotData>>, io::Error> {
        if self.snapshot.is_none() {
            return Ok(None);
        }
        Ok(Some(Snapshot { meta: self.meta(), snapshot: SnapshotData::in_memory(self.state.borrow().snapshot()) }))
    }
}

/// In memory a snapshot exists from the moment it is asked for: the state itself is it, and is encoded
/// only when a replica wants it. So taking one costs nothing, however many streams there are.
pub(crate) struct Builder(SnapshotMetaOf<TypeConfig>);

impl RaftSnapshotBuilder<TypeConfig> for Builder {
    type SnapshotData = SnapshotData;

    async fn build_snapshot(&mut self) -> Result<SnapshotOf<TypeConfig, SnapshotData>, io::Error> {
        Ok(Snapshot { meta: self.0.clone(), snapshot: SnapshotData::in_memory(Vec::new()) })
    }
}

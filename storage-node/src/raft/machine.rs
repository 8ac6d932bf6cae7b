//! The state machine as openraft drives it.

use std::cell::RefCell;
use std::io::{self, Write as _};
use std::rc::Rc;

use futures_util::{Stream, TryStreamExt};
use openraft::alias::{LogIdOf, SnapshotMetaOf, SnapshotOf, StoredMembershipOf};
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend, RaftSnapshotBuilder, Snapshot, StoredMembership};
use ursula_common::GroupId;
use ursula_wal::File;

use super::disk::DiskLog;
use super::snapshot::CHUNK_BYTES;
use super::types::{Answers, Batch, TypeConfig};
use super::{SnapshotData, StateMachine, codec};
use crate::archive::{Archive, Places, Stored};
use crate::checkpoint::{Checkpoint, Draft, StateParts};
use crate::data_dir::{DataDir, read_all};
use crate::transfer::{self, Outgoing};

/// Adds what Raft has to know of a state machine: how far it has come, and with which members.
pub(crate) struct Machine<M> {
    state: Rc<RefCell<M>>,
    disk: Option<Disk>,
    applied: Option<LogIdOf<TypeConfig>>,
    membership: StoredMembershipOf<TypeConfig>,
    /// How far the log is no longer needed to rebuild the state.
    snapshot: Option<SnapshotMetaOf<TypeConfig>>,
}

/// Where a group with a data directory keeps its log and its checkpoint.
#[derive(Clone)]
pub(super) struct Disk {
    pub(super) group: GroupId,
    pub(super) dir: DataDir,
    pub(super) archive: Archive,
    pub(super) log: DiskLog,
}

impl Disk {
    async fn checkpoint(&self) -> io::Result<Option<Checkpoint>> {
        let (dir, group) = (self.dir.clone(), self.group);
        let read = move || {
            let named = |error| io::Error::other(format!("{}: {error}", dir.checkpoint_path(group).display()));
            dir.open_checkpoint(group)?.map(|file| read_checkpoint(&*file)).transpose().map_err(named)
        };
        self.dir.blocking(read).await
    }

    /// Puts a checkpoint in the place of the one before; what it speaks of is on disk.
    async fn write_checkpoint(&self, index: u64, draft: Draft) -> io::Result<()> {
        let (dir, group) = (self.dir.clone(), self.group);
        let bytes = self.dir.blocking(move || dir.write_checkpoint(group, |put| draft.write(put))).await?;
        self.log.checkpointed(index, bytes);
        Ok(())
    }
}

fn read_checkpoint(file: &dyn File) -> io::Result<Checkpoint> {
    Checkpoint::decode(read_all(file)?.into())
}

impl<M: StateMachine> Machine<M> {
    pub(super) fn in_memory(state: Rc<RefCell<M>>) -> Machine<M> {
        Machine { state, disk: None, applied: None, membership: StoredMembership::default(), snapshot: None }
    }

    /// A state machine that goes on from its last checkpoint, if there is one.
    ///
    /// # Errors
    /// If the checkpoint cannot be read, or is older than the log.
    pub(super) async fn open(state: Rc<RefCell<M>>, disk: Disk) -> io::Result<Machine<M>> {
        let checkpoint = disk.checkpoint().await.map_err(|error| damaged(&error.to_string()))?;
        let mut machine = Machine { disk: Some(disk), ..Machine::in_memory(state) };
        if let Some(Checkpoint { meta, state, places }) = checkpoint {
            let meta = codec::decode_snapshot_meta(meta)?;
            machine.state.borrow_mut().restore(state, places)?;
            machine.continue_after(meta);
        }
        let purged = machine.disk.as_ref().and_then(|disk| disk.log.purged());
        if machine.applied.map(|id| id.index) < purged {
            let path = machine.disk.as_ref().map(|disk| disk.dir.checkpoint_path(disk.group));
            let path = path.unwrap_or_default();
            return Err(damaged(&format!("{} is missing, or older than its log", path.display())));
        }
        Ok(machine)
    }

    fn continue_after(&mut self, meta: SnapshotMetaOf<TypeConfig>) {
        self.now_at(meta.last_log_id);
        self.membership = meta.last_membership.clone();
        self.snapshot = Some(meta);
    }

    fn now_at(&mut self, applied: Option<LogIdOf<TypeConfig>>) {
        self.applied = applied;
        if let Some(disk) = &self.disk {
            disk.log.apply(applied.map(|id| id.index));
        }
    }

    fn meta(&self) -> SnapshotMetaOf<TypeConfig> {
        SnapshotMetaOf::<TypeConfig> { last_log_id: self.applied, last_membership: self.membership.clone() }
    }

    fn apply_batch(&mut self, index: u64, batch: &Batch) -> io::Result<Answers> {
        let stored = self.disk.as_ref().map(|disk| {
            let place = disk.log.place(index).expect("invariant: what is applied is in the log");
            let bytes = batch.encoded().clone();
            // The batch is the end of the entry.
            Stored { segment: place.segment, at: place.at + place.len - bytes.len() as u32, bytes }
        });
        Ok(Answers::new(self.state.borrow_mut().apply(batch.commands()?, stored.as_ref())))
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
            self.now_at(Some(entry.log_id));
            let answers = match entry.payload {
                EntryPayload::Blank => Answers::default(),
                EntryPayload::Normal(batch) => self.apply_batch(entry.log_id.index, &batch)?,
                EntryPayload::Membership(membership) => {
                    self.membership = StoredMembership::new(Some(entry.log_id), membership);
                    Answers::default()
                }
            };
            if let Some(responder) = responder {
                responder.send(answers);
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        let meta = self.meta();
        self.snapshot = Some(meta.clone());
        let file = self.disk.clone().map(|disk| {
            let state = self.state.borrow();
            let encoded_meta = codec::encode_snapshot_meta(&meta).into();
            (disk, Draft { meta: encoded_meta, state: state.freeze(), places: state.places() })
        });
        Builder { meta, file }
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMetaOf<TypeConfig>,
        snapshot: SnapshotData,
    ) -> Result<(), io::Error> {
        // Holds the bytes that arrived until the state speaks of them.
        let mut aside = None;
        let (state, places) = match &self.disk {
            None => (snapshot.into_bytes().await?, Places::default()),
            Some(disk) => {
                let (state, arrived) = transfer::install(disk.group, &disk.archive, snapshot).await?;
                let places = aside.insert(arrived).places(disk.group);
                let encoded_meta = codec::encode_snapshot_meta(meta).into();
                let parts = state.clone();
                let give: StateParts = Box::new(move |put| parts.chunks(CHUNK_BYTES).try_for_each(put));
                let draft = Draft { meta: encoded_meta, state: give, places: places.clone() };
                disk.write_checkpoint(index_of(meta), draft).await?;
                (state, places)
            }
        };
        self.state.borrow_mut().restore(state, places)?;
        drop(aside);
        self.continue_after(meta.clone());
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<SnapshotOf<TypeConfig, SnapshotData>>, io::Error> {
        let Some(disk) = &self.disk else {
            let Some(_) = &self.snapshot else { return Ok(None) };
            let mut state = Vec::new();
            let encode = self.state.borrow().freeze();
            encode(&mut |part| state.write_all(part))?;
            return Ok(Some(Snapshot { meta: self.meta(), snapshot: SnapshotData::in_memory(state) }));
        };
        let hold = disk.archive.hold(disk.group);
        // The file is the truth: one that is being written does not count yet.
        let (dir, group) = (disk.dir.clone(), disk.group);
        let open = move || {
            let Some(file) = dir.open_checkpoint(group)? else { return Ok(None) };
            Checkpoint::read_meta(&*file).map(|meta| Some((meta, file)))
        };
        let Some((meta, file)) = disk.dir.blocking(open).await? else { return Ok(None) };
        let state = move || read_checkpoint(&*file).map(|checkpoint| checkpoint.state);
        let outgoing = Outgoing::new(group, state, disk.archive.clone(), hold, disk.dir.sizes().section_bytes);
        Ok(Some(Snapshot { meta: codec::decode_snapshot_meta(meta)?, snapshot: SnapshotData::new(outgoing) }))
    }
}

/// Takes a snapshot. In memory it exists from the moment it is asked for: the state itself is it, and is
/// encoded only when a replica wants it, so taking one costs nothing. On disk it is a checkpoint.
pub(crate) struct Builder {
    meta: SnapshotMetaOf<TypeConfig>,
    file: Option<(Disk, Draft)>,
}

impl RaftSnapshotBuilder<TypeConfig> for Builder {
    type SnapshotData = SnapshotData;

    async fn build_snapshot(&mut self) -> Result<SnapshotOf<TypeConfig, SnapshotData>, io::Error> {
        if let Some((disk, draft)) = self.file.take() {
            // It speaks of bytes that may be on their way to the disk.
            disk.log.sync().await?;
            disk.write_checkpoint(index_of(&self.meta), draft).await?;
        }
        Ok(Snapshot { meta: self.meta.clone(), snapshot: SnapshotData::nothing() })
    }
}

/// What is wrong with what is kept of a group, and what can be done.
pub(crate) fn damaged(what: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!(
            "{what}. Restore the file and start the node again; in a cluster the others have everything: `ursula cluster \
             repair` makes this replica anew, `ursula cluster replace-node` puts another node in the place of this one"
        ),
    )
}

fn index_of(meta: &SnapshotMetaOf<TypeConfig>) -> u64 {
    meta.last_log_id.map_or(0, |id| id.index)
}

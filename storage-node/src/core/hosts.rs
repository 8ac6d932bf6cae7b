//! Which groups have a replica on this core, and what can be asked of the replica itself.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{oneshot, watch};
use tokio::task::spawn_local;
use tracing::{error, warn};
use ursula_common::cluster::Cluster;
use ursula_common::{Error, GroupId};

use super::{Core, Hosted, Log};
use crate::cluster::{Leads, Refusals, ReplicaCommand, ReplicaStatus};
use crate::data_dir::Forgotten;
use crate::group::Group;
use crate::group::compactor::Compactor;
use crate::group::courier::Courier;
use crate::group::packer::Packer;
use crate::group::state::GroupState;
use crate::raft::{Replica, Storage};

/// What is to be done with the replica of a group.
#[derive(Debug)]
pub(crate) enum Order {
    /// Start it, if it is not there.
    Host(oneshot::Sender<Result<(), Error>>),
    /// Let it take part no more, if it is there, or again.
    Hold(bool, oneshot::Sender<Result<(), Error>>),
    /// Stop it, if it is there, and forget everything else about it.
    Forget(Forgotten, oneshot::Sender<Result<(), Error>>),
    /// Tell how it stands.
    Status(oneshot::Sender<ReplicaStatus>),
    /// Let it do something.
    Command(ReplicaCommand, oneshot::Sender<Result<(), Error>>),
}

/// What the replicas of a node tell the rest of it. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Notices {
    /// The cluster as the meta group here has applied it.
    pub(crate) cluster: watch::Sender<Option<Arc<Cluster>>>,
    /// Who leads the groups that are hosted here.
    pub(crate) leads: watch::Sender<Leads>,
    /// Groups whose replica could not be started here, or has lost something.
    pub(crate) refused: watch::Sender<Refusals>,
    hosted: Arc<Mutex<BTreeSet<GroupId>>>,
}

impl Notices {
    pub(crate) fn new() -> Notices {
        let (cluster, leads) = (watch::channel(None).0, watch::channel(Leads::new()).0);
        Notices { cluster, leads, refused: watch::channel(Refusals::new()).0, hosted: Arc::default() }
    }

    /// The groups that have a replica here.
    pub(crate) fn hosted(&self) -> BTreeSet<GroupId> {
        self.set().clone()
    }

    fn set(&self) -> MutexGuard<'_, BTreeSet<GroupId>> {
        self.hosted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, group: GroupId) {
        self.set().insert(group);
    }

    /// Notes why a group cannot be started.
    fn refuse(&self, group: GroupId, why: &io::Error) -> Error {
        let sentence: Arc<str> = format!("group {group} is not served by this node: {why}").into();
        self.note(group, sentence.clone());
        Error::ClusterRefused { reason: sentence }
    }

    /// Notes that a group has lost something here. It goes on with what it has, but should not lead.
    pub(super) fn blame(&self, group: GroupId, what: &io::Error) {
        let what = crate::raft::damaged(&what.to_string());
        self.note(group, format!("group {group} has lost something on this node: {what}").into());
    }

    /// The same again is no news.
    fn note(&self, group: GroupId, sentence: Arc<str>) {
        let is_news = self.refused.send_if_modified(|refused| {
            refused.insert(group, sentence.clone()).is_none_or(|before| before != sentence)
        });
        if is_news {
            error!("{sentence}");
        }
    }

    fn refuse_no_more(&self, group: GroupId) {
        self.refused.send_if_modified(|refused| refused.remove(&group).is_some());
    }

    fn remove(&self, group: GroupId) {
        self.set().remove(&group);
        self.leads.send_if_modified(|leads| leads.remove(&group).is_some());
    }
}

impl Core {
    pub(super) fn take_order(self: &Rc<Self>, group: GroupId, order: Order) {
        let core = self.clone();
        match order {
            Order::Host(reply) => drop(spawn_local(async move { reply.send(core.host(group).await) })),
            Order::Hold(held, reply) => {
                if let Some(hosted) = self.group(group) {
                    hosted.replica.hold(held);
                }
                drop(reply.send(Ok(())));
            }
            Order::Forget(forgotten, reply) => {
                drop(spawn_local(async move { reply.send(core.forget(group, forgotten).await) }));
            }
            Order::Status(reply) => {
                // Without a replica the reply is dropped: there is none.
                let Some(hosted) = self.group(group) else { return };
                let unpacked_bytes = hosted.state.borrow().packing().map(|packing| packing.bytes);
                spawn_local(async move {
                    reply.send(ReplicaStatus { unpacked_bytes, ..hosted.replica.report(group).await })
                });
            }
            Order::Command(command, reply) => {
                let Some(hosted) = self.group(group) else { return drop(reply.send(Err(Error::NOT_HERE))) };
                spawn_local(async move { reply.send(hosted.replica.command(command).await) });
            }
        }
    }

    async fn host(self: &Rc<Self>, group: GroupId) -> Result<(), Error> {
        self.begin_change(group).await;
        let started = match self.group(group) {
            Some(_) => Ok(()),
            None => self.start_replica(group).await,
        };
        self.end_change(group);
        match started {
            Ok(()) => {
                self.notices.refuse_no_more(group);
                Ok(())
            }
            Err(why) => Err(self.notices.refuse(group, &why)),
        }
    }

    /// One change of a replica at a time.
    async fn begin_change(&self, group: GroupId) {
        while !self.changing.borrow_mut().insert(group) {
            self.changed.notified().await;
        }
    }

    fn end_change(&self, group: GroupId) {
        self.changing.borrow_mut().remove(&group);
        self.changed.notify_waiters();
    }

    async fn start_replica(self: &Rc<Self>, id: GroupId) -> io::Result<()> {
        let (mut state, storage) = match &self.log {
            None => {
                let now = self.clock.now();
                (GroupState::in_memory(id, self.data_groups, self.hot.clone(), now), Storage::Memory)
            }
            Some(Log { dir, journal, archive }) => {
                let found = self.found.borrow().get(&id).cloned();
                if found.is_none() {
                    // A process that ended while it forgot the group may have left the checkpoint.
                    let files = dir.clone();
                    dir.blocking(move || files.remove_checkpoint(id)).await?;
                }
                let found = found.unwrap_or_default();
                let (dir, journal, archive) = (dir.clone(), journal.clone(), archive.clone());
                let state = GroupState::on_disk(id, self.data_groups, self.hot.clone(), archive.clone());
                (state, Storage::Disk { dir, journal, archive, found })
            }
        };
        if id == GroupId::META {
            state.tell_cluster(self.notices.cluster.clone());
        }
        let state = Rc::new(RefCell::new(state));
        let replica = Replica::start(id, state.clone(), storage, self.peers.clone()).await?;
        state.borrow_mut().prove_with(replica.prover());
        let dir = self.log.as_ref().map(|log| log.dir.clone());
        let cold = self.cold.clone().filter(|_| dir.is_some());
        let (clock, metrics) = (self.clock.clone(), self.metrics.clone());
        let group = Rc::new(Group::new(id, state, replica, dir, cold.clone(), clock, metrics));
        let courier = Courier::new(group.clone(), self.directory.clone());
        let proposes = {
            let (group, courier) = (group.clone(), courier.clone());
            spawn_local(async move { group.run(|| courier.send_new()).await }).abort_handle()
        };
        let tells = spawn_local(tell_leads(group.clone(), self.notices.leads.clone())).abort_handle();
        let packs = cold.clone().map(|cold| {
            let packer = Packer::new(group.clone(), cold, self.notices.cluster.subscribe());
            spawn_local(packer.run()).abort_handle()
        });
        let compacts = cold.map(|cold| {
            let compactor = Compactor::new(group.clone(), cold, self.notices.cluster.subscribe());
            spawn_local(compactor.run()).abort_handle()
        });
        let tasks = Rc::new([Some(proposes), Some(tells), packs, compacts].into_iter().flatten().collect());
        let gauges = Rc::new(self.metrics.replica(id));
        self.groups.borrow_mut().insert(id, Hosted { group, courier, tasks, gauges });
        self.found.borrow_mut().remove(&id);
        self.notices.add(id);
        Ok(())
    }

    async fn forget(self: &Rc<Self>, group: GroupId, forgotten: Forgotten) -> Result<(), Error> {
        self.begin_change(group).await;
        let stopped = self.stop_replica(group, forgotten).await;
        self.end_change(group);
        if stopped.is_ok() {
            self.notices.refuse_no_more(group);
        }
        stopped.map_err(|error| {
            warn!(%group, %error, "what is left of a replica cannot be removed");
            Error::Unavailable
        })
    }

    async fn stop_replica(self: &Rc<Self>, id: GroupId, forgotten: Forgotten) -> io::Result<()> {
        if let Some(Log { dir, .. }) = self.log.clone() {
            dir.clone().blocking(move || dir.note_forgotten(forgotten)).await?;
        }
        let hosted = self.groups.borrow_mut().remove(&id);
        if let Some(Hosted { group, tasks, .. }) = hosted {
            self.notices.remove(id);
            group.replica.stop().await;
            group.close();
            tasks.iter().for_each(|task| task.abort());
            group.state.borrow_mut().clear();
        }
        self.found.borrow_mut().remove(&id);
        let Some(Log { dir, journal, .. }) = self.log.clone() else { return Ok(()) };
        journal.forget_group(id);
        journal.sync().await?;
        dir.clone().blocking(move || dir.remove_checkpoint(id)).await
    }
}

/// Tells who leads the group, for as long as the replica runs.
async fn tell_leads(group: Rc<Group>, leads: watch::Sender<Leads>) {
    let mut known = None;
    loop {
        let lead = match known {
            None => group.replica.lead(),
            Some(known) => match group.replica.lead_other_than(known).await {
                Ok(lead) => lead,
                Err(_) => return,
            },
        };
        known = Some(lead);
        leads.send_if_modified(|leads| leads.insert(group.id, lead) != Some(lead));
    }
}

//! The topology for gateways: the cluster as applied here, with the leaders that are known.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, stream};
use tokio::sync::watch;
use tokio::time::sleep;
use ursula_common::cluster::{Cluster, GroupRecord, NodeRecord, NodeState};
use ursula_common::{Error, GroupId, NodeId};
use ursula_proto::{cluster_id_bytes, v1};

use super::ClusterSide;
use super::hosting::{Lead, Leads};

/// While nothing changes, a message says so this often.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// Each topology that comes up, from now on; ends when the node is no longer of the cluster.
///
/// # Errors
/// [`Error::Unavailable`] if no cluster is known here, or the node was removed from it.
pub(crate) fn watch(side: &ClusterSide) -> Result<impl Stream<Item = v1::Topology> + Send + use<>, Error> {
    let watcher = Watcher {
        me: side.me(),
        cluster: side.hosting().cluster(),
        own: side.hosting().leads(),
        told: side.0.told.subscribe(),
        sent: None,
    };
    watcher.now().ok_or(Error::Unavailable)?;
    Ok(stream::unfold(watcher, Watcher::next))
}

struct Watcher {
    me: NodeId,
    cluster: watch::Receiver<Option<Arc<Cluster>>>,
    own: watch::Receiver<Leads>,
    told: watch::Receiver<Leads>,
    sent: Option<v1::Topology>,
}

impl Watcher {
    async fn next(mut self) -> Option<(v1::Topology, Watcher)> {
        loop {
            let now = self.now()?;
            if self.sent.as_ref() != Some(&now) {
                self.sent = Some(now.clone());
                return Some((now, self));
            }
            let goes_on = tokio::select! {
                changed = self.cluster.changed() => changed.is_ok(),
                changed = self.own.changed() => changed.is_ok(),
                changed = self.told.changed() => changed.is_ok(),
                () = sleep(HEARTBEAT) => return Some((v1::Topology::default(), self)),
            };
            if !goes_on {
                return None;
            }
        }
    }

    /// The topology at this moment; `None` if there is none here.
    fn now(&self) -> Option<v1::Topology> {
        let cluster = self.cluster.borrow().clone()?;
        let member = cluster.nodes.get(&self.me).is_some_and(|node| node.state != NodeState::Removed);
        member.then(|| topology(&cluster, &newest(&self.own.borrow(), &self.told.borrow())))
    }
}

fn newest(own: &Leads, told: &Leads) -> Leads {
    let mut leads = own.clone();
    for (group, lead) in told {
        let known = leads.entry(*group).or_default();
        *known = (*known).max(*lead);
    }
    leads
}

fn topology(cluster: &Cluster, leads: &BTreeMap<GroupId, Lead>) -> v1::Topology {
    let group = |(id, record): (&GroupId, &GroupRecord)| {
        let lead = leads.get(id).copied().unwrap_or_default();
        v1::Group {
            id: id.0,
            replicas: record.replicas.iter().map(|node| node.0).collect(),
            leader: lead.leader.map(|node| node.0),
            term: lead.term,
        }
    };
    let node = |(id, record): (&NodeId, &NodeRecord)| v1::NodeAddress { id: id.0, address: record.address.to_string() };
    let member = |(_, record): &(&NodeId, &NodeRecord)| record.state != NodeState::Removed;
    v1::Topology {
        version: cluster.version,
        cluster: cluster_id_bytes(cluster.id),
        slots: cluster.slots.groups().iter().map(|group| group.0).collect(),
        groups: cluster.groups.iter().map(group).collect(),
        nodes: cluster.nodes.iter().filter(member).map(node).collect(),
    }
}

//! A node that is a whole cluster: `ursula dev`, and nodes in memory.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::sleep;
use ursula_common::cluster::{ClusterChange, ClusterOp, Form, NewNode};
use ursula_common::placement::SlotTable;
use ursula_common::{ClusterId, Error, GroupId};

use super::ClusterSide;
use super::hosting::ReplicaCommand;

/// Pause before the meta group is asked again.
const PAUSE: Duration = Duration::from_millis(10);

impl ClusterSide {
    /// Makes this node a cluster of its own, unless it belongs to one already. `address` may be empty if all
    /// who ask are in this process.
    ///
    /// # Errors
    /// If the engine cannot.
    pub(crate) async fn form_alone(&self, cluster: ClusterId, address: &str) -> Result<(), Error> {
        let _one = self.joining().await;
        let hosting = self.hosting();
        let identity = hosting.identity();
        let cluster = identity.cluster.unwrap_or(cluster);
        hosting.claim(cluster, true).await.map_err(|_| Error::Unavailable)?;
        hosting.host(GroupId::META).await?;
        if hosting.status(GroupId::META).await.is_some_and(|status| status.pristine) {
            hosting.command(GroupId::META, ReplicaCommand::Initialize(BTreeSet::from([identity.node]))).await?;
        }
        let node = NewNode { id: identity.node, address: address.into(), incarnation: identity.incarnation };
        let placement = (0..=identity.groups).map(|group| (GroupId(group), vec![identity.node])).collect();
        let form = Form { cluster, nodes: vec![node], slots: SlotTable::spread(identity.groups), placement };
        let op = ClusterOp { version: None, change: ClusterChange::Form(form) };
        while self.cluster().is_none() {
            match hosting.propose(op.clone()).await {
                Ok(_) => break,
                // It was alone once, and is one of several now.
                Err(Error::NotLeader { leader: Some(other), .. }) if other != identity.node => break,
                // It elects itself in a moment.
                Err(Error::NotLeader { .. }) => sleep(PAUSE).await,
                // The cluster was formed otherwise, before this process.
                Err(Error::ClusterRefused { .. }) if self.cluster().is_some() => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

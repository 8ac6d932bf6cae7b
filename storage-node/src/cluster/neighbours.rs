//! Follows what another node tells of the leaders of groups, for those that are not hosted here.

use std::time::Duration;

use tokio::time::{sleep, timeout};
use ursula_common::{GroupId, NodeId};
use ursula_proto::{node_client, v1};

use super::ClusterSide;
use super::hosting::Lead;

/// Pause before a node is asked again that could not be reached.
const PAUSE: Duration = Duration::from_millis(500);
/// A node that tells nothing for so long is gone: it says every second that nothing has changed.
const SILENT_MAX: Duration = Duration::from_secs(5);

/// Runs for as long as the node is in the cluster.
pub(super) async fn follow(side: ClusterSide, node: NodeId) {
    loop {
        if let Some(channel) = side.hosting().channel(node) {
            let request = v1::WatchTopologyRequest { have_version: 0 };
            let call = timeout(SILENT_MAX, async { node_client(channel).watch_topology(request).await });
            if let Ok(Ok(news)) = call.await {
                let mut news = news.into_inner();
                while let Ok(Ok(Some(topology))) = timeout(SILENT_MAX, news.message()).await {
                    take(&side, &topology);
                }
            }
        }
        sleep(PAUSE).await;
    }
}

/// Keeps the newest of each group. What is told goes from node to node, and ends where it is known already.
fn take(side: &ClusterSide, topology: &v1::Topology) {
    side.0.told.send_if_modified(|told| {
        let mut news = false;
        for group in &topology.groups {
            let lead = Lead { term: group.term, leader: group.leader.map(NodeId) };
            let known = told.entry(GroupId(group.id)).or_default();
            if lead > *known {
                *known = lead;
                news = true;
            }
        }
        news
    });
}

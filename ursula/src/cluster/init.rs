//! `ursula cluster init`: claims nodes, makes the meta group on them and commits what the cluster is. Each
//! step may have been done by an earlier run that was interrupted.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;
use ursula_common::cluster::{Cluster, ClusterChange, ClusterOp, Form, NewNode, Placement};
use ursula_common::placement::{SlotTable, plan::plan};
use ursula_common::{ClusterId, Error, GroupId, NodeId};
use ursula_proto::admin::v1::{NodeStatus, Peer};

use super::change::{Worker, all_in_place};
use super::failure::Failure;
use super::view::{View, client, describe};
use super::{NodeAt, checks};

/// The nodes as they were asked.
type Asked = BTreeMap<NodeId, (String, NodeStatus)>;

pub(super) async fn init(worker: &Worker<'_>, nodes: &[NodeAt], groups: Option<u32>) -> Result<(), Failure> {
    let asked = ask(nodes).await?;
    let groups = groups_of(&asked, groups)?;
    let cluster = cluster_of(&asked)?;
    let ids: BTreeSet<NodeId> = asked.keys().copied().collect();
    let new: Placement = (0..=groups).map(|group| (GroupId(group), Vec::new())).collect();
    let placement = plan(&ids, &new);
    let copies = placement.get(&GroupId(1)).map_or(0, Vec::len);
    let text = format!(
        "{} nodes, {groups} groups, {copies} {} of everything",
        asked.len(),
        if copies == 1 { "copy" } else { "copies" }
    );
    if worker.dry_run {
        let value = json!({ "dry_run": true, "nodes": asked.len(), "groups": groups, "copies": copies });
        worker.output.result(&format!("would make a cluster of {text}"), &value);
        return Ok(());
    }
    // Drawn anew only if no node remembers one from a run before.
    let cluster = cluster.unwrap_or_else(|| ClusterId(rand::random()));
    worker.output.progress(&format!("cluster {cluster}: {text}"));
    claim(worker, &asked, cluster, &placement).await?;
    form(worker, &asked, cluster, groups, placement).await?;
    let (address, _) = asked.values().next().ok_or_else(|| Failure::refused("no nodes"))?;
    let view = View::take(address).await?;
    worker.until(view, all_in_place).await?;
    let seeds: Vec<&str> = asked.values().map(|(address, _)| address.as_str()).collect();
    let flags: Vec<String> = seeds.iter().map(|address| format!("--node {address}")).collect();
    let value = json!({ "cluster": cluster.to_string(), "nodes": seeds, "groups": groups, "copies": copies });
    let next = format!("cluster {cluster} is ready; gateways find it with:\n  ursula-gateway {}", flags.join(" "));
    worker.output.result(&next, &value);
    Ok(())
}

async fn ask(nodes: &[NodeAt]) -> Result<Asked, Failure> {
    let mut asked = Asked::new();
    for at in nodes {
        let NodeAt { id, address } = at;
        let status = describe(address).await.map_err(|reason| {
            Failure::refused(format!(
                "cannot reach node {id} at {address} ({reason}): start it with `ursula-storage-node --node-id {id} \
                 --listen {address} --data-dir DIRECTORY`"
            ))
        })?;
        checks::is_meant(at, &status)?;
        let twice = || Failure::refused(format!("node {id}, or its address {address}, is named twice"));
        if asked.values().any(|(known, other)| known == address || other.incarnation == status.incarnation)
            || asked.insert(*id, (address.clone(), status)).is_some()
        {
            return Err(twice());
        }
    }
    let all: Vec<NodeStatus> = asked.values().map(|(_, status)| status.clone()).collect();
    checks::fit_together(&all)?;
    Ok(asked)
}

/// How many groups the nodes are set up for.
fn groups_of(asked: &Asked, wanted: Option<u32>) -> Result<u32, Failure> {
    let mut statuses = asked.values().map(|(_, status)| status);
    let first = statuses.next().ok_or_else(|| Failure::refused("a cluster needs at least one node: --node"))?;
    let (node, groups) = (first.node, first.groups);
    if let Some(other) = statuses.find(|status| status.groups != groups) {
        return Err(Failure::refused(format!(
            "node {node} is set up for {groups} groups and node {} for {}: start all nodes with the same `groups`, and \
             those that have another one with an empty data directory",
            other.node, other.groups
        )));
    }
    match wanted.filter(|wanted| *wanted != groups) {
        Some(wanted) => Err(Failure::refused(format!(
            "the nodes are set up for {groups} groups, not for {wanted}: start them with groups = {wanted} and empty \
             data directories, or leave out --groups"
        ))),
        None => Ok(groups),
    }
}

/// The cluster that a run before this one has begun to make.
fn cluster_of(asked: &Asked) -> Result<Option<ClusterId>, Failure> {
    let mut found: Option<(NodeId, ClusterId)> = None;
    for (node, (_, status)) in asked {
        let Some(own) = status.cluster_id()? else { continue };
        match found {
            Some((other, known)) if known != own => {
                return Err(Failure::refused(format!(
                    "node {other} belongs to cluster {known} and node {node} to {own}: name the nodes of one cluster, \
                     or start the others with empty data directories"
                )));
            }
            _ => found = Some((*node, own)),
        }
        if let Some(cluster) = status.known_cluster()? {
            let named: BTreeSet<NodeId> = asked.keys().copied().collect();
            are_known(asked, &cluster)?;
            let members: BTreeSet<NodeId> = cluster.members().collect();
            if let Some(stranger) = named.symmetric_difference(&members).next() {
                return Err(Failure::refused(format!(
                    "node {node} is in cluster {own}, which runs already and of which node {stranger} is {}: change it \
                     with `ursula cluster add-node` and `remove-node`",
                    if members.contains(stranger) { "a part, too" } else { "no part" }
                )));
            }
        }
    }
    Ok(found.map(|(_, cluster)| cluster))
}

/// A node that comes with an emptied directory must not be taken for the one that it was.
fn are_known(asked: &Asked, cluster: &Cluster) -> Result<(), Failure> {
    let is_another = |(id, (_, status)): &(&NodeId, &(String, NodeStatus))| {
        cluster.nodes.get(id).is_some_and(|known| known.incarnation != status.incarnation)
    };
    match asked.iter().find(is_another) {
        None => Ok(()),
        Some((id, _)) => Err(Failure::refused(format!(
            "the cluster {} runs already, and knows node {id} with another data directory: give it that one back, or put \
             a new node in its place with `ursula cluster replace-node`",
            cluster.id
        ))),
    }
}

async fn claim(worker: &Worker<'_>, asked: &Asked, cluster: ClusterId, placement: &Placement) -> Result<(), Failure> {
    let meta = placement.get(&GroupId::META).cloned().unwrap_or_default();
    let voter = |node: &NodeId| {
        let (address, status) = asked.get(node)?;
        Some(Peer { node: node.0, address: address.clone(), incarnation: status.incarnation })
    };
    let voters: Vec<Peer> = meta.iter().filter_map(voter).collect();
    // The one that makes the meta group comes last: until then, nothing has begun.
    let others = asked.iter().filter(|(node, _)| meta.first() != Some(node));
    let first = asked.iter().filter(|(node, _)| meta.first() == Some(node));
    for (node, (address, status)) in others.chain(first) {
        worker.join(address, status, cluster, &voters, meta.first() == Some(node)).await?;
        worker.output.progress(&format!("node {node} at {address} has joined"));
    }
    Ok(())
}

async fn form(
    worker: &Worker<'_>,
    asked: &Asked,
    cluster: ClusterId,
    groups: u32,
    placement: Placement,
) -> Result<(), Failure> {
    let node = |(id, (address, status)): (&NodeId, &(String, NodeStatus))| NewNode {
        id: *id,
        address: address.as_str().into(),
        incarnation: status.incarnation,
    };
    let nodes = asked.iter().map(node).collect();
    let form = Form { cluster, nodes, slots: SlotTable::spread(groups), placement };
    let op = ClusterOp { version: None, change: ClusterChange::Form(form) };
    // Nobody knows the cluster yet, so each is asked whether it leads.
    for (address, _) in asked.values().cycle() {
        let mut client = client(address).map_err(Failure::refused)?;
        match ursula_proto::propose(&mut client, op.clone(), false).await {
            Ok(()) => break,
            Err(Error::NotLeader { .. } | Error::Unavailable | Error::OutcomeUnknown) => {
                worker.output.progress("the meta group elects its leader");
                worker.pause("the meta group has no leader: a majority of the nodes must answer").await?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    worker.output.progress("the cluster is formed");
    Ok(())
}

//! `ursula cluster status`.

use serde_json::{Value, json};
use ursula_common::cluster::{GroupRecord, NodeRecord, NodeState};
use ursula_common::{GroupId, NodeId};
use ursula_proto::admin::v1::NodeStatus;

use super::failure::Failure;
use super::output::Output;
use super::view::View;

pub(super) async fn status(output: &Output, address: &str) -> Result<(), Failure> {
    let view = View::take(address).await?;
    output.result(&text(&view), &value(&view));
    Ok(())
}

pub(super) fn text(view: &View) -> String {
    let cluster = &view.cluster;
    let mut out = format!("cluster {}, version {}\n\n", cluster.id, cluster.version);
    let mut line = |line: String| out.extend([line.trim_end(), "\n"]);
    line(format!("{:<6}{:<28}{:<10}{:>9}{:>7}  {}", "node", "address", "state", "replicas", "leads", "version"));
    for (id, node) in members(view) {
        let version = match &view.nodes.get(id) {
            Some(Ok(status)) => status.version.clone(),
            Some(Err(reason)) => format!("does not answer: {reason}"),
            None => String::new(),
        };
        let (replicas, leads) = (cluster.groups_of(*id).count(), view.led_by(*id).len());
        let state = node.state.name();
        line(format!("{:<6}{:<28}{state:<10}{replicas:>9}{leads:>7}  {version}", id.to_string(), node.address));
    }
    line(String::new());
    line(format!("{:<7}{:<8}{:<6}{:<14}{}", "group", "leader", "term", "replicas", "under way"));
    for (id, record) in &cluster.groups {
        let name = if *id == GroupId::META { "meta".to_owned() } else { id.to_string() };
        let (leader, term) = match view.leader(*id) {
            Some((node, status)) => (node.to_string(), status.term.to_string()),
            None => ("none".to_owned(), "-".to_owned()),
        };
        let replicas: Vec<String> = record.replicas.iter().map(NodeId::to_string).collect();
        line(format!("{name:<7}{leader:<8}{term:<6}{:<14}{}", replicas.join(" "), under_way(view, *id)));
    }
    for (node, reason) in refusals(view) {
        line(String::new());
        line(format!("node {node} is damaged: {reason}"));
    }
    out
}

fn under_way(view: &View, group: GroupId) -> String {
    match view.in_place(group) {
        Ok(()) => String::new(),
        Err(what) if view.leader(group).is_some_and(|(_, leader)| leader.stuck) => format!("stuck: {what}"),
        Err(what) => what,
    }
}

fn refusals(view: &View) -> impl Iterator<Item = (&NodeId, &str)> {
    let answers = view.nodes.iter().filter_map(|(node, answer)| Some((node, answer.as_ref().ok()?)));
    answers.flat_map(|(node, status)| status.refused.iter().map(move |refused| (node, refused.reason.as_str())))
}

fn members(view: &View) -> impl Iterator<Item = (&NodeId, &NodeRecord)> {
    view.cluster.nodes.iter().filter(|(_, node)| node.state != NodeState::Removed)
}

fn refused(status: &NodeStatus) -> Vec<Value> {
    status.refused.iter().map(|refused| json!({ "group": refused.group, "reason": refused.reason })).collect()
}

pub(super) fn value(view: &View) -> Value {
    let node = |(id, node): (&NodeId, &NodeRecord)| {
        let answer = view.nodes.get(id);
        json!({
            "id": id.0,
            "address": &*node.address,
            "state": node.state.name(),
            "incarnation": format!("{:016x}", node.incarnation),
            "version": answer.and_then(|answer| answer.as_ref().ok()).map(|status| status.version.clone()),
            "unreachable": answer.and_then(|answer| answer.as_ref().err()),
            "replicas": view.cluster.groups_of(*id).count(),
            "leads": view.led_by(*id).len(),
            "refused": answer.and_then(|answer| answer.as_ref().ok()).map(refused),
        })
    };
    let group = |(id, record): (&GroupId, &GroupRecord)| {
        let leader = view.leader(*id);
        json!({
            "id": id.0,
            "leader": leader.map(|(node, _)| node.0),
            "term": leader.map(|(_, status)| status.term),
            "replicas": record.replicas.iter().map(|node| node.0).collect::<Vec<_>>(),
            "in_place": view.in_place(*id).is_ok(),
            "under_way": view.in_place(*id).err(),
            "stuck": leader.is_some_and(|(_, status)| status.stuck),
        })
    };
    json!({
        "cluster": view.cluster.id.to_string(),
        "version": view.cluster.version,
        "nodes": members(view).map(node).collect::<Vec<_>>(),
        "groups": view.cluster.groups.iter().map(group).collect::<Vec<_>>(),
    })
}

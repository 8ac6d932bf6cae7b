//! `ursula cluster status`: once, or again and again.

use std::num::NonZeroU32;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};
use ursula_common::cluster::{GroupRecord, NodeRecord, NodeState};
use ursula_common::{GroupId, NodeId};
use ursula_proto::admin::v1::{NodeStatus, Progress, RefusedGroup};

use super::failure::Failure;
use super::output::Output;
use super::paint::{Color, Paint, size};
use super::view::View;

/// How the status is shown.
#[derive(Debug, Args)]
pub(super) struct Flags {
    /// Show it again after each pause, in the place of what was shown before, until Ctrl-C.
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "2")]
    watch: Option<NonZeroU32>,
    /// Whether to use colours. NO_COLOR in the environment means never, unless this says always.
    #[arg(long, value_enum, default_value_t = Color::Auto)]
    color: Color,
}

pub(super) async fn status(output: &Output, address: &str, flags: &Flags) -> Result<(), Failure> {
    let paint = Paint::new(flags.color);
    let mut view = View::take(address).await?;
    let Some(pause) = flags.watch else {
        output.result(&text(&view, paint), &value(&view));
        return Ok(());
    };
    loop {
        if !output.again(&text(&view, paint), &value(&view)) {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_secs(pause.get().into())).await;
        // Of the nodes that were known last one may be away: all are asked.
        view = view.again().await?;
    }
}

pub(crate) fn text(view: &View, paint: Paint) -> String {
    let cluster = &view.cluster;
    let mut out = format!("cluster {}, version {}\n\n", cluster.id, cluster.version);
    let mut line = |line: String| out.extend([line.trim_end(), "\n"]);
    line(paint.title(format!(
        "{:<6}{:<28}{:<10}{:>8}{:>7}{:>10}{:>10}  version",
        "node", "address", "state", "replicas", "leads", "log", "free"
    )));
    for (id, node) in members(view) {
        let version = match &view.nodes.get(id) {
            Some(Ok(status)) => status.version.clone(),
            Some(Err(reason)) => paint.bad(format!("does not answer: {reason}")),
            None => String::new(),
        };
        let (replicas, leads) = (cluster.groups_of(*id).count(), view.led_by(*id).len());
        let state = format!("{:<10}", node.state.name());
        let state = if node.state == NodeState::Active { state } else { paint.busy(state) };
        let disk = answer(view, *id).and_then(|status| status.disk);
        let [log, free] = [disk.map(|disk| disk.log_bytes), disk.map(|disk| disk.free_bytes)].map(bytes);
        line(format!(
            "{:<6}{:<28}{state}{replicas:>8}{leads:>7}{log:>10}{free:>10}  {version}",
            id.to_string(),
            node.address
        ));
    }
    line(String::new());
    line(paint.title(format!(
        "{:<7}{:<8}{:<6}{:<14}{:>7}{:>10}  under way",
        "group", "leader", "term", "replicas", "behind", "unpacked"
    )));
    for (id, record) in &cluster.groups {
        let name = if *id == GroupId::META { "meta".to_owned() } else { id.to_string() };
        let (leader, term) = match view.leader(*id) {
            Some((node, status)) => (format!("{:<8}", node.to_string()), status.term.to_string()),
            None => (paint.bad("none    "), "-".to_owned()),
        };
        let replicas: Vec<String> = record.replicas.iter().map(NodeId::to_string).collect();
        let behind = behind(view, *id).map_or_else(|| "-".to_owned(), |entries| entries.to_string());
        let unpacked = bytes(unpacked(view, *id));
        let replicas = replicas.join(" ");
        let under_way = under_way(view, *id, paint);
        line(format!("{name:<7}{leader}{term:<6}{replicas:<14}{behind:>7}{unpacked:>10}  {under_way}"));
    }
    for trouble in troubles(view) {
        line(String::new());
        line(paint.bad(trouble));
    }
    out
}

fn under_way(view: &View, group: GroupId, paint: Paint) -> String {
    match view.in_place(group) {
        Ok(()) => String::new(),
        Err(what) => match view.leader(group) {
            Some((_, leader)) if leader.stuck => paint.bad(format!("stuck: {what}")),
            Some(_) => paint.busy(what),
            None => paint.bad(what),
        },
    }
}

fn answer(view: &View, node: NodeId) -> Option<&NodeStatus> {
    view.nodes.get(&node)?.as_ref().ok()
}

fn bytes(bytes: Option<u64>) -> String {
    bytes.map_or_else(|| "-".to_owned(), size)
}

/// How many entries that its leader has the last of its members lacks, as far as the leader has heard.
fn behind(view: &View, group: GroupId) -> Option<u64> {
    let (_, leader) = view.leader(group)?;
    let lacks = |progress: &Progress| leader.last.saturating_sub(progress.matched);
    Some(leader.progress.iter().map(lacks).max().unwrap_or(0))
}

/// Bytes of its streams that would be lost with all disks.
fn unpacked(view: &View, group: GroupId) -> Option<u64> {
    view.leader(group)?.1.unpacked_bytes
}

/// What somebody has to look at, in sentences.
fn troubles(view: &View) -> Vec<String> {
    let mut troubles = Vec::new();
    for (node, status) in view.nodes.iter().filter_map(|(node, answer)| Some((node, answer.as_ref().ok()?))) {
        if status.disk.is_some_and(|disk| disk.full) {
            troubles.push(format!("node {node} refuses appends: its disk is nearly full. Make room there"));
        }
        if status.store_failing == Some(true) {
            troubles.push(format!("node {node} cannot use the object store: the messages of the node say why"));
        }
        let damaged = |refused: &RefusedGroup| format!("node {node} is damaged: {}", refused.reason);
        troubles.extend(status.refused.iter().map(damaged));
    }
    troubles
}

fn members(view: &View) -> impl Iterator<Item = (&NodeId, &NodeRecord)> {
    view.cluster.nodes.iter().filter(|(_, node)| node.state != NodeState::Removed)
}

fn refused(status: &NodeStatus) -> Vec<Value> {
    status.refused.iter().map(|refused| json!({ "group": refused.group, "reason": refused.reason })).collect()
}

pub(crate) fn value(view: &View) -> Value {
    let node = |(id, node): (&NodeId, &NodeRecord)| {
        let answer = view.nodes.get(id);
        let disk = self::answer(view, *id).and_then(|status| status.disk);
        json!({
            "id": id.0,
            "address": &*node.address,
            "state": node.state.name(),
            "incarnation": format!("{:016x}", node.incarnation),
            "version": answer.and_then(|answer| answer.as_ref().ok()).map(|status| status.version.clone()),
            "unreachable": answer.and_then(|answer| answer.as_ref().err()),
            "replicas": view.cluster.groups_of(*id).count(),
            "leads": view.led_by(*id).len(),
            "log_bytes": disk.map(|disk| disk.log_bytes),
            "disk_free_bytes": disk.map(|disk| disk.free_bytes),
            "disk_full": disk.map(|disk| disk.full),
            "store_failing": self::answer(view, *id).and_then(|status| status.store_failing),
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
            "behind": behind(view, *id),
            "unpacked_bytes": unpacked(view, *id),
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

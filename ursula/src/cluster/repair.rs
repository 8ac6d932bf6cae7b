//! `ursula cluster repair`: a replica that its node refuses is made anew from those of the others. The group does
//! without the node for a while, the node forgets what it has, and is taken in again without a vote until it has
//! caught up. Stopped at any point, it can be run again.

use ursula_common::{Error, GroupId, NodeId};
use ursula_proto::admin::v1::{ForgetRequest, SetAsideRequest};
use ursula_proto::from_status;

use super::change::{Worker, all_in_place};
use super::checks;
use super::failure::Failure;
use super::nodes::done;
use super::view::{View, client, voters};

pub(super) async fn repair(worker: &Worker<'_>, address: &str, node: NodeId) -> Result<(), Failure> {
    let view = worker.look(address).await?;
    checks::member(&view, node)?;
    let status = match view.nodes.get(&node) {
        Some(Ok(status)) => status,
        Some(Err(_)) | None => {
            return Err(Failure::refused(format!(
                "node {node} does not answer: start it; if it does not start, put another one in its place with `ursula \
                 cluster replace-node`"
            )));
        }
    };
    let groups: Vec<GroupId> = status.refused.iter().map(|refused| GroupId(refused.group)).collect();
    let names: Vec<String> = groups.iter().map(GroupId::to_string).collect();
    let names = names.join(", ");
    if groups.is_empty() {
        worker.until(view, all_in_place).await?;
        return done(worker, &format!("node {node} refuses no group: there is nothing to repair"), node);
    }
    checks::have_majority_without(&view, &groups, node)?;
    if worker.dry_run {
        let what = format!("would be done: node {node} forgets its replicas of groups {names} and makes them anew");
        return done(worker, &what, node);
    }
    let mut view = view;
    for group in groups {
        view = make_anew(worker, view, node, group).await?;
    }
    worker.until(view, all_in_place).await?;
    done(worker, &format!("node {node} has whole replicas of groups {names} again"), node)
}

async fn make_anew(worker: &Worker<'_>, mut view: View, node: NodeId, group: GroupId) -> Result<View, Failure> {
    loop {
        let waits_for = match set_aside(&view, node, group).await {
            Ok(()) if is_member(&view, node, group) => format!("group {group} lets node {node} go"),
            Ok(()) => match forget(&view, node, group).await {
                Ok(()) => {
                    worker.output.progress(&format!("node {node} begins anew with group {group}"));
                    return view.again().await;
                }
                Err(error) => error.to_string(),
            },
            Err(error) => format!("group {group} shall do without node {node}: {error}"),
        };
        worker.output.progress(&waits_for);
        worker.pause(&waits_for).await?;
        view = view.again().await?;
        if view.answers(node) && view.refusal(node, group).is_none() {
            // It has begun anew, and the answer was lost.
            return Ok(view);
        }
    }
}

fn is_member(view: &View, node: NodeId, group: GroupId) -> bool {
    let leader = view.leader(group).map(|(_, leader)| leader);
    leader.is_none_or(|leader| {
        leader.voters.len() != 1 || voters(leader).contains(&node) || leader.learners.contains(&node.0)
    })
}

async fn set_aside(view: &View, node: NodeId, group: GroupId) -> Result<(), Error> {
    let (leader, _) = view.leader(group).ok_or(Error::Unavailable)?;
    let request = SetAsideRequest { group: group.0, node: node.0 };
    let answer = client(address(view, leader)).map_err(|_| Error::Unavailable)?.set_aside(request).await;
    answer.map(drop).map_err(|status| from_status(&status))
}

async fn forget(view: &View, node: NodeId, group: GroupId) -> Result<(), Error> {
    let mut client = client(address(view, node)).map_err(|_| Error::Unavailable)?;
    let answer = client.forget(ForgetRequest { group: group.0 }).await;
    answer.map(drop).map_err(|status| from_status(&status))
}

fn address(view: &View, node: NodeId) -> &str {
    view.cluster.nodes.get(&node).map_or("", |known| &known.address)
}

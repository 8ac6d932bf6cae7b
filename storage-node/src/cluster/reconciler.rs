//! Beside each replica: when it leads, does what `step.rs` says, one step after the other.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};
use ursula_common::cluster::ClusterChange;
use ursula_common::{GroupId, NodeId};

use super::hosting::ReplicaCommand;
use super::step::{Goal, Step, heirs, next};
use super::{ClusterSide, Task, retire};

/// Pause before the next look while there is something to do, and while there is nothing.
const BUSY_PAUSE: Duration = Duration::from_millis(200);
const SETTLED_PAUSE: Duration = Duration::from_secs(2);
/// A command that takes longer is not waited for: the next look tells what became of it.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(10);
/// A leader moves to a better place when that has been one for so long. Moving costs a moment without a
/// leader, so a node that comes and goes must not pull leaders back and forth.
const BALANCE_AFTER: Duration = Duration::from_secs(10);

/// Runs for as long as the group is hosted here.
pub(super) async fn run(side: ClusterSide, group: GroupId) {
    let (mut cluster, mut leads) = (side.hosting().cluster(), side.hosting().leads());
    let mut reconciler = Reconciler { side, group, better: None };
    loop {
        let pause = if reconciler.step().await { SETTLED_PAUSE } else { BUSY_PAUSE };
        let goes_on = tokio::select! {
            () = sleep(pause) => true,
            changed = cluster.changed() => changed.is_ok(),
            changed = leads.changed() => changed.is_ok(),
        };
        if !goes_on {
            return;
        }
    }
}

struct Reconciler {
    side: ClusterSide,
    group: GroupId,
    /// Where the leader would better be, and since when.
    better: Option<(NodeId, Instant)>,
}

impl Reconciler {
    /// Does what there is to do; whether it was nothing.
    async fn step(&mut self) -> bool {
        let step = self.decide().await;
        if !matches!(step, Step::Balance(_)) {
            self.better = None;
        }
        let task = |text: String, stuck| Some(Task { text, stuck });
        match step {
            Step::Settled => {
                self.side.set_task(self.group, None);
                return true;
            }
            Step::Wait(text) => self.side.set_task(self.group, task(text, false)),
            Step::Stuck(text) => self.side.set_task(self.group, task(text, true)),
            Step::Do(command) => {
                self.side.set_task(self.group, task(text_of(&command), false));
                self.command(command).await;
            }
            Step::Balance(node) => self.balance(node).await,
        }
        false
    }

    async fn decide(&self) -> Step {
        let (me, hosting) = (self.side.me(), self.side.hosting());
        let leads = hosting.leads().borrow().get(&self.group).is_some_and(|lead| lead.leader == Some(me));
        let Some(cluster) = self.side.cluster().filter(|_| leads) else { return Step::Settled };
        let Some(goal) = Goal::of(&cluster, self.group) else { return Step::Settled };
        let Some(status) = hosting.status(self.group).await.filter(|status| status.leads()) else {
            return Step::Settled;
        };
        if cluster.groups.get(&self.group).is_some_and(|record| !record.begun) {
            return match self.side.propose(ClusterChange::Begin([self.group].into())).await {
                Ok(_) => Step::Wait("the group has begun".to_owned()),
                Err(error) => Step::Wait(format!("the meta group shall know that the group has begun: {error}")),
            };
        }
        if hosting.refused().contains_key(&self.group) {
            // Others may need from the leader what is lost here: that comes before anything else.
            for heir in heirs(me, &status) {
                if !self.has_lost(heir).await {
                    return Step::Do(ReplicaCommand::TransferLeader(heir));
                }
            }
        }
        match next(&goal.without(self.side.aside(self.group, status.lead.term)), me, &status) {
            Step::Do(ReplicaCommand::TransferLeader(heir)) if self.has_lost(heir).await => {
                Step::Stuck(format!("node {heir} shall lead, but has lost something: repair it"))
            }
            step => step,
        }
    }

    /// Whether a replica on another node says that it has lost something: it would not keep the lead.
    async fn has_lost(&self, node: NodeId) -> bool {
        let answer = retire::ask(&self.side, node).await;
        answer.is_some_and(|status| status.refused.iter().any(|refused| refused.group == self.group.0))
    }

    async fn balance(&mut self, node: NodeId) {
        let since = match self.better {
            Some((better, since)) if better == node => since,
            _ => Instant::now(),
        };
        self.better = Some((node, since));
        self.side.set_task(self.group, None);
        if since.elapsed() >= BALANCE_AFTER {
            self.better = None;
            if !self.has_lost(node).await {
                self.command(ReplicaCommand::TransferLeader(node)).await;
            }
        }
    }

    async fn command(&self, command: ReplicaCommand) {
        let text = text_of(&command);
        match timeout(COMMAND_TIMEOUT, self.side.hosting().command(self.group, command)).await {
            Ok(Ok(())) => info!(group = %self.group, "{text}: done"),
            Ok(Err(error)) => warn!(group = %self.group, %error, "{text}: tried again later"),
            Err(_) => warn!(group = %self.group, "{text}: no answer yet"),
        }
    }
}

fn text_of(command: &ReplicaCommand) -> String {
    let list =
        |nodes: &std::collections::BTreeSet<NodeId>| nodes.iter().map(NodeId::to_string).collect::<Vec<_>>().join(", ");
    match command {
        ReplicaCommand::Initialize(nodes) => format!("make the group on nodes {}", list(nodes)),
        ReplicaCommand::AddLearner(node) => format!("add node {node} without a vote"),
        ReplicaCommand::ChangeVoters(nodes) => format!("change the voters to nodes {}", list(nodes)),
        ReplicaCommand::RemoveLearners(nodes) => format!("let nodes {} go", list(nodes)),
        ReplicaCommand::TransferLeader(node) => format!("hand the lead over to node {node}"),
    }
}

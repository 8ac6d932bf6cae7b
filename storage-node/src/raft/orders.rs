//! What the cluster side of a node asks of a replica, and tells it to do.

use std::io;

use ursula_common::{Error, GroupId};

use super::members::Status;
use super::{Replica, StateMachine};
use crate::cluster::{Lead, Progress, ReplicaCommand, ReplicaStatus};

impl<M: StateMachine> Replica<M> {
    /// Everything about this replica of `group`.
    pub(crate) async fn report(&self, group: GroupId) -> ReplicaStatus {
        // One that has stopped was something once.
        let pristine = !self.raft.is_initialized().await.unwrap_or(true);
        let status = self.status();
        let Status { leader, term, role, last_log, applied, voters, learners, matched, silent, .. } = status;
        let progress = |(node, matched): (_, Option<u64>)| {
            (node, Progress { matched: matched.unwrap_or(0), silent: silent.get(&node).copied() })
        };
        ReplicaStatus {
            group,
            role,
            lead: Lead { term, leader },
            last: last_log.unwrap_or(0),
            applied: applied.unwrap_or(0),
            voters,
            learners,
            progress: matched.into_iter().map(progress).collect(),
            pristine,
            unpacked_bytes: None,
        }
    }

    /// Lets the replica do something.
    ///
    /// # Errors
    /// [`Error::NotLeader`] if another has to be told, [`Error::ClusterRefused`] if it cannot be done now.
    pub(crate) async fn command(&self, command: ReplicaCommand) -> Result<(), Error> {
        let done: io::Result<()> = match command {
            ReplicaCommand::Initialize(voters) => self.initialize(voters).await,
            _ if !self.leads() => return Err(self.not_leader()),
            ReplicaCommand::AddLearner(node) => self.add_learner(node).await,
            ReplicaCommand::ChangeVoters(voters) => self.change_voters(&voters, true).await,
            ReplicaCommand::RemoveLearners(nodes) => self.remove_learners(&nodes).await,
            ReplicaCommand::TransferLeader(to) => self.transfer_leader(to).await,
        };
        done.map_err(|error| Error::ClusterRefused { reason: error.to_string().into() })
    }
}

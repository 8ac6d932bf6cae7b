//! Times and limits of a group, and how they hold together.
//!
//! ```text
//! heartbeat 150   <   read lease 400   <   election 500..800   =   what a follower promises 800
//! ```
//! A follower promises to vote for nobody for 800 ms after it heard of its leader, and stands for election
//! 500 to 800 ms after that, so a dead leader is replaced after 1.2 to 1.6 s. A leader trusts its lease for
//! 400 ms after it asked, less than a follower keeps its promise even if it forgot it in a restart
//! (docs/adr/0010-leases.md).

use std::time::Duration;

use openraft::{Config, SnapshotPolicy};
use ursula_common::GroupId;

/// How often a leader says that it is there, if it has nothing else to say.
const HEARTBEAT_MS: u64 = 150;
/// A heartbeat is left out if an append was answered so lately.
const HEARTBEAT_MIN_MS: u64 = 50;
/// The first follower to miss its leader stands after a random time between these, on top of its promise,
/// which is the longer one.
const ELECTION_MIN_MS: u64 = 500;
const ELECTION_MAX_MS: u64 = 800;
/// A leader that has lost its majority keeps silent for so long at a time, so that five voters of which
/// some hear it can elect another.
const QUORUM_PROBE_MS: u64 = 2 * ELECTION_MAX_MS;

/// How long after it was sent an answered question proves that no other replica leads.
pub(super) const READ_LEASE: Duration = Duration::from_millis(400);
/// A replica that was restarted has forgotten what it promised: it votes for nobody for so long.
pub(super) const RESTART_SILENCE: Duration = Duration::from_millis(ELECTION_MIN_MS);
/// How long a read waits for proof that this replica leads.
pub(super) const CONFIRM_TIMEOUT: Duration = Duration::from_millis(ELECTION_MAX_MS);
/// How long a hand-over may take before the leader has to be elected.
pub(super) const TRANSFER_TIMEOUT: Duration = Duration::from_millis(2 * ELECTION_MAX_MS);
/// Bytes of entries in one question to a follower: a log reader stops at the first entry beyond.
pub(crate) const APPEND_BYTES_MAX: usize = 1 << 20;

const _: () = assert!(READ_LEASE.as_millis() < ELECTION_MIN_MS as u128);

/// Snapshots and purges are triggered by us.
pub(super) fn config(group: GroupId) -> Config {
    Config {
        cluster_name: format!("group-{group}"),
        heartbeat_interval: HEARTBEAT_MS,
        heartbeat_min_interval: Some(HEARTBEAT_MIN_MS),
        election_timeout_min: ELECTION_MIN_MS,
        election_timeout_max: ELECTION_MAX_MS,
        quorum_loss_probe_interval: Some(QUORUM_PROBE_MS),
        enable_pre_vote: Some(true),
        enable_leader_restore: Some(false),
        backoff: "20ms 50ms 100ms 200ms ...400ms".to_owned(),
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: 0,
        purge_batch_size: 1,
        // One proposal of a group is in flight at a time, so its queues are short. The defaults
        // reserve megabytes for each group.
        api_channel_size: Some(64),
        api_batch_capacity: 64,
        notification_channel_size: Some(1024),
        state_machine_channel_size: Some(64),
        log_stage_capacity: Some(64),
        ..Config::default()
    }
}

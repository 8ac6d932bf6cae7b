//! The bytes of what Raft keeps: entries, log ids, votes, memberships. One form for the log on disk and
//! for the network; `docs/formats/raft.md` describes it.
//!
//! Must not change the meaning of a number that was ever written.

use std::collections::BTreeSet;
use std::io;

use bytes::{Buf, Bytes};
use openraft::alias::{EntryOf, LogIdOf, SnapshotMetaOf, StoredMembershipOf, VoteOf};
use openraft::impls::EmptyNode;
use openraft::vote::RaftLeaderId;
use openraft::{EntryPayload, StoredMembership};
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint};
use ursula_proto::raft::v1 as wire;

use super::types::{Batch, TypeConfig};

type LeaderId = openraft::impls::leader_id_adv::LeaderId<u64, u64>;
type Membership = openraft::Membership<u64, EmptyNode>;

/// Persisted: the first byte of everything that is stored.
const VERSION: u8 = 1;

/// The number of the batch in an entry.
const BATCH_TAG: u32 = 5;

/// An entry as it is stored, in two parts. The second is the batch, not copied: it is the end of the entry, and
/// begins where the length of its bytes says.
pub(crate) fn encode_entry(entry: &EntryOf<TypeConfig>) -> (Vec<u8>, Bytes) {
    let mut entry = entry_to_wire(entry);
    let batch = entry.batch.take();
    let mut head = encode(&entry);
    if let Some(batch) = &batch {
        encode_key(BATCH_TAG, WireType::LengthDelimited, &mut head);
        encode_varint(batch.len() as u64, &mut head);
    }
    (head, batch.unwrap_or_default())
}

/// Decodes a stored entry; a batch is a slice of `bytes`.
///
/// # Errors
/// For anything that [`encode_entry`] does not write.
pub(crate) fn decode_entry(bytes: Bytes) -> io::Result<EntryOf<TypeConfig>> {
    entry_from_wire(decode("Raft entry", bytes)?)
}

pub(crate) fn encode_log_id(id: &LogIdOf<TypeConfig>) -> Vec<u8> {
    encode(&log_id_to_wire(id))
}

/// # Errors
/// For anything that [`encode_log_id`] does not write.
pub(crate) fn decode_log_id(bytes: Bytes) -> io::Result<LogIdOf<TypeConfig>> {
    Ok(log_id_from_wire(decode("Raft log id", bytes)?))
}

pub(crate) fn encode_vote(vote: &VoteOf<TypeConfig>) -> Vec<u8> {
    encode(&vote_to_wire(vote))
}

/// # Errors
/// For anything that [`encode_vote`] does not write.
pub(crate) fn decode_vote(bytes: Bytes) -> io::Result<VoteOf<TypeConfig>> {
    Ok(vote_from_wire(decode("Raft vote", bytes)?))
}

#[cfg_attr(not(test), expect(dead_code, reason = "for peers"))]
pub(crate) fn encode_membership(membership: &StoredMembershipOf<TypeConfig>) -> Vec<u8> {
    encode(&membership_to_wire(membership))
}

/// # Errors
/// For anything that [`encode_membership`] does not write.
#[cfg_attr(not(test), expect(dead_code, reason = "for peers"))]
pub(crate) fn decode_membership(bytes: Bytes) -> io::Result<StoredMembershipOf<TypeConfig>> {
    membership_from_wire(decode("Raft membership", bytes)?)
}

pub(crate) fn encode_snapshot_meta(meta: &SnapshotMetaOf<TypeConfig>) -> Vec<u8> {
    encode(&snapshot_meta_to_wire(meta))
}

/// # Errors
/// For anything that [`encode_snapshot_meta`] does not write.
pub(crate) fn decode_snapshot_meta(bytes: Bytes) -> io::Result<SnapshotMetaOf<TypeConfig>> {
    snapshot_meta_from_wire(decode("snapshot description", bytes)?)
}

fn encode(message: &impl Message) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(1 + message.encoded_len());
    bytes.push(VERSION);
    message.encode_raw(&mut bytes);
    bytes
}

fn decode<M: Message + Default>(what: &str, mut bytes: Bytes) -> io::Result<M> {
    match bytes.try_get_u8() {
        Ok(VERSION) => M::decode(bytes).map_err(|_| damaged(what)),
        Ok(other) => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("unknown format version {other} of a {what}: it was written by a later version"),
        )),
        Err(_) => Err(damaged(what)),
    }
}

fn damaged(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("a {what} is damaged, truncated or empty"))
}

pub(super) fn log_id_to_wire(id: &LogIdOf<TypeConfig>) -> wire::LogId {
    wire::LogId { term: id.leader_id.term, node: id.leader_id.node_id, index: id.index }
}

pub(super) fn log_id_from_wire(id: wire::LogId) -> LogIdOf<TypeConfig> {
    log_id(id.term, id.node, id.index)
}

fn log_id(term: u64, node: u64, index: u64) -> LogIdOf<TypeConfig> {
    LogIdOf::<TypeConfig> { leader_id: LeaderId::new(term, node), index }
}

pub(super) fn vote_to_wire(vote: &VoteOf<TypeConfig>) -> wire::Vote {
    wire::Vote { term: vote.leader_id.term, node: vote.leader_id.node_id, committed: vote.committed }
}

pub(super) fn vote_from_wire(vote: wire::Vote) -> VoteOf<TypeConfig> {
    VoteOf::<TypeConfig> { leader_id: LeaderId::new(vote.term, vote.node), committed: vote.committed }
}

/// Copies no batch.
pub(super) fn entry_to_wire(entry: &EntryOf<TypeConfig>) -> wire::Entry {
    let (membership, batch) = match &entry.payload {
        EntryPayload::Blank => (None, None),
        EntryPayload::Normal(batch) => (None, Some(batch.encoded().clone())),
        EntryPayload::Membership(membership) => (Some(members_to_wire(membership)), None),
    };
    let LogIdOf::<TypeConfig> { leader_id, index } = entry.log_id;
    wire::Entry { term: leader_id.term, node: leader_id.node_id, index, membership, batch }
}

/// # Errors
/// If the entry is of two kinds at once or its membership has no voter.
pub(super) fn entry_from_wire(entry: wire::Entry) -> io::Result<EntryOf<TypeConfig>> {
    let payload = match (entry.membership, entry.batch) {
        (None, None) => EntryPayload::Blank,
        (None, Some(batch)) => EntryPayload::Normal(Batch::from_encoded(batch)),
        (Some(membership), None) => EntryPayload::Membership(members_from_wire(membership)?),
        (Some(_), Some(_)) => return Err(damaged("Raft entry")),
    };
    Ok(EntryOf::<TypeConfig> { log_id: log_id(entry.term, entry.node, entry.index), payload })
}

fn members_to_wire(membership: &Membership) -> wire::Membership {
    let voters = |config: &BTreeSet<u64>| wire::Voters { nodes: config.iter().copied().collect() };
    wire::Membership {
        configs: membership.get_joint_config().iter().map(voters).collect(),
        nodes: membership.nodes().map(|(node, _)| *node).collect(),
    }
}

fn members_from_wire(membership: wire::Membership) -> io::Result<Membership> {
    let configs: Vec<BTreeSet<u64>> =
        membership.configs.into_iter().map(|config| config.nodes.into_iter().collect()).collect();
    let nodes: BTreeSet<u64> = membership.nodes.into_iter().collect();
    let known = configs.iter().all(|config| !config.is_empty() && config.is_subset(&nodes));
    if !known {
        return Err(damaged("Raft membership"));
    }
    Ok(Membership::new_with_defaults(configs, nodes))
}

pub(super) fn membership_to_wire(membership: &StoredMembershipOf<TypeConfig>) -> wire::StoredMembership {
    wire::StoredMembership {
        log_id: membership.log_id().as_ref().map(log_id_to_wire),
        membership: Some(members_to_wire(membership.membership())),
    }
}

pub(super) fn membership_from_wire(stored: wire::StoredMembership) -> io::Result<StoredMembershipOf<TypeConfig>> {
    let members = members_from_wire(stored.membership.ok_or_else(|| damaged("Raft membership"))?)?;
    Ok(StoredMembership::new(stored.log_id.map(log_id_from_wire), members))
}

pub(super) fn snapshot_meta_to_wire(meta: &SnapshotMetaOf<TypeConfig>) -> wire::SnapshotMeta {
    wire::SnapshotMeta {
        last: meta.last_log_id.as_ref().map(log_id_to_wire),
        membership: Some(membership_to_wire(&meta.last_membership)),
    }
}

pub(super) fn snapshot_meta_from_wire(meta: wire::SnapshotMeta) -> io::Result<SnapshotMetaOf<TypeConfig>> {
    let membership = meta.membership.ok_or_else(|| damaged("snapshot description"))?;
    Ok(SnapshotMetaOf::<TypeConfig> {
        last_log_id: meta.last.map(log_id_from_wire),
        last_membership: membership_from_wire(membership)?,
    })
}

#[cfg(test)]
mod tests;

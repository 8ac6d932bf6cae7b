//! Between the questions and answers of openraft and those that travel.

use std::io;

use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, TransferLeaderRequest, VoteRequest, VoteResponse};
use ursula_proto::peer::v1 as wire;
use ursula_proto::raft::v1::Vote;

use super::codec::{entry_from_wire, entry_to_wire, log_id_from_wire, log_id_to_wire, vote_from_wire, vote_to_wire};
use super::types::TypeConfig;

fn missing() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a message without a vote")
}

fn vote(vote: Option<Vote>) -> io::Result<openraft::alias::VoteOf<TypeConfig>> {
    vote.map(vote_from_wire).ok_or_else(missing)
}

pub(super) fn append_to_wire(request: &AppendEntriesRequest<TypeConfig>) -> wire::Append {
    wire::Append {
        vote: Some(vote_to_wire(&request.vote)),
        previous: request.prev_log_id.as_ref().map(log_id_to_wire),
        committed: request.leader_commit.as_ref().map(log_id_to_wire),
        entries: request.entries.iter().map(entry_to_wire).collect(),
    }
}

/// # Errors
/// If it is not what [`append_to_wire`] writes.
pub(super) fn append_from_wire(append: wire::Append) -> io::Result<AppendEntriesRequest<TypeConfig>> {
    Ok(AppendEntriesRequest {
        vote: vote(append.vote)?,
        prev_log_id: append.previous.map(log_id_from_wire),
        leader_commit: append.committed.map(log_id_from_wire),
        entries: append.entries.into_iter().map(entry_from_wire).collect::<io::Result<_>>()?,
    })
}

/// The answer to a question that was stored whole or not at all.
pub(super) fn appended_to_wire(response: &AppendEntriesResponse<TypeConfig>) -> wire::Appended {
    match response {
        AppendEntriesResponse::Success => wire::Appended::default(),
        AppendEntriesResponse::PartialSuccess(_) | AppendEntriesResponse::Conflict => {
            wire::Appended { conflict: true, higher: None }
        }
        AppendEntriesResponse::HigherVote(vote) => wire::Appended { conflict: false, higher: Some(vote_to_wire(vote)) },
    }
}

pub(super) fn appended_from_wire(appended: wire::Appended) -> AppendEntriesResponse<TypeConfig> {
    match appended.higher {
        Some(vote) => AppendEntriesResponse::HigherVote(vote_from_wire(vote)),
        None if appended.conflict => AppendEntriesResponse::Conflict,
        None => AppendEntriesResponse::Success,
    }
}

pub(super) fn ballot_to_wire(request: &VoteRequest<TypeConfig>) -> wire::Ballot {
    wire::Ballot {
        vote: Some(vote_to_wire(&request.vote)),
        last: request.last_log_id.as_ref().map(log_id_to_wire),
        transfer: request.leadership_transfer,
    }
}

/// # Errors
/// If it is not what [`ballot_to_wire`] writes.
pub(super) fn ballot_from_wire(ballot: wire::Ballot) -> io::Result<VoteRequest<TypeConfig>> {
    let mut request = VoteRequest::new(vote(ballot.vote)?, ballot.last.map(log_id_from_wire));
    request.leadership_transfer = ballot.transfer;
    Ok(request)
}

pub(super) fn voted_to_wire(response: &VoteResponse<TypeConfig>) -> wire::Voted {
    wire::Voted {
        vote: Some(vote_to_wire(&response.vote)),
        last: response.last_log_id.as_ref().map(log_id_to_wire),
        granted: response.vote_granted,
    }
}

/// # Errors
/// If it is not what [`voted_to_wire`] writes.
pub(super) fn voted_from_wire(voted: wire::Voted) -> io::Result<VoteResponse<TypeConfig>> {
    Ok(VoteResponse::new(vote(voted.vote)?, voted.last.map(log_id_from_wire), voted.granted))
}

pub(super) fn transfer_to_wire(request: &TransferLeaderRequest<TypeConfig>) -> wire::Transfer {
    wire::Transfer {
        vote: Some(vote_to_wire(request.from_leader())),
        to: *request.to_node_id(),
        last: request.last_log_id().map(log_id_to_wire),
    }
}

/// # Errors
/// If it is not what [`transfer_to_wire`] writes.
pub(super) fn transfer_from_wire(transfer: wire::Transfer) -> io::Result<TransferLeaderRequest<TypeConfig>> {
    let last = transfer.last.map(log_id_from_wire);
    Ok(TransferLeaderRequest::new(vote(transfer.vote)?, transfer.to, last))
}

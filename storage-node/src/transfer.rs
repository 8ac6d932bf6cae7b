//! A snapshot on its way from one node to another: the state of a group and the bytes of all its streams.
//!
//! Neither side holds more than a part of it in memory. `docs/formats/transfer.md` describes the bytes.

mod receive;
mod send;

pub(crate) use receive::{IncomingFile, install};
pub(crate) use send::Outgoing;

/// Sent: what a section holds.
mod kind {
    pub(super) const STATE: u8 = 2;
    pub(super) const RECORDS: u8 = 5;
    pub(super) const END: u8 = 15;
}

#[cfg(test)]
mod tests;

//! Objects outside of the nodes: the store that holds them, the packs that hold the bytes of streams, and who reads them.
//!
//! Knows no Raft and no group's state. What is to be packed, and when, others decide.

pub mod history;
pub mod pack;
pub mod reader;
pub mod steady;
pub mod store;

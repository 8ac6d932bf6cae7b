//! The storage node: per-core groups of streams, replicated by Raft, with recent bytes in memory.
//!
//! Knows no HTTP dialect and no gateway: it speaks the gRPC contract of `ursula-proto`.

mod admin;
mod archive;
mod checkpoint;
mod cluster;
mod cold;
mod compaction;
mod config;
mod core;
mod data_dir;
mod directory;
mod elsewhere;
mod engine;
mod group;
mod hot;
mod journal;
mod metrics;
mod node;
mod ops;
#[allow(dead_code, reason = "what only the cluster uses")]
mod peers;
mod platform;
pub mod process;
mod raft;
mod reads;
pub mod restore;
mod runtime;
mod sections;
mod server;
mod service;
mod tails;
mod transfer;

pub use config::{NodeConfig, NodeFlags};
pub use node::{Formation, Node};
pub use ops::serve as serve_operations;
pub use platform::{Connect, Platform, Sizes};
pub use runtime::{Blocking, Runtime, Takes, Work};
pub use server::{serve, serve_on};

//! Whole clusters in one thread, in simulated time, on simulated networks and disks: one seed, one course of events.
//!
//! The real gateway, the real storage node with its real log, and real gRPC; the load and the judge of the soak. A
//! process simulates one seed and ends: what is random, and what is static, begins anew with each.

mod clock;
mod damage;
mod determinism;
mod gateway;
mod loss;
mod machine;
mod nemesis;
mod network;
mod objects;
mod operator;
mod plan;
mod replicas;
mod report;
mod seeds;
mod simulation;
mod trace;

pub use plan::Plan;
pub use report::report;
pub use seeds::{Seeds, run_seeds, run_seeds_with};
pub use simulation::{Outcome, simulate};

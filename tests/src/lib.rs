//! What tests of the whole share: servers as real processes, raw HTTP, server-sent events and metrics.
//!
//! Knows no crate of this project: it sees the server as its users do. Ports are chosen by the kernel, and
//! nothing sleeps to let something happen: everything waits for a condition, with a generous deadline.

mod cluster;
mod disk;
mod garage;
mod http;
mod metrics;
mod moto;
mod process;
mod proxy;
mod python;
mod server;
mod socket_owner;
mod sse;
pub mod tree;
mod wait;
mod wall_clock;

pub use cluster::{Cluster, Leaders, Member, Options};
pub use disk::Disk;
pub use garage::Garage;
pub use http::{Decoder, Head, Http, Response, address_of};
pub use metrics::Metrics;
pub use moto::Moto;
pub use process::{Process, program, run};
pub use proxy::{Flow, Identify, Link, Proxy};
pub use python::python;
pub use server::Server;
pub use socket_owner::owner;
pub use sse::{Event, EventParser, Events};
pub use wait::{PATIENCE, StallWatch, Stopwatch, eventually};
pub use wall_clock::WallClock;

//! What tests of the whole share: servers as real processes, raw HTTP, server-sent events and metrics.
//!
//! Knows no crate of this project: it sees the server as its users do. Ports are chosen by the kernel, and
//! nothing sleeps to let something happen: everything waits for a condition, with a generous deadline.

mod http;
mod metrics;
mod process;
mod server;
mod sse;
mod wait;

pub use http::{Decoder, Head, Http, Response, address_of};
pub use metrics::Metrics;
pub use process::{Process, program, run};
pub use server::Server;
pub use sse::{Event, EventParser, Events};
pub use wait::{PATIENCE, StallWatch, Stopwatch, eventually};

//! Load on a cluster of real processes, faults in it, and a judge of everything that it answers.

mod acks;
mod answer;
mod client;
mod ledger;
mod load;
mod nemesis;
mod record;
mod report;
mod run;
mod violation;

pub use client::{Connect, Gateways, Socket};
pub use ledger::{Ledger, Limits, Page, Promised, Restored, Shot, Since};
pub use load::{Ended, Found, LoadOptions, OFFLOADED, Packed, Tasks};
pub use nemesis::Kind;
pub use record::{Format, Record, Tag};
pub use report::{Report, percentile};
pub use run::{RunOptions, run};
pub use violation::{Findings, Lie, Violation};

//! Load on a cluster of real processes, faults in it, and a judge of everything that it answers.

mod ledger;
mod record;
mod violation;

pub use ledger::{Ledger, Page, Since};
pub use record::{Format, Record, Tag};
pub use violation::{Findings, Lie, Violation};

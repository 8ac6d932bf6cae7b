//! What can be wrong with a history, and the list of what was found.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};

/// Ways in which a server can lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lie {
    /// Acknowledged, and not there.
    Lost,
    /// There more often than it was appended.
    Twice,
    /// Not in the order in which its writer appended.
    Reordered,
    /// A read that began after something was known does not show it.
    Stale,
    /// A reader saw it, and later it is gone.
    RolledBack,
    /// Offsets and bytes do not fit together.
    Gap,
    /// Bytes that nobody wrote.
    Damaged,
    /// A record or a close that nobody sent.
    Invented,
    /// A stream that was closed grew.
    AfterClose,
    /// The beginning of a stream was let go, and is there again.
    Returned,
    /// A stream that exists is not found, or one that was deleted is.
    Vanished,
    /// An answer that the protocol does not allow there.
    Unexpected,
}

impl Lie {
    /// All kinds.
    pub const ALL: [Lie; 12] = [
        Lie::Lost,
        Lie::Twice,
        Lie::Reordered,
        Lie::Stale,
        Lie::RolledBack,
        Lie::Gap,
        Lie::Damaged,
        Lie::Invented,
        Lie::AfterClose,
        Lie::Returned,
        Lie::Vanished,
        Lie::Unexpected,
    ];

    /// What reports call it.
    pub fn name(self) -> &'static str {
        match self {
            Lie::Lost => "lost",
            Lie::Twice => "twice",
            Lie::Reordered => "reordered",
            Lie::Stale => "stale",
            Lie::RolledBack => "rolled_back",
            Lie::Gap => "gap",
            Lie::Damaged => "damaged",
            Lie::Invented => "invented",
            Lie::AfterClose => "after_close",
            Lie::Returned => "returned",
            Lie::Vanished => "vanished",
            Lie::Unexpected => "unexpected",
        }
    }
}

/// One lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Its kind.
    pub lie: Lie,
    /// A sentence for people.
    pub text: String,
}

impl Violation {
    /// A lie of this kind.
    pub fn new(lie: Lie, text: impl Into<String>) -> Violation {
        Violation { lie, text: text.into() }
    }

    /// The same, with where it was seen.
    #[must_use]
    pub fn seen(self, place: impl fmt::Display) -> Violation {
        Violation { text: format!("{place}: {}", self.text), ..self }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.lie.name(), self.text)
    }
}

/// Everything that was found; sentences of the first ones only.
#[derive(Debug, Default)]
pub struct Findings(Mutex<Found>);

#[derive(Debug, Default)]
struct Found {
    counts: BTreeMap<Lie, u64>,
    first: Vec<Violation>,
}

/// How many sentences are kept.
const KEPT_MAX: usize = 100;

impl Findings {
    /// Notes a violation.
    pub fn add(&self, violation: Violation) {
        let mut found = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *found.counts.entry(violation.lie).or_default() += 1;
        if found.first.len() < KEPT_MAX {
            found.first.push(violation);
        }
    }

    /// Notes the violation, if it is one.
    pub fn check(&self, place: impl fmt::Display, result: Result<(), Violation>) -> bool {
        let good = result.is_ok();
        if let Err(violation) = result {
            self.add(violation.seen(place));
        }
        good
    }

    /// How many of each kind.
    pub fn counts(&self) -> BTreeMap<Lie, u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).counts.clone()
    }

    /// The first ones from number `from` on.
    pub fn after(&self, from: usize) -> Vec<Violation> {
        let found = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        found.first.get(from..).unwrap_or_default().to_vec()
    }
}

//! The snapshots of one stream: the newest, which its readers get, and those before it that a restore may still need. Only
//! streams that have a snapshot have this. Knows no commands.
//!
//! Once packs have begun, a restore finds a stream and its companions each as it was when it was last packed, which is not at
//! one moment. A snapshot is certain once packs have both: a record of the stream that names it, and its companion, whole.
//! Until then the certain one before it stays, for the stream may begin there.

use std::mem;

use ursula_common::verb::SnapshotInfo;

/// Snapshots before the newest: the last certain one, and one that is to become so next, however many are published meanwhile.
pub(crate) const BEFORE_MAX: usize = 2;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Snapshots {
    pub(crate) newest: Published,
    /// The oldest first; none unless packs have begun.
    pub(crate) before: Vec<Published>,
}

/// A snapshot that was published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Published {
    pub(crate) info: SnapshotInfo,
    /// The change of the stream from which on it names it; 0 if packs have a record that does, or had not begun then: nothing
    /// comes before those.
    pub(crate) since: u64,
}

impl Snapshots {
    /// All of them, the oldest first.
    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = &Published> {
        self.before.iter().chain(Some(&self.newest))
    }

    /// Packs have a record of the stream as it was after this change.
    pub(crate) fn recorded(&mut self, as_of: u64) {
        let all = self.before.iter_mut().chain(Some(&mut self.newest));
        all.filter(|known| known.since <= as_of).for_each(|known| known.since = 0);
    }

    /// Adds the newest. Gives back the one that nobody needs any more.
    pub(crate) fn add(&mut self, published: Published, packs_begun: bool) -> Option<Published> {
        let last = mem::replace(&mut self.newest, published);
        if !packs_begun || self.before.len() == BEFORE_MAX {
            return Some(last);
        }
        self.before.push(last);
        None
    }

    /// Gives back those before the first `count`.
    pub(crate) fn let_go(&mut self, count: usize) -> Vec<Published> {
        self.before.drain(..count).collect()
    }
}

//! Numeric identities. Each is a newtype so that one cannot be passed for another.

use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id! {
    /// A Raft group. Group 0 is the meta group, which owns the buckets; groups 1.. hold streams.
    GroupId(u32)
}
id! {
    /// A storage node.
    NodeId(u64)
}
id! {
    /// One of [`crate::placement::SLOTS`] hash slots that streams are placed by.
    Slot(u16)
}
id! {
    /// What one run of one gateway has to do with one group. Drawn at random.
    SessionId(u64)
}
id! {
    /// One incarnation of a stream, unique within its group for all time: a stream that is deleted
    /// and created again under its old name has another id.
    StreamId(u64)
}
id! {
    /// A piece of work that spans groups, unique within the group that started it.
    SagaId(u64)
}

impl GroupId {
    /// The group that owns the buckets.
    pub const META: GroupId = GroupId(0);
}

//! What packs must have before anybody is told of a stream in a bucket whose ops are acknowledged when they are offloaded.
//! Only looks; who waits for it is the leader's business.

use std::collections::BTreeSet;

use ursula_common::verb::Ack;
use ursula_common::{BucketName, Offset, StreamId, StreamKey};

use super::PackPlan;
use crate::State;

/// What has to be in packs that count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// The record of a stream as of this change or a later one, or that the stream was removed.
    Stream(StreamId, u64),
    /// All that waits under turns up to this one: that a stream of the name was removed may be among it.
    Turns(u64),
}

/// What a pack has told that counts now.
#[derive(Debug, Clone)]
pub struct Told {
    as_of: u64,
    /// Streams that are whole in it, and those of which it says that they were removed.
    streams: BTreeSet<StreamId>,
    /// Who waits for a pack for longest.
    first: Option<u64>,
}

impl State {
    /// When ops on streams of a bucket are acknowledged; `None` if it is not here.
    pub fn ack(&self, bucket: &BucketName) -> Option<Ack> {
        self.buckets.get(bucket).map(|bucket| bucket.ack)
    }

    /// What packs do not have yet of a stream as it is now, be it that it is gone.
    pub fn wanted(&self, key: &StreamKey) -> Option<Wanted> {
        let packs = self.packs.as_ref()?;
        match self.stream(key) {
            Some(stream) => {
                let changed = stream.cold.as_ref()?.changed;
                (changed > 0).then_some(Wanted::Stream(stream.id, changed))
            }
            None => packs.waiting.last_key_value().map(|(turn, _)| Wanted::Turns(*turn)),
        }
    }

    /// What was told by the pack that was committed last: it was made by this plan, with each of its streams up to these
    /// offsets.
    pub fn told(&self, plan: &PackPlan, ends: &[Offset]) -> Told {
        // Of one that ended while its bytes were read there is less: a later pack says that it was removed.
        let there = plan.streams.iter().zip(ends).filter(|(planned, end)| planned.whole && planned.end == **end);
        let streams = there.map(|(planned, _)| planned.id).chain(plan.removed.iter().map(|gone| gone.stream)).collect();
        let waiting = self.packs.as_ref().map(|packs| &packs.waiting);
        let first = waiting.and_then(|waiting| waiting.first_key_value()).map(|(turn, _)| *turn);
        Told { as_of: plan.as_of, streams, first }
    }
}

impl Told {
    /// Whether packs have this now. A plan takes whoever waits in the order of turns.
    pub fn has(&self, wanted: &Wanted) -> bool {
        match *wanted {
            Wanted::Stream(id, changed) => changed <= self.as_of && self.streams.contains(&id),
            Wanted::Turns(turn) => self.first.is_none_or(|first| first > turn),
        }
    }
}

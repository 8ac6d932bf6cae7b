//! Answers that wait until packs have what they speak of: those about streams in buckets whose ops are acknowledged when
//! they are offloaded. All of them, also those of ops that are sent again and those that refuse one: what is told of such
//! a stream survives the loss of every machine.
//!
//! They cost no timer and no task: the packer lets them go. Who leads no more tells nobody, and whoever waited asks the next
//! leader, which waits until packs have the stream as it finds it.

use tokio::time::Instant;
use ursula_common::error::Retry;
use ursula_common::verb::{Ack, ForkRef, Op, OpResult};
use ursula_common::{BucketName, Error, StreamKey};
use ursula_stream_core::{Told, Wanted};

use super::{Group, Proposal, ReplyTo};

/// An answer that waits. Bounded, as all that wait for answers are: see [`ReplyTo`].
pub(super) struct Held {
    wanted: Wanted,
    /// The term in which it was held.
    term: u64,
    since: Instant,
    reply: ReplyTo,
    result: OpResult,
}

/// What the answer to an op speaks of, if it may have to wait.
pub(super) struct Subject {
    stream: StreamKey,
    bucket: BucketName,
    /// Whether the bucket was known before the op, which may come together with it.
    is_known: bool,
}

impl Group {
    /// Why an op cannot be taken, because it would wait for a store that is away. That is known only while something else
    /// waits: then the store is asked again and again. One that was done before is not refused: it would be sent again and again.
    pub(super) fn refused_for_store(&self, Proposal { op, origin, .. }: &Proposal) -> Option<Error> {
        if let Op::CreateBucket(_, Ack::Offloaded) = op {
            return self.cold.is_none().then_some(Error::StoreMissing);
        }
        let bucket = &op.stream_key()?.bucket;
        let state = self.state.borrow();
        if state.ack(bucket) != Some(Ack::Offloaded) || origin.is_some_and(|origin| state.remembers(&origin)) {
            return None;
        }
        let is_asked = || state.packing().is_none_or(|packing| packing.due);
        let is_away = self.cold.as_ref().is_none_or(|cold| cold.is_away() && is_asked());
        is_away.then_some(Error::StoreAway)
    }

    /// What the answer to an op speaks of, before it is decided.
    pub(super) fn subject(&self, op: &Op) -> Option<Subject> {
        let state = self.state.borrow();
        let waits = |bucket: &BucketName| match state.ack(bucket) {
            Some(Ack::Quorum) => None,
            Some(Ack::Offloaded) => Some((bucket.clone(), true)),
            None => Some((bucket.clone(), false)),
        };
        let (stream, waits) = match op {
            // A fork is restored only together with what it inherits. That its bucket exists is for its own group to say.
            Op::AcquireFork(acquire) => {
                let ForkRef { source, fork, .. } = &acquire.fork_ref;
                (source, waits(&source.bucket).or_else(|| Some((waits(&fork.bucket)?.0, true))))
            }
            op => op.stream_key().map(|key| (key, waits(&key.bucket)))?,
        };
        waits.map(|(bucket, is_known)| Subject { stream: stream.clone(), bucket, is_known })
    }

    /// Answers now, or when packs have what the answer speaks of.
    pub(super) fn tell(&self, reply: ReplyTo, result: OpResult, subject: Option<Subject>) {
        let is_told = match &result {
            Ok(_) => true,
            Err(error) => error.retry() == Retry::Useless,
        };
        let Some(wanted) = subject.filter(|_| is_told).and_then(|subject| self.wanted(&subject)) else {
            return reply.send(result);
        };
        let Some(term) = self.replica.led_term() else { return reply.send(Err(Error::OutcomeUnknown)) };
        self.held.borrow_mut().push(Held { wanted, term, since: Instant::now(), reply, result });
        self.pack_wanted.notify_one();
    }

    fn wanted(&self, subject: &Subject) -> Option<Wanted> {
        let state = self.state.borrow();
        let waits = subject.is_known || state.ack(&subject.bucket) == Some(Ack::Offloaded);
        waits.then(|| state.wanted(&subject.stream)).flatten()
    }

    /// Answers that wait for packs.
    pub(crate) fn held_len(&self) -> usize {
        self.held.borrow().len()
    }

    /// Returns when an answer begins to wait for packs, if none has since the last call.
    pub(super) async fn pack_wanted(&self) {
        self.pack_wanted.notified().await;
    }

    /// Tells what packs have.
    pub(super) fn tell_held(&self, told: &Told) {
        self.let_go(|held| told.has(&held.wanted));
    }

    /// Tells everybody: nothing waits for a pack.
    pub(super) fn tell_all_held(&self) {
        self.let_go(|_| true);
    }

    fn let_go(&self, is_told: impl Fn(&Held) -> bool) {
        for held in self.held.borrow_mut().extract_if(.., |held| is_told(held)) {
            self.metrics.held_seconds.record(held.since.elapsed().as_secs_f64());
            held.reply.send(held.result);
        }
    }

    /// Lets those go who have to ask again: all but those of this term.
    pub(super) fn forget_held(&self, term: Option<u64>) {
        for held in self.held.borrow_mut().extract_if(.., |held| Some(held.term) != term) {
            held.reply.send(Err(Error::OutcomeUnknown));
        }
    }

    /// Lets go of answers that nobody waits for any more.
    pub(crate) fn forget_abandoned_held(&self) {
        self.held.borrow_mut().retain(|held| !held.reply.is_abandoned());
    }
}

//! Tails that wait for more: each asked for the bytes after an offset that is the tail.
//!
//! A waiter is answered once. The reader comes back for the next page when it has sent this one, so a
//! slow reader holds no bytes here, and a busy stream is read in larger pages.

use std::collections::{BTreeSet, HashMap};

use bytes::Bytes;
use tokio::sync::oneshot;
use ursula_common::verb::StreamInfo;
use ursula_common::{Error, Offset, StreamId, StreamKey};

use crate::hot::Range;

/// The bytes after an offset, as far as they are stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TailPage {
    pub(crate) start: Offset,
    pub(crate) pieces: Vec<Bytes>,
    pub(crate) next: Offset,
    /// The stream ends here for ever.
    pub(crate) closed: bool,
    /// Nothing more is stored at this moment.
    pub(crate) up_to_date: bool,
}

impl TailPage {
    /// The page of a stream from `start` on with these bytes. `proof` tells whether `info` says all there is.
    pub(crate) fn new(start: Offset, range: Range, info: &StreamInfo, proof: impl FnOnce() -> bool) -> TailPage {
        let whole = range.next == info.tail;
        // What was closed has its end on every replica that knows of it.
        let closed = info.closed && whole;
        let up_to_date = closed || (whole && proof());
        TailPage { start, pieces: range.pieces, next: range.next, closed, up_to_date }
    }
}

/// One reader that waits.
#[derive(Debug)]
pub(crate) struct Waiter {
    /// The incarnation it reads.
    pub(crate) stream: StreamId,
    pub(crate) from: Offset,
    pub(crate) bytes_max: usize,
    /// Whether it does not wait if it is certain that there is nothing yet.
    pub(crate) tell_up_to_date: bool,
    pub(crate) reply: oneshot::Sender<Result<TailPage, Error>>,
}

impl Waiter {
    /// Answers; the reader may have gone.
    pub(crate) fn answer(self, page: Result<TailPage, Error>) {
        drop(self.reply.send(page));
    }
}

/// All waiters of one group, by stream.
#[derive(Debug, Default)]
pub(crate) struct Tails {
    streams: HashMap<StreamId, Tailed>,
    /// Those of `streams` whose time to live a reader renews.
    sliding: BTreeSet<StreamId>,
}

/// One stream that somebody waits for.
#[derive(Debug)]
struct Tailed {
    key: StreamKey,
    waiters: Vec<Waiter>,
}

impl Tails {
    /// Adds a waiter; `sliding` tells whether readers renew the stream's time to live.
    pub(crate) fn add(&mut self, stream: StreamId, key: &StreamKey, sliding: bool, waiter: Waiter) {
        if sliding {
            self.sliding.insert(stream);
        }
        let tailed = || Tailed { key: key.clone(), waiters: Vec::new() };
        self.streams.entry(stream).or_insert_with(tailed).waiters.push(waiter);
    }

    /// Takes the waiters of a stream, and its name.
    pub(crate) fn take(&mut self, stream: StreamId) -> Option<(StreamKey, Vec<Waiter>)> {
        self.sliding.remove(&stream);
        self.streams.remove(&stream).map(|tailed| (tailed.key, tailed.waiters))
    }

    /// Answers the waiters of a stream with an error.
    pub(crate) fn end(&mut self, stream: StreamId, error: &Error) {
        for waiter in self.take(stream).into_iter().flat_map(|(_, waiters)| waiters) {
            waiter.answer(Err(error.clone()));
        }
    }

    /// Answers all waiters with an error.
    pub(crate) fn end_all(&mut self, error: &Error) {
        let streams: Vec<StreamId> = self.streams.keys().copied().collect();
        streams.into_iter().for_each(|stream| self.end(stream, error));
    }

    /// Drops the waiters whose reader has gone.
    pub(crate) fn forget_abandoned(&mut self) {
        self.streams.retain(|stream, tailed| {
            tailed.waiters.retain(|waiter| !waiter.reply.is_closed());
            let wanted = !tailed.waiters.is_empty();
            if !wanted {
                self.sliding.remove(stream);
            }
            wanted
        });
    }

    /// The streams whose time to live their readers renew.
    pub(crate) fn sliding(&self) -> impl Iterator<Item = &StreamKey> {
        self.sliding.iter().filter_map(|stream| self.streams.get(stream)).map(|tailed| &tailed.key)
    }

    /// Waiters of all streams.
    pub(crate) fn len(&self) -> usize {
        self.streams.values().map(|tailed| tailed.waiters.len()).sum()
    }
}

#[cfg(test)]
mod tests;

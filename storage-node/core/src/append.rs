//! Append and close. The order of the checks is the protocol's; nothing changes unless all of them pass.

use ursula_common::limits::{PRODUCER_IDLE, PRODUCERS_MAX};
use ursula_common::verb::{Append, Appended, Producer, Reply};
use ursula_common::{Error, Millis};

use crate::kept::Kept;
use crate::stream::{ProducerState, Rare, Stream};
use crate::{Effect, State, trim};

/// Appends, closes, or both.
pub(crate) fn append(state: &mut State, append: Append, effects: &mut Vec<Effect>) -> Result<Reply, Error> {
    let now = state.now;
    let (stream, packs) = state.live_beside_packs(&append.key, effects)?;
    if stream.closed {
        return on_closed(stream, &append).map(Reply::Appended);
    }
    check_content_type(stream, &append)?;
    let place = match &append.producer {
        Some(producer) => match check_producer(stream, producer, now)? {
            Verdict::Duplicate(known) => return Ok(Reply::Appended(duplicate(stream, Some(known)))),
            Verdict::Accept(place) => Some(place),
        },
        None => None,
    };
    check_stream_seq(stream, &append)?;
    if append.expected_offset.is_some_and(|expected| expected.within(stream.tail) != stream.tail) {
        return Err(Error::OffsetMismatch { tail: stream.tail });
    }
    let at = stream.tail;
    let tail = at.checked_add(append.body.len() as u64).ok_or(Error::StreamFull)?;

    (stream.tail, stream.touched) = (tail, now);
    let is_retained = tail > at && stream.kept().is_some_and(Kept::has_limits);
    if let Some(packs) = packs {
        packs.mark(&append.key, stream, append.body.len() as u64);
    }
    let producer = append.producer.as_ref().map(|producer| (producer.epoch, producer.seq));
    if let (Some(place), Some(producer)) = (place, &append.producer) {
        commit_producer(stream.rare_mut(), place, producer, now);
    }
    if !append.body.is_empty() {
        if append.stream_seq.is_some() {
            stream.rare_mut().stream_seq = append.stream_seq;
        }
        effects.push(Effect::Appended { stream: stream.id, at, bytes: append.body });
    }
    if append.close {
        stream.closed = true;
        if append.producer.is_some() {
            stream.rare_mut().closed_by = append.producer;
        }
        effects.push(Effect::Closed { stream: stream.id });
    }
    if is_retained {
        trim::appended(state, &append.key, at, effects);
    }
    Ok(Reply::Appended(Appended { tail, closed: append.close, duplicate: false, producer }))
}

/// A closed stream answers only what closed it.
fn on_closed(stream: &Stream, append: &Append) -> Result<Appended, Error> {
    let closed_by = stream.rare.as_ref().and_then(|rare| rare.closed_by.as_ref());
    match &append.producer {
        // The closing append was the last one accepted, so it is the highest of its producer.
        Some(producer) if Some(producer) == closed_by => Ok(duplicate(stream, Some((producer.epoch, producer.seq)))),
        None if append.body.is_empty() => Ok(duplicate(stream, None)),
        _ => Err(Error::StreamClosed { tail: stream.tail }),
    }
}

fn duplicate(stream: &Stream, producer: Option<(u64, u64)>) -> Appended {
    Appended { tail: stream.tail, closed: stream.closed, duplicate: true, producer }
}

fn check_content_type(stream: &Stream, append: &Append) -> Result<(), Error> {
    let same = append.content_type.as_ref().is_some_and(|given| given.same_media_type(&stream.content_type));
    if same || append.body.is_empty() {
        Ok(())
    } else {
        Err(Error::ContentTypeMismatch { expected: stream.content_type.clone() })
    }
}

/// What the producer's numbers say.
enum Verdict {
    /// It was accepted before; epoch and highest sequence of the producer.
    Duplicate((u64, u64)),
    /// It is next.
    Accept(Place),
}

/// Where the new state of the producer goes.
enum Place {
    /// Instead of the old one.
    Known(usize),
    /// Here.
    New(usize),
    /// Instead of one that was silent for long.
    Evict(usize),
}

fn check_producer(stream: &Stream, producer: &Producer, now: Millis) -> Result<Verdict, Error> {
    let producers = stream.rare.as_ref().map_or(&[][..], |rare| &rare.producers);
    let gap = |expected| Err(Error::ProducerGap { expected, received: producer.seq });
    match producers.binary_search_by(|known| known.id.cmp(&producer.id)) {
        Err(_) if producer.seq != 0 => gap(0),
        Err(place) => new_producer(producers, place, now).map(Verdict::Accept),
        Ok(place) => {
            let known = &producers[place];
            if producer.epoch < known.epoch {
                Err(Error::StaleEpoch { current: known.epoch })
            } else if producer.epoch > known.epoch {
                if producer.seq == 0 { Ok(Verdict::Accept(Place::Known(place))) } else { Err(Error::EpochStart) }
            } else if producer.seq <= known.seq {
                Ok(Verdict::Duplicate((known.epoch, known.seq)))
            } else if producer.seq - known.seq == 1 {
                Ok(Verdict::Accept(Place::Known(place)))
            } else {
                gap(known.seq + 1)
            }
        }
    }
}

fn new_producer(producers: &[ProducerState], place: usize, now: Millis) -> Result<Place, Error> {
    if producers.len() < PRODUCERS_MAX {
        return Ok(Place::New(place));
    }
    let oldest = producers.iter().enumerate().min_by_key(|(_, known)| known.at);
    match oldest {
        Some((index, known)) if now.since(known.at) > PRODUCER_IDLE => Ok(Place::Evict(index)),
        _ => Err(Error::TooManyProducers),
    }
}

fn commit_producer(rare: &mut Rare, place: Place, producer: &Producer, now: Millis) {
    let Producer { id, epoch, seq } = producer.clone();
    let new = ProducerState { id, epoch, seq, at: now };
    match place {
        Place::Known(index) => rare.producers[index] = new,
        Place::New(index) => {
            if rare.producers.is_empty() {
                rare.producers.reserve_exact(1);
            }
            rare.producers.insert(index, new);
        }
        Place::Evict(index) => {
            rare.producers.remove(index);
            let index = rare.producers.partition_point(|known| known.id < new.id);
            rare.producers.insert(index, new);
        }
    }
}

/// Closing without a body takes no part in the order of `Stream-Seq`.
fn check_stream_seq(stream: &Stream, append: &Append) -> Result<(), Error> {
    let last = stream.rare.as_ref().and_then(|rare| rare.stream_seq.as_ref());
    match (&append.stream_seq, last) {
        (Some(seq), Some(last)) if !append.body.is_empty() && seq.as_bytes() <= last.as_bytes() => {
            Err(Error::StreamSeqConflict { tail: stream.tail })
        }
        _ => Ok(()),
    }
}

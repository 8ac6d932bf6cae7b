//! Snapshots: whoever publishes those of a stream, with every condition that there is, and those who read them.

use std::sync::Arc;

use rand::Rng as _;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use tokio::time::{sleep, timeout};

use crate::answer::{Answer, Done};
use crate::client::{Client, Request};
use crate::ledger::Shot;
use crate::load::read::SNAPSHOT;
use crate::load::{OUTAGE_MAX, PATIENCE, PAUSE, Shared, Slot, Stream};
use crate::record::place;
use crate::violation::{Lie, Violation};

/// One in so many changes removes the snapshot, if there is one.
const REMOVE_EVERY: u32 = 10;
/// One in so many snapshots is published where the one before is.
const SAME_PLACE_EVERY: u32 = 3;
const OTHER_TAG: &str = "\"00000000000000000000000000000000000000000000000000000000000000ff\"";

/// Under which condition something is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Condition {
    None,
    Absent,
    Tag,
    OtherTag,
}

/// What becomes of a publish that is heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Done,
    /// Nothing changes, for this reason.
    Refused(&'static str),
}

/// Who publishes the snapshots of a stream.
pub(crate) struct Publisher {
    pub(crate) stream: Arc<Stream>,
    /// The tag of the newest.
    tag: Option<String>,
    number: u32,
    /// Whether every copy of a publish was answered: a late one might undo a removal.
    clean: bool,
    /// Here a late copy of a removal might find one.
    removed: Option<u64>,
}

impl Publisher {
    pub(crate) fn new(stream: Arc<Stream>) -> Publisher {
        Publisher { stream, tag: None, number: 0, clean: true, removed: None }
    }

    /// Goes on with the stream that is in the slot now.
    pub(crate) fn move_on(&mut self, slot: &Slot) {
        let stream = slot.current();
        if !Arc::ptr_eq(&stream, &self.stream) {
            *self = Publisher::new(stream);
        }
    }

    /// Publishes a snapshot, or removes it.
    pub(crate) async fn step(
        &mut self,
        shared: &Shared,
        client: &mut Client,
        random: &mut StdRng,
    ) -> Result<(), Violation> {
        let newest = self.stream.ledger().newest_shot();
        match newest {
            Some(shot) if self.clean && random.random_ratio(1, REMOVE_EVERY) => self.remove(shared, client, shot).await,
            newest => self.publish(shared, client, random, newest).await,
        }
    }

    async fn publish(
        &mut self,
        shared: &Shared,
        client: &mut Client,
        random: &mut StdRng,
        newest: Option<Shot>,
    ) -> Result<(), Violation> {
        let at = {
            let ledger = self.stream.ledger();
            let (first, last) = (ledger.records_until(ledger.latest_beginning()), ledger.records());
            match newest {
                // It may have been trimmed behind the newest.
                Some(newest) if random.random_ratio(1, SAME_PLACE_EVERY) && newest.at >= ledger.boundary(first) => {
                    newest.at
                }
                _ => ledger.boundary(random.random_range(first..=last.max(first))),
            }
        };
        if self.removed.is_some_and(|removed| at <= removed) {
            return Ok(());
        }
        let known = newest.filter(|newest| newest.at == at);
        let shot = match known.filter(|_| random.random_ratio(1, 4)) {
            Some(same) => same,
            None => Shot { at, number: self.number },
        };
        let condition = *[Condition::None, Condition::None, Condition::Absent, Condition::Tag, Condition::OtherTag]
            .choose(random)
            .expect("there are some");
        let outcome = match condition {
            _ if newest.is_some_and(|newest| newest.at > at) => Outcome::Refused("snapshot_stale"),
            Condition::Absent if known.is_some() => Outcome::Refused("snapshot_mismatch"),
            Condition::Tag if known.is_none() => Outcome::Refused("snapshot_mismatch"),
            Condition::OtherTag => Outcome::Refused("snapshot_mismatch"),
            Condition::None if known.is_some_and(|known| known != shot) => Outcome::Refused("snapshot_differs"),
            Condition::None | Condition::Absent | Condition::Tag => Outcome::Done,
        };
        self.number += 1;
        let path = format!("{}/snapshot/{}", self.stream.path, self.stream.offset(at));
        let content = shot.content(self.stream.tag);
        let tag = self.tag.clone().unwrap_or(OTHER_TAG.to_owned());
        let mut headers = vec![("Content-Type", "application/octet-stream")];
        headers.extend(match condition {
            Condition::None => None,
            Condition::Absent => Some(("If-None-Match", "*")),
            Condition::Tag => Some(("If-Match", tag.as_str())),
            Condition::OtherTag => Some(("If-Match", OTHER_TAG)),
        });
        if outcome == Outcome::Done && known != Some(shot) {
            self.stream.ledger().shot_sent(Some(shot));
        }
        let request = Request { headers: &headers, body: &content, ..Request::new("PUT", &path) };
        let (answer, clean) = shared.settle(client, &request).await;
        self.clean &= clean;
        let place = format!("publish {shot:?} where {newest:?} is, {condition:?}");
        match (outcome, answer) {
            (_, Answer::Missing) if self.stream.is_gone() => Ok(()),
            (Outcome::Done, Answer::Published { new, tag }) if new == (known != Some(shot)) || !clean => {
                self.tag = Some(tag);
                self.stream.ledger().shot_done();
                Ok(())
            }
            // A copy that was sent before has done it, and the condition does not hold any more.
            (Outcome::Done, Answer::Conflict { code, tag: Some(tag) })
                if code == "snapshot_mismatch" && !clean && self.tag.as_ref() != Some(&tag) =>
            {
                self.tag = Some(tag);
                self.stream.ledger().shot_done();
                Ok(())
            }
            (Outcome::Refused(why), Answer::Conflict { code, .. }) if why == code => Ok(()),
            (_, answer) => Err(answer.unexpected(Lie::Unexpected).seen(place)),
        }
    }

    async fn remove(&mut self, shared: &Shared, client: &mut Client, shot: Shot) -> Result<(), Violation> {
        let path = format!("{}/snapshot/{}", self.stream.path, self.stream.offset(shot.at));
        self.stream.ledger().shot_sent(None);
        let (answer, clean) = shared.settle(client, &Request::new("DELETE", &path)).await;
        self.tag = None;
        if !clean {
            self.removed = Some(shot.at);
        }
        match answer {
            Answer::Done(Done { status: 204, .. }) => {
                self.stream.ledger().shot_done();
                Ok(())
            }
            Answer::Missing if self.stream.is_gone() => Ok(()),
            Answer::Missing if !clean => {
                self.stream.ledger().shot_done();
                Ok(())
            }
            answer => Err(answer.unexpected(Lie::Lost).seen(format!("remove {shot:?}"))),
        }
    }
}

impl Shared {
    /// Reads the newest snapshot of a stream.
    pub(crate) async fn look_at_snapshot(&self, client: &mut Client, stream: &Stream) -> Result<(), Violation> {
        let path = format!("{}/snapshot", stream.path);
        let looked = timeout(OUTAGE_MAX, async {
            loop {
                let since = stream.ledger().since();
                let response = client.request(&Request::new("GET", &path), PATIENCE).await;
                if stream.is_gone() {
                    return Ok(());
                }
                match response {
                    Ok(response) if response.status == 200 => {
                        let unknown = || Violation::new(Lie::Unexpected, "a snapshot without a place");
                        let (number, at) = response.header(SNAPSHOT).and_then(place).ok_or_else(unknown)?;
                        stream.is_own(number)?;
                        return stream.ledger().shown_shot(since, Some((at, &response.body)));
                    }
                    Ok(response) if response.has_code("snapshot_not_found") => {
                        return stream.ledger().shown_shot(since, None);
                    }
                    Ok(response) if response.status == 404 => {
                        return Err(Violation::new(Lie::Vanished, "404 for a stream that is there"));
                    }
                    Ok(response) if !matches!(response.status, 503 | 429) => {
                        let text = format!("{} {}", response.status, response.text());
                        return Err(Violation::new(Lie::Unexpected, text));
                    }
                    // It may have been replaced meanwhile.
                    _ => client.turn(),
                }
                sleep(PAUSE).await;
            }
        });
        looked.await.unwrap_or_else(|_| Err(Violation::new(Lie::Unexpected, format!("no answer for {OUTAGE_MAX:?}"))))
    }
}

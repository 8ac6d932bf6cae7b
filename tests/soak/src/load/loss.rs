//! A server that lost everything, and what came back: streams as packs have them, and nothing that packs knew to be gone.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};

use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::answer::{Answer, Done};
use crate::client::{Client, Request};
use crate::ledger::Restored;
use crate::load::life::{FIRST_STREAM, PRODUCER};
use crate::load::read::{EARLIEST, Ends, SNAPSHOT, beginning};
use crate::load::write::producers_of;
use crate::load::{OFFLOADED, PATIENCE, PAUSE, Shared, Stream};
use crate::record::{Record, offset, place};
use crate::violation::{Lie, Violation};

/// Streams that were deleted last and are remembered.
const DELETED_MAX: usize = 256;
/// One in so many streams is deleted at last.
const DELETE_EVERY: usize = 4;
/// Streams that are looked at, at the same time.
const READERS: usize = 8;

/// Which streams there are, by what clients were told.
#[derive(Default)]
pub(crate) struct Census {
    /// They were created, and nobody has begun to delete them.
    alive: BTreeMap<String, Arc<Stream>>,
    /// They were deleted, those that were so last at the end.
    deleted: VecDeque<Arc<Stream>>,
}

/// Up to where packs were seen to have streams, by their paths and the numbers in their offsets.
pub type Packed = BTreeMap<(String, u64), u64>;

/// A load that has ended. Cheap to clone.
#[derive(Clone)]
pub struct Ended(pub(crate) Arc<Shared>);

impl Shared {
    fn census(&self) -> MutexGuard<'_, Census> {
        self.census.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn born(&self, stream: &Arc<Stream>) {
        self.census().alive.insert(stream.path.clone(), stream.clone());
    }

    /// Somebody begins to create a stream: whether those before that had its name are gone can be seen no more.
    pub(crate) fn created_again(&self, path: &str) {
        self.census().deleted.retain(|stream| stream.path != path);
    }

    /// Somebody begins to delete it.
    pub(crate) fn dying(&self, path: &str) -> Option<Arc<Stream>> {
        self.census().alive.remove(path)
    }

    pub(crate) fn deleted(&self, stream: Arc<Stream>) {
        let mut census = self.census();
        census.deleted.push_back(stream);
        if census.deleted.len() > DELETED_MAX {
            census.deleted.pop_front();
        }
    }

    /// Whether the stream is there, and how much of it; all of it if packs had everything.
    async fn look_for(
        &self,
        client: &mut Client,
        stream: &Arc<Stream>,
        packed: Option<&Packed>,
    ) -> Result<bool, Violation> {
        let Some(packed) = packed else { return self.ask_tail(client, stream).await.map(|()| true) };
        let own = stream.number.load(Ordering::SeqCst);
        let seen = packed.get(&(stream.path.clone(), own)).copied();
        // What was acknowledged there was in packs.
        let whole = stream.is_offloaded();
        // It is left out if its source was restored up to a place before it.
        let must_be = whole || seen.is_some() && !stream.ledger().is_fork();
        let response = loop {
            match client.request(&Request::new("HEAD", &stream.path), PATIENCE).await {
                Ok(response) if !matches!(response.status, 503 | 429) => break response,
                Ok(_) | Err(_) => {
                    client.turn();
                    sleep(PAUSE).await;
                }
            }
        };
        let number = response.header("stream-next-offset").and_then(place).map(|(number, _)| number);
        match (response.status, number) {
            (200, Some(number)) if number == own => {
                let Ends { next: tail, closed, .. } = Ends::of(stream, &response)?;
                let begin = beginning(stream, response.header(EARLIEST))?;
                let snapshot = response.header(SNAPSHOT).and_then(place).map(|(_, at)| at);
                let mut ledger = stream.ledger();
                ledger.roll_back(seen.unwrap_or(0), whole, Restored { begin, tail, closed })?;
                ledger.begins_at_shot(begin, snapshot)?;
                Ok(true)
            }
            // An earlier stream of that name, if packs did not know yet that it was deleted.
            (200, Some(_)) if !must_be => Ok(false),
            (404 | 410, _) if !must_be => {
                self.deleted(stream.clone());
                Ok(false)
            }
            (status, _) => Err(Violation::new(
                Lie::Vanished,
                format!("{status} for a stream that packs had up to {seen:?}; all of it: {whole}"),
            )),
        }
    }

    /// What packs had of it is there and goes on: a producer where it was, and nothing if it was closed.
    async fn goes_on(&self, client: &mut Client, stream: &Stream) -> Result<(), Violation> {
        let Some(_) = self.read_on(client, stream, 0).await? else { return Ok(()) };
        if self.options.keepers > 0 {
            self.look_at_snapshot(client, stream).await?;
        }
        if !stream.ledger().is_open() {
            return Ok(());
        }
        let number = stream.tag.number();
        let producers: Vec<(u16, String)> = match number >= FIRST_STREAM {
            true => vec![(0, PRODUCER.to_owned())],
            false => producers_of(number as usize).map(|writer| (writer, writer.to_string())).collect(),
        };
        for (writer, id) in producers {
            let last = stream.ledger().last_of(writer);
            if let Some(seq) = last {
                match self.produce(client, stream, &id, writer, seq).await {
                    (Answer::Done(Done { status: 204, tail: Some(tail), .. }), _, since) => {
                        stream.ledger().told_tail(since, tail)?;
                    }
                    (answer, ..) => return Err(answer.unexpected(Lie::Twice).seen(format!("{id} repeats {seq}"))),
                }
            }
            let seq = last.map_or(0, |last| last + 1);
            let record = Record { tag: stream.tag, writer, seq };
            match self.produce(client, stream, &id, writer, seq).await {
                (Answer::Done(Done { status: 200, tail: Some(tail), .. }), _, since) => {
                    stream.ledger().acked(since, record, tail, None)?;
                }
                // A copy of it came before.
                (Answer::Done(Done { status: 204, tail: Some(tail), .. }), false, since) => {
                    stream.ledger().acked_again(since, record, tail)?;
                }
                (answer, ..) => return Err(answer.unexpected(Lie::Lost).seen(format!("{id} goes on with {seq}"))),
            }
        }
        Ok(())
    }

    /// Ops are acknowledged when they were before, where streams were acknowledged.
    async fn check_offloaded(&self) {
        let path = format!("/{OFFLOADED}");
        let headers = [("Bucket-Ack", "offloaded")];
        let request = Request { headers: &headers, ..Request::new("PUT", &path) };
        match self.settle(&mut self.client(0), &request).await.0 {
            Answer::Done(Done { status: 200, .. }) => {}
            answer => self.findings.add(answer.unexpected(Lie::Lost).seen(path)),
        }
    }

    /// Nobody finds what is gone; the next stream of that name has other offsets.
    async fn stays_gone(&self, client: &mut Client, stream: &Stream) -> Result<(), Violation> {
        match self.settle(client, &Request::new("HEAD", &stream.path)).await.0 {
            Answer::Missing => {}
            answer => return Err(answer.unexpected(Lie::Vanished).seen("a stream that was deleted")),
        }
        let headers = [("Content-Type", stream.format.content_type())];
        let request = Request { headers: &headers, ..Request::new("PUT", &stream.path) };
        let old = stream.number.load(Ordering::SeqCst);
        match self.settle(client, &request).await {
            (Answer::Done(Done { number, .. }), _) if number != old => {}
            // Its forks are still there, hidden or not.
            (Answer::Other(_) | Answer::Closed, _) => return Ok(()),
            (answer, _) => return Err(answer.unexpected(Lie::Stale).seen(format!("offsets again with number {old}"))),
        }
        let record = Record { tag: stream.tag, writer: 0, seq: 0 };
        let body = record.body(stream.format);
        let request = Request { headers: &headers, body: &body, ..Request::new("POST", &stream.path) };
        if let (answer @ Answer::Other(_), _) = self.settle(client, &request).await {
            return Err(answer.unexpected(Lie::Unexpected));
        }
        let path = format!("{}?offset={}", stream.path, offset(old, 1));
        match self.settle(client, &Request::new("GET", &path)).await.0 {
            Answer::Done(_) => Err(Violation::new(Lie::Stale, format!("bytes for the offset {}", offset(old, 1)))),
            _ => Ok(()),
        }
    }
}

impl Ended {
    /// Deletes some of the streams.
    pub async fn delete_some(self) {
        let paths: Vec<String> = self.0.census().alive.keys().step_by(DELETE_EVERY).cloned().collect();
        let mut client = self.0.client(0);
        for path in paths {
            self.0.delete(&mut client, &path).await;
        }
    }

    /// Judges a server that came in the place of the one that was lost: it has everything, or if packs did not have everything,
    /// at least what they were seen to have.
    pub async fn judge(self, packed: Option<Packed>) {
        let shared = self.0;
        let (alive, packed) = (shared.census().alive.clone(), Arc::new(packed));
        if packed.is_some() {
            // Whether packs knew of it nobody has seen, unless the answer waited for them.
            shared.census().deleted.retain(|stream| stream.is_offloaded());
        }
        each(&shared, alive.values(), |shared, mut client, stream| {
            let packed = packed.clone();
            async move {
                let result = match shared.look_for(&mut client, &stream, packed.as_ref().as_ref()).await {
                    Ok(true) => shared.goes_on(&mut client, &stream).await,
                    Ok(false) => {
                        stream.gone.store(true, Ordering::SeqCst);
                        Ok(())
                    }
                    Err(violation) => Err(violation),
                };
                shared.findings.check(format!("{} after the loss", stream.path), result);
            }
        })
        .await;
        if shared.options.offloaded {
            shared.check_offloaded().await;
        }
        for gateway in 0..shared.gateways.count() {
            each(&shared, alive.values(), |shared, _, stream| async move {
                let mut client = Client::staying(shared.gateways.clone(), gateway);
                shared.read_whole(&mut client, &stream).await;
            })
            .await;
        }
        // Of a name that was used more than once the last stream counts, unless there is one.
        let deleted = std::mem::take(&mut shared.census().deleted);
        let names: BTreeMap<&str, &Arc<Stream>> = deleted.iter().map(|stream| (stream.path.as_str(), stream)).collect();
        let gone = names.into_values().filter(|stream| alive.get(&stream.path).is_none_or(|alive| alive.is_gone()));
        each(&shared, gone, |shared, mut client, stream| async move {
            let result = shared.stays_gone(&mut client, &stream).await;
            shared.findings.check(format!("{} after the loss", stream.path), result);
        })
        .await;
    }
}

/// Does something with each stream, some at a time.
async fn each<'a, F: Future<Output = ()> + Send + 'static>(
    shared: &Arc<Shared>,
    streams: impl Iterator<Item = &'a Arc<Stream>>,
    work: impl Fn(Arc<Shared>, Client, Arc<Stream>) -> F,
) {
    let mut tasks = JoinSet::new();
    for (number, stream) in streams.enumerate() {
        if tasks.len() >= READERS {
            tasks.join_next().await;
        }
        tasks.spawn(work(shared.clone(), shared.client(number), stream.clone()));
    }
    while tasks.join_next().await.is_some() {}
}

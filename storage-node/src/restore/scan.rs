//! Reads the objects of a backup whole, one after the other, and says what is in them. Believes nothing that has no
//! checksum that fits; what is damaged is told and left out, and all else goes on.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::ready;
use futures_util::stream::{self, BoxStream, StreamExt};
use ursula_cold::history::Object;
use ursula_cold::pack::{Pack, Row, hash};
use ursula_cold::store::{Answer, Listed, Name, Put, Store, StoreError};
use ursula_common::{GroupId, Offset, StreamId, StreamKey};

use super::{Backup, Damage, damage};

/// Objects that are being read at a time; each is in memory whole.
const READS_MAX: usize = 4;

/// One object, read whole.
#[derive(Debug)]
pub struct Scan {
    /// The group.
    pub group: GroupId,
    /// Bytes of the object.
    pub bytes: u64,
    /// Its bytes of streams, as far as they are whole.
    pub pieces: Vec<Piece>,
    /// What is wrong with it.
    pub damages: Vec<Damage>,
}

/// Records of a stream that follow each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// The stream.
    pub stream: StreamId,
    /// Where they begin.
    pub start: Offset,
    /// Where they end.
    pub end: Offset,
    /// The pack with the bytes before them, if another one has these.
    pub prev: Option<u64>,
    /// The records.
    pub records: Vec<Bytes>,
}

/// Bytes of a stream that should be in a backup, and are not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    /// The group.
    pub group: GroupId,
    /// The stream.
    pub key: StreamKey,
    /// Its incarnation.
    pub id: StreamId,
    /// From where to where.
    pub ranges: Vec<Range<Offset>>,
}

/// The objects of a backup, those of a group in the order of its packs.
pub struct Objects(BoxStream<'static, Result<Scan, StoreError>>);

impl Objects {
    /// The next object.
    pub async fn next(&mut self) -> Option<Result<Scan, StoreError>> {
        self.0.next().await
    }
}

impl Scan {
    /// Reads all objects of a backup. Needs a tokio runtime.
    pub fn all(store: &Arc<dyn Store>, backup: &Backup) -> Objects {
        let objects: Vec<Object> =
            backup.groups.values().flat_map(|group| group.history.objects.iter().copied()).collect();
        let store = store.clone();
        let read = move |object| {
            let store = store.clone();
            let reading = tokio::spawn(async move { Scan::of(&*store, &object).await });
            async move { reading.await.unwrap_or_else(|error| Err(StoreError::Unavailable(error.to_string()))) }
        };
        Objects(stream::iter(objects).map(read).buffered(READS_MAX).boxed())
    }

    async fn of(store: &dyn Store, object: &Object) -> Result<Scan, StoreError> {
        let Object { head, bytes, hash: expected } = object;
        let (id, name) = (head.id, head.id.name());
        let mut scan = Scan { group: id.group, bytes: *bytes, pieces: Vec::new(), damages: Vec::new() };
        let body = match store.get(&name, 0..*bytes).await {
            Ok(body) => body,
            Err(error @ (StoreError::NotFound(_) | StoreError::Damaged { .. })) => {
                scan.damages.push(damage(id, error.to_string()));
                return Ok(scan);
            }
            Err(error) => return Err(error),
        };
        if expected.is_some_and(|expected| hash(&body) != expected) {
            let what = format!("object {id} is not the one that the pack after it was made for: its hash is another");
            scan.damages.push(damage(id, what));
        }
        let whole = Whole::new(name, body);
        match Pack::open_sized(&whole, id, *bytes).await {
            Ok(pack) => scan.take(&whole, &pack).await,
            Err(error) => scan.damages.push(damage(id, error.to_string())),
        }
        Ok(scan)
    }

    /// What a pack has that is in memory.
    pub(crate) async fn of_pack(whole: &Whole, pack: &Pack) -> Scan {
        let (group, bytes) = (pack.head().id.group, pack.bytes());
        let mut scan = Scan { group, bytes, pieces: Vec::new(), damages: Vec::new() };
        scan.take(whole, pack).await;
        scan
    }

    async fn take(&mut self, whole: &Whole, pack: &Pack) {
        for page in 0..pack.pages() {
            match pack.rows(whole, page).await {
                Ok(rows) => {
                    for row in rows {
                        self.take_row(whole, pack, &row).await;
                    }
                }
                Err(error) => self.damages.push(damage(pack.head().id, error.to_string())),
            }
        }
    }

    /// Takes the blocks of a row that are whole. Two that do not meet are two pieces, and what is between them is missed.
    async fn take_row(&mut self, whole: &Whole, pack: &Pack, row: &Row) {
        let mut reached = row.start;
        for page in row.pages() {
            let blocks = match pack.blocks_in(whole, row, page).await {
                Ok(blocks) => blocks,
                Err(error) => {
                    self.damages.push(damage(pack.head().id, error.to_string()));
                    continue;
                }
            };
            for block in blocks {
                let records = match pack.block(whole, &block).await {
                    Ok(records) => records,
                    Err(error) => {
                        self.damages.push(damage(pack.head().id, error.to_string()));
                        continue;
                    }
                };
                let bytes = records.iter().map(|record| record.len() as u64).sum::<u64>();
                let end = block.start.checked_add(bytes).filter(|end| block.start >= reached && *end <= row.end);
                match end {
                    Some(end) => self.join(row, block.start, end, records),
                    None => self.damages.push(damage(pack.head().id, "its rows contradict each other".to_owned())),
                }
                reached = end.unwrap_or(reached);
            }
        }
    }

    fn join(&mut self, row: &Row, start: Offset, end: Offset, records: Vec<Bytes>) {
        let Row { stream, prev, .. } = *row;
        match self.pieces.last_mut().filter(|piece| piece.stream == stream && piece.end == start) {
            Some(piece) => {
                piece.end = end;
                piece.records.extend(records);
            }
            None => {
                let prev = prev.filter(|_| start == row.start);
                self.pieces.push(Piece { stream, start, end, prev, records });
            }
        }
    }
}

/// Looks whether the pieces of streams follow each other up to where their records say that they end.
#[derive(Debug, Default)]
pub struct Tracker {
    reached: BTreeMap<(GroupId, StreamId), Offset>,
    lost: BTreeMap<(GroupId, StreamId), Vec<Range<Offset>>>,
}

impl Tracker {
    /// Takes the next piece of a stream; gives back what of it belongs to the stream as it is restored.
    pub fn take(&mut self, backup: &Backup, group: GroupId, mut piece: Piece) -> Option<Piece> {
        let image = backup.groups.get(&group)?.streams.get(&piece.stream)?;
        let (place, tail) = ((group, piece.stream), image.tail());
        let reached = self.reached.entry(place).or_insert(image.start());
        // A pack may have more of it than its newest record knows, and what was there before it was trimmed.
        while piece.end > tail.max(piece.start) {
            let last = piece.records.pop()?;
            piece.end = Offset(piece.end.0 - last.len() as u64);
        }
        if piece.end <= *reached {
            return None;
        }
        if piece.start > *reached {
            self.lost.entry(place).or_default().push(*reached..piece.start);
        }
        *reached = piece.end;
        Some(piece)
    }

    /// What is missing, once everything was taken.
    pub fn finish(mut self, backup: &Backup) -> Vec<Lost> {
        for (group, cut) in &backup.groups {
            for (id, image) in &cut.streams {
                let reached = self.reached.get(&(*group, *id)).copied().unwrap_or(image.start());
                if reached < image.tail() {
                    self.lost.entry((*group, *id)).or_default().push(reached..image.tail());
                }
            }
        }
        let key = |(group, id): (GroupId, StreamId)| Some(backup.groups.get(&group)?.streams.get(&id)?.key().clone());
        let lost = self.lost.into_iter();
        lost.filter_map(|((group, id), ranges)| Some(Lost { group, key: key((group, id))?, id, ranges })).collect()
    }
}

/// An object in memory, as the store that it came from.
#[derive(Debug)]
pub(crate) struct Whole {
    name: Name,
    body: Bytes,
}

impl Whole {
    pub(crate) fn new(name: Name, body: Bytes) -> Whole {
        Whole { name, body }
    }
}

impl Store for Whole {
    fn put<'a>(&'a self, _: &'a Name, _: Bytes) -> Answer<'a, Put> {
        Box::pin(ready(Err(StoreError::Denied("it is only read".to_owned()))))
    }

    fn get<'a>(&'a self, name: &'a Name, range: Range<u64>) -> Answer<'a, Bytes> {
        let there = *name == self.name && range.start <= range.end && range.end <= self.body.len() as u64;
        let bytes = there.then(|| self.body.slice(range.start as usize..range.end as usize));
        let short = || StoreError::Damaged { name: name.clone(), reason: "it is too short".to_owned() };
        Box::pin(ready(bytes.ok_or_else(short)))
    }

    fn size<'a>(&'a self, _: &'a Name) -> Answer<'a, u64> {
        Box::pin(ready(Ok(self.body.len() as u64)))
    }

    fn delete<'a>(&'a self, _: &'a Name) -> Answer<'a, ()> {
        Box::pin(ready(Err(StoreError::Denied("it is only read".to_owned()))))
    }

    fn list<'a>(&'a self, _: &'a Name, _: Option<&'a Name>) -> Answer<'a, Vec<Listed>> {
        Box::pin(ready(Ok(Vec::new())))
    }
}

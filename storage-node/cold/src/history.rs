//! The packs of a place, as they follow each other: from the newest of a group back to the first. Reads nothing but the ends
//! of objects; what is in them, and whether it is whole, is looked at by whoever reads them. Changes nothing.
//!
//! Not every object that lies there counts. A leader that was deposed may have stored a pack that nobody committed, and
//! what compaction has replaced goes later. The way back is certain: every pack names the object before it, by a name
//! that nobody else draws. Where it begins is not: of several objects with the newest number each was made by a leader that
//! had all before it, so any is a true history. Of those whose way back is whole the one is taken that was planned last: if
//! one of them was committed, it is this one (`group/packer.rs`), and ops may have been acknowledged because of it.
//! Then objects that were replaced are taken rather than the one in their place, as long as they are there: that one may
//! lack what only the newest pack says that nobody needs.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::{StreamExt, stream};
use ursula_common::{ClusterId, GroupId, Millis};

use crate::pack::{self, Hash, Head, Link, Pack, PackId};
use crate::store::{Name, Store, StoreError};

/// Objects whose ends are being read at a time.
const READS_MAX: usize = 32;

/// An object of a history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Object {
    /// What it says of itself.
    pub head: Head,
    /// Bytes of the whole object.
    pub bytes: u64,
    /// Its hash, if the pack after it says so.
    pub hash: Option<[u8; 32]>,
}

/// Packs that a history should have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// The first of them.
    pub first: u64,
    /// The last.
    pub last: u64,
    /// Their object, if it is known, and what is wrong with it.
    pub why: String,
}

/// The packs of one group.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History {
    /// Its objects, from the first pack to the newest.
    pub objects: Vec<Object>,
    /// What should be there too, in ascending order.
    pub missing: Vec<Missing>,
}

impl History {
    /// When the newest pack was made.
    pub fn made(&self) -> Option<Millis> {
        self.objects.last().map(|object| object.head.made)
    }
}

/// An object as it was found.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub(crate) id: PackId,
    pub(crate) bytes: u64,
    /// What it says of itself, or what is wrong with it.
    pub(crate) head: Result<Head, String>,
}

/// The histories of all groups of a cluster, up to a time if one is given.
///
/// # Errors
/// If the store does not answer; damage is no error.
pub async fn read(
    store: &Arc<dyn Store>,
    cluster: ClusterId,
    at: Option<Millis>,
) -> Result<BTreeMap<GroupId, History>, StoreError> {
    let folder = Name::parse("packs").expect("invariant: it is a name");
    let listed = pack::list(&**store, &folder).await?;
    let open = |(id, bytes): (PackId, u64)| async move {
        match Pack::open_sized(&**store, id, bytes).await {
            Ok(pack) => Ok(Some(Found { id, bytes, head: Ok(*pack.head()) })),
            // Deleted since it was listed.
            Err(StoreError::NotFound(_)) => Ok(None),
            Err(StoreError::Damaged { reason, .. }) => Ok(Some(Found { id, bytes, head: Err(reason) })),
            Err(error) => Err(error),
        }
    };
    let mut found: BTreeMap<GroupId, Vec<Found>> = BTreeMap::new();
    let mut opened = stream::iter(listed).map(open).buffered(READS_MAX);
    while let Some(object) = opened.next().await {
        if let Some(object) = object?.filter(|object| counts(object, cluster, at)) {
            found.entry(object.id.group).or_default().push(object);
        }
    }
    Ok(found.into_iter().map(|(group, found)| (group, History::of(&found))).collect())
}

/// Whether it is of the cluster, and of the time. What cannot be read may be.
fn counts(object: &Found, cluster: ClusterId, at: Option<Millis>) -> bool {
    object.head.as_ref().map_or(true, |head| head.cluster == cluster && at.is_none_or(|at| head.made <= at))
}

impl History {
    /// The history of the group that these objects are of.
    pub(crate) fn of(found: &[Found]) -> History {
        let mut by_last: BTreeMap<u64, Vec<&Found>> = BTreeMap::new();
        for object in found.iter().filter(|object| object.id.first > 0 && object.id.first <= object.id.last) {
            by_last.entry(object.id.last).or_default().push(object);
        }
        // What cannot be read is the beginning only if nothing else is.
        let readable = by_last.iter().filter(|(_, objects)| objects.iter().any(|object| object.head.is_ok()));
        let Some(newest) = readable.map(|(last, _)| *last).max() else { return History::unreadable(&by_last) };
        // An object that was merged may lack what only the newest pack says that nobody needs.
        let is_certain = by_last[&newest].len() == 1;
        let mut ways: BTreeMap<PackId, Way> = BTreeMap::new();
        for object in by_last.range(..=newest).flat_map(|(_, objects)| objects) {
            if let Ok(head) = &object.head {
                let way = Way::back(object, head, &by_last, &ways, is_certain);
                ways.insert(object.id, way);
            }
        }
        let mut tips: Vec<&Way> = by_last[&newest].iter().filter_map(|object| ways.get(&object.id)).collect();
        tips.sort_unstable_by_key(|way| {
            let Head { as_of, made, id, .. } = way.object.head;
            (way.missing, Reverse((as_of, made)), id)
        });
        let mut history = tips.first().map_or_else(History::default, |tip| tip.history(&ways));
        let beyond: Vec<Missing> = by_last.range(newest + 1..).filter_map(|(_, objects)| unreadable(objects)).collect();
        history.missing.extend(beyond);
        history
    }

    fn unreadable(by_last: &BTreeMap<u64, Vec<&Found>>) -> History {
        let missing = by_last.values().filter_map(|objects| unreadable(objects)).collect();
        History { objects: Vec::new(), missing }
    }
}

/// The way back from an object to the first pack, on which least is missing.
struct Way {
    object: Object,
    /// How often something is missing on it.
    missing: usize,
    /// What is missing next to the object, the newest first.
    gaps: Vec<Missing>,
    /// The object before, and its hash, if that is known.
    before: Option<(PackId, Option<Hash>)>,
}

impl Way {
    /// The ways back from all objects before it are known. Of objects with the same packs those that are to stay are taken, or, if
    /// `merged` is false, those that were replaced.
    fn back(
        found: &Found,
        head: &Head,
        by_last: &BTreeMap<u64, Vec<&Found>>,
        ways: &BTreeMap<PackId, Way>,
        merged: bool,
    ) -> Way {
        let object = Object { head: *head, bytes: found.bytes, hash: None };
        let mut way = Way { object, missing: 0, gaps: Vec::new(), before: None };
        let (mut above, mut wanted) = (head.id.first, head.prev);
        while above > 1 {
            let objects = by_last.get(&(above - 1)).map_or(&[][..], Vec::as_slice);
            let fitting = objects.iter().filter_map(|found| {
                let before = ways.get(&found.id)?;
                let hash = match wanted {
                    Some(link) => fits(&before.object.head, &link)?,
                    None => None,
                };
                Some((before, hash))
            });
            let best = fitting.min_by_key(|(before, _)| {
                let Object { head, bytes, .. } = before.object;
                let (of_merged, of_replaced) = match merged {
                    true => (Some((head.id.first, bytes)), None),
                    false => (None, Some(Reverse((head.id.first, bytes)))),
                };
                (before.missing, of_merged, of_replaced, head.id)
            });
            if let Some((before, hash)) = best {
                way.before = Some((before.object.head.id, hash));
                way.missing += before.missing;
                break;
            }
            let missing = missing(above, wanted, objects, by_last);
            (above, wanted) = (missing.first, None);
            way.gaps.push(missing);
            way.missing += 1;
        }
        way
    }

    fn history(&self, ways: &BTreeMap<PackId, Way>) -> History {
        let mut history = History::default();
        let mut here = Some((self, None));
        while let Some((way, hash)) = here {
            history.objects.push(Object { hash, ..way.object });
            history.missing.extend(way.gaps.iter().cloned());
            // Numbers only fall, so this ends whatever objects say.
            here = way.before.and_then(|(id, hash)| Some((ways.get(&id)?, hash)));
        }
        history.objects.reverse();
        history.missing.reverse();
        history
    }
}

/// Whether an object is the one that is named, or stands for it; and then its hash, if that is known.
fn fits(head: &Head, link: &Link) -> Option<Option<[u8; 32]>> {
    if head.id == link.id {
        return Some(Some(link.hash));
    }
    (head.merged == Some(*link)).then_some(None)
}

/// What is missing below a pack: the object that is named, or all packs down to the next object that there is.
fn missing(above: u64, wanted: Option<Link>, objects: &[&Found], by_last: &BTreeMap<u64, Vec<&Found>>) -> Missing {
    let last = above - 1;
    if let Some(link) = wanted.filter(|link| link.id.last == last && (1..=last).contains(&link.id.first)) {
        let damage = objects.iter().find(|found| found.id == link.id).and_then(|found| found.head.as_ref().err());
        let what = damage.map_or("is not there".to_owned(), |reason| format!("is damaged: {reason}"));
        return Missing { first: link.id.first, last, why: format!("object {} {what}", link.id) };
    }
    let next = by_last.range(..last).next_back().map_or(0, |(last, _)| *last);
    unreadable(objects).unwrap_or_else(|| Missing { first: next + 1, last, why: "no object has them".to_owned() })
}

/// Objects that nobody can read, if there is nothing else.
fn unreadable(objects: &[&Found]) -> Option<Missing> {
    let (found, reason) = objects.iter().find_map(|found| Some((found, found.head.as_ref().err()?)))?;
    let PackId { first, last, .. } = found.id;
    Some(Missing { first, last, why: format!("object {} is damaged: {reason}", found.id) })
}

#[cfg(test)]
mod tests;

//! Which streams of a backup go where in a new cluster, and which cannot. Pure.

use std::collections::{BTreeMap, BTreeSet};

use ursula_cold::pack::hash;
use ursula_common::cluster::Cluster;
use ursula_common::placement::SlotTable;
use ursula_common::verb::ForkLink;
use ursula_common::{ClusterId, GroupId, Offset, StreamId, StreamKey};
use ursula_stream_core::StreamImage;

use super::Backup;

/// Ids that are left free for streams that were made after the newest pack, and are lost: somebody may remember them.
const LOST_IDS: u64 = 1 << 20;

/// Offsets have one of so many numbers, by the ids of their streams.
const ROUND: u64 = Offset::NUMBERS - 1;

/// A stream of the old cluster.
pub(super) type Place = (GroupId, StreamId);

/// What goes where.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The new cluster.
    pub cluster: ClusterId,
    /// How many groups of it hold streams.
    pub data_groups: u32,
    /// The streams of each new group, under their new ids.
    pub groups: BTreeMap<GroupId, Vec<StreamImage>>,
    /// No stream of the new cluster that is made later may have an id below.
    pub next_stream: StreamId,
    /// What cannot be restored, and why.
    pub left_out: Vec<LeftOut>,
    /// The new place of each stream that is restored.
    pub(super) places: BTreeMap<Place, Place>,
}

/// A stream that cannot be restored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOut {
    /// The group that it was in.
    pub group: GroupId,
    /// The stream.
    pub key: StreamKey,
    /// Why.
    pub why: String,
}

impl Plan {
    /// A plan for a new cluster, without the streams that are damaged.
    pub fn new(backup: &Backup, damaged: &BTreeSet<(GroupId, StreamId)>, target: &Cluster) -> Plan {
        let mut plan = Plan {
            cluster: target.id,
            data_groups: target.data_groups(),
            groups: (1..=target.data_groups()).map(|group| (GroupId(group), Vec::new())).collect(),
            next_stream: StreamId(backup.next_stream.0 + LOST_IDS),
            left_out: Vec::new(),
            places: BTreeMap::new(),
        };
        let mut kept = plan.choose(backup, damaged);
        let snapshots = choose_snapshots(&mut kept);
        plan.give_places(&kept, &target.slots);
        plan.connect(&kept, &snapshots);
        plan
    }

    /// What is restored: the same number for the same, so that a run that was interrupted can go on.
    pub fn import(&self, backup: &Backup) -> u64 {
        let mut text = format!("{} {}", backup.cluster, self.cluster);
        for (group, cut) in &backup.groups {
            let newest = cut.history.objects.last().map(|object| object.head.id);
            text += &format!(" {group} {newest:?}");
        }
        for (from, to) in &self.places {
            text += &format!(" {from:?} {to:?}");
        }
        let hash = hash(text.as_bytes());
        hash.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
    }

    /// How many streams are restored, with those that only forks keep.
    pub fn streams(&self) -> usize {
        self.places.len()
    }

    /// Whether a stream of the old cluster is restored.
    pub fn restores(&self, group: GroupId, stream: StreamId) -> bool {
        self.places.contains_key(&(group, stream))
    }

    /// The streams that are restored, each under its old place. Of forks only those whose source is there.
    fn choose<'a>(
        &mut self,
        backup: &'a Backup,
        damaged: &BTreeSet<(GroupId, StreamId)>,
    ) -> BTreeMap<Place, &'a StreamImage> {
        let all = backup
            .groups
            .iter()
            .flat_map(|(group, cut)| cut.streams.iter().map(move |(id, image)| ((*group, *id), image)));
        let (bad, good): (Vec<_>, Vec<_>) = all.partition(|(place, _)| damaged.contains(place));
        for ((group, _), image) in bad {
            self.leave_out(group, image, "bytes of it are damaged or missing".to_owned());
        }
        let depth = |image: &StreamImage| image.fork().map_or(0, |link| link.depth);
        let mut good: Vec<(Place, &StreamImage)> = good;
        good.sort_by_key(|(_, image)| depth(image));
        let mut sources: BTreeMap<(&StreamKey, StreamId), &StreamImage> = BTreeMap::new();
        let mut kept: BTreeMap<Place, &StreamImage> = BTreeMap::new();
        for (place, image) in &good {
            let link = image.fork();
            let source = link.and_then(|link| sources.get(&(&link.source, link.source_id)));
            match (link, source) {
                (Some(link), None) => {
                    self.leave_out(place.0, image, format!("it is a fork of {}, which is not restored", link.source));
                }
                (Some(ForkLink { at, source: name, .. }), Some(source)) if source.tail() < *at => {
                    let why = format!("it is a fork of {name} at {at}, which is restored up to {}", source.tail());
                    self.leave_out(place.0, image, why);
                }
                _ => {
                    sources.insert((image.key(), image.id()), image);
                    kept.insert(*place, image);
                }
            }
        }
        // What only forks kept goes with them, the forks of forks first.
        let mut needed: BTreeSet<(&StreamKey, StreamId)> = BTreeSet::new();
        for (place, image) in good.iter().rev().filter(|(place, _)| kept.contains_key(place)).collect::<Vec<_>>() {
            match image.is_live() || needed.contains(&(image.key(), image.id())) {
                true => needed.extend(image.fork().map(|link| (&link.source, link.source_id))),
                false => drop(kept.remove(place)),
            }
        }
        kept
    }

    fn leave_out(&mut self, group: GroupId, image: &StreamImage, why: String) {
        // Nobody but its forks could see a hidden one.
        if image.is_live() {
            self.left_out.push(LeftOut { group, key: image.key().clone(), why });
        }
    }

    fn give_places(&mut self, kept: &BTreeMap<Place, &StreamImage>, slots: &SlotTable) {
        let first = self.next_stream.0;
        let mut next: BTreeMap<GroupId, u64> = BTreeMap::new();
        for (place, image) in kept {
            let group = slots.group_of(image.key());
            let next = next.entry(group).or_insert(first);
            self.places.insert(*place, (group, StreamId(*next)));
            *next += 1;
        }
        // Half a round from where the old cluster was: neither the streams that it had last nor those that are lost had a number
        // that the first new ones get.
        let next = next.values().copied().max().unwrap_or(first);
        let half = first - LOST_IDS + ROUND / 2;
        self.next_stream = StreamId(next + (half + ROUND - next % ROUND) % ROUND);
    }

    /// Gives the streams their new ids, and lets forks and their sources know of each other under these. Each has the snapshot
    /// that was chosen for it.
    fn connect(&mut self, kept: &BTreeMap<Place, &StreamImage>, snapshots: &BTreeMap<Place, u64>) {
        let ids: BTreeMap<(&StreamKey, StreamId), StreamId> = kept
            .iter()
            .filter_map(|(place, image)| Some(((image.key(), image.id()), self.places.get(place)?.1)))
            .collect();
        let mut forks: BTreeMap<(&StreamKey, StreamId), Vec<_>> = BTreeMap::new();
        for image in kept.values() {
            if let (Some(link), Some(id)) = (image.fork(), ids.get(&(image.key(), image.id()))) {
                forks.entry((&link.source, link.source_id)).or_default().push((*id, *image));
            }
        }
        for (place, image) in kept {
            let Some((group, id)) = self.places.get(place) else { continue };
            let mut new = (*image).clone();
            if let Some(source) = image.fork().and_then(|link| ids.get(&(&link.source, link.source_id))) {
                new.set_source(*source);
            }
            new.set_forks(forks.remove(&(image.key(), image.id())).unwrap_or_default().into_iter());
            new.set_snapshot(snapshots.get(place).copied());
            if new.key().name.is_companion() {
                new.stay();
            }
            new.place(*id, 0);
            self.groups.entry(*group).or_default().push(new);
        }
        // By their ids, as packs have them.
        self.groups.values_mut().for_each(|images| images.sort_by_key(StreamImage::id));
    }
}

/// Chooses of each stream with snapshots the newest whose bytes are there: it was packed at another moment than these. Uploads
/// that are no snapshot then are of no use to anybody.
fn choose_snapshots(kept: &mut BTreeMap<Place, &StreamImage>) -> BTreeMap<Place, u64> {
    let is_upload = |image: &StreamImage| image.key().name.is_companion();
    let uploads = kept.values().filter(|image| is_upload(image)).map(|image| (image.key(), *image));
    let uploads: BTreeMap<&StreamKey, &StreamImage> = uploads.collect();
    let is_whole = |key: StreamKey, bytes| uploads.get(&key).is_some_and(|upload| upload.is_whole(bytes));
    let newest = |image: &StreamImage| {
        let mut all = image.snapshots();
        all.find(|(upload, bytes)| is_whole(image.key().companion(*upload), *bytes)).map(|(upload, _)| upload)
    };
    let chosen: BTreeMap<Place, u64> =
        kept.iter().filter_map(|(place, image)| Some((*place, newest(image)?))).collect();
    let named = chosen.iter().filter_map(|(place, upload)| Some(kept.get(place)?.key().companion(*upload)));
    let named: BTreeSet<StreamKey> = named.collect();
    kept.retain(|_, image| !is_upload(image) || named.contains(image.key()));
    chosen
}

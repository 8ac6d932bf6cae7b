//! A place with packs of two groups, restored into the packs of a cluster with one group, and what is said of damage.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use ursula_cold::pack::{Builder, Head, Link, PackId};
use ursula_cold::store::{MemoryStore, Store};
use ursula_common::cluster::{Cluster, GroupRecord};
use ursula_common::packs::PackRef;
use ursula_common::placement::SlotTable;
use ursula_common::verb::{
    Append, Create, EndImport, ForkFrom, Import, ImportRun, Lifetime, Op, PublishSnapshot, Reply, Retention, SagaStep,
    SnapshotCondition,
};
use ursula_common::{ClusterId, ContentType, GroupId, Millis, NodeId, Offset, StreamId, StreamKey};
use ursula_stream_core::{Answer, Command, Destination, Effect, State};

use super::{Backup, Copier, Plan, Scan, Tracker};

const OLD: ClusterId = ClusterId(1);
const NEW: ClusterId = ClusterId(2);
const NOW: Millis = Millis(1_700_000_000_000);

/// Two groups of streams, their bytes, and the place where their packs are.
struct Old {
    store: Arc<dyn Store>,
    groups: BTreeMap<GroupId, State>,
    bytes: BTreeMap<(GroupId, StreamId), Vec<(Offset, Bytes)>>,
    slots: SlotTable,
}

fn key(name: &str) -> StreamKey {
    StreamKey::parse("default", name).expect("a name")
}

fn text(body: &str) -> Bytes {
    Bytes::copy_from_slice(body.as_bytes())
}

impl Old {
    fn new() -> Old {
        let groups = [1, 2].map(|group| (GroupId(group), State::new(GroupId(group), 2))).into();
        let (store, slots) = (Arc::new(MemoryStore::default()), SlotTable::spread(2));
        Old { store, groups, bytes: BTreeMap::new(), slots }
    }

    fn apply(&mut self, group: GroupId, op: Op) -> Answer {
        let mut effects = Vec::new();
        let state = self.groups.get_mut(&group).expect("a group");
        let answer = state.apply(Command { at: NOW, origin: None, op }, &mut effects);
        for effect in effects {
            match effect {
                Effect::Appended { stream, at, bytes } => {
                    self.bytes.entry((group, stream)).or_default().push((at, bytes));
                }
                Effect::Send(message) => {
                    let Destination::Stream(to) = message.to else { panic!("no buckets come or go") };
                    let Answer::Done(outcome) = self.apply(self.slots.group_of(&to), message.op) else {
                        panic!("it is decided at once")
                    };
                    let step = SagaStep { saga: message.saga, message: message.message, outcome };
                    self.apply(group, Op::SagaStep(step));
                }
                _ => {}
            }
        }
        answer
    }

    fn create(&mut self, name: &str, source: Option<&str>) {
        let create = Create {
            key: key(name),
            content_type: source.is_none().then(|| ContentType::parse("text/plain")),
            lifetime: Lifetime::Forever,
            retention: Retention { snapshot: name.starts_with("kept"), ..Retention::default() },
            closed: false,
            body: Bytes::new(),
            fork: source.map(|source| ForkFrom { source: key(source), offset: None, sub_offset: 0 }),
            numbered: true,
        };
        self.apply(self.slots.group_of(&key(name)), Op::Create(create));
    }

    fn append(&mut self, name: &str, body: &str) {
        let append = Append {
            key: key(name),
            content_type: Some(ContentType::parse("text/plain")),
            body: text(body),
            close: false,
            producer: None,
            stream_seq: None,
            expected_offset: None,
        };
        let answer = self.apply(self.slots.group_of(&key(name)), Op::Append(append));
        assert!(matches!(answer, Answer::Done(Ok(Reply::Appended(_)))), "{answer:?}");
    }

    fn delete(&mut self, name: &str) {
        self.apply(self.slots.group_of(&key(name)), Op::Delete(key(name)));
    }

    /// Uploads a snapshot of a stream that is kept from it on, and publishes it at its tail.
    fn publish(&mut self, name: &str, upload: u64, body: &str) {
        let group = self.slots.group_of(&key(name));
        let create = Create {
            key: key(name).companion(upload),
            content_type: None,
            lifetime: Lifetime::Ttl(60),
            retention: Retention::default(),
            closed: false,
            body: text(body),
            fork: None,
            numbered: true,
        };
        self.apply(group, Op::Create(create));
        let publish = PublishSnapshot {
            key: key(name),
            at: self.groups[&group].info(&key(name), NOW).expect("it is there").tail,
            cut: None,
            upload,
            content_type: ContentType::parse("text/plain"),
            bytes: body.len() as u64,
            digest: [upload as u8; 32],
            condition: SnapshotCondition::Any,
        };
        let answer = self.apply(group, Op::PublishSnapshot(publish));
        assert!(matches!(answer, Answer::Done(Ok(Reply::SnapshotPublished { new: true, .. }))), "{answer:?}");
    }

    /// Stores what each group has, of one stream as much at least as is given.
    async fn pack(&mut self, bytes_max: u64) {
        for group in [GroupId(1), GroupId(2)] {
            while self.pack_next(group, bytes_max, 2).await {}
        }
    }

    /// Stores the next pack of a group, if there is something for it.
    async fn pack_next(&mut self, group: GroupId, bytes_max: u64, streams_max: usize) -> bool {
        self.apply(group, Op::BeginPacks);
        let Some(plan) = self.groups[&group].plan_pack(bytes_max, streams_max) else { return false };
        let id = PackId { group, first: plan.pack, last: plan.pack, maker: plan.pack * 7 };
        let prev = plan.prev.map(|prev| Link { id: PackId::of(group, &prev), hash: prev.hash });
        let made = Millis(1000 * plan.pack);
        let mut builder = Builder::new(Head { cluster: OLD, id, made, as_of: 0, prev, merged: None });
        let mut planned: Vec<_> = plan.streams.iter().filter(|planned| planned.start < planned.end).collect();
        planned.sort_by_key(|planned| planned.id);
        for planned in planned {
            let all = self.bytes.get(&(group, planned.id)).map_or(&[][..], Vec::as_slice);
            let records: Vec<Bytes> =
                all.iter().filter(|(at, _)| *at >= planned.start).map(|(_, bytes)| bytes.clone()).collect();
            builder.add(planned.id, planned.start, Some(planned.prev).filter(|prev| *prev > 0), &records);
        }
        let packed = builder.finish(&plan.records);
        let ends: Vec<Offset> = plan.streams.iter().map(|planned| planned.end).collect();
        let bytes = packed.body.len() as u64;
        self.store.put(&id.name(), packed.body).await.expect("stored");
        let pack = PackRef { first: id.first, last: id.last, maker: id.maker, bytes, hash: packed.hash };
        let done = self.apply(group, Op::CommitPack(Box::new(plan.commit(pack, &ends))));
        assert_eq!(done, Answer::Done(Ok(Reply::Done)));
        true
    }
}

/// A place with streams that were written twice, a fork in each direction, and one stream that is gone.
async fn old() -> Old {
    let mut old = Old::new();
    for name in ["a", "b", "c", "d", "gone"] {
        old.create(name, None);
        old.append(name, &format!("first of {name};"));
    }
    old.pack(1 << 20).await;
    old.delete("gone");
    for name in ["a", "b"] {
        old.append(name, &format!("second of {name};"));
        old.create(&format!("fork-{name}"), Some(name));
        old.append(&format!("fork-{name}"), "own;");
    }
    old.pack(1 << 20).await;
    old
}

fn target() -> Cluster {
    let record = || GroupRecord { replicas: vec![NodeId(1)], begun: true };
    let groups = [0, 1].map(|group| (GroupId(group), record())).into();
    Cluster { id: NEW, version: 1, nodes: BTreeMap::new(), slots: SlotTable::spread(1), groups }
}

/// All streams of a backup: their own bytes, under their names.
async fn contents(store: &Arc<dyn Store>, backup: &Backup) -> BTreeMap<StreamKey, Bytes> {
    let (mut tracker, mut found) = (Tracker::default(), BTreeMap::<StreamKey, Vec<u8>>::new());
    let mut objects = Scan::all(store, backup);
    while let Some(scan) = objects.next().await {
        let scan = scan.expect("it can be read");
        assert_eq!(scan.damages, []);
        for piece in scan.pieces {
            if let Some(piece) = tracker.take(backup, scan.group, piece) {
                let image = &backup.groups[&scan.group].streams[&piece.stream];
                found.entry(image.key().clone()).or_default().extend(piece.records.concat());
            }
        }
    }
    assert_eq!(tracker.finish(backup), []);
    found.into_iter().map(|(key, bytes)| (key, bytes.into())).collect()
}

/// A new cluster of one group with everything that a backup has, and the place of its packs.
async fn restored(old: &Old, backup: &Backup) -> (Arc<dyn Store>, State, Plan) {
    let plan = Plan::new(backup, &BTreeSet::new(), &target());
    let mut group = State::new(GroupId(1), 1);
    let mut apply = |op| group.apply(Command { at: NOW, origin: None, op }, &mut Vec::new());
    let run = ImportRun { import: plan.import(backup), attempt: 1 };
    assert_eq!(apply(Op::BeginImport(run)), Answer::Done(Ok(Reply::ImportBegun(None))));
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let mut copier = Copier::new(store.clone(), &plan, BTreeMap::from([(GroupId(1), None)]), NOW);
    let (mut tracker, mut objects) = (Tracker::default(), Scan::all(&old.store, backup));
    while let Some(scan) = objects.next().await {
        let scan = scan.expect("it can be read");
        for piece in scan.pieces.into_iter().filter_map(|piece| tracker.take(backup, scan.group, piece)) {
            copier.take(scan.group, piece);
        }
        copier.after_object(scan.bytes).await.expect("stored");
    }
    for (packs, records) in copier.finish().await.expect("stored").remove(&GroupId(1)).expect("a group") {
        let done = apply(Op::Import(Box::new(Import { run, packs, records })));
        assert_eq!(done, Answer::Done(Ok(Reply::Done)));
    }
    let end = EndImport { run, streams: plan.streams() as u64, next_stream: plan.next_stream };
    assert_eq!(apply(Op::EndImport(end)), Answer::Done(Ok(Reply::Done)));
    group.check();
    (store, group, plan)
}

#[tokio::test]
async fn what_was_restored_can_be_restored() {
    let old = old().await;
    let backup = Backup::read(&old.store, OLD, None).await.expect("it is whole");
    assert!(backup.damages.is_empty() && backup.streams() == 6, "{backup:?}");
    let before = contents(&old.store, &backup).await;
    assert_eq!(before[&key("a")], text("first of a;second of a;"));
    assert_eq!(before[&key("fork-a")], text("own;"));

    let (store, group, plan) = restored(&old, &backup).await;
    assert!(plan.left_out.is_empty() && plan.groups[&GroupId(1)].len() == 6, "{plan:?}");
    let source = group.info(&key("a"), NOW).expect("it is there");
    let fork = group.info(&key("fork-a"), NOW).expect("it is there").fork.expect("a fork");
    assert_eq!((fork.source_id, fork.at), (source.id, source.tail));
    assert!(source.id >= backup.next_stream, "nobody remembers its id");
    let apart = (plan.next_stream.0 - backup.next_stream.0) % (Offset::NUMBERS - 1);
    assert_eq!(apart, (Offset::NUMBERS - 1) / 2, "new streams have numbers far from those that anybody remembers");

    let again = Backup::read(&store, NEW, None).await.expect("it is whole");
    assert!(again.damages.is_empty() && again.streams() == 6, "{again:?}");
    assert_eq!(contents(&store, &again).await, before);
}

#[tokio::test]
async fn what_was_before_is_there_as_it_was() {
    let old = old().await;
    let backup = Backup::read(&old.store, OLD, Some(Millis(1000))).await.expect("it is whole");
    let newest = backup.groups.values().map(|cut| cut.history.made());
    assert!(newest.into_iter().all(|made| made == Some(Millis(1000))), "the first pack of each group");
    let found = contents(&old.store, &backup).await;
    assert!(found.values().all(|content| content.starts_with(b"first of")), "{found:?}");
    assert!(
        Backup::read(&old.store, NEW, None).await.expect("it is read").groups.is_empty(),
        "it is of another cluster"
    );
}

#[tokio::test]
async fn what_is_damaged_or_missing_is_told() {
    let old = old().await;
    let whole = Backup::read(&old.store, OLD, None).await.expect("it is whole");
    let (group, object) =
        whole.groups.iter().find_map(|(group, cut)| Some((*group, *cut.history.objects.first()?))).expect("a pack");
    let name = object.head.id.name();
    let body = old.store.get(&name, 0..object.bytes).await.expect("it is there");
    // A byte of the first stream rots.
    let mut rotten = body.to_vec();
    rotten[20] ^= 1;
    old.store.delete(&name).await.expect("deleted");
    old.store.put(&name, rotten.into()).await.expect("stored");
    let backup = Backup::read(&old.store, OLD, None).await.expect("it is read");
    let (mut tracker, mut damages) = (Tracker::default(), 0);
    let mut objects = Scan::all(&old.store, &backup);
    while let Some(scan) = objects.next().await {
        let scan = scan.expect("it can be read");
        damages += scan.damages.len();
        scan.pieces.into_iter().for_each(|piece| drop(tracker.take(&backup, scan.group, piece)));
    }
    let lost = tracker.finish(&backup);
    assert!(damages > 0 && lost.len() == 1, "one stream has lost bytes: {lost:?}");
    assert_eq!(lost[0].ranges[0].start, backup.groups[&group].streams[&lost[0].id].start());
    let bad = lost.iter().map(|lost| (lost.group, lost.id)).collect();
    let plan = Plan::new(&backup, &bad, &target());
    let left_out: Vec<&StreamKey> = plan.left_out.iter().map(|out| &out.key).collect();
    assert!(left_out.contains(&&lost[0].key) && plan.streams() + left_out.len() == 6, "{left_out:?}");
    // The whole pack is gone.
    old.store.delete(&name).await.expect("deleted");
    let backup = Backup::read(&old.store, OLD, None).await.expect("it is read");
    assert!(
        backup.damages.iter().any(|damage| damage.group == group && damage.packs == (1, 1)),
        "{:?}",
        backup.damages
    );
}

#[tokio::test]
async fn a_fork_without_its_source_is_left_out() {
    let old = old().await;
    let backup = Backup::read(&old.store, OLD, None).await.expect("it is whole");
    let all = backup.groups.iter().flat_map(|(group, cut)| cut.streams.values().map(|image| (*group, image)));
    let source = all.into_iter().find(|(_, image)| *image.key() == key("a")).map(|(group, image)| (group, image.id()));
    let plan = Plan::new(&backup, &source.into_iter().collect(), &target());
    let left_out: BTreeSet<&str> = plan.left_out.iter().map(|out| out.key.name.as_str()).collect();
    assert_eq!(left_out, BTreeSet::from(["a", "fork-a"]));
    assert_eq!(plan.streams(), 4);
}

/// At each pack: the newest snapshot that is whole there, and the stream from no later place on.
#[tokio::test]
async fn of_snapshots_the_newest_is_found_that_is_whole() {
    let mut old = Old::new();
    for name in ["kept", "plain"] {
        old.create(name, None);
        old.append(name, "one.");
        old.publish(name, 1, "1");
    }
    old.pack(1 << 20).await;
    for name in ["kept", "plain"] {
        old.append(name, "two.");
        old.publish(name, 2, "one.two.");
    }
    let mut seen: BTreeSet<(String, u64, u64)> = BTreeSet::new();
    loop {
        let backup = Backup::read(&old.store, OLD, None).await.expect("it is whole");
        let (store, group, plan) = restored(&old, &backup).await;
        assert_eq!((plan.left_out.len(), plan.streams()), (0, 4), "each stream and its snapshot: {plan:?}");
        let again = Backup::read(&store, NEW, None).await.expect("it is whole");
        let found = contents(&store, &again).await;
        for name in ["kept", "plain"] {
            let info = group.info(&key(name), NOW).expect("it is there");
            let newest = info.snapshot.expect("it has one");
            let companion = key(name).companion(newest.upload);
            let stored = group.info(&companion, NOW).expect("its bytes are there");
            assert_eq!((stored.lifetime, stored.closed), (Lifetime::Forever, true));
            assert_eq!(found[&companion], text(if newest.upload == 1 { "1" } else { "one.two." }));
            let begins = if name == "kept" { newest.at } else { Offset::ZERO };
            assert_eq!(info.earliest, begins, "{name}");
            seen.insert((name.to_owned(), newest.upload, newest.at.0));
        }
        let groups = [GroupId(1), GroupId(2)];
        let mut any = false;
        for group in groups {
            any |= old.pack_next(group, 1 << 20, 1).await;
        }
        if !any {
            break;
        }
    }
    let both = |name: &str| [(name.to_owned(), 1, 4), (name.to_owned(), 2, 8)];
    assert_eq!(seen, ["kept", "plain"].map(both).concat().into_iter().collect());
}

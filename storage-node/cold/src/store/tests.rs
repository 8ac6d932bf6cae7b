//! One suite for every store, and what is particular to each.

use std::fs;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::TryStreamExt as _;

use super::fault::{Fault, FaultStore};
use super::{DirectoryStore, LISTED_MAX, Listed, MemoryStore, Name, Put, Store, StoreError};

pub(crate) fn name(text: &str) -> Name {
    Name::parse(text).expect("a name")
}

/// What every store must do that heeds conditions.
pub(crate) async fn suite(store: &dyn Store) {
    let object = name("once/only");
    assert_eq!(store.put(&object, Bytes::from_static(b"first")).await.expect("stored"), Put::Stored);
    assert_eq!(store.put(&object, Bytes::from_static(b"other")).await.expect("an answer"), Put::Exists);
    assert_eq!(store.get(&object, 0..5).await.expect("all"), "first");
    suite_without_conditions(store).await;
}

/// What every store must do.
pub(crate) async fn suite_without_conditions(store: &dyn Store) {
    let (first, second) = (name("a/one"), name("a/two-2"));
    let body = Bytes::from_static(b"bytes of an object");
    let bytes = body.len() as u64;

    assert!(matches!(store.get(&first, 0..1).await, Err(StoreError::NotFound(missing)) if missing == first));
    assert!(matches!(store.size(&first).await, Err(StoreError::NotFound(_))));
    assert_eq!(store.list(&name("a"), None).await.expect("an empty folder"), []);
    store.delete(&first).await.expect("what is not there is gone already");

    assert_eq!(store.put(&first, body.clone()).await.expect("stored"), Put::Stored);
    assert_eq!(store.size(&first).await.expect("a length"), bytes);
    assert_eq!(store.get(&first, 0..bytes).await.expect("all"), body);
    assert_eq!(store.get(&first, 6..8).await.expect("a part"), body.slice(6..8));
    let pieces = store.stream(&first, 1..bytes).await.expect("as they come").try_collect::<Vec<_>>().await;
    assert_eq!(pieces.expect("all").concat(), body.slice(1..));
    for range in [0..bytes + 1, bytes - 1..bytes + 7, bytes..bytes + 1] {
        let short = store.get(&first, range.clone()).await;
        assert!(matches!(short, Err(StoreError::Damaged { .. })), "{range:?}: {short:?}");
    }

    // A folder is not what only begins like it, and names are in order.
    for other in ["a/sub/three", "ab/four", "a-b"] {
        assert_eq!(store.put(&name(other), body.clone()).await.expect("stored"), Put::Stored);
    }
    assert_eq!(store.put(&second, Bytes::from_static(b"2")).await.expect("stored"), Put::Stored);
    let listed = |text: &str, bytes| Listed { name: name(text), bytes };
    let all = [listed("a/one", bytes), listed("a/sub/three", bytes), listed("a/two-2", 1)];
    assert_eq!(store.list(&name("a"), None).await.expect("a listing"), all);
    assert_eq!(store.list(&name("a"), Some(&first)).await.expect("a listing"), all[1..]);
    assert_eq!(store.list(&name("a"), Some(&second)).await.expect("a listing"), []);
    assert_eq!(store.list(&name("a/sub"), None).await.expect("a listing"), all[1..2]);

    store.delete(&first).await.expect("deleted");
    store.delete(&first).await.expect("deleted already");
    assert!(matches!(store.size(&first).await, Err(StoreError::NotFound(_))));
    assert_eq!(store.list(&name("a"), None).await.expect("a listing"), all[1..]);
    assert_eq!(store.put(&first, Bytes::from_static(b"new")).await.expect("stored"), Put::Stored);
    assert_eq!(store.get(&first, 0..3).await.expect("the new one"), "new");

    // A listing comes in pages.
    for number in 0..LISTED_MAX + 5 {
        store.put(&name(&format!("many/{number:05}")), Bytes::from_static(b"x")).await.expect("stored");
    }
    let page = store.list(&name("many"), None).await.expect("a page");
    assert_eq!(page.len(), LISTED_MAX);
    let last = &page.last().expect("an object").name;
    let rest = store.list(&name("many"), Some(last)).await.expect("a page");
    assert_eq!(
        rest.iter().map(|listed| listed.name.as_str()).collect::<Vec<_>>(),
        ["many/01000", "many/01001", "many/01002", "many/01003", "many/01004"]
    );
}

/// Two that store the same at the same time: one of them does. Not every server of S3's protocol can.
async fn one_wins(store: &dyn Store) {
    let contested = name("contested");
    let put = || store.put(&contested, Bytes::from_static(b"body"));
    let (one, two) = tokio::join!(put(), put());
    let outcomes = [one.expect("an answer"), two.expect("an answer")];
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == Put::Stored).count(), 1);
}

#[tokio::test]
async fn memory_is_a_store() {
    let store = MemoryStore::default();
    suite(&store).await;
    one_wins(&store).await;
}

#[tokio::test]
async fn a_directory_is_a_store() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = DirectoryStore::open(dir.path()).expect("a store");
    suite(&store).await;
    one_wins(&store).await;
}

#[tokio::test]
async fn a_store_with_faults_is_one_when_there_are_none() {
    suite(&FaultStore::new(Arc::new(MemoryStore::default()))).await;
}

#[test]
fn names_are_the_same_in_every_store() {
    for good in ["a", "packs/00000001/0-1", "a.b_c-d/9"] {
        assert_eq!(Name::parse(good).expect("a name").as_str(), good);
    }
    let long = "x".repeat(Name::BYTES_MAX + 1);
    for bad in ["", "/", "a/", "/a", "a//b", "..", "a/../b", ".a", "A", "a b", "ä", "a\\b", "a\0b", &long] {
        assert!(Name::parse(bad).is_err(), "{bad:?}");
    }
}

#[tokio::test]
async fn a_directory_keeps_its_objects_and_no_halves() {
    let dir = tempfile::tempdir().expect("a directory");
    let object = name("a/b/c");
    let store = DirectoryStore::open(dir.path()).expect("a store");
    store.put(&object, Bytes::from_static(b"kept")).await.expect("stored");
    fs::write(dir.path().join(".unfinished/7"), b"half").expect("what a crash leaves");
    fs::write(dir.path().join("a/Not An Object"), b"").expect("what somebody else left");
    drop(store);

    let store = DirectoryStore::open(dir.path()).expect("the same store");
    assert_eq!(store.get(&object, 0..4).await.expect("kept"), "kept");
    assert_eq!(store.list(&name("a"), None).await.expect("a listing").len(), 1);
    assert_eq!(fs::read_dir(dir.path().join(".unfinished")).expect("a folder").count(), 0);
}

#[tokio::test]
async fn a_directory_is_made_with_those_above_it() {
    let dir = tempfile::tempdir().expect("a directory");
    for _ in 0..2 {
        let store = DirectoryStore::open(dir.path().join("of/a/store")).expect("a store");
        store.put(&name("object"), Bytes::from_static(b"kept")).await.expect("stored, or there");
    }
    // A folder that leads nowhere.
    std::os::unix::fs::symlink("/no/such/folder", dir.path().join("link")).expect("a link");
    assert!(DirectoryStore::open(dir.path().join("link/store")).is_err());
}

#[tokio::test]
async fn a_directory_that_is_a_file_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("file");
    fs::write(&file, b"").expect("a file");
    assert!(DirectoryStore::open(&file).is_err());
}

#[tokio::test]
async fn faults_do_what_they_say() {
    let inner = Arc::new(MemoryStore::default());
    let store = FaultStore::new(inner.clone());
    let object = name("a/object");
    store.plan([Some(Fault::Refused), Some(Fault::Unanswered), None, Some(Fault::Flipped), Some(Fault::Stale)]);
    let body = Bytes::from_static(b"body");
    assert!(store.put(&object, body.clone()).await.expect_err("refused").is_transient());
    assert!(matches!(inner.size(&object).await, Err(StoreError::NotFound(_))), "nothing happened");
    assert!(store.put(&object, body.clone()).await.expect_err("unanswered").is_transient());
    assert_eq!(inner.size(&object).await.expect("it happened"), 4);
    assert_eq!(store.put(&object, body.clone()).await.expect("an answer"), Put::Exists);
    assert_ne!(store.get(&object, 0..4).await.expect("bytes"), body);
    assert_eq!(store.list(&name("a"), None).await.expect("a listing"), []);
    assert!(store.is_calm());
    store.plan([Some(Fault::Overwrites), Some(Fault::Denied), Some(Fault::NoPlace)]);
    assert_eq!(store.put(&object, Bytes::from_static(b"over")).await.expect("an answer"), Put::Stored);
    assert!(matches!(store.size(&object).await, Err(StoreError::Denied(_))));
    assert!(matches!(store.size(&object).await, Err(StoreError::NoPlace(_))));
    assert_eq!(store.get(&object, 0..4).await.expect("bytes"), "over");
}

//! Which path leads where.

use proptest::prelude::*;
use ursula_common::name::InvalidName;

use super::*;

#[test]
fn paths_that_name_streams() {
    let table = [
        ("/v1/stream/a", "default/a"),
        ("/v1/stream/a/b/c", "default/a/b/c"),
        ("/v1/stream/a%2Fb", "default/a/b"),
        ("/v1/stream/a%252Fb", "default/a%2Fb"),
        ("/v1/stream/%F0%9F%98%80%20x", "default/\u{1f600} x"),
        ("/v1/stream/\u{e4}", "default/\u{e4}"),
        ("/v1/stream/a+b", "default/a+b"),
        ("/v1/stream/v1/stream/a", "default/v1/stream/a"),
        ("/logs/a", "logs/a"),
        ("/%6Cogs/a/b", "logs/a/b"),
        ("/default/health", "default/health"),
        ("/logs/x/__ds", "logs/x/__ds"),
        ("/logs/snapshot", "logs/snapshot"),
        ("/logs/bootstrap", "logs/bootstrap"),
        ("/v1/stream/snapshot/a", "default/snapshot/a"),
        ("/logs/a/snapshot/b/c", "logs/a/snapshot/b/c"),
        ("/logs/a/bootstrap/b", "logs/a/bootstrap/b"),
        ("/logs/a/my-snapshot", "logs/a/my-snapshot"),
        ("/logs/a/snapshots/b", "logs/a/snapshots/b"),
        ("/v1/stream/yjs/s/docs/d/.snapshots/1", "default/yjs/s/docs/d/.snapshots/1"),
    ];
    for (path, expected) in table {
        match route(path) {
            Ok(Route::Stream(key)) => assert_eq!(key.to_string(), expected, "{path}"),
            other => panic!("{path}: {other:?}"),
        }
    }
}

#[test]
fn other_paths() {
    assert_eq!(route("/health"), Ok(Route::Health));
    assert_eq!(route("/ready"), Ok(Route::Ready));
    let logs = BucketName::parse("logs").expect("a bucket name");
    assert_eq!(route("/logs"), Ok(Route::Bucket(logs)));
}

#[test]
fn paths_beside_streams() {
    let key = |name| StreamKey::parse("logs", name).expect("a stream name");
    let at = Offset(Offset::first_of(1).0 + 42);
    let table = [
        ("/logs/a/snapshot", Route::NewestSnapshot(key("a"))),
        ("/logs/a%2Fsnap%73hot", Route::NewestSnapshot(key("a"))),
        ("/logs/snapshot/snapshot", Route::NewestSnapshot(key("snapshot"))),
        ("/logs/a/b/bootstrap", Route::Bootstrap(key("a/b"))),
        ("/logs/a/snapshot/0000000000000001_0000000000000042", Route::Snapshot(key("a"), at)),
        ("/logs/a/b/snapshot/0000000000000001%5F0000000000000042", Route::Snapshot(key("a/b"), at)),
    ];
    for (path, expected) in table {
        assert_eq!(route(path), Ok(expected), "{path}");
    }
}

#[test]
fn paths_that_lead_nowhere() {
    let table = [
        ("/", Rejection::NotFound),
        ("", Rejection::NotFound),
        ("*", Rejection::NotFound),
        ("/v1", Rejection::NotFound),
        ("/v1/", Rejection::NotFound),
        ("/v1/streams/a", Rejection::NotFound),
        ("/v1/stream", InvalidName::EmptyStream.into()),
        ("/v1/stream/", InvalidName::EmptyStream.into()),
        ("/logs/", InvalidName::EmptyStream.into()),
        ("/logs/a/", InvalidName::Segment.into()),
        ("/logs//a", InvalidName::Segment.into()),
        ("/logs/a/../b", InvalidName::Segment.into()),
        ("/logs/%2E%2E", InvalidName::Segment.into()),
        ("/logs/a%00", InvalidName::ControlCharacter.into()),
        ("/logs/__ds/subscriptions/x", InvalidName::ReservedStream.into()),
        ("/v1/stream/__ds%2Fjwks.json", InvalidName::ReservedStream.into()),
        ("/logs//snapshot", InvalidName::EmptyStream.into()),
        ("/logs//bootstrap", InvalidName::EmptyStream.into()),
        ("/logs/a//snapshot", InvalidName::Segment.into()),
        ("/logs/a//0123456789abcdef", InvalidName::Segment.into()),
        ("/logs/a//0123456789abcdef/bootstrap", InvalidName::Segment.into()),
        ("/logs/__ds/snapshot", InvalidName::ReservedStream.into()),
        ("/logs/a/snapshot/", Rejection::SnapshotPath),
        ("/logs/a/snapshot/-1", Rejection::SnapshotPath),
        ("/logs/a/snapshot/now", Rejection::SnapshotPath),
        ("/logs/a/snapshot/snapshot", Rejection::SnapshotPath),
        ("/logs/a/snapshot/bootstrap", Rejection::SnapshotPath),
        ("/metrics", InvalidName::ReservedBucket.into()),
        ("/%76%31/stream/a", InvalidName::ReservedBucket.into()),
        ("/UPPER/a", InvalidName::Bucket.into()),
        ("//a", InvalidName::Bucket.into()),
        ("/logs/%", Rejection::InvalidPath),
        ("/logs/%4", Rejection::InvalidPath),
        ("/logs/a%zz", Rejection::InvalidPath),
        ("/logs/a%4z", Rejection::InvalidPath),
        ("/logs/%ff", Rejection::InvalidPath),
        ("/%C3%28/a", Rejection::InvalidPath),
    ];
    for (path, expected) in table {
        assert_eq!(route(path), Err(expected), "{path}");
    }
}

proptest! {
    #[test]
    fn every_name_survives_encoding(name in "[^/\\p{C}]{1,40}") {
        prop_assume!(!matches!(&*name, "." | ".." | "__ds"));
        let path = format!("/logs/{}", percent_encoding::utf8_percent_encode(&name, percent_encoding::NON_ALPHANUMERIC));
        let key = StreamKey::parse("logs", &name).expect("a stream name");
        prop_assert_eq!(route(&path), Ok(Route::Stream(key)));
    }

    #[test]
    fn no_path_panics(path in "(/|%|v1|stream|\\PC|[0-9a-f]){0,40}") {
        _ = route(&path);
    }
}

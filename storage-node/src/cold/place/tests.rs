//! What settings say of the place of objects, and what they may not say.

use std::path::{Path, PathBuf};

use ursula_cold::store::{Encryption, S3Options};
use ursula_common::config::Settings as _;

use super::Place;
use crate::config::NodeConfig;
use crate::node::Formation;

fn config(store: &str) -> NodeConfig {
    NodeConfig { data_dir: Some(PathBuf::from("/data")), store: Some(store.to_owned()), ..NodeConfig::default() }
}

fn s3(config: &NodeConfig) -> S3Options {
    match Place::of(config) {
        Ok(Some(Place::S3(options))) => options,
        other => panic!("not a bucket: {other:?}"),
    }
}

#[test]
fn a_bucket_and_a_prefix_are_taken_apart() {
    let plain = s3(&config("s3://bucket"));
    assert_eq!((plain.bucket.as_str(), plain.prefix, plain.encryption), ("bucket", None, Encryption::OfBucket));
    assert_eq!(s3(&config("s3://bucket/")).prefix, None);
    for url in ["s3://bucket/of/mine", "s3://bucket/of/mine/"] {
        let below = s3(&config(url));
        assert_eq!(
            (below.bucket.as_str(), below.prefix.map(|prefix| prefix.to_string())),
            ("bucket", Some("of/mine".into()))
        );
    }
    let key = |text: &str| NodeConfig { store_encryption: Some(text.to_owned()), ..config("s3://bucket") };
    assert_eq!(s3(&key("sse-s3")).encryption, Encryption::S3);
    assert_eq!(s3(&key("sse-kms")).encryption, Encryption::Kms(None));
    assert_eq!(s3(&key("sse-kms:mine")).encryption, Encryption::Kms(Some("mine".into())));
    let directory = Place::of(&config("file:///objects"));
    assert!(matches!(directory, Ok(Some(Place::Directory(path))) if path == Path::new("/objects")));
    let local = Place::of(&config("local"));
    assert!(matches!(local, Ok(Some(Place::Directory(path))) if path == Path::new("/data/store")));
    assert!(matches!(Place::of(&config("none")), Ok(None)));
    assert!(matches!(Place::of(&NodeConfig::default()), Ok(None)));
}

#[test]
fn what_is_no_place_is_refused_with_what_would_be_one() {
    for (store, says) in [
        ("bucket", "must be s3://BUCKET, s3://BUCKET/PREFIX or file:///DIRECTORY"),
        ("s3://", "must be s3://BUCKET, s3://BUCKET/PREFIX or file:///DIRECTORY"),
        ("http://bucket", "must be s3://BUCKET, s3://BUCKET/PREFIX or file:///DIRECTORY"),
        ("s3://bucket/Of Mine", "the prefix in store: \"Of Mine\" is no name of an object"),
        ("file://objects", "must name a directory from the root on"),
    ] {
        let refused = config(store).check().expect_err(store);
        assert!(refused.contains(says), "{store}: {refused}");
    }
    let secret = NodeConfig { store_encryption: Some("aes".into()), ..config("s3://bucket") };
    assert!(secret.check().expect_err("no such way").contains("must be sse-s3, sse-kms or sse-kms:KEY"));
    let nowhere = NodeConfig { data_dir: None, ..config("s3://bucket") };
    assert_eq!(nowhere.check(), Err("store needs data_dir".to_owned()));
    assert_eq!(config("s3://bucket").check(), Ok(()));
    let nowhere = NodeConfig { data_dir: None, ..config("local") };
    assert_eq!(nowhere.check(), Err("store needs data_dir".to_owned()));
    assert_eq!(NodeConfig { data_dir: None, ..config("none") }.check(), Ok(()));
}

#[test]
fn a_local_store_keeps_little_twice() {
    let local = config("local");
    assert_eq!((local.log_bytes(), local.store_grace_ms()), (4 * local.segment_bytes, 60_000));
    let remote = config("s3://bucket");
    assert_eq!((remote.log_bytes(), remote.store_grace_ms()), (4 << 30, 3_600_000));
    let said = NodeConfig { log_bytes: Some(1 << 30), store_grace_ms: Some(5), ..local };
    assert_eq!((said.log_bytes(), said.store_grace_ms()), (1 << 30, 5));
}

#[tokio::test]
async fn several_nodes_do_not_share_a_directory() {
    for store in ["file:///objects", "local"] {
        let refused = Place::open(&config(store), Formation::Member).await.expect_err("a directory of one node");
        assert!(refused.contains("which the other nodes of a cluster do not have"), "{refused}");
    }
}

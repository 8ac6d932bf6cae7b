//! Whose directory it is, and what is refused without touching it.

use std::collections::BTreeMap;
use std::fs;

use tempfile::TempDir;
use ursula_common::clock::SystemClock;

use super::checkpoints::DIR as CHECKPOINTS;
use super::files::temporary;
use super::identity::{FILE as IDENTITY, checksum};
use super::*;

fn config() -> NodeConfig {
    NodeConfig {
        node_id: 3,
        groups: 4,
        cores: 1,
        segment_bytes: 24 << 20,
        disk_reserve_bytes: 0,
        ..NodeConfig::default()
    }
}

fn platform() -> Platform {
    Platform::system(Arc::new(SystemClock))
}

fn open(dir: &TempDir, config: &NodeConfig) -> Result<DataDir, DataDirError> {
    DataDir::open(&platform(), dir.path(), config, Formation::Member, || 42).map(|(dir, _)| dir)
}

/// What opening says against it; nothing may have changed.
fn refusal(dir: &TempDir, config: &NodeConfig) -> String {
    let before = files(dir.path());
    let refused = open(dir, config).err().expect("a refusal").to_string();
    assert_eq!(files(dir.path()), before, "a directory that is refused stays as it is");
    refused
}

fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        match path.is_dir() {
            true => files.extend(self::files(&path)),
            false => drop(files.insert(path.clone(), fs::read(&path).expect("a file"))),
        }
    }
    files
}

fn made() -> TempDir {
    let dir = TempDir::new().expect("a directory");
    drop(open(&dir, &config()).expect("a new data directory"));
    dir
}

#[test]
fn an_identity_is_drawn_once() {
    let dir = made();
    let again =
        DataDir::open(&platform(), dir.path(), &config(), Formation::Member, || 77).expect("the same directory").0;
    let expected = Identity::new(&config(), 42);
    assert_eq!(again.identity(), expected);
}

#[test]
fn a_cluster_is_joined_for_ever() {
    let dir = made();
    let node = open(&dir, &config()).expect("the directory");
    node.join("c0ffee", false).expect("a cluster");
    node.join("c0ffee", false).expect("the same again");
    assert!(node.join("decaf", false).expect_err("another").to_string().contains("c0ffee"));
    drop(node);
    let node = open(&dir, &config()).expect("the directory");
    assert_eq!(node.identity().cluster.as_deref(), Some("c0ffee"));
}

#[test]
fn what_a_forgotten_replica_had_is_kept() {
    let dir = made();
    let noted = |group, last| Forgotten { group, term: 7, last };
    let node = open(&dir, &config()).expect("the directory");
    assert_eq!(node.forgotten(GroupId(2)), None);
    for forgotten in [noted(2, 40), noted(3, 9), noted(2, 60)] {
        node.note_forgotten(forgotten).expect("a note");
    }
    drop(node);
    let node = open(&dir, &config()).expect("the directory");
    let kept = [1, 2, 3].map(|group| node.forgotten(GroupId(group)));
    assert_eq!(kept, [None, Some(noted(2, 60)), Some(noted(3, 9))]);
}

#[test]
fn settings_that_contradict_the_directory_are_refused() {
    let dir = made();
    let other_node = refusal(&dir, &NodeConfig { node_id: 4, ..config() });
    assert!(other_node.contains("belongs to node 3") && other_node.contains("node_id is 4"), "{other_node}");
    let other_groups = refusal(&dir, &NodeConfig { groups: 8, ..config() });
    assert!(other_groups.contains("set groups to 4"), "{other_groups}");
}

#[test]
fn two_processes_do_not_share_a_directory() {
    let dir = made();
    let _first = open(&dir, &config()).expect("the directory");
    let refused = open(&dir, &config()).err().expect("a refusal").to_string();
    assert!(refused.contains("another process uses"), "{refused}");
}

#[test]
fn what_is_no_data_directory_is_left_alone() {
    let dir = TempDir::new().expect("a directory");
    fs::write(dir.path().join("thesis.txt"), "dear").expect("a file");
    let refused = refusal(&dir, &config());
    assert!(refused.contains("not a data directory"), "{refused}");
}

fn signed(lines: &str) -> String {
    lines.to_owned() + &checksum(lines)
}

#[test]
fn an_identity_that_cannot_be_understood_is_refused() {
    for (text, says) in [
        ("", "missing field `format`"),
        ("format = 1\n", "its checksum is wrong"),
        (&signed("format = 1\n"), "missing field"),
        (&signed("format = 1\nnode_id = 3\nincarnation = \"2a\"\ngroups = 4\nmore = 1\n"), "unknown field"),
        ("format = 9\nfrom = \"the future\"\n", "has format 9, this version knows 1"),
        ("\u{0}\u{1}", "cannot be understood"),
    ] {
        let dir = made();
        fs::write(dir.path().join(IDENTITY), text).expect("an identity");
        let refused = refusal(&dir, &config());
        assert!(refused.contains(says), "{text:?}: {refused}");
    }
}

#[test]
fn a_directory_that_was_half_made_is_made_whole() {
    let dir = TempDir::new().expect("a directory");
    fs::write(dir.path().join(temporary(IDENTITY)), "form").expect("a torn file");
    fs::write(dir.path().join(LOCK), "").expect("a lock");
    open(&dir, &config()).expect("a new data directory");
}

fn checkpoint(node: &DataDir, group: GroupId) -> Option<Vec<u8>> {
    let file = node.open_checkpoint(group).expect("no error");
    file.map(|file| read_all(&*file).expect("a file"))
}

#[test]
fn a_checkpoint_takes_the_place_of_the_one_before() {
    let dir = made();
    let node = open(&dir, &config()).expect("the directory");
    assert_eq!(checkpoint(&node, GroupId(2)), None);
    node.write_checkpoint(GroupId(2), |put| put(b"first")).expect("a checkpoint");
    node.write_checkpoint(GroupId(2), |put| put(b"second")).expect("a checkpoint");
    fs::write(dir.path().join(CHECKPOINTS).join(temporary("00000002")), "torn").expect("a torn file");
    assert_eq!(checkpoint(&node, GroupId(2)).as_deref(), Some(&b"second"[..]));
    node.write_checkpoint(GroupId(2), |put| put(b"third")).expect("a checkpoint");
    assert_eq!(checkpoint(&node, GroupId(2)).as_deref(), Some(&b"third"[..]));
    assert_eq!(checkpoint(&node, GroupId(3)), None);
}

#[test]
fn a_checkpoint_that_is_read_stays_as_it_is() {
    let dir = made();
    let node = open(&dir, &config()).expect("the directory");
    let parts = |put: crate::checkpoint::Put<'_>| [&b"fi"[..], b"", b"rst"].into_iter().try_for_each(put);
    assert_eq!(node.write_checkpoint(GroupId(2), parts).expect("a checkpoint"), 5);
    let file = node.open_checkpoint(GroupId(2)).expect("no error").expect("a checkpoint");
    node.write_checkpoint(GroupId(2), |put| put(b"second")).expect("a checkpoint");
    assert_eq!(read_all(&*file).expect("a file"), b"first");
    let broken = node.write_checkpoint(GroupId(2), |put| put(b"third").and(Err(io::ErrorKind::Other.into())));
    assert!(broken.is_err());
    assert_eq!(checkpoint(&node, GroupId(2)).as_deref(), Some(&b"second"[..]));
}

/// TOML has no checksum, and most of what a bit can change is another valid value.
#[test]
fn an_identity_with_any_bit_flipped_is_refused() {
    let mut identity = Identity::new(&config(), 42);
    (identity.cluster, identity.standing) = (Some("f".repeat(32)), Standing::Member);
    let whole = identity.to_toml().into_bytes();
    let parse = |bytes: &[u8]| Identity::parse(bytes, Path::new("node"));
    assert_eq!(parse(&whole).ok(), Some(identity));
    for bit in 0..whole.len() * 8 {
        let mut bytes = whole.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(parse(&bytes).is_err(), "bit {bit}: {}", String::from_utf8_lossy(&bytes));
    }
    for len in 0..whole.len() {
        assert!(parse(&whole[..len]).is_err(), "{len} bytes");
    }
}

#[test]
fn a_node_that_was_removed_or_is_of_another_kind_is_refused() {
    let dir = made();
    open(&dir, &config()).expect("it opens").join("c0ffee", false).expect("it joins");
    let alone = |dir: &TempDir| {
        DataDir::open(&platform(), dir.path(), &config(), Formation::Alone, || 42).err().map(|error| error.to_string())
    };
    assert!(alone(&dir).expect("it is refused").contains("belongs to a node of cluster c0ffee, which has others"));
    open(&dir, &config()).expect("it opens").stand(Standing::Removed).expect("it is kept");
    assert!(refusal(&dir, &config()).contains("taken out of cluster c0ffee for ever"));
    let dir = made();
    open(&dir, &config()).expect("it opens").join("c0ffee", true).expect("it joins");
    assert_eq!(alone(&dir), None);
    assert!(refusal(&dir, &config()).contains("belongs to `ursula dev`"));
}

#[test]
fn a_log_that_is_gone_is_missed() {
    let dir = made();
    let opened = open(&dir, &config()).expect("it opens");
    opened.join("c0ffee", false).expect("it joins");
    opened.stand(Standing::Member).expect("it is kept");
    drop(opened);
    assert!(refusal(&dir, &config()).contains("holds nothing of the meta group, although the node is a member"));
    fs::remove_dir_all(dir.path().join("log")).expect("it goes");
    assert!(refusal(&dir, &config()).contains("log is not there"));
}

//! A disk fills up, fails when it should and keeps what was synced. Says nothing where mounting is not allowed.

use std::os::unix::fs::FileExt;

use super::*;

const MIB: usize = 1 << 20;

fn disk() -> Option<Disk> {
    match Disk::mount(64 << 20) {
        Ok(disk) => Some(disk),
        Err(error) => {
            println!("skipped: {error}");
            None
        }
    }
}

#[test]
fn a_full_disk_takes_nothing_until_there_is_room() {
    let Some(disk) = disk() else { return };
    let file = disk.path().join("file");
    disk.fill().expect("it fills");
    let error = fs::write(&file, vec![1; MIB]).expect_err("no space");
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    disk.make_room().expect("it empties");
    fs::write(&file, vec![1; MIB]).expect("space");
}

#[test]
fn a_failing_disk_refuses_to_sync_and_keeps_what_was_synced_before() {
    let Some(disk) = disk() else { return };
    let path = disk.path().join("log");
    let prepared = File::create(&path).expect("a file");
    (&prepared).write_all(&vec![0; 8 * MIB]).expect("space");
    prepared.sync_all().expect("synced");
    prepared.write_all_at(&[7; 4096], 0).expect("written");
    prepared.sync_data().expect("synced");

    disk.fail().expect("it fails");
    // Also where a part of it has its place: a record goes on where the last one ended.
    prepared.write_all_at(&[8; 3000], 3000).expect("written to memory only");
    prepared.sync_data().expect_err("not to be had on this disk");
    drop(prepared);

    disk.mend().expect("it is mended");
    let kept = fs::read(&path).expect("still there");
    assert_eq!((kept.len(), &kept[..3000]), (8 * MIB, &[7; 3000][..]));
}

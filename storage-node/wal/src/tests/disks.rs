//! One suite for all disks.

use std::io::ErrorKind;

use super::*;

fn suite(io: Arc<dyn Io>, root: &Path) {
    let dir = root.join("a/b");
    io.create_dir(&dir).unwrap();
    io.create_dir(&dir).unwrap();
    assert!(io.list(&dir).unwrap().is_empty());
    assert_eq!(io.list(&root.join("c")).unwrap_err().kind(), ErrorKind::NotFound);

    let (one, two) = (dir.join("one"), dir.join("two"));
    assert_eq!(io.open(&one).map(drop).unwrap_err().kind(), ErrorKind::NotFound);
    let file = io.create(&one).unwrap();
    assert_eq!(io.create(&one).map(drop).unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert_eq!(io.create(&root.join("c/x")).map(drop).unwrap_err().kind(), ErrorKind::NotFound);
    assert!(file.is_empty().unwrap());
    file.write_at(b"hello", 3).unwrap();
    file.sync_data().unwrap();
    assert_eq!(file.len().unwrap(), 8);
    let mut buf = [9; 8];
    file.read_at(&mut buf, 0).unwrap();
    assert_eq!(&buf, b"\0\0\0hello");
    assert_eq!(file.read_at(&mut buf, 1).unwrap_err().kind(), ErrorKind::UnexpectedEof);
    assert_eq!(file.read_at(&mut buf, 100).unwrap_err().kind(), ErrorKind::UnexpectedEof);

    io.create(&two).unwrap().write_at(b"old", 0).unwrap();
    io.rename(&one, &two).unwrap();
    io.sync_dir(&dir).unwrap();
    assert_eq!(io.list(&dir).unwrap(), ["two"]);
    assert_eq!(io.open(&two).unwrap().len().unwrap(), 8);
    file.write_at(b"J", 3).unwrap();
    let mut letter = [0];
    io.open(&two).unwrap().read_at(&mut letter, 3).unwrap();
    assert_eq!(&letter, b"J");
    assert_eq!(io.rename(&one, &two).unwrap_err().kind(), ErrorKind::NotFound);
    io.remove(&two).unwrap();
    assert_eq!(io.remove(&two).unwrap_err().kind(), ErrorKind::NotFound);
    assert!(io.list(&dir).unwrap().is_empty());

    let lock = dir.join("lock");
    let held = io.lock(&lock).unwrap();
    assert!(held.is_some());
    assert!(io.lock(&lock).unwrap().is_none());
    drop(held);
    assert!(io.lock(&lock).unwrap().is_some());
    assert!(io.free(&dir).unwrap() > 1 << 20);
}

#[test]
fn the_one_in_memory() {
    suite(Arc::new(FaultIo::new(1 << 30)), Path::new("/disk"));
}

#[test]
fn the_real_one() {
    let dir = tempfile::tempdir().unwrap();
    suite(Arc::new(SystemIo), dir.path());
}

#[test]
fn a_log_on_the_real_one() {
    let dir = tempfile::tempdir().unwrap();
    let open = |salt| LogDir::open(Arc::new(SystemIo), &dir.path().join("log"), options(salt));
    let (log, _) = open(1).unwrap();
    assert!(matches!(open(2), Err(OpenError::Locked { .. })));
    while log.prepare_spare().unwrap() {}
    let (mut appender, mut writer) = log.writer(0);
    let mut places = Vec::new();
    for index in 0..100 {
        places.push(appender.append(G, index, &[index as u8; 1000]));
        writer.write(appender.take().unwrap()).unwrap();
    }
    appender.put(G, Fact::Purged { index: 79 }, b"");
    writer.write(appender.take().unwrap()).unwrap();
    let removed = log.remove_before(places[80].segment).unwrap();
    assert!(removed.len() > 3);
    assert!(matches!(log.read(places[0]), Err(ReadError::Gone(_))));
    drop((log, appender, writer));

    let (log, found) = open(2).unwrap();
    let all = payloads(&log, &found.groups[&G]);
    assert_eq!(all.len(), 20);
    assert!(all.iter().all(|(index, payload)| payload[..] == [*index as u8; 1000]));
}

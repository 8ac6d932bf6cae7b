//! Whatever happened to the directory of a node: a process that cannot go on with it says in a sentence what is wrong
//! and what to do, ends with 1, and leaves every file as it is.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use tempfile::TempDir;
use ursula_tests::tree::{self, RECORD_HEADER_BYTES, Record, Tree};
use ursula_tests::{Http, Server, eventually, run};

const TEXT: (&str, &str) = ("Content-Type", "text/plain");
/// Small segments: directories are copied often.
const SMALL: &str = "segment_bytes = 25165824\ndisk_reserve_bytes = 0\n";
/// Enough to be in every group.
const STREAMS: usize = 40;
const HEADER_COPIES: [u64; 2] = [0, 2048];

fn stream(index: usize) -> String {
    format!("/v1/stream/bad/{index}")
}

fn line(index: usize, number: usize) -> String {
    format!("stream {index} line {number}\n")
}

/// A server on a directory, with more settings for the node.
fn serve(dir: &Path, settings: &str) -> Server {
    let file = settings_file(dir, settings);
    Server::dev_with(&["--config", text(&file), "--data-dir", text(dir)])
}

fn settings_file(dir: &Path, settings: &str) -> PathBuf {
    let file = dir.with_extension("toml");
    fs::write(&file, format!("[node]\n{SMALL}{settings}")).expect("a file");
    file
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path of text")
}

fn fill(http: &mut Http, lines: std::ops::Range<usize>) {
    for index in 0..STREAMS {
        for number in lines.clone() {
            assert_eq!(http.request("POST", &stream(index), &[TEXT], line(index, number)).status, 204);
        }
    }
}

#[track_caller]
fn assert_holds(server: &Server, lines: usize) {
    let mut http = server.connect();
    for index in 0..STREAMS {
        let expected: String = (0..lines).map(|number| line(index, number)).collect();
        assert_eq!(http.request("GET", &stream(index), &[], "").text(), expected, "stream {index}");
    }
}

/// A directory with two lines in each stream, written by two lives of a process that were killed.
fn written() -> &'static Path {
    static WRITTEN: OnceLock<TempDir> = OnceLock::new();
    let folder = WRITTEN.get_or_init(|| {
        let folder = TempDir::new().expect("a folder");
        let dir = folder.path().join("node");
        let server = serve(&dir, "");
        let mut http = server.connect();
        for index in 0..STREAMS {
            assert_eq!(http.request("PUT", &stream(index), &[TEXT], "").status, 201);
        }
        fill(&mut http, 0..1);
        server.gateway().kill();
        let server = serve(&dir, "");
        fill(&mut server.connect(), 1..2);
        server.gateway().kill();
        folder
    });
    Box::leak(folder.path().join("node").into_boxed_path())
}

/// A copy of it to spoil.
fn spoiled() -> (TempDir, PathBuf) {
    let folder = TempDir::new().expect("a folder");
    let dir = folder.path().join("node");
    tree::copy(written(), &dir);
    (folder, dir)
}

/// `ursula dev` does not start on a directory, says all of `words` in one line, and touches nothing.
#[track_caller]
fn assert_refused_with(dir: &Path, settings: &str, words: &[&str]) {
    let file = settings_file(dir, settings);
    let listen = ["--listen", "--operations-listen", "--node-operations-listen"];
    let mut args = vec!["dev", "--config", text(&file), "--data-dir", text(dir)];
    args.extend(listen.into_iter().flat_map(|flag| [flag, "127.0.0.1:0"]));
    assert_program_refuses(dir, "ursula", &args, words);
}

#[track_caller]
fn assert_program_refuses(dir: &Path, program: &str, args: &[&str], words: &[&str]) {
    let before = Tree::of(dir);
    let output = run(program, args, &[]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    let sentence =
        said.lines().find(|line| line.starts_with("error: ")).unwrap_or_else(|| panic!("no error in {said}"));
    assert!(words.iter().all(|word| sentence.contains(word)), "no {words:?} in {sentence}");
    assert!(!said.contains("panicked"), "{said}");
    assert_eq!(Tree::of(dir), before, "a directory that is refused stays as it is; {said}");
}

#[track_caller]
fn assert_refused(dir: &Path, words: &[&str]) {
    assert_refused_with(dir, "", words);
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir.join("log")).expect("a log").map(|entry| entry.expect("an entry").path());
    let mut found: Vec<PathBuf> = entries.filter(|path| path.extension().is_some_and(|end| end == "log")).collect();
    found.sort();
    found
}

/// An entry of a group with streams, after which there is more of its writer.
fn entry(dir: &Path) -> Record {
    let records = tree::records(dir);
    let entries = records.iter().filter(|record| record.kind == "entry" && record.group.is_some_and(|group| group > 0));
    entries.max_by_key(|record| (std::cmp::Reverse(record.segment.clone()), record.bytes)).expect("an entry").clone()
}

fn file_name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).expect("a name of text")
}

/// What a segment says its format is.
fn set_version(segment: &Path, version: u16) {
    for copy in HEADER_COPIES {
        tree::change(segment, copy, |header: &mut [u8; 64]| {
            header[8..10].copy_from_slice(&version.to_le_bytes());
            header[12..16].fill(0);
            let checksum = crc32c(header);
            header[12..16].copy_from_slice(&checksum.to_le_bytes());
        });
    }
}

fn crc32c(bytes: &[u8]) -> u32 {
    let bit = |crc: u32, _| if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
    !bytes.iter().fold(u32::MAX, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), bit))
}

#[test]
fn a_segment_that_was_cut_off() {
    let (_folder, dir) = spoiled();
    for segment in segments(&dir) {
        let len = fs::metadata(&segment).expect("a file").len();
        for left in [len - 4096, 4096, 100, 0] {
            let copy = segment.with_extension("whole");
            tree::copy(&segment, &copy);
            fs::OpenOptions::new().write(true).open(&segment).and_then(|file| file.set_len(left)).expect("it is cut");
            assert_refused(&dir, &[file_name(&segment), "cut off", "Restore"]);
            fs::rename(&copy, &segment).expect("it is back");
        }
    }
    assert_holds(&serve(&dir, ""), 2);
}

#[test]
fn a_segment_that_is_gone() {
    let (_folder, dir) = spoiled();
    fs::remove_file(&segments(&dir)[0]).expect("it was there");
    assert_refused(&dir, &["a segment is missing", "Restore"]);
    for segment in segments(&dir) {
        fs::remove_file(segment).expect("it was there");
    }
    assert_refused(&dir, &["nothing of the meta group", "files are missing", "Restore"]);
    fs::remove_dir_all(dir.join("log")).expect("it was there");
    assert_refused(&dir, &["log is not there", "restore it"]);
}

#[test]
fn a_segment_under_another_name() {
    let (_folder, dir) = spoiled();
    let last = segments(&dir).pop().expect("a segment");
    fs::rename(&last, dir.join("log/00000000000000ff.log")).expect("it is renamed");
    assert_refused(&dir, &["00000000000000ff.log holds segment", "give it back the name", file_name(&last)]);
}

#[test]
fn a_flipped_bit_in_an_entry() {
    let (_folder, dir) = spoiled();
    let Record { segment, at, group, bytes, .. } = entry(&dir);
    let group = format!("group {}", group.expect("of a group"));
    let place = format!("at byte {at}");
    for byte in [0, bytes / 2, bytes - 1] {
        tree::flip(&segment, at + RECORD_HEADER_BYTES + byte, 3);
        assert_refused(&dir, &[file_name(&segment), &place, &group, "restore the file"]);
        tree::flip(&segment, at + RECORD_HEADER_BYTES + byte, 3);
    }
    // Nobody can tell now whose it was.
    tree::flip(&segment, at + 17, 0);
    assert_refused(&dir, &[file_name(&segment), &place, "restore the file"]);
    tree::flip(&segment, at + 17, 0);
    assert_holds(&serve(&dir, ""), 2);
}

#[test]
fn a_flipped_bit_in_the_header_of_a_segment() {
    let (_folder, dir) = spoiled();
    let segment = &segments(&dir)[0];
    for copy in HEADER_COPIES {
        tree::flip(segment, copy + 20, 1);
    }
    assert_refused(&dir, &["the header of", file_name(segment), "is damaged", "Restore"]);
    // The other copy does.
    tree::flip(segment, HEADER_COPIES[1] + 20, 1);
    assert_holds(&serve(&dir, ""), 2);
}

#[test]
fn a_flipped_bit_in_the_identity() {
    let (_folder, dir) = spoiled();
    let identity = dir.join("identity.toml");
    let text = fs::read_to_string(&identity).expect("a file");
    let groups = text.find("groups = 8").expect("it is there") + "groups = ".len();
    tree::flip(&identity, groups as u64, 0);
    assert!(fs::read_to_string(&identity).expect("a file").contains("groups = 9"));
    assert_refused(&dir, &["identity.toml", "its checksum is wrong", "restore it"]);
    assert_refused_with(&dir, "groups = 9\n", &["its checksum is wrong"]);
    fs::write(&identity, "").expect("it is emptied");
    assert_refused(&dir, &["identity.toml", "cannot be understood"]);
    fs::remove_file(&identity).expect("it is removed");
    assert_refused(&dir, &["holds the data of a node, but no identity.toml", "restore that"]);
}

#[test]
fn a_checkpoint_that_is_damaged_or_gone() {
    let folder = TempDir::new().expect("a folder");
    let dir = folder.path().join("node");
    let server = serve(&dir, "");
    let mut http = server.connect();
    assert_eq!(http.request("PUT", "/v1/stream/bad/large", &[TEXT], "").status, 201);
    let large = "x".repeat(12 << 20);
    for _ in 0..4 {
        assert_eq!(http.request("POST", "/v1/stream/bad/large", &[TEXT], &large).status, 204);
    }
    let checkpoint = eventually("a checkpoint", || {
        let mut entries =
            fs::read_dir(dir.join("checkpoints")).expect("a folder").map(|entry| entry.expect("an entry"));
        entries.find(|entry| entry.path().extension().is_none()).map(|entry| entry.path())
    });
    server.gateway().kill();
    let len = fs::metadata(&checkpoint).expect("a file").len();
    for byte in [9, len / 2, len - 1] {
        tree::flip(&checkpoint, byte, 5);
        assert_refused(&dir, &[text(&checkpoint), "is damaged", "restore the file"]);
        tree::flip(&checkpoint, byte, 5);
    }
    tree::change(&checkpoint, 7, |version: &mut [u8; 1]| version[0] = 9);
    assert_refused(&dir, &[text(&checkpoint), "has format 9", "use the version that wrote it"]);
    tree::change(&checkpoint, 7, |version: &mut [u8; 1]| version[0] = 1);
    let whole = serve(&dir, "").request("GET", "/v1/stream/bad/large?offset=-1", &[], "");
    assert_eq!(whole.status, 200, "{}", whole.head.status);
}

#[test]
fn a_newer_format() {
    let (_folder, dir) = spoiled();
    let segment = &segments(&dir)[0];
    set_version(segment, 2);
    assert_refused(&dir, &[file_name(segment), "has format 2", "start the release that wrote it"]);
    set_version(segment, 1);
    let identity = dir.join("identity.toml");
    let whole = fs::read_to_string(&identity).expect("a file");
    fs::write(&identity, whole.replace("format = 1", "format = 2")).expect("it is written");
    assert_refused(&dir, &["has format 2", "use the version that wrote it"]);
    fs::write(&identity, whole).expect("it is written");
    assert_holds(&serve(&dir, ""), 2);
}

#[test]
fn a_directory_of_something_else() {
    let folder = TempDir::new().expect("a folder");
    let dir = folder.path().join("photos");
    fs::create_dir(&dir).expect("a folder");
    fs::write(dir.join("cat.jpg"), "not a log").expect("a file");
    assert_refused(&dir, &["is not empty and has no identity.toml", "choose an empty one"]);
    // Within a directory that is ours.
    let (_folder, dir) = spoiled();
    let stranger = dir.join("log/backup-of-today.log");
    fs::write(&stranger, "not a segment").expect("a file");
    assert_refused(&dir, &["backup-of-today.log is not a segment", "move it"]);
    fs::remove_file(stranger).expect("it was there");
    let stranger = dir.join("log/00000000000000aa.log");
    fs::write(&stranger, "not a segment".repeat(1000)).expect("a file");
    assert_refused(&dir, &["00000000000000aa.log is not a segment", "move it"]);
    fs::remove_file(&stranger).expect("it was there");
    // A segment of another node.
    let other = folder.path().join("other");
    serve(&other, "").gateway().kill();
    fs::copy(&segments(&other)[0], &stranger).expect("a copy");
    assert_refused(&dir, &["00000000000000aa.log", "another node"]);
}

#[test]
fn settings_that_contradict_the_directory() {
    let (_folder, dir) = spoiled();
    assert_refused_with(&dir, "node_id = 7\n", &["belongs to node 1, but node_id is 7", "correct one"]);
    for groups in [1, 7, 9, 256] {
        let words = ["was made with 8 groups", "streams would not be found", "set groups to 8"];
        assert_refused_with(&dir, &format!("groups = {groups}\n"), &words);
    }
    let listen = ["--listen", "127.0.0.1:0", "--operations-listen", "127.0.0.1:0"];
    let node = [&["--data-dir", text(&dir)], &listen[..]].concat();
    assert_program_refuses(&dir, "ursula-storage-node", &node, &["belongs to `ursula dev`", "start it with"]);
    assert_holds(&serve(&dir, ""), 2);
}

#[test]
fn two_processes_on_one_directory() {
    let (_folder, dir) = spoiled();
    let server = serve(&dir, "");
    // The first one writes its housekeeping as it likes: only the second must not.
    let file = settings_file(&dir, "");
    let listen = ["--listen", "--operations-listen", "--node-operations-listen"];
    let mut args = vec!["dev", "--config", text(&file), "--data-dir", text(&dir)];
    args.extend(listen.into_iter().flat_map(|flag| [flag, "127.0.0.1:0"]));
    let output = run("ursula", &args, &[]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("error: another process uses the data directory"), "{said}");
    assert!(said.contains("stop it, or choose another directory"), "{said}");
    fill(&mut server.connect(), 2..3);
    server.gateway().kill();
    assert_holds(&serve(&dir, ""), 3);
}

#[test]
fn another_number_of_cores_opens_with_everything() {
    let (_folder, dir) = spoiled();
    let mut lines = 2;
    for cores in [4, 1, 9, 2] {
        let server = serve(&dir, &format!("cores = {cores}\n"));
        assert_holds(&server, lines);
        fill(&mut server.connect(), lines..lines + 1);
        lines += 1;
        assert_holds(&server, lines);
        server.gateway().kill();
    }
}

/// Sizes may change, too: they hide nothing.
#[test]
fn other_sizes_open_with_everything() {
    let (folder, dir) = spoiled();
    let settings = "segment_bytes = 33554432\nring_bytes = 268435456\ndisk_reserve_bytes = 0\n";
    let file = folder.path().join("other.toml");
    fs::write(&file, format!("[node]\n{settings}")).expect("a file");
    let server = Server::dev_with(&["--config", text(&file), "--data-dir", text(&dir)]);
    assert_holds(&server, 2);
    fill(&mut server.connect(), 2..3);
    server.gateway().kill();
    assert_holds(&serve(&dir, ""), 3);
}

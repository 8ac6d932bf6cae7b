//! Nodes of a cluster that came back with something wrong: damaged, emptied, with the directory of another cluster,
//! or talked to by whoever likes. The others must go on, the node must say what is wrong, and there is a way back.

#[path = "bad_members/world.rs"]
mod world;

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;

use ursula_tests::tree::{self, RECORD_HEADER_BYTES, Record};
use ursula_tests::{Member, Process, eventually, run};
use world::{SMALL, STREAMS, TEXT, World, stream};

/// An entry of a group, near the beginning of the log.
fn entry_of(records: &[Record], wanted: impl Fn(u64) -> bool) -> Record {
    let found = records.iter().find(|record| record.kind == "entry" && record.group.is_some_and(&wanted));
    found.expect("an entry").clone()
}

#[test]
fn one_damaged_group_is_refused_and_repaired() {
    let mut world = World::new();
    let mut group = 0;
    world.spoil(3, |records| {
        let Record { segment, at, group: of, .. } = entry_of(records, |group| group > 0);
        group = of.expect("of a group");
        tree::flip(&segment, at + RECORD_HEADER_BYTES, 2);
    });
    let sentence = format!("group {group} is not served by this node: its log is damaged in file ");
    let ready = world.ready(3).text();
    assert!(ready.starts_with(&sentence) && ready.contains("`ursula cluster repair`"), "{ready}");
    assert!(world.status(1).contains(&format!("node 3 is damaged: {sentence}")), "{}", world.status(1));
    assert_eq!((world.refused(3, 2), world.refused(1, 2)), (vec![group], vec![]));

    // The cluster serves all groups, and node 3 takes part in the others.
    world.append("second ");
    world.assert_all_there();
    let metrics = eventually("node 3 to lead something", || {
        let led = world.cluster.leaders().into_values().filter(|leader| *leader == 3).count();
        (led > 0).then_some(led)
    });
    assert!(metrics < 9);
    // It would take the majority of that group away.
    world.refusal(&["drain", "1"], 1, &format!("group {group} has only 1 of 3 voters without node 1"));
    assert_eq!(world.output(3).matches(&sentence).count(), 1, "it is said once:\n{}", world.output(3));

    let planned = world.command(&["repair", "3", "--dry-run"], 1);
    assert!(planned.contains(&format!("node 3 forgets its replicas of groups {group}")), "{planned}");
    assert_eq!(world.refused(3, 1), [group], "nothing was done");
    let done = world.command(&["repair", "3"], 1);
    assert!(done.contains(&format!("node 3 has whole replicas of groups {group} again")), "{done}");
    world.until_ready(3);
    let again = world.command(&["repair", "3"], 2);
    assert!(again.contains("there is nothing to repair"), "{again}");
    world.append("third ");

    // What it has is good enough for a majority, and it stays so.
    world.cluster.kill(Member::Node(1));
    world.append("fourth ");
    world.assert_all_there();
    world.cluster.start_member(Member::Node(1));
    world.cluster.restart(Member::Node(3));
    world.until_ready(3);
    world.cluster.kill(Member::Node(2));
    world.append("fifth ");
    world.assert_all_there();
}

/// Nobody has noticed until somebody reads it.
#[test]
fn what_a_node_has_lost_while_it_runs_is_told_and_repaired() {
    let mut world = World::with(&["--cores", "1", "--ring-bytes", "33554432"]);
    let mut http = world.connect();
    // What came before is not in memory any more.
    assert_eq!(http.request("PUT", &stream(STREAMS), &[TEXT], "").status, 201);
    let filler = "x".repeat(1 << 20);
    for _ in 0..40 {
        assert_eq!(http.request("POST", &stream(STREAMS), &[TEXT], &filler).status, 204);
    }
    let (group, node) = world.cluster.leaders().into_iter().find(|(group, _)| *group > 0).expect("it is led");
    let records = tree::records(&world.cluster.data_folder(node));
    let text = records.iter().filter(|record| record.group == Some(group)).find_map(|record| {
        let segment = std::fs::read(&record.segment).expect("a segment");
        let (begin, end) = (record.at as usize, (record.at + RECORD_HEADER_BYTES + record.bytes) as usize);
        let at = segment[begin..end].windows(6).position(|bytes| bytes == b"first ")?;
        Some((record.segment.clone(), record.at + at as u64))
    });
    let (segment, at) = text.expect("a record with text");
    tree::flip(&segment, at, 2);
    world.assert_all_there();

    let sentence = format!("group {group} has lost something on this node: bytes of segment ");
    eventually("the node to say so", || {
        let ready = world.ready(node);
        (ready.status == 503 && ready.text().starts_with(&sentence)).then_some(())
    });
    assert!(world.ready(node).text().contains("`ursula cluster repair`"));
    assert!(world.status(1).contains(&format!("node {node} is damaged: {sentence}")), "{}", world.status(1));
    eventually("another one to lead", || (world.cluster.leaders()[&group] != node).then_some(()));
    world.append("second ");
    world.assert_all_there();
    let done = world.command(&["repair", &node.to_string()], 1);
    assert!(done.contains(&format!("node {node} has whole replicas of groups {group} again")), "{done}");
    world.until_ready(node);
    world.append("third ");
    world.assert_all_there();
}

/// The header of a record is gone: any group may have lost something, the meta group too.
#[test]
fn a_node_whose_groups_are_all_damaged_is_repaired() {
    let mut world = World::new();
    world.spoil(2, |records| {
        let Record { segment, at, .. } = entry_of(records, |_| true);
        tree::flip(&segment, at + 17, 0);
    });
    let refused = world.refused(2, 1);
    assert!(refused.contains(&0), "{refused:?}");
    eventually("node 2 to tell what the others know", || {
        let told = world.cluster.command(&["status"], 2).ok()?;
        told.contains("node 2 is damaged: group 0 is not served by this node").then_some(())
    });
    world.append("second ");
    world.command(&["repair", "2"], 3);
    world.until_ready(2);
    assert!(world.refused(2, 2).is_empty());
    world.cluster.kill(Member::Node(3));
    world.append("third ");
    world.assert_all_there();
}

#[test]
fn a_node_without_majority_behind_it_is_not_repaired() {
    let mut world = World::new();
    world.spoil(3, |records| {
        let Record { segment, at, .. } = entry_of(records, |group| group > 0);
        tree::flip(&segment, at + RECORD_HEADER_BYTES, 2);
    });
    world.cluster.kill(Member::Node(2));
    let before = world.refused(3, 1);
    // It has no majority, and perhaps no leader any more.
    world.refusal(&["repair", "3"], 1, "start the nodes");
    assert_eq!(world.refused(3, 1), before);
    world.cluster.start_member(Member::Node(2));
    world.until_ready(2);
    world.command(&["repair", "3"], 1);
    world.append("second ");
    world.assert_all_there();
}

#[test]
fn an_emptied_node_is_refused_and_claimed_by_nobody() {
    let mut world = World::new();
    world.cluster.kill(Member::Node(3));
    world.cluster.wipe(3);
    world.cluster.start_member(Member::Node(3));
    world.append("second ");
    let identity = std::fs::read_to_string(world.cluster.data_folder(3).join("identity.toml")).expect("a file");
    assert!(identity.contains("standing = \"unclaimed\""), "{identity}");
    eventually("the nodes to say so", || {
        let said = |node| world.output(node).contains("a node with a new data directory joins under a new id");
        (said(1) && said(2)).then_some(())
    });
    let own = eventually("node 3 to say so", || {
        let output = world.output(3);
        output.lines().find(|line| line.contains("a call is refused: node 3 has incarnation")).map(str::to_owned)
    });
    assert!(own.contains("ursula cluster replace-node"), "{own}");
    assert!(world.status(1).contains("another node, or an emptied directory, is at its address"));
    let at = format!("3={}", world.cluster.node_address(3));
    let words = "node 3 is in the cluster already, with another data directory: give it that one back";
    world.refusal(&["add-node", "--node", &at], 1, words);
    let nodes = (1..=3).flat_map(|node| ["--node".to_owned(), format!("{node}={}", world.cluster.node_address(node))]);
    let args: Vec<String> = ["cluster", "init"].map(str::to_owned).into_iter().chain(nodes).collect();
    let formed = run("ursula", &args, &[]);
    assert_eq!(formed.status.code(), Some(1), "{}", String::from_utf8_lossy(&formed.stdout));
    let after = std::fs::read_to_string(world.cluster.data_folder(3).join("identity.toml")).expect("a file");
    assert_eq!(after, identity, "nobody has claimed it");
    world.append("third ");
    world.assert_all_there();
}

#[test]
fn a_node_with_the_directory_of_another_cluster_is_refused() {
    let mut world = World::new();
    let other = tempfile::tempdir().expect("a folder");
    let dir = other.path().join("node");
    let stranger = start_node(3, &dir);
    let address = listen_address(&stranger);
    let formed = run("ursula", &["cluster", "init", "--node", &format!("3={address}")], &[]);
    assert!(formed.status.success(), "{}", String::from_utf8_lossy(&formed.stderr));
    // Its cluster has a later version than the other, so that whoever believed the later one would believe it.
    for _ in 0..5 {
        for state in ["drain", "undrain"] {
            drop(run("ursula", &["cluster", state, "3", "--address", &address], &[]));
        }
    }
    stranger.kill();
    world.cluster.kill(Member::Node(3));
    world.cluster.wipe(3);
    tree::copy(&dir, &world.cluster.data_folder(3));
    world.cluster.start_member(Member::Node(3));
    let both = |text: &str| text.contains("belongs to cluster ") && text.contains(", not to ");
    eventually("the nodes to say so", || (both(&world.output(1)) && both(&world.output(2))).then_some(()));
    eventually("node 3 to say so", || both(&world.output(3)).then_some(()));
    // A gateway that starts now may ask that node first.
    world.cluster.restart(Member::Gateway(1));
    world.cluster.wait_until_ready();
    for round in 0..5 {
        world.append(&format!("round {round} "));
        world.assert_all_there();
    }
    assert!(world.status(1).contains("another node, or an emptied directory, is at its address"));
}

fn start_node(id: u32, dir: &std::path::Path) -> Process {
    let id = id.to_string();
    let dir = dir.to_str().expect("a path of text");
    let listen = ["--listen", "127.0.0.2:0", "--operations-listen", "127.0.0.2:0"];
    let args = [&["--node-id", &id, "--data-dir", dir], &listen[..], &SMALL].concat();
    Process::start("ursula-storage-node", &args, &[])
}

fn listen_address(node: &Process) -> String {
    let line = node.line_with(" listen=");
    let (_, rest) = line.split_once(" listen=").expect("it is in the line");
    rest.split_whitespace().next().expect("an address").to_owned()
}

/// Sends bytes, and reads until the node has had enough of it, or has nothing to say.
fn send(address: &str, bytes: &[u8]) {
    let mut socket = TcpStream::connect(address).expect("it listens");
    socket.set_read_timeout(Some(std::time::Duration::from_millis(300))).expect("a timeout");
    // It may close before it has read all.
    drop(socket.write_all(bytes));
    let mut answer = [0; 4096];
    while socket.read(&mut answer).is_ok_and(|read| read > 0) {}
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).expect("it is short").to_be_bytes();
    [&len[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A call of gRPC with this message, as it is or not.
fn call(path: &str, metadata: &[(&str, &str)], message: &[u8]) -> Vec<u8> {
    let mut head = Vec::new();
    let fixed = [(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "node"), ("te", "trailers")];
    for (name, value) in fixed.iter().chain(&[("content-type", "application/grpc")]).chain(metadata) {
        // Literal, never indexed.
        head.push(0x10);
        for text in [name, value] {
            assert!(text.len() < 127, "{text} is short");
            head.push(text.len() as u8);
            head.extend(text.bytes());
        }
    }
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(frame(4, 0, 0, &[]));
    bytes.extend(frame(1, 4, 1, &head));
    bytes.extend(frame(0, 1, 1, message));
    bytes
}

/// A message of gRPC.
fn message(bytes: &[u8]) -> Vec<u8> {
    let len = u32::try_from(bytes.len()).expect("it is short").to_be_bytes();
    [&[0], &len[..], bytes].concat()
}

#[test]
fn bytes_that_do_not_parse_change_nothing() {
    let mut world = World::new();
    let address = world.cluster.node_address(1);
    let noise: Vec<u8> = (0u32..3000).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let own = world.introduction();
    let introduced: Vec<(&str, &str)> = own.iter().map(|(key, value)| (*key, value.as_str())).collect();
    let garbled = [("ursula-peer-version", "one"), ("ursula-cluster", "\u{7f}"), ("ursula-from", "-2")];
    let methods = [
        "/ursula.peer.v1.Peer/Exchange",
        "/ursula.peer.v1.Peer/Snapshot",
        "/ursula.peer.v1.Peer/Deliver",
        "/ursula.peer.v1.Peer/Record",
        "/ursula.node.v1.Node/Lane",
        "/ursula.node.v1.Node/Read",
        "/ursula.node.v1.Node/Tail",
        "/ursula.admin.v1.Admin/Join",
        "/ursula.admin.v1.Admin/Propose",
        "/ursula.admin.v1.Admin/Forget",
        "/ursula.admin.v1.Admin/SetAside",
        "/ursula.nothing.v1.Nothing/Here",
    ];
    let long = [&[0, 0xff, 0xff, 0xff, 0xff], &noise[..]].concat();
    let messages = [
        Vec::new(),
        message(&[]),
        message(&noise),
        // A frame with one message of an unknown kind, with one of no kind, and with entries that are none.
        message(&[0x0a, 0x04, 0x08, 0x01, 0x10, 0x01]),
        message(&[0x0a, 0x0a, 0x08, 0x01, 0x10, 0x01, 0x1a, 0x04, 0x0a, 0x02, 0x0a, 0x00]),
        message(&[0x0a, 0x05, 0x08, 0x01, 0xfa, 0x7f, 0x00]),
        long,
        noise.clone(),
    ];
    let mut calls: Vec<Vec<u8>> = vec![noise.clone(), b"GET / HTTP/1.1\r\n\r\n".to_vec()];
    calls.push([&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &noise].concat());
    for method in methods {
        for metadata in [&introduced[..], &garbled[..], &[]] {
            calls.extend(messages.iter().map(|message| call(method, metadata, message)));
        }
    }
    let rest = std::sync::Mutex::new(calls.iter());
    std::thread::scope(|threads| {
        for _ in 0..16 {
            threads.spawn(|| {
                loop {
                    let next = rest.lock().expect("nobody panicked").next();
                    let Some(bytes) = next else { return };
                    send(&address, bytes);
                }
            });
        }
    });
    assert!(calls.len() > 250, "{}", calls.len());
    world.append("second ");
    world.assert_all_there();
    let ran: BTreeSet<bool> = world.cluster.members().into_iter().map(|member| world.cluster.runs(member)).collect();
    assert_eq!(ran, BTreeSet::from([true]), "nobody has ended");
    for member in world.cluster.members() {
        let output = world.cluster.process(member).expect("it runs").output();
        assert!(!output.contains("panicked"), "{member}:\n{output}");
    }
    assert_eq!(world.cluster.leaders().len(), 9, "every group is led");
}

/// Two nodes speak the latest version that both know: see `docs/cluster.md`, upgrades.
#[test]
fn nodes_without_a_common_version_of_the_protocol_refuse_each_other() {
    let mut world = World::new();
    let address = world.cluster.node_address(1);
    let introduce = |versions: &[(&'static str, &str)]| {
        let mut own = world.introduction();
        own.retain(|(key, _)| *key != "ursula-peer-version");
        let metadata: Vec<(&str, &str)> = own.iter().map(|(key, value)| (*key, value.as_str())).collect();
        send(&address, &call("/ursula.peer.v1.Peer/Exchange", &[&metadata, versions].concat(), &message(&[])));
    };
    let refusals = || {
        let output = world.output(1);
        output
            .lines()
            .filter(|line| line.contains("a call is refused: node 1 speaks"))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    // One that speaks this version alone, and the next release, which speaks this one, too.
    introduce(&[("ursula-peer-version", "1")]);
    introduce(&[("ursula-peer-version", "2"), ("ursula-peer-version-min", "1")]);
    assert_eq!(refusals(), [""; 0]);
    // The release after that, and one before the first.
    for (index, version) in ["3", "0"].into_iter().enumerate() {
        introduce(&[("ursula-peer-version", version), ("ursula-peer-version-min", version)]);
        let said = eventually("the refusal", || refusals().get(index).cloned());
        let words = format!(
            "node 1 speaks versions 1 to 1 of the peer protocol, node 2 speaks {version} to {version}: bring both to \
             versions of the program that are one apart at most"
        );
        assert!(said.contains(&words), "{said}");
    }
    world.append("second ");
    world.assert_all_there();
}

const DAY: i64 = 86_400_000;

/// Time is stamped by leaders and never goes back, and no timer of consensus looks at the wall clock.
#[test]
fn wall_clocks_that_jump_lose_nothing() {
    let mut world = World::new();
    for (round, [one, two, three]) in
        [[DAY, 0, 0], [0, -DAY, DAY], [-DAY, -DAY, -DAY], [DAY * 400, 0, -DAY * 400]].into_iter().enumerate()
    {
        for (node, ms) in [(1, one), (2, two), (3, three)] {
            world.cluster.jump(Member::Node(node), ms);
        }
        world.cluster.jump(Member::Gateway(1), two);
        world.append(&format!("jump {round} "));
        // A process that starts with a wrong clock goes on as well.
        world.cluster.restart(Member::Node(1 + u32::try_from(round % 3).expect("a small number")));
        world.append(&format!("restart {round} "));
        world.assert_all_there();
    }
}

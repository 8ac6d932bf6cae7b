//! Several nodes, one of which leads at a time, dies, freezes or says nonsense: every op is done once, and soon.

use ursula_common::verb::{Create, ForkFrom, Lifetime, Retention};

use super::*;
use crate::tests::{Mode, nodes, topology_of};

/// A node that answers is found within so long: pauses between scouts, and ticks.
const SOON: Duration = Duration::from_millis(400);

/// Three nodes with a replica each, and their lanes.
struct Cluster {
    nodes: Vec<FakeNode>,
    lanes: Vec<FakeLane>,
    views: Views,
    gateway: Lanes,
}

impl Cluster {
    /// Node 1 leads in term 1.
    async fn new() -> Cluster {
        Cluster::with(topology_of(1, &[1, 2, 3], Some(1), 1)).await
    }

    async fn with(topology: v1::Topology) -> Cluster {
        let (mut nodes, connect) = nodes(3);
        let views = Views::new(connect);
        views.merge(&topology, &nodes[0].link()).expect("a topology");
        let gateway = start(views.clone());
        let mut lanes = Vec::new();
        for node in &mut nodes {
            lanes.push(node.lane(1000).await);
        }
        Cluster { nodes, lanes, views, gateway }
    }

    fn announce(&self, topology: &v1::Topology) {
        self.views.merge(topology, &self.nodes[0].link()).expect("a topology");
    }

    fn submit(&self, op: Op) -> JoinHandle<OpResult> {
        self.submit_to(GROUP, op)
    }

    fn submit_to(&self, group: GroupId, op: Op) -> JoinHandle<OpResult> {
        let (gateway, deadline) = (self.gateway.clone(), Instant::now() + PATIENCE);
        tokio::spawn(async move { gateway.submit((group, Pace::of(&op)), &op, deadline).await })
    }

    /// What comes to a node until nothing more does.
    async fn sent(&mut self, node: usize) -> Vec<SentOp> {
        frames(&mut self.lanes[node - 1]).await.concat()
    }

    /// The next op that comes to a node, and how long that took.
    async fn next(&mut self, node: usize) -> (SentOp, Duration) {
        let asked_at = Instant::now();
        let frame = self.lanes[node - 1].frame().await.expect("a frame");
        (frame[0].clone(), asked_at.elapsed())
    }

    fn answer(&self, node: usize, op: &SentOp, result: OpResult) {
        self.lanes[node - 1].answer_op(op, result);
    }

    /// Breaks a node's connections.
    fn kill(&mut self, node: usize) {
        self.nodes[node - 1].turn(Mode::Dead);
    }
}

fn not_leader(leader: Option<u64>, term: u64) -> OpResult {
    Err(Error::NotLeader { leader: leader.map(NodeId), term })
}

async fn all(callers: Vec<JoinHandle<OpResult>>) -> Vec<OpResult> {
    let mut results = Vec::new();
    for caller in callers {
        results.push(crate::tests::within(caller).await.expect("no panic"));
    }
    results
}

/// Without what the sender knows of earlier answers.
fn core<'a>(ops: impl IntoIterator<Item = &'a SentOp>) -> Vec<(u32, u64, u64, Bytes)> {
    ops.into_iter().map(|op| (op.group, op.session, op.seq, op.op.clone())).collect()
}

#[tokio::test(start_paused = true)]
async fn ops_of_a_leader_that_died_go_to_its_successor_as_they_were() {
    let mut cluster = Cluster::new().await;
    let callers: Vec<_> = (0..4).map(|bytes| cluster.submit(append(bytes))).collect();
    let sent = cluster.sent(1).await;
    assert_eq!(sent.len(), 4);
    cluster.answer(1, &sent[1], answer(1));
    quiet().await;
    cluster.kill(1);
    // As long as nobody leads, one op looks for whoever does.
    let mut scouts = 0;
    let searching = Instant::now();
    while searching.elapsed() < Duration::from_secs(1) {
        for node in [2, 3] {
            for op in cluster.sent(node).await {
                assert_eq!(core([&op]), core(&sent[..1]));
                cluster.answer(node, &op, not_leader(Some(1), 1));
                scouts += 1;
            }
        }
    }
    assert!((10..=60).contains(&scouts), "{scouts} scouts in a second");
    cluster.announce(&topology_of(1, &[1, 2, 3], Some(3), 2));
    let again = cluster.sent(3).await;
    assert_eq!(core(&again), core([&sent[0], &sent[2], &sent[3]]));
    for op in &again {
        cluster.answer(3, op, answer(op.seq));
    }
    assert_eq!(all(callers).await, [0, 1, 2, 3].map(answer));
}

#[tokio::test(start_paused = true)]
async fn a_hint_is_followed_at_once() {
    let mut cluster = Cluster::new().await;
    let caller = cluster.submit(append(1));
    let sent = cluster.sent(1).await;
    cluster.answer(1, &sent[0], not_leader(Some(3), 2));
    let (again, took) = cluster.next(3).await;
    assert_eq!((core([&again]), took), (core(&sent), Duration::ZERO));
    cluster.answer(3, &again, answer(7));
    assert_eq!(caller.await.expect("no panic"), answer(7));
    // The next one goes there straight away.
    let caller = cluster.submit(append(1));
    let (next, took) = cluster.next(3).await;
    assert_eq!((next.seq, next.acked, took), (1, 1, Duration::ZERO));
    cluster.answer(3, &next, answer(8));
    assert_eq!(caller.await.expect("no panic"), answer(8));
}

#[tokio::test(start_paused = true)]
async fn without_a_hint_the_others_are_asked_in_turn() {
    let mut cluster = Cluster::new().await;
    let callers: Vec<_> = (0..3).map(|_| cluster.submit(append(1))).collect();
    let sent = cluster.sent(1).await;
    let refused_at = Instant::now();
    sent.iter().for_each(|op| cluster.answer(1, op, not_leader(None, 2)));
    // Node 2 says the same, node 3 does it.
    let (scout, _) = cluster.next(2).await;
    cluster.answer(2, &scout, not_leader(None, 2));
    let (scout, _) = cluster.next(3).await;
    assert_eq!(core([&scout]), core(&sent[..1]));
    cluster.answer(3, &scout, answer(0));
    let rest = cluster.sent(3).await;
    assert_eq!(core(&rest), core(&sent[1..]));
    assert!(refused_at.elapsed() < SOON, "{:?}", refused_at.elapsed());
    rest.iter().for_each(|op| cluster.answer(3, op, answer(op.seq)));
    assert_eq!(all(callers).await, [0, 1, 2].map(answer));
    assert_eq!(cluster.views.get().placement(GROUP).and_then(|group| group.leader), Some(NodeId(3)));
}

#[tokio::test(start_paused = true)]
async fn ops_leave_a_leader_that_froze_though_nobody_told() {
    let mut cluster = Cluster::new().await;
    let mut callers = vec![cluster.submit(append(1)), cluster.submit(append(2))];
    let sent = cluster.sent(1).await;
    cluster.nodes[0].turn(Mode::Frozen);
    let frozen_at = Instant::now();
    let mut moved = Vec::new();
    while moved.len() < 3 {
        // Others come all the time.
        if callers.len() < 3 {
            callers.push(cluster.submit(append(3)));
        }
        for op in cluster.sent(2).await {
            cluster.answer(2, &op, answer(op.seq));
            moved.push(op);
        }
        for op in cluster.sent(3).await {
            cluster.answer(3, &op, not_leader(Some(1), 1));
        }
    }
    assert!(frozen_at.elapsed() < Duration::from_millis(500) + SOON, "{:?}", frozen_at.elapsed());
    assert_eq!(core(&moved[..2]), core(&sent));
    assert_eq!(all(callers).await, [0, 1, 2].map(answer));
    // What it did before it froze comes out when it thaws, and disturbs nobody.
    cluster.nodes[0].turn(Mode::Alive);
    cluster.answer(1, &sent[0], not_leader(None, 0));
    cluster.answer(1, &sent[1], answer(99));
    let caller = cluster.submit(append(1));
    let (next, took) = cluster.next(2).await;
    assert_eq!((next.seq, took), (3, Duration::ZERO));
    cluster.answer(2, &next, answer(3));
    assert_eq!(caller.await.expect("no panic"), answer(3));
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_is_only_slow_keeps_its_ops() {
    let mut cluster = Cluster::new().await;
    let callers: Vec<_> = (0..50).map(|_| cluster.submit(append(1))).collect();
    let sent = cluster.sent(1).await;
    let slow_since = Instant::now();
    let mut scouts = 0;
    while slow_since.elapsed() < Duration::from_secs(5) {
        for node in [2, 3] {
            for op in cluster.sent(node).await {
                cluster.answer(node, &op, not_leader(Some(1), 1));
                scouts += 1;
            }
        }
    }
    assert!((2..=25).contains(&scouts), "{scouts} scouts in five seconds");
    assert_eq!(cluster.sent(1).await, [], "nothing is sent twice to the same node");
    sent.iter().for_each(|op| cluster.answer(1, op, answer(op.seq)));
    assert_eq!(all(callers).await, (0..50).map(answer).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn hints_that_lead_in_a_circle_cost_little() {
    let mut cluster = Cluster::new().await;
    let callers = vec![cluster.submit(append(1)), cluster.submit(append(1))];
    let (mut term, mut tries) = (1, 0);
    while !callers.iter().all(JoinHandle::is_finished) {
        for node in [1, 2, 3] {
            for op in cluster.sent(node).await {
                term += 1;
                tries += 1;
                cluster.answer(node, &op, not_leader(Some(node as u64 % 3 + 1), term));
            }
        }
    }
    assert!((10 * 20..=10 * 120).contains(&tries), "{tries} tries in ten seconds");
    assert_eq!(all(callers).await, [Err(Error::Unavailable), Err(Error::Unavailable)], "nobody did it");
}

#[tokio::test(start_paused = true)]
async fn a_refusal_counts_only_if_no_other_try_may_have_been_done() {
    let mut cluster = Cluster::new().await;
    let (first, second) = (cluster.submit(append(1)), cluster.submit(append(2)));
    let sent = cluster.sent(1).await;
    cluster.answer(1, &sent[1], Err(Error::Overloaded));
    assert_eq!(second.await.expect("no panic"), Err(Error::Overloaded), "it was refused where it was sent");
    cluster.kill(1);
    cluster.announce(&topology_of(1, &[1, 2, 3], Some(2), 2));
    for _ in 0..3 {
        let (op, _) = cluster.next(2).await;
        assert_eq!(core([&op]), core(&sent[..1]));
        cluster.answer(2, &op, Err(Error::Overloaded));
    }
    // Nor is what nobody knows the last word.
    let (op, took) = cluster.next(2).await;
    assert!((Duration::from_millis(10)..Duration::from_millis(100)).contains(&took), "{took:?}");
    cluster.answer(2, &op, Err(Error::OutcomeUnknown));
    let (op, _) = cluster.next(2).await;
    cluster.answer(2, &op, answer(5));
    assert_eq!(first.await.expect("no panic"), answer(5));

    // To the end: it may have been done by the one that died.
    let caller = cluster.submit(append(3));
    cluster.next(2).await;
    cluster.kill(2);
    let started = Instant::now();
    while !caller.is_finished() {
        for op in cluster.sent(3).await {
            cluster.answer(3, &op, Err(Error::MemoryFull));
        }
    }
    assert_eq!(caller.await.expect("no panic"), Err(Error::OutcomeUnknown));
    assert!(started.elapsed() < PATIENCE + Duration::from_millis(100));
}

#[tokio::test(start_paused = true)]
async fn a_node_that_leaves_the_topology_is_left() {
    let mut cluster = Cluster::new().await;
    let caller = cluster.submit(append(1));
    let sent = cluster.sent(1).await;
    cluster.announce(&topology_of(2, &[2, 3], Some(2), 2));
    let again = cluster.sent(2).await;
    assert_eq!(core(&again), core(&sent));
    assert_eq!(cluster.lanes[0].frame().await, None, "its lane is closed");
    cluster.answer(2, &again[0], answer(1));
    assert_eq!(caller.await.expect("no panic"), answer(1));
    // An older topology does not bring it back.
    cluster.announce(&topology_of(1, &[1, 2, 3], Some(1), 1));
    quiet().await;
    assert_eq!(cluster.nodes[0].lane_calls().len(), 0);
    cluster.announce(&topology_of(3, &[1, 2, 3], Some(2), 2));
    cluster.nodes[0].lane_call().await;
}

#[tokio::test(start_paused = true)]
async fn a_group_that_stands_still_holds_up_no_other() {
    let mut topology = topology_of(1, &[1, 2, 3], Some(1), 1);
    topology.groups.push(v1::Group { id: 2, replicas: vec![1, 2, 3], leader: Some(1), term: 1 });
    let mut cluster = Cluster::with(topology).await;
    let (other, fork) = (GroupId(2), Op::Create(forked()));
    let slow = cluster.submit_to(other, fork);
    let (slow_op, _) = cluster.next(1).await;
    let stuck: Vec<_> = (0..2000).map(|_| cluster.submit(append(1))).collect();
    let sent = cluster.sent(1).await.len();
    assert!((500..900).contains(&sent), "{sent} of a group have left of 1000 for all");
    // More than a session has results, while the first op of the group waits for another group.
    for round in 0..100 {
        let callers: Vec<_> = (0..100).map(|_| cluster.submit_to(other, append(1))).collect();
        let mut done = 0;
        while done < 100 {
            let (sent, waited) = (cluster.lanes[0].frame().await.expect("a frame"), Instant::now());
            for op in &sent {
                assert_eq!((op.group, waited.elapsed()), (other.0, Duration::ZERO), "in round {round}");
                cluster.answer(1, op, answer(op.seq));
            }
            done += sent.len();
        }
        assert!(all(callers).await.iter().all(|result| matches!(result, Err(Error::StaleEpoch { .. }))));
    }
    cluster.answer(1, &slow_op, answer(1));
    assert_eq!(slow.await.expect("no panic"), answer(1));
    assert!(stuck.iter().all(|caller| !caller.is_finished()));
}

fn forked() -> Create {
    let key = |name| StreamKey::parse("default", name).expect("a name");
    Create {
        key: key("fork"),
        content_type: None,
        lifetime: Lifetime::Forever,
        closed: false,
        body: Bytes::new(),
        fork: Some(ForkFrom { source: key("source"), offset: None, sub_offset: 0 }),
        numbered: true,
        retention: Retention::default(),
    }
}

//! Tails that move from node to node: readers see every byte once, and notice nothing.

use super::*;
use crate::tests::{Mode, Role, nodes, topology_of};

struct Nodes {
    nodes: Vec<FakeNode>,
    world: World,
}

impl Nodes {
    /// Three nodes with the same stream; the first leads.
    async fn new() -> Nodes {
        let (nodes, connect) = nodes(3);
        let stored = nodes[0].store(NAME, TEXT);
        nodes[1..].iter().for_each(|node| drop(node.put(NAME, stored.clone())));
        let metrics = crate::tests::metrics();
        let timeout = Duration::from_secs(5);
        let cluster = Cluster::reach(vec![nodes[0].seed()], connect, 1, timeout, usize::MAX, metrics.clone());
        let hub = Hub::new(cluster, usize::MAX, Arc::new(ManualClock::default()), metrics);
        let nodes = Nodes { nodes, world: World { hub, stored, node: FakeNode::numbered(9) } };
        nodes.lead(1, 1);
        quiet().await;
        nodes
    }

    /// A node leads from now on, and everybody hears of it.
    fn lead(&self, leader: u64, term: u64) {
        for node in &self.nodes {
            let follows = Role::Follows { leader: Some(leader), term };
            node.play(if node.id().0 == leader { Role::Leads } else { follows });
            node.announce(topology_of(1, &[1, 2, 3], Some(leader), term));
        }
    }

    fn turn(&self, node: usize, mode: Mode) {
        self.nodes[node - 1].turn(mode);
    }

    /// Appends, and reads what comes.
    async fn append(&self, reader: &mut Reader, record: &str) -> Arc<Frame> {
        let from = reader.next();
        self.world.stored.append(record.as_bytes());
        let frame = frame(reader).await;
        assert_eq!((frame.start, &frame.data[..]), (from, record.as_bytes()));
        frame
    }
}

#[tokio::test(start_paused = true)]
async fn a_tail_follows_the_leader_wherever_it_goes() {
    let nodes = Nodes::new().await;
    let mut reader = nodes.world.follow(0);
    for term in 1..10 {
        nodes.lead(term % 3 + 1, term + 1);
        quiet().await;
        let frame = nodes.append(&mut reader, &format!("in term {term}, ")).await;
        assert!(frame.up_to_date, "the leader knows");
    }
    assert_eq!(nodes.world.metric("ursula_gateway_tails_moved_total"), 9.0);
    assert_eq!(nodes.world.metric("ursula_gateway_tail_upstreams"), 1.0, "one at a time");
}

#[tokio::test(start_paused = true)]
async fn a_tail_leaves_a_node_that_died_or_froze() {
    for mode in [Mode::Dead, Mode::Frozen] {
        let nodes = Nodes::new().await;
        let mut reader = nodes.world.follow(0);
        nodes.append(&mut reader, "before, ").await;
        nodes.turn(1, mode);
        nodes.world.stored.append(b"meanwhile, ");
        if mode == Mode::Frozen {
            // Nothing breaks: only news of another leader tells. They come from another node, too.
            assert!(waits(&mut reader).await);
            nodes.lead(2, 2);
        }
        let (bytes, pages) = nodes.world.read_to(&mut reader, 19).await;
        assert_eq!((&bytes[..], pages), (&b"meanwhile, "[..], 0));
        if mode == Mode::Dead {
            nodes.lead(2, 2);
            assert!(frame(&mut reader).await.up_to_date, "which nobody could say before");
        }
        assert!(nodes.append(&mut reader, "after").await.up_to_date);
    }
}

#[tokio::test(start_paused = true)]
async fn a_replica_serves_tails_while_nobody_leads_and_claims_nothing() {
    let nodes = Nodes::new().await;
    let mut reader = nodes.world.follow(0);
    nodes.append(&mut reader, "one").await;
    nodes.turn(1, Mode::Dead);
    assert!(!nodes.append(&mut reader, "two").await.up_to_date, "there may be more");
    // The leader comes back, and so does the tail, without news of anybody.
    nodes.turn(1, Mode::Alive);
    let told = frame(&mut reader).await;
    assert!(told.up_to_date && !told.closed && told.data.is_empty(), "it was not told before");
    assert_eq!((told.start, told.next), (Offset(6), Offset(6)));
    assert!(waits(&mut reader).await, "once is enough");
    assert!(nodes.append(&mut reader, "three").await.up_to_date);
    // The end is the end, whoever tells.
    nodes.turn(1, Mode::Dead);
    tokio::time::sleep(Duration::from_secs(1)).await;
    nodes.world.stored.close();
    let last = frame(&mut reader).await;
    assert!(last.closed && last.up_to_date && last.data.is_empty());
}

#[tokio::test(start_paused = true)]
async fn one_node_alone_is_asked_again() {
    let world = World::new(TEXT);
    let mut reader = world.follow(0);
    world.stored.append(b"one");
    assert_eq!(frame(&mut reader).await.data, "one");
    world.node.turn(Mode::Dead);
    tokio::time::sleep(Duration::from_secs(20)).await;
    world.node.turn(Mode::Alive);
    world.stored.append(b"two");
    assert_eq!(frame(&mut reader).await.data, "two");
}

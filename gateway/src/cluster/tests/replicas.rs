//! Several nodes: whose word on the topology counts, and who answers when the leader cannot.

use super::*;
use crate::pages::{self, Page, PageBudget};
use crate::tests::{Mode, Role, Stored, nodes, topology_of};

const TEXT: &str = "text/plain";

struct Nodes {
    nodes: Vec<FakeNode>,
    cluster: Cluster,
    metrics: Arc<Metrics>,
}

impl Nodes {
    /// Three nodes, of which the first is the seed and leads.
    async fn new() -> Nodes {
        let (nodes, connect) = nodes(3);
        let metrics = crate::tests::metrics();
        let cluster = Cluster::reach(vec![nodes[0].seed()], connect, 1, TIMEOUT, usize::MAX, metrics.clone());
        let nodes = Nodes { nodes, cluster, metrics };
        nodes.announce(&topology_of(1, &[1, 2, 3], Some(1), 1));
        for node in [2, 3] {
            nodes.node(node).play(Role::Follows { leader: Some(1), term: 1 });
        }
        quiet().await;
        nodes
    }

    fn node(&self, node: usize) -> &FakeNode {
        &self.nodes[node - 1]
    }

    fn announce(&self, topology: &v1::Topology) {
        self.nodes.iter().for_each(|node| node.announce(topology.clone()));
    }

    /// A stream that all nodes have as it is.
    fn store(&self) -> Arc<Stored> {
        let stored = self.node(1).store("stream", TEXT);
        for node in [2, 3] {
            self.node(node).put("stream", stored.clone());
        }
        stored
    }

    /// A stream of which the other nodes have less.
    fn store_lagging(&self, all: &[u8], applied: &[u8]) -> Arc<Stored> {
        let stored = self.node(1).store("stream", TEXT);
        stored.append(all);
        for node in [2, 3] {
            let lagging = self.node(node).store("stream", TEXT);
            if !applied.is_empty() {
                lagging.append(applied);
            }
        }
        stored
    }

    async fn page(&self, from: ReadFrom) -> Result<Page, Error> {
        let budget =
            PageBudget::new(64 << 20, Duration::from_secs(1), metrics::Gauge::noop(), metrics::Counter::noop());
        pages::read(&self.cluster, &budget, &key(), from, false).await
    }

    /// Which nodes are asked for the topology.
    fn watched(&self) -> Vec<u64> {
        let watched = self.nodes.iter().filter(|node| node.watchers() > 0);
        watched.map(|node| node.id().0).collect()
    }

    fn version(&self) -> u64 {
        self.cluster.0.views.get().version()
    }

    fn counter(&self, name: &str) -> u64 {
        let text = self.metrics.registry.render();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no metric {name}"))
    }
}

fn at(offset: u64) -> ReadFrom {
    ReadFrom::At(Offset(offset))
}

#[tokio::test(start_paused = true)]
async fn the_topology_is_heard_from_another_node_when_one_dies_or_freezes() {
    let nodes = Nodes::new().await;
    assert_eq!(nodes.watched(), [1]);
    assert!(nodes.cluster.is_ready());
    nodes.node(1).turn(Mode::Dead);
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(nodes.watched(), [2], "not the seed");
    assert!(nodes.cluster.is_ready());
    nodes.node(2).turn(Mode::Frozen);
    tokio::time::sleep(Duration::from_millis(3500)).await;
    assert_eq!(nodes.watched(), [3]);
    nodes.node(3).announce(topology_of(2, &[2, 3], Some(3), 2));
    quiet().await;
    assert_eq!(nodes.version(), 2);
    // A sign of life is enough.
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(nodes.watched(), [3]);
    assert!(nodes.cluster.is_ready());
    // With nobody left it is not ready, until somebody comes back.
    nodes.node(3).turn(Mode::Dead);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!nodes.cluster.is_ready());
    nodes.node(2).turn(Mode::Alive);
    nodes.node(2).announce(topology_of(2, &[2, 3], Some(3), 2));
    tokio::time::sleep(Duration::from_secs(8)).await;
    assert!(nodes.cluster.is_ready());
}

#[tokio::test(start_paused = true)]
async fn a_node_with_old_news_is_not_followed() {
    let nodes = Nodes::new().await;
    nodes.node(1).announce(topology_of(5, &[1, 2, 3], Some(1), 1));
    nodes.node(3).announce(topology_of(6, &[1, 2, 3], Some(1), 1));
    quiet().await;
    nodes.node(1).turn(Mode::Dead);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!((nodes.watched(), nodes.version()), (vec![3], 6));
}

#[tokio::test(start_paused = true)]
async fn a_cluster_that_began_anew_is_believed_when_all_nodes_say_so() {
    let nodes = Nodes::new().await;
    nodes.announce(&topology_of(50, &[1, 2, 3], Some(1), 9));
    quiet().await;
    let anew = topology_of(2, &[1, 2], Some(2), 1);
    nodes.announce(&anew);
    quiet().await;
    assert_eq!(nodes.version(), 50);
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(nodes.version(), 2);
    assert!(nodes.cluster.is_ready());
}

#[tokio::test(start_paused = true)]
async fn another_node_is_asked_for_news_when_a_group_is_lost() {
    let mut nodes = Nodes::new().await;
    let mut lanes = Vec::new();
    for node in &mut nodes.nodes {
        lanes.push(node.lane(10).await);
    }
    // Node 1 is cut off from the others, but not from the gateway.
    let later = topology_of(1, &[1, 2, 3], Some(2), 2);
    nodes.node(2).announce(later.clone());
    nodes.node(3).announce(later);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(nodes.watched(), [1]);
    let cluster = nodes.cluster.clone();
    let op = tokio::spawn(async move { cluster.submit(&delete()).await });
    let started = Instant::now();
    while !op.is_finished() && started.elapsed() < TIMEOUT {
        for (node, lane) in lanes.iter_mut().enumerate() {
            let sent = tokio::select! {
                biased;
                frame = lane.frame() => frame.expect("a frame"),
                () = quiet() => continue,
            };
            // Nobody knows, or tells.
            let done = node == 1 && nodes.watched() == [2];
            let result = if done { Ok(Reply::Done) } else { Err(Error::NOT_HERE) };
            sent.iter().for_each(|op| lane.answer_op(op, result.clone()));
        }
    }
    assert_eq!(op.await.expect("no panic"), Ok(Reply::Done));
}

#[tokio::test(start_paused = true)]
async fn what_only_a_leader_knows_waits_for_one() {
    let nodes = Nodes::new().await;
    let stored = nodes.store();
    stored.append(b"bytes");
    // By a hint, at once.
    nodes.node(1).play(Role::Follows { leader: Some(2), term: 2 });
    nodes.node(2).play(Role::Leads);
    let started = Instant::now();
    assert_eq!(nodes.cluster.describe(&key()).await, stored.info().try_into());
    assert_eq!(started.elapsed(), Duration::ZERO);
    assert_eq!(nodes.counter("ursula_gateway_reads_not_leader_total"), 1);
    nodes.cluster.describe(&key()).await.expect("a stream");
    assert_eq!(nodes.counter("ursula_gateway_reads_not_leader_total"), 1, "it is remembered");

    // Nobody leads for a while.
    nodes.node(2).play(Role::Follows { leader: None, term: 2 });
    let describe = tokio::spawn({
        let cluster = nodes.cluster.clone();
        async move { cluster.describe(&key()).await }
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!describe.is_finished());
    let asked = nodes.counter("ursula_gateway_reads_not_leader_total");
    assert!((10..=170).contains(&asked), "{asked} times in a second");
    nodes.node(3).play(Role::Leads);
    let since = Instant::now();
    describe.await.expect("no panic").expect("a stream");
    assert!(since.elapsed() < Duration::from_millis(60), "{:?}", since.elapsed());
    // And for all of the time.
    nodes.node(3).play(Role::Follows { leader: None, term: 3 });
    let started = Instant::now();
    assert_eq!(nodes.cluster.describe(&key()).await, Err(Error::Unavailable));
    assert_eq!(started.elapsed().as_secs(), TIMEOUT.as_secs());
}

#[tokio::test(start_paused = true)]
async fn a_replica_stands_in_for_a_leader_that_is_gone_but_knows_no_tail() {
    for mode in [Mode::Dead, Mode::Frozen] {
        let nodes = Nodes::new().await;
        nodes.store_lagging(b"0123456789", b"01234");
        let whole = nodes.page(ReadFrom::Start).await.expect("a page");
        assert_eq!((whole.pieces.concat(), whole.up_to_date()), (b"0123456789".to_vec(), true));
        nodes.node(1).turn(mode);
        let started = Instant::now();
        for from in [1, 2] {
            let page = nodes.page(at(from)).await.expect("a page");
            assert_eq!(page.pieces.concat(), b"01234"[from as usize..]);
            assert!(!page.up_to_date() && !page.closed(), "there may be more");
        }
        assert!(started.elapsed() <= Duration::from_millis(1100), "{:?}", started.elapsed());
        // What lies beyond, or where the end is, it does not say.
        for from in [at(5), at(7), ReadFrom::Now, ReadFrom::Start] {
            assert_eq!(nodes.page(from).await.expect_err("no page"), Error::Unavailable, "{from:?}");
        }
        // Not even of a stream that it takes for closed.
        nodes.node(2).put("stream", closed());
        nodes.node(3).put("stream", closed());
        let page = nodes.page(at(1)).await.expect("a page");
        assert_eq!((page.pieces.concat(), page.up_to_date(), page.closed()), (b"nd".to_vec(), false, false));
        assert_eq!(nodes.page(at(3)).await.expect_err("no page"), Error::Unavailable);
        // With a leader everything is as it was.
        nodes.node(1).turn(Mode::Alive);
        assert!(nodes.page(at(5)).await.expect("a page").up_to_date());
        assert!(nodes.page(ReadFrom::Now).await.expect("a page").up_to_date());
    }
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_cannot_read_says_which_stream_others_are_to_read() {
    let nodes = Nodes::new().await;
    let stored = nodes.store_lagging(b"0123456789", b"01234");
    stored.damage(Error::Unavailable);
    let page = nodes.page(ReadFrom::Start).await.expect("a page");
    assert_eq!((page.pieces.concat(), page.up_to_date()), (b"01234".to_vec(), false));
    // They still have the one before.
    stored.replace();
    stored.append(b"another");
    stored.damage(Error::Unavailable);
    assert_eq!(nodes.page(ReadFrom::Start).await.expect_err("no page"), Error::Unavailable);
}

#[tokio::test(start_paused = true)]
async fn what_the_store_has_lost_is_asked_of_everybody_once() {
    let nodes = Nodes::new().await;
    let stored = nodes.store_lagging(b"0123456789", b"01234");
    let damaged = Error::HistoryDamaged { from: Offset(2), until: Offset(7) };
    stored.damage(damaged.clone());
    // A replica still has it.
    let page = nodes.page(at(2)).await.expect("a page");
    assert_eq!((page.pieces.concat(), page.up_to_date()), (b"234".to_vec(), false));
    // Nobody has it, and nobody is asked again and again.
    let started = Instant::now();
    assert_eq!(nodes.page(at(6)).await.expect_err("no page"), damaged);
    assert!(started.elapsed() < Duration::from_millis(100), "{:?}", started.elapsed());
}

fn closed() -> Arc<Stored> {
    let stored = FakeNode::numbered(9).store("stream", TEXT);
    stored.append(b"end");
    stored.close();
    stored
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_is_silent_gets_company_only_after_a_while() {
    let nodes = Nodes::new().await;
    let stored = nodes.store();
    stored.append(b"bytes");
    for _ in 0..10 {
        nodes.page(at(0)).await.expect("a page");
    }
    assert_eq!(nodes.counter("ursula_gateway_reads_hedged_total"), 0);
    // It answers in the end, and whoever is first is heard.
    nodes.node(1).turn(Mode::Frozen);
    let page = tokio::spawn({
        let cluster = nodes.cluster.clone();
        async move { cluster.describe(&key()).await }
    });
    tokio::time::sleep(Duration::from_millis(1200)).await;
    assert!((1..=4).contains(&nodes.counter("ursula_gateway_reads_hedged_total")));
    nodes.node(1).turn(Mode::Alive);
    page.await.expect("no panic").expect("a stream");
}

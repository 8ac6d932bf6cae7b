//! Links between nodes whose cores the test plays: who may call, what is said when one may not, and what
//! becomes of questions when a link is lost.

use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};
use tokio_stream::wrappers::TcpListenerStream;
use ursula_common::GroupId;
use ursula_proto::peer::v1::message::Body;
use ursula_proto::peer::v1::refused::Reason;
use ursula_proto::peer::v1::{Ballot, Voted};
use ursula_proto::raft::v1::Vote;
use ursula_proto::{local, peer_server};

use super::*;
use crate::core::{Request, RequestKind};
use crate::directory::Directory;

const CLUSTER: u128 = 7;
const PATIENCE: Duration = Duration::from_secs(30);

struct World {
    peers: Peers,
    service: PeerService,
    /// What its core is asked.
    asked: mpsc::Receiver<Request>,
}

fn node(id: u64, incarnation: u64, cluster: Option<u128>) -> World {
    let peers = Peers::new(NodeId(id), incarnation, cluster, Metrics::new(1).expect("metrics"));
    let (mailbox, asked) = mpsc::channel(128);
    let service = PeerService::new(peers.clone(), Directory::new(4, vec![mailbox]));
    World { peers, service, asked }
}

impl World {
    fn address(&self, incarnation: u64) -> PeerAddress {
        PeerAddress::local("there", local(peer_server(self.service.clone())), incarnation)
    }

    /// The next questions.
    async fn questions(&mut self) -> Vec<Inbound> {
        let request = timeout(PATIENCE, self.asked.recv()).await.expect("in time");
        let Some(Request { kind: RequestKind::Peers(questions), .. }) = request else { panic!("no questions") };
        questions
    }
}

fn ballot(term: u64) -> Body {
    let vote = Some(Vote { term, node: 1, committed: false });
    Body::Vote(Ballot { vote, last: None, transfer: false })
}

fn granted() -> Body {
    Body::Voted(Voted { granted: true, ..Voted::default() })
}

async fn ask(peers: &Peers, to: u64, body: Body) -> Result<Body, PeerError> {
    let link = peers.link(NodeId(to), Priority::Urgent)?;
    let room = link.room(0).await;
    link.ask(GroupId(1), body, room).await
}

#[tokio::test(start_paused = true)]
async fn a_question_is_answered() {
    let (one, mut two) = (node(1, 10, Some(CLUSTER)), node(2, 20, Some(CLUSTER)));
    one.peers.set(NodeId(2), two.address(20));
    let play = async {
        let question = two.questions().await.pop().expect("a question");
        assert_eq!((question.from, question.group, &question.body), (NodeId(1), GroupId(1), &ballot(5)));
        question.reply.send(granted());
    };
    assert_eq!(tokio::join!(ask(&one.peers, 2, ballot(5)), play).0, Ok(granted()));
}

#[tokio::test(start_paused = true)]
async fn what_has_queued_goes_in_one_frame_and_answers_come_in_any_order() {
    let (one, mut two) = (node(1, 10, Some(CLUSTER)), node(2, 20, Some(CLUSTER)));
    one.peers.set(NodeId(2), two.address(20));
    let link = one.peers.link(NodeId(2), Priority::Bulk).expect("a link");
    let mut answers = Vec::new();
    for term in 0..5 {
        let room = link.room(0).await;
        answers.push(link.ask(GroupId(1), ballot(term), room));
    }
    let questions = two.questions().await;
    assert_eq!(questions.len(), 5);
    for question in questions.into_iter().rev() {
        let Body::Vote(ballot) = question.body else { panic!("a vote") };
        question.reply.send(Body::Voted(Voted { vote: ballot.vote, ..Voted::default() }));
    }
    for (term, answer) in (0..5).zip(answers) {
        let Ok(Body::Voted(voted)) = answer.await else { panic!("an answer") };
        assert_eq!(voted.vote.expect("a vote").term, term, "each has its own");
    }
}

#[tokio::test(start_paused = true)]
async fn frames_are_bounded_in_bytes_and_questions() {
    let (one, mut two) = (node(1, 10, Some(CLUSTER)), node(2, 20, Some(CLUSTER)));
    one.peers.set(NodeId(2), two.address(20));
    let link = one.peers.link(NodeId(2), Priority::Bulk).expect("a link");
    let mut answers = Vec::new();
    for _ in 0..5 {
        let room = link.room(400 << 10).await;
        answers.push(link.ask(GroupId(1), ballot(0), room));
    }
    assert_eq!((two.questions().await.len(), two.questions().await.len()), (3, 2));
    let many = 3 * link::FRAME_MESSAGES_MAX;
    for _ in 0..many {
        let room = link.room(0).await;
        answers.push(link.ask(GroupId(1), ballot(0), room));
    }
    let mut frames = Vec::new();
    while frames.iter().sum::<usize>() < many {
        frames.push(two.questions().await.len());
    }
    assert!(frames.iter().all(|questions| *questions <= link::FRAME_MESSAGES_MAX), "{frames:?}");
    assert!(frames.len() < many / 50, "{frames:?}");
}

#[tokio::test(start_paused = true)]
async fn questions_that_wait_are_bounded_in_bytes() {
    let one = node(1, 10, Some(CLUSTER));
    let two = node(2, 20, Some(CLUSTER));
    one.peers.set(NodeId(2), two.address(20));
    let link = one.peers.link(NodeId(2), Priority::Bulk).expect("a link");
    let mut rooms = Vec::new();
    while let Some(room) = link.try_room(10 << 20) {
        rooms.push(room);
    }
    assert_eq!(rooms.len(), 6);
    assert!(timeout(Duration::from_secs(1), link.room(10 << 20)).await.is_err(), "it waits");
    rooms.pop();
    link.room(10 << 20).await;
}

#[tokio::test(start_paused = true)]
async fn whoever_is_not_meant_or_not_known_is_refused_with_a_sentence() {
    let two = node(2, 20, Some(CLUSTER));
    let newcomer = node(3, 30, None);
    let refusals = [
        (
            node(1, 10, Some(8)),
            two.address(20),
            "node 2 belongs to cluster 00000000000000000000000000000007, not to 00000000000000000000000000000008",
        ),
        (
            node(1, 10, Some(CLUSTER)),
            two.address(21),
            "node 2 has incarnation 0000000000000014, the caller expects 0000000000000015: a node with a new data directory joins under a new id (`ursula cluster replace-node`)",
        ),
        (node(1, 10, None), two.address(20), "this node has not joined a cluster yet"),
        (node(1, 10, Some(CLUSTER)), newcomer.address(30), "node 3 has not joined a cluster yet"),
        (
            node(1, 11, Some(CLUSTER)),
            two.address(20),
            "node 1 has incarnation 000000000000000b, the cluster knows it as 000000000000000a: a node with a new data directory joins under a new id (`ursula cluster replace-node`)",
        ),
    ];
    let one = node(1, 10, Some(CLUSTER));
    two.peers.set(NodeId(1), one.address(10));
    for (caller, address, sentence) in refusals {
        caller.peers.set(NodeId(2), address);
        // The first is lost in the attempt, and those after it are told why.
        sleep(Duration::from_millis(20)).await;
        let Err(PeerError::Unreachable(why)) = ask(&caller.peers, 2, ballot(1)).await else { panic!("{sentence}") };
        assert_eq!(&*why, sentence);
    }
    // The right node at a wrong address.
    one.peers.set(NodeId(4), two.address(20));
    sleep(Duration::from_millis(20)).await;
    let error = ask(&one.peers, 4, ballot(1)).await.expect_err("refused");
    assert_eq!(error.to_string(), "this is node 2, not node 4: check the address");
    let error = ask(&one.peers, 5, ballot(1)).await.expect_err("refused");
    assert_eq!(error.to_string(), "nobody has said where node 5 is");
}

#[tokio::test(start_paused = true)]
async fn one_that_becomes_a_stranger_is_cut_off() {
    let (one, mut two) = (node(1, 10, Some(CLUSTER)), node(2, 20, Some(CLUSTER)));
    one.peers.set(NodeId(2), two.address(20));
    let play = async { two.questions().await.pop().expect("a question").reply.send(granted()) };
    tokio::join!(ask(&one.peers, 2, ballot(5)), play).0.expect("answered");
    // Another data directory has taken the place of node 1, as the cluster sees it.
    two.peers.set(NodeId(1), one.address(11));
    assert_eq!(ask(&one.peers, 2, ballot(6)).await, Err(PeerError::Lost));
    let error = ask(&one.peers, 2, ballot(7)).await.expect_err("refused");
    assert!(error.to_string().starts_with("node 1 has incarnation"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_moved_is_found_at_its_new_place() {
    let (one, mut two) = (node(1, 10, Some(CLUSTER)), node(2, 20, Some(CLUSTER)));
    let old = node(2, 19, Some(CLUSTER));
    one.peers.set(NodeId(2), old.address(19));
    let link = one.peers.link(NodeId(2), Priority::Urgent).expect("a link");
    let room = link.room(0).await;
    let lost = link.ask(GroupId(1), ballot(1), room);
    sleep(Duration::from_secs(1)).await;
    one.peers.set(NodeId(2), two.address(20));
    assert_eq!(lost.await, Err(PeerError::Lost), "it was asked of the old one");
    let play = async { two.questions().await.pop().expect("a question").reply.send(granted()) };
    assert_eq!(tokio::join!(ask(&one.peers, 2, ballot(5)), play).0, Ok(granted()));
    one.peers.remove(NodeId(2));
    assert!(matches!(ask(&one.peers, 2, ballot(5)).await, Err(PeerError::Unreachable(_))));
}

#[tokio::test(start_paused = true)]
async fn a_question_that_is_dropped_is_answered_all_the_same() {
    let (one, mut two) = (node(1, 10, Some(CLUSTER)), node(2, 20, Some(CLUSTER)));
    one.peers.set(NodeId(2), two.address(20));
    let play = async { drop(two.questions().await) };
    let answer = tokio::join!(ask(&one.peers, 2, ballot(5)), play).0;
    assert!(matches!(answer, Err(PeerError::Refused { reason: Reason::Unavailable, .. })), "{answer:?}");
}

/// A node that does not answer is slow; one that does not even say that it is there is gone.
#[tokio::test(start_paused = true)]
async fn a_slow_answer_is_waited_for() {
    let (one, mut two) = (node(1, 10, Some(CLUSTER)), node(2, 20, Some(CLUSTER)));
    one.peers.set(NodeId(2), two.address(20));
    let began = Instant::now();
    let play = async {
        let question = two.questions().await.pop().expect("a question");
        sleep(Duration::from_secs(60)).await;
        question.reply.send(granted());
    };
    assert_eq!(tokio::join!(ask(&one.peers, 2, ballot(5)), play).0, Ok(granted()));
    assert!(began.elapsed() >= Duration::from_secs(60));
}

/// Over real sockets: a node that goes away and comes back is reached again without being told.
#[tokio::test]
async fn a_connection_is_made_again() {
    let one = node(1, 10, Some(CLUSTER));
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    drop(listener);
    one.peers.set(
        NodeId(2),
        PeerAddress::remote(&address.to_string(), 20, Arc::new(ursula_proto::remote)).expect("an address"),
    );
    for life in 0..3 {
        // A runtime of its own, so that everything of this life ends with it.
        let process = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let process = process.expect("a runtime");
        process.spawn(async move {
            let mut two = node(2, 20, Some(CLUSTER));
            // The life before may still be on its way out, or somebody else have the port for a moment.
            let listener = loop {
                match TcpListener::bind(address).await {
                    Ok(listener) => break listener,
                    Err(_) => sleep(Duration::from_millis(10)).await,
                }
            };
            let server = tonic::transport::Server::builder().add_service(peer_server(two.service.clone()));
            tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
            loop {
                two.questions().await.into_iter().for_each(|question| question.reply.send(granted()));
            }
        });
        let reached = async {
            while ask(&one.peers, 2, ballot(life)).await != Ok(granted()) {
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(PATIENCE, reached).await.expect("it is reached");
        process.shutdown_background();
        let lost = async { while ask(&one.peers, 2, ballot(life)).await == Ok(granted()) {} };
        timeout(PATIENCE, lost).await.expect("it is gone");
    }
    assert!(PeerAddress::remote("no address", 1, Arc::new(ursula_proto::remote)).is_err());
}

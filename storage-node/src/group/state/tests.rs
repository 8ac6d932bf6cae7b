//! What tails are told by a replica that can prove that it leads, and by one that cannot.

use std::cell::Cell;
use std::io::Write as _;

use tokio::sync::oneshot::{self, Receiver, error::TryRecvError};
use tokio::time::Instant;
use ursula_common::verb::{Append, Create, Op, Retention};
use ursula_common::{ContentType, NodeId};

use super::*;

const GROUP: GroupId = GroupId(1);

struct World {
    state: GroupState,
    leads: Rc<Cell<bool>>,
}

type Answered = Result<TailPage, Error>;

fn not_leader() -> Error {
    Error::NotLeader { leader: Some(NodeId(3)), term: 4 }
}

fn key(name: &str) -> StreamKey {
    StreamKey::parse("default", name).expect("a name")
}

fn create(key: StreamKey) -> Op {
    Op::Create(Create {
        key,
        content_type: Some(ContentType::parse("text/plain")),
        lifetime: Lifetime::Forever,
        closed: false,
        body: Bytes::from_static(b"bytes"),
        fork: None,
        numbered: true,
        retention: Retention::default(),
    })
}

impl World {
    fn new() -> World {
        let hot = Rc::new(RefCell::new(Hot::new(1 << 20)));
        let leads = Rc::new(Cell::new(true));
        let mut state = GroupState::in_memory(GROUP, 1, hot, Millis(0));
        let proof = leads.clone();
        state.prove_with(move || if proof.get() { Ok(()) } else { Err(not_leader()) });
        let mut world = World { state, leads };
        world.apply(create(key("stream")));
        world
    }

    fn apply(&mut self, op: Op) {
        self.state.apply(vec![Command { at: Millis(1), origin: None, op }], None);
    }

    fn append(&mut self, body: &'static str, close: bool) {
        self.apply(Op::Append(Append {
            key: key("stream"),
            content_type: Some(ContentType::parse("text/plain")),
            body: Bytes::from_static(body.as_bytes()),
            close,
            producer: None,
            stream_seq: None,
            expected_offset: None,
        }));
    }

    fn wait(&mut self, name: &str, from: u64, tell_up_to_date: bool) -> Receiver<Answered> {
        let (reply, answer) = oneshot::channel();
        let known = self.state.info(&key("stream"), None, Millis(1)).expect("a stream");
        let waiter = Waiter { stream: known.id, from: Offset(from), bytes_max: 1000, tell_up_to_date, reply };
        assert!(self.state.wait(&key(name), Millis(1), waiter).is_none(), "everything is in memory");
        answer
    }

    /// What is answered at once: the bytes, whether they are all, and whether they are the last.
    #[track_caller]
    fn ask(&mut self, name: &str, from: u64, tell: bool) -> Result<(Vec<u8>, bool, bool), Error> {
        told(self.wait(name, from, tell))
    }
}

#[track_caller]
fn told(mut answer: Receiver<Answered>) -> Result<(Vec<u8>, bool, bool), Error> {
    let page = answer.try_recv().expect("an answer")?;
    Ok((page.pieces.concat(), page.up_to_date, page.closed))
}

#[test]
fn what_is_wrong_is_said_by_a_leader_only() {
    let mut world = World::new();
    for (leads, past, gone) in
        [(true, Error::OffsetInvalid, Error::StreamNotFound), (false, not_leader(), not_leader())]
    {
        world.leads.set(leads);
        assert_eq!(world.ask("stream", 99, false), Err(past));
        assert_eq!(world.ask("another", 0, false), Err(gone));
    }
}

#[test]
fn bytes_are_bytes_but_only_a_leader_knows_that_they_are_all() {
    let mut world = World::new();
    for (leads, rest) in [(true, "tes"), (false, "tesmore")] {
        world.leads.set(leads);
        assert_eq!(world.ask("stream", 2, false), Ok((rest.into(), leads, false)));
        let from = world.state.info(&key("stream"), None, Millis(1)).expect("a stream").tail;
        let waiting = world.wait("stream", from.0, false);
        world.append("more", false);
        assert_eq!(told(waiting), Ok((b"more".to_vec(), leads, false)));
    }
    // The end of a closed stream is its end.
    world.append("", true);
    assert_eq!(world.ask("stream", 9, false), Ok((b"more".to_vec(), true, true)));
}

#[test]
fn a_leader_tells_at_once_that_there_is_nothing_if_it_is_asked() {
    let mut world = World::new();
    assert_eq!(world.ask("stream", 5, true), Ok((Vec::new(), true, false)));
    assert_eq!(world.ask("stream", 0, true), Ok((b"bytes".to_vec(), true, false)));
    assert_eq!(world.wait("stream", 5, false).try_recv(), Err(TryRecvError::Empty));
    world.leads.set(false);
    let waiting = world.wait("stream", 5, true);
    assert_eq!(world.state.waiting_tails(), 2);
    world.append("more", false);
    assert_eq!(told(waiting), Ok((b"more".to_vec(), false, false)));
}

#[test]
fn tails_begin_again_when_the_state_is_replaced() {
    let mut world = World::new();
    let waiting = world.wait("stream", 5, false);
    let (mut snapshot, places) = (Vec::new(), world.state.places());
    world.state.freeze()(&mut |part| snapshot.write_all(part)).expect("a snapshot");
    world.state.restore(snapshot.into(), places).expect("a snapshot");
    assert_eq!(told(waiting), Err(Error::Unavailable));
    assert_eq!(world.state.waiting_tails(), 0);
}

/// How long a core stands still for a checkpoint, and how long it would if it encoded the state itself:
/// `cargo test --release -p ursula-storage-node --lib -- --ignored --nocapture stands_still`
#[test]
#[ignore = "measures time"]
fn how_long_a_core_stands_still_for_a_checkpoint() {
    let mut world = World::new();
    for n in 0..100_000 {
        world.apply(create(key(&format!("user/{n:015}"))));
    }
    for _ in 0..5 {
        let begin = Instant::now();
        let bytes = world.state.streams.encode().len();
        let encoded = begin.elapsed();
        let begin = Instant::now();
        let parts = world.state.freeze();
        let frozen = begin.elapsed();
        let mut written = 0;
        parts(&mut |part| {
            written += part.len();
            Ok(())
        })
        .expect("no disk is asked");
        assert_eq!(written, bytes);
        println!("100,000 streams, {bytes} bytes: encoded in {encoded:?}, copied in {frozen:?}");
    }
}

//! One replica of one group: answers, order, and a log that does not grow without end.

mod elections;
mod faults;
mod leases;
mod members;
mod pipeline;
mod world;

use std::rc::Rc;

use bytes::Bytes;
use tokio::task::LocalSet;
use ursula_common::verb::{Append, Op};
use ursula_common::{Millis, NodeId, StreamKey};

use super::*;
use crate::metrics::Metrics;

/// Remembers how many commands came, and answers each with the sum of their stamps so far.
#[derive(Default)]
struct Sums {
    commands: usize,
    sum: u64,
}

impl StateMachine for Sums {
    fn apply(&mut self, commands: Vec<Command>, _entry: Option<&Stored>) -> Vec<Answer> {
        let answer = |command: Command| {
            self.commands += 1;
            self.sum += command.at.0;
            Answer::Done(Err(Error::StaleEpoch { current: self.sum }))
        };
        commands.into_iter().map(answer).collect()
    }

    fn freeze(&self) -> StateParts {
        Box::new(|_| Ok(()))
    }

    fn places(&self) -> Places {
        Places::default()
    }

    fn restore(&mut self, _state: Bytes, _places: Places) -> std::io::Result<()> {
        Ok(())
    }
}

fn command(at: u64, body_bytes: usize) -> Command {
    let append = Append {
        key: StreamKey::parse("default", "stream").expect("a name"),
        content_type: None,
        body: Bytes::from(vec![0; body_bytes]),
        close: false,
        producer: None,
        stream_seq: None,
        expected_offset: None,
    };
    Command { at: Millis(at), origin: None, op: Op::Append(append) }
}

fn sum(current: u64) -> Answer {
    Answer::Done(Err(Error::StaleEpoch { current }))
}

fn memory<M: StateMachine>(replica: &Replica<M>) -> &MemoryLog {
    match &replica.log {
        Log::Memory(log) => log,
        Log::Disk(_) => unreachable!("it was started in memory"),
    }
}

/// Runs `test` with a replica that leads.
async fn with_replica(test: impl AsyncFnOnce(&Replica<Sums>, &Rc<RefCell<Sums>>)) {
    let run = async {
        let machine = Rc::new(RefCell::new(Sums::default()));
        let peers = Peers::new(NodeId(7), 0, None, Metrics::new(1).expect("metrics"));
        let replica = Replica::start(GroupId(3), machine.clone(), Storage::Memory, peers).await.expect("a replica");
        replica.initialize([NodeId(7)]).await.expect("a group");
        replica.wait_for_leadership().await.expect("a leader");
        test(&replica, &machine).await;
        replica.stop().await;
    };
    LocalSet::new().run_until(run).await;
}

#[tokio::test]
async fn every_command_has_its_answer_in_order() {
    with_replica(async |replica, machine| {
        assert_eq!(replica.propose(vec![command(1, 0)]).await, Ok(vec![sum(1)]));
        let entry = vec![command(10, 0), command(100, 5), command(1000, 0)];
        assert_eq!(replica.propose(entry).await, Ok(vec![sum(11), sum(111), sum(1111)]));
        assert_eq!(replica.propose(Vec::new()).await, Ok(Vec::new()));
        assert_eq!(machine.borrow().commands, 4);
        assert_eq!(replica.confirm_leadership().await, Ok(()));
    })
    .await;
}

#[tokio::test]
async fn a_replica_that_was_stopped_takes_nothing_more() {
    with_replica(async |replica, machine| {
        replica.propose(vec![command(1, 0)]).await.expect("an answer");
        replica.stop().await;
        assert_eq!(replica.propose(vec![command(2, 0)]).await, Err(Error::OutcomeUnknown));
        assert_eq!(replica.confirm_leadership().await, Err(Error::NotLeader { leader: None, term: 1 }));
        assert_eq!(machine.borrow().sum, 1);
    })
    .await;
}

/// A purge is under way for a few entries while the next ones come.
const UNDER_WAY: usize = 8;

#[tokio::test]
async fn the_log_holds_a_bounded_number_of_entries() {
    with_replica(async |replica, machine| {
        let mut most = 0;
        for at in 0..6 * LOG_ENTRIES_MAX as u64 {
            replica.propose(vec![command(at, 1)]).await.expect("an answer");
            most = most.max(memory(replica).entries());
        }
        assert!((LOG_ENTRIES_MAX / 2..=LOG_ENTRIES_MAX + UNDER_WAY).contains(&most), "{most} entries");
        assert_eq!(machine.borrow().commands, 6 * LOG_ENTRIES_MAX, "nothing was lost with the log");
    })
    .await;
}

#[tokio::test]
async fn the_log_holds_a_bounded_number_of_bytes() {
    const BODY_BYTES: usize = 10_000;
    with_replica(async |replica, machine| {
        let (mut most, mut entries) = (0, 0);
        for at in 0..6 * (LOG_BYTES_MAX / BODY_BYTES) as u64 {
            replica.propose(vec![command(at, BODY_BYTES)]).await.expect("an answer");
            most = most.max(memory(replica).bytes());
            entries = entries.max(memory(replica).entries());
        }
        let entry = BODY_BYTES + size_of::<Command>();
        assert!((LOG_BYTES_MAX / 2..=LOG_BYTES_MAX + UNDER_WAY * entry).contains(&most), "{most} bytes");
        assert!(entries < LOG_ENTRIES_MAX, "it was cut for its bytes");
        // One entry beyond the bound is held as well, and goes with the next.
        replica.propose(vec![command(0, 3 * LOG_BYTES_MAX)]).await.expect("an answer");
        for at in 0..UNDER_WAY as u64 {
            replica.propose(vec![command(at, 1)]).await.expect("an answer");
        }
        assert!(memory(replica).bytes() < LOG_BYTES_MAX, "{} bytes", memory(replica).bytes());
        assert!(machine.borrow().commands > entries);
    })
    .await;
}

//! Three nodes that are one group while leaders change, nodes freeze and die, and answers get lost: every op is done
//! at most once, whoever is told that it was done is told the truth, and so is whoever is told that it was not.

use std::collections::BTreeMap;

use ursula_common::limits::SESSION_RESULTS_MAX;

use super::*;
use crate::jitter::Jitter;
use crate::tests::{Mode, nodes, topology_of};

const NODES: usize = 3;
const STEPS: u64 = 250;
const CREDIT_OPS: u32 = 50;

/// What the nodes agree on.
#[derive(Default)]
struct Group {
    /// What was done, in order.
    done: Vec<Bytes>,
    results: BTreeMap<(u64, u64), u64>,
    floors: BTreeMap<u64, u64>,
}

impl Group {
    fn apply(&mut self, op: &SentOp) -> OpResult {
        let floor = self.floors.entry(op.session).or_default();
        *floor = (*floor).max(op.acked);
        if op.seq < *floor {
            return Err(Error::ResultForgotten);
        }
        assert!(op.seq < *floor + SESSION_RESULTS_MAX as u64, "more than the group remembers");
        let next = self.done.len() as u64;
        let number = *self.results.entry((op.session, op.seq)).or_insert(next);
        if number == next {
            self.done.push(op.op.clone());
        }
        answer(number)
    }
}

struct Chaos {
    dice: Jitter,
    nodes: Vec<FakeNode>,
    lanes: Vec<Option<FakeLane>>,
    views: Views,
    gateway: Lanes,
    group: Group,
    leader: usize,
    term: u64,
    /// Ops that a leader took and that are done some time, or never.
    late: Vec<SentOp>,
    callers: Vec<(Bytes, JoinHandle<OpResult>)>,
}

impl Chaos {
    fn new(seed: u64) -> Chaos {
        let (nodes, connect) = nodes(NODES as u64);
        let views = Views::new(connect);
        let metrics = crate::tests::metrics();
        let gateway = Lanes::start(views.clone(), 64 << 20, Arc::default(), Jitter::new(seed), metrics);
        let lanes = nodes.iter().map(|_| None).collect();
        let mut chaos = Chaos {
            dice: Jitter::new(!seed),
            nodes,
            lanes,
            views,
            gateway,
            group: Group::default(),
            leader: 0,
            term: 1,
            late: Vec::new(),
            callers: Vec::new(),
        };
        chaos.announce();
        chaos
    }

    fn chance(&self, one_in: u64) -> bool {
        self.dice.next().is_multiple_of(one_in)
    }

    fn pick(&self, below: usize) -> usize {
        (self.dice.next() % below as u64) as usize
    }

    fn announce(&mut self) {
        let topology = topology_of(1, &[1, 2, 3], Some(self.leader as u64 + 1), self.term);
        self.views.merge(&topology, &self.nodes[0].link()).expect("a topology");
    }

    fn submit(&mut self) {
        let number = self.callers.len();
        let Op::Append(mut op) = append(0) else { unreachable!() };
        op.body = number.to_le_bytes().to_vec().into();
        let op = Op::Append(op);
        let (gateway, encoded) = (self.gateway.clone(), wire::encode_op(&op).into());
        let deadline = Instant::now() + Duration::from_secs(1 + self.dice.next() % 10);
        let caller = tokio::spawn(async move { gateway.submit((GROUP, Pace::Prompt), &op, deadline).await });
        self.callers.push((encoded, caller));
    }

    fn misfortune(&mut self) {
        let node = self.pick(NODES);
        match self.dice.next() % 12 {
            0 => {
                self.leader = node;
                self.term += 1;
            }
            1 => self.announce(),
            2 => self.nodes[node].turn(Mode::Frozen),
            3 => self.nodes[node].turn(Mode::Dead),
            4 | 5 => (0..NODES).for_each(|node| self.nodes[node].turn(Mode::Alive)),
            6 => self.lanes[node] = None,
            7 if !self.late.is_empty() => {
                let op = self.late.swap_remove(self.pick(self.late.len()));
                drop(self.group.apply(&op));
            }
            _ => {}
        }
    }

    /// Lets the nodes do what comes to them.
    async fn serve(&mut self, node: usize, honest: bool) {
        for call in self.nodes[node].lane_calls() {
            if !call.is_given_up() {
                let lane = call.accept();
                lane.grant(CREDIT_OPS);
                self.lanes[node] = Some(lane);
            }
        }
        if !self.nodes[node].is_alive() {
            return;
        }
        let Some(mut lane) = self.lanes[node].take() else { return };
        loop {
            tokio::select! {
                biased;
                frame = lane.frame() => match frame {
                    Some(ops) => ops.iter().for_each(|op| self.take(node, &lane, op, honest)),
                    None => return,
                },
                () = quiet() => break,
            }
        }
        if honest || !self.chance(10) {
            self.lanes[node] = Some(lane);
        }
    }

    fn take(&mut self, node: usize, lane: &FakeLane, op: &SentOp, honest: bool) {
        if node != self.leader {
            let leader = match self.dice.next() % 3 {
                0 => Some(NodeId(self.leader as u64 + 1)),
                1 => Some(NodeId(self.pick(NODES) as u64 + 1)),
                _ => None,
            };
            let old = leader.is_some_and(|leader| leader.0 != self.leader as u64 + 1);
            return lane.answer_op(op, Err(Error::NotLeader { leader, term: self.term - u64::from(old) }));
        }
        let misfortune = if honest { u64::MAX } else { self.dice.next() % 20 };
        match misfortune {
            0 => drop(self.group.apply(op)),
            1 => self.late.push(op.clone()),
            2 => {
                self.late.push(op.clone());
                lane.answer_op(op, Err(Error::OutcomeUnknown));
            }
            3 => lane.answer_op(op, Err(Error::Overloaded)),
            _ => lane.answer_op(op, self.group.apply(op)),
        }
    }

    async fn run(mut self) -> [usize; 3] {
        for _ in 0..STEPS {
            (0..self.pick(5)).for_each(|_| self.submit());
            self.misfortune();
            for node in 0..NODES {
                self.serve(node, false).await;
            }
            tokio::time::sleep(Duration::from_millis(self.dice.next() % 60)).await;
        }
        self.announce();
        (0..NODES).for_each(|node| self.nodes[node].turn(Mode::Alive));
        while !self.callers.iter().all(|(_, caller)| caller.is_finished()) {
            for node in 0..NODES {
                self.serve(node, true).await;
            }
            quiet().await;
        }
        self.judge().await
    }

    async fn judge(self) -> [usize; 3] {
        let Chaos { mut group, late, callers, .. } = self;
        late.iter().for_each(|op| drop(group.apply(op)));
        let times = |op: &Bytes| group.done.iter().filter(|done| *done == op).count();
        let mut told = [0; 3];
        for (op, caller) in callers {
            match caller.await.expect("no panic") {
                Err(Error::StaleEpoch { current }) => {
                    assert_eq!(group.done[current as usize], op, "the answer to another op");
                    assert_eq!(times(&op), 1);
                    told[0] += 1;
                }
                Err(Error::OutcomeUnknown) => {
                    assert!(times(&op) <= 1);
                    told[1] += 1;
                }
                Err(Error::Overloaded | Error::Unavailable) => {
                    assert_eq!(times(&op), 0, "it was done after all");
                    told[2] += 1;
                }
                other => panic!("{other:?}"),
            }
        }
        told
    }
}

#[tokio::test(start_paused = true)]
async fn every_op_is_done_at_most_once_and_its_caller_hears_the_truth() {
    let mut told = [0; 3];
    for seed in 0..40 {
        let of_seed = Chaos::new(seed).run().await;
        told = [0, 1, 2].map(|i| told[i] + of_seed[i]);
    }
    let [done, unknown, refused] = told;
    assert!(done > 10_000 && unknown > 50 && refused > 50, "{done} done, {unknown} unknown, {refused} refused");
}

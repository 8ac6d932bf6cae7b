//! One simulation from its begin to its end: hosts are set up, a cluster is formed, there is load and there are faults,
//! then everything is mended, and everything is read.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use tokio::sync::watch;
use turmoil::Sim;
use turmoil::net::TcpStream;
use ursula_common::metrics::Registry;
use ursula_soak::{Found, Gateways, Socket, Tasks};

use crate::clock::SimulatedClock;
use crate::machine::Machine;
use crate::nemesis::Nemesis;
use crate::objects::Objects;
use crate::operator::{Operator, Order};
use crate::plan::Plan;
use crate::{determinism, gateway, network};

/// How fine time is between hosts; within a host it is as fine as its timers.
const TICK: Duration = Duration::from_millis(5);
/// A cluster is formed within...
const FORMED_MAX: Duration = Duration::from_secs(60);
/// ...and after the last fault everything comes to its end within...
const END_MAX: Duration = Duration::from_secs(120);
/// Bytes and connections that a socket holds; more than anybody uses.
const SOCKET_CAPACITY: usize = 1 << 16;

/// How it went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// What was wrong.
    pub violations: Vec<String>,
    /// Appends that were acknowledged.
    pub acked: u64,
    /// Faults, in their order.
    pub faults: Vec<String>,
    /// How much time passed in the simulation.
    pub time: Duration,
    /// Calls of all disks.
    pub disk_calls: u64,
    /// Whether a file was changed, so that a node may find damage.
    pub damaged: bool,
}

/// What the host of the clients is told, and tells.
struct Desk {
    begin: watch::Sender<bool>,
    stop: watch::Sender<bool>,
    found: OnceLock<Found>,
}

/// Simulates one seed. Once in a process: what is random is seeded for the process.
///
/// # Panics
/// If the system refuses a thread, or the simulation panics.
#[expect(clippy::disallowed_methods, reason = "only a new thread has not drawn its randomness yet")]
pub fn simulate(plan: &Plan) -> Outcome {
    // The first registry of a process measures the clock of the processor, for which time must pass.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    drop(runtime.block_on(async { Registry::new() }));
    determinism::begin(plan.seed);
    let plan = plan.clone();
    std::thread::spawn(move || run(&plan)).join().expect("the simulation panicked")
}

fn run(plan: &Plan) -> Outcome {
    let mut sim = turmoil::Builder::new()
        .tick_duration(TICK)
        .epoch(UNIX_EPOCH)
        .simulation_duration(Duration::MAX)
        .rng_seed(plan.seed)
        .min_message_latency(plan.latency_min)
        .max_message_latency(plan.latency_max)
        .tcp_capacity(SOCKET_CAPACITY)
        .enable_random_order()
        .build();
    let objects = Arc::<Objects>::default();
    let machines: Vec<Arc<Machine>> = (1..=plan.machines()).map(|id| Machine::new(plan, id, objects.clone())).collect();
    for machine in &machines {
        let software = machine.clone();
        sim.host(machine.host.as_str(), move || {
            let software = software.clone();
            async move {
                software.run().await;
                Ok(())
            }
        });
    }
    let hosts: Vec<String> = machines.iter().map(|machine| machine.host.clone()).collect();
    let clocks: Vec<Arc<SimulatedClock>> = (0..plan.gateways).map(|_| Arc::default()).collect();
    for (index, clock) in clocks.iter().enumerate() {
        let (hosts, clock, op_timeout_ms) = (hosts.clone(), clock.clone(), plan.op_timeout_ms);
        sim.host(gateway::host(index), move || {
            let (hosts, clock) = (hosts.clone(), clock.clone());
            async move { Ok(gateway::run(hosts, op_timeout_ms, clock).await?) }
        });
    }
    let (operator, orders) = Operator::new(plan.seed, hosts);
    let operator = Mutex::new(Some(operator));
    sim.host("operator", move || {
        let operator = operator.lock().unwrap_or_else(PoisonError::into_inner).take();
        async move {
            operator.expect("the operator is never restarted").run().await;
            Ok(())
        }
    });
    let desk = Arc::new(Desk { begin: watch::channel(false).0, stop: watch::channel(false).0, found: OnceLock::new() });
    sim.client("clients", run_load(plan.clone(), desk.clone()));

    let mut world = World { sim, machines, objects, violations: Vec::new() };
    orders.order(Order::Form { nodes: plan.nodes, groups: plan.groups });
    let formed = world.step_until(FORMED_MAX, |_, _| orders.is_idle());
    if !formed {
        world.complain("a cluster is not formed");
    }
    desk.begin.send_replace(true);
    let mut nemesis = Nemesis::new(plan, orders.clone(), clocks);
    let begun = world.sim.elapsed();
    let end = begun + plan.time;
    // Whoever lied once may go on for long.
    let is_good = |world: &World| world.violations.is_empty() && desk.found.get().is_none_or(Found::is_good);
    world.step_until(Duration::MAX, |world, _| {
        nemesis.act(world);
        if let Some(packs) = &plan.packs {
            world.objects.be_bad(packs, world.sim.elapsed() - begun);
        }
        world.sim.elapsed() >= end.max(nemesis.busy_until()) || !is_good(world)
    });
    nemesis.end(&mut world);
    world.objects.be_good();
    orders.order(Order::Inspect { except: nemesis.damaged() });
    desk.stop.send_replace(true);
    let ended = world.step_until(END_MAX, |world, clients_ended| {
        nemesis.keep_up(world);
        clients_ended && orders.is_idle() || !is_good(world)
    });
    if !ended {
        let who = if orders.is_idle() { "clients" } else { "an operator" };
        let why = orders.trouble().unwrap_or_default();
        world.complain(&format!("{who} did not come to an end within {END_MAX:?} without a fault {why}"));
    }
    let found = desk.found.get();
    world.violations.extend(found.iter().flat_map(|found| found.violations()).map(|violation| violation.to_string()));
    Outcome {
        violations: world.violations,
        acked: found.map_or(0, Found::acked),
        damaged: nemesis.damaged().is_some(),
        faults: nemesis.into_faults(),
        time: world.sim.elapsed(),
        disk_calls: world.machines.iter().map(|machine| machine.disk.calls()).sum(),
    }
}

async fn run_load(plan: Plan, desk: Arc<Desk>) -> turmoil::Result {
    let _ = desk.begin.subscribe().wait_for(|begin| *begin).await;
    let gateways = Gateways::new(Box::new(|address| {
        Box::pin(async move { Ok(Box::new(TcpStream::connect(address).await?) as Box<dyn Socket>) })
    }));
    gateways.set((0..plan.gateways).map(|index| Some(network::address(&gateway::host(index)))).collect());
    let load = Tasks::start(plan.load, Arc::new(gateways)).await;
    let _ = desk.found.set(load.found());
    let _ = desk.stop.subscribe().wait_for(|stop| *stop).await;
    load.finish().await;
    Ok(())
}

/// The hosts.
pub(crate) struct World {
    pub(crate) sim: Sim<'static>,
    pub(crate) machines: Vec<Arc<Machine>>,
    pub(crate) objects: Arc<Objects>,
    violations: Vec<String>,
}

impl World {
    pub(crate) fn complain(&mut self, what: &str) {
        tracing::error!("{what}");
        self.violations.push(what.to_owned());
    }

    /// Lets time pass until `is_done`, which is told whether the clients have ended; false if that takes too long.
    fn step_until(&mut self, time: Duration, mut is_done: impl FnMut(&mut World, bool) -> bool) -> bool {
        let end = self.sim.elapsed().saturating_add(time);
        while self.sim.elapsed() < end {
            let clients_ended = match self.sim.step() {
                Ok(ended) => ended,
                Err(error) => {
                    self.complain(&format!("a host ended: {error}"));
                    return false;
                }
            };
            if is_done(self, clients_ended) {
                return true;
            }
        }
        false
    }
}

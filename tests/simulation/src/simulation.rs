//! One simulation from its begin to its end: hosts are set up, a cluster is formed, there is load and there are faults,
//! then everything is mended, and everything is read.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use tokio::sync::watch;
use turmoil::Sim;
use turmoil::net::TcpStream;
use ursula_common::metrics::Registry;
use ursula_soak::{Ended, Found, Gateways, Socket, Tasks};

use crate::clock::SimulatedClock;
use crate::loss::Lossy;
use crate::machine::Machine;
use crate::nemesis::Nemesis;
use crate::objects::Objects;
use crate::operator::{self, Operator, Order};
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
pub(crate) struct Desk {
    begin: watch::Sender<bool>,
    /// How the load ends.
    end: watch::Sender<Option<End>>,
    found: OnceLock<Found>,
    ended: Mutex<Option<Ended>>,
}

/// How the load ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// Everything is read once more.
    Finished,
    /// It breaks off.
    Halted,
}

impl Desk {
    fn new() -> Desk {
        let (begin, end) = (watch::channel(false).0, watch::channel(None).0);
        Desk { begin, end, found: OnceLock::new(), ended: Mutex::default() }
    }

    pub(crate) fn end(&self, how: End) {
        self.end.send_replace(Some(how));
    }

    /// What is left of the load, once it has ended.
    pub(crate) fn ended(&self) -> Option<Ended> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether nothing was wrong with what clients were told.
    pub(crate) fn is_good(&self) -> bool {
        self.found.get().is_none_or(Found::is_good)
    }
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
    let (mut world, desk) = (World::new(plan), Arc::new(Desk::new()));
    let hosts = world.add_nodes(plan, "node", Arc::default());
    world.add_gateways(plan);
    let orders = world.add_operator(plan.seed, "operator", hosts);
    world.sim.client("clients", run_load(plan.clone(), desk.clone()));
    world.form(plan, &orders);
    desk.begin.send_replace(true);
    let mut nemesis = Nemesis::new(plan, orders.clone(), world.gateway_clocks.clone());
    let loss = plan.loss.map(|loss| Lossy::new(&mut world, plan, loss));
    let begun = world.sim.elapsed();
    let end = begun + plan.time;
    // Whoever lied once may go on for long.
    let is_good = |world: &World| world.violations.is_empty() && desk.is_good();
    world.step_until(Duration::MAX, |world, _| {
        nemesis.act(world);
        if let Some(packs) = &plan.packs {
            world.objects.be_bad(packs, world.sim.elapsed() - begun);
        }
        world.sim.elapsed() >= end.max(nemesis.busy_until()) && desk.found.get().is_some() || !is_good(world)
    });
    if !plan.loss.is_some_and(|loss| loss.under_load) || !is_good(&world) {
        nemesis.end(&mut world);
        world.objects.be_good();
        desk.end(End::Finished);
        world.come_to_an_end(&desk, &orders, &mut nemesis);
    }
    let (mut damaged, mut faults) = (nemesis.damaged().is_some(), nemesis.into_faults());
    if let Some(loss) = loss.filter(|_| is_good(&world)) {
        let after = loss.happen(&mut world, &desk);
        damaged |= after.damaged;
        faults.extend(after.faults);
    }
    let found = desk.found.get();
    world.violations.extend(found.iter().flat_map(|found| found.violations()).map(|violation| violation.to_string()));
    Outcome {
        violations: world.violations,
        acked: found.map_or(0, Found::acked),
        damaged,
        faults,
        time: world.sim.elapsed(),
        disk_calls: world.all_machines.iter().map(|machine| machine.disk.calls()).sum(),
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
    let mut end = desk.end.subscribe();
    let how = end.wait_for(Option::is_some).await.map_or(None, |how| *how);
    let ended = match how {
        Some(End::Halted) => load.halt().await,
        Some(End::Finished) | None => load.finish().await,
    };
    *desk.ended.lock().unwrap_or_else(PoisonError::into_inner) = Some(ended);
    Ok(())
}

/// The hosts.
pub(crate) struct World {
    pub(crate) sim: Sim<'static>,
    /// Those of the cluster that is there.
    pub(crate) machines: Vec<Arc<Machine>>,
    /// Also those that were lost.
    all_machines: Vec<Arc<Machine>>,
    /// The store of the cluster that is there.
    pub(crate) objects: Arc<Objects>,
    pub(crate) gateway_clocks: Vec<Arc<SimulatedClock>>,
    /// The nodes that gateways ask which begin from now on.
    pub(crate) seeds: Arc<Mutex<Vec<String>>>,
    violations: Vec<String>,
}

impl World {
    fn new(plan: &Plan) -> World {
        let sim = turmoil::Builder::new()
            .tick_duration(TICK)
            .epoch(UNIX_EPOCH)
            .simulation_duration(Duration::MAX)
            .rng_seed(plan.seed)
            .min_message_latency(plan.latency_min)
            .max_message_latency(plan.latency_max)
            .tcp_capacity(SOCKET_CAPACITY)
            .enable_random_order()
            .build();
        let gateway_clocks = (0..plan.gateways).map(|_| Arc::default()).collect();
        let (machines, all_machines, violations) = Default::default();
        let (objects, seeds) = Default::default();
        World { sim, machines, all_machines, objects, gateway_clocks, seeds, violations }
    }

    /// Adds the nodes of a cluster, and those that may join it. From now on they are those that are there, and with them
    /// their store.
    pub(crate) fn add_nodes(&mut self, plan: &Plan, name: &str, objects: Arc<Objects>) -> Vec<String> {
        let ids = 1..=plan.machines();
        self.machines = ids.map(|id| Machine::new(plan, format!("{name}-{id}"), id, objects.clone())).collect();
        self.all_machines.extend(self.machines.iter().cloned());
        self.objects = objects;
        for machine in &self.machines {
            let software = machine.clone();
            self.sim.host(machine.host.as_str(), move || {
                let software = software.clone();
                async move {
                    software.run().await;
                    Ok(())
                }
            });
        }
        let hosts: Vec<String> = self.machines.iter().map(|machine| machine.host.clone()).collect();
        self.seeds.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&hosts);
        hosts
    }

    fn add_gateways(&mut self, plan: &Plan) {
        for (index, clock) in self.gateway_clocks.iter().enumerate() {
            let (seeds, clock, op_timeout_ms) = (self.seeds.clone(), clock.clone(), plan.op_timeout_ms);
            self.sim.host(gateway::host(index), move || {
                let hosts = seeds.lock().unwrap_or_else(PoisonError::into_inner).clone();
                let clock = clock.clone();
                async move { Ok(gateway::run(hosts, op_timeout_ms, clock).await?) }
            });
        }
    }

    /// Adds whoever forms the cluster of these nodes, and looks after it.
    pub(crate) fn add_operator(&mut self, seed: u64, name: &str, hosts: Vec<String>) -> operator::Desk {
        let (operator, orders) = Operator::new(seed, hosts);
        let operator = Mutex::new(Some(operator));
        self.sim.host(name, move || {
            let operator = operator.lock().unwrap_or_else(PoisonError::into_inner).take();
            async move {
                operator.expect("the operator is never restarted").run().await;
                Ok(())
            }
        });
        orders
    }

    pub(crate) fn form(&mut self, plan: &Plan, orders: &operator::Desk) {
        orders.order(Order::Form { nodes: plan.nodes, groups: plan.groups });
        if !self.step_until(FORMED_MAX, |_, _| orders.is_idle()) {
            self.complain("a cluster is not formed");
        }
    }

    /// Everything was mended: the cluster becomes whole, and clients read all of it.
    pub(crate) fn come_to_an_end(&mut self, desk: &Desk, orders: &operator::Desk, nemesis: &mut Nemesis) {
        orders.order(Order::Inspect { except: nemesis.damaged() });
        let ended = self.step_until(END_MAX, |world, clients_ended| {
            nemesis.keep_up(world);
            clients_ended && orders.is_idle() || !world.violations.is_empty() || !desk.is_good()
        });
        if !ended {
            let who = if orders.is_idle() { "clients" } else { "an operator" };
            let why = orders.trouble().unwrap_or_default();
            self.complain(&format!("{who} did not come to an end within {END_MAX:?} without a fault {why}"));
        }
    }

    pub(crate) fn complain(&mut self, what: &str) {
        tracing::error!("{what}");
        self.violations.push(what.to_owned());
    }

    /// Whether nobody has complained.
    pub(crate) fn is_good(&self) -> bool {
        self.violations.is_empty()
    }

    /// Lets time pass until `is_done`, which is told whether the clients have ended; false if that takes too long.
    pub(crate) fn step_until(&mut self, time: Duration, mut is_done: impl FnMut(&mut World, bool) -> bool) -> bool {
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

//! The loss of all nodes with their disks, and the way back: another cluster is formed, and `ursula restore` brings the streams
//! into it from the store, by the same steps as the command.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{sleep, timeout};
use ursula_cold::steady::{Steady, SteadyOptions};
use ursula_common::{BucketName, GroupId};
use ursula_proto::admin::v1::DescribeRequest;
use ursula_proto::{admin_client, node_client};
use ursula_soak::Packed;
use ursula_storage_node::restore::{self, Backup, Guide, Restore, Store};

use crate::clock::SimulatedClock;
use crate::machine::LOOK_EVERY;
use crate::nemesis::Nemesis;
use crate::objects::Objects;
use crate::operator::PATIENCE;
use crate::plan::{Loss, Plan};
use crate::simulation::{Desk, End, World};
use crate::{gateway, network, replicas};

/// Packs have everything within...
const PACKED_MAX: Duration = Duration::from_secs(60);
/// ...if that is told for so long.
const PACKED_FOR: Duration = Duration::from_millis(4 * LOOK_EVERY.as_millis() as u64);
/// There are faults for so long while a cluster is restored, if there are any...
const FAULTS: Duration = Duration::from_secs(5);
/// ...and after that it is done within...
const RESTORED_MAX: Duration = Duration::from_secs(120);
/// A restore is killed after so many milliseconds.
const KILL_MS: Range<u64> = 0..400;
/// What is late takes so many to the store, or arrives after so many.
const LATE_MS: Range<u64> = 0..600;
/// Between two tries of anything.
const PAUSE: Duration = Duration::from_millis(200);

/// A loss to come.
pub(crate) struct Lossy {
    loss: Loss,
    after: Plan,
    packed: Arc<Mutex<Packed>>,
    lost: Arc<AtomicBool>,
}

/// How it went after the loss.
pub(crate) struct After {
    pub(crate) faults: Vec<String>,
    /// Whether a file of the new cluster was changed.
    pub(crate) damaged: bool,
}

impl Lossy {
    /// From now on somebody looks what packs have.
    pub(crate) fn new(world: &mut World, plan: &Plan, loss: Loss) -> Lossy {
        let (packed, lost) = (Arc::<Mutex<Packed>>::default(), Arc::<AtomicBool>::default());
        if loss.under_load {
            let hosts = world.machines.iter().map(|machine| machine.host.clone()).collect();
            world.sim.client("witness", watch(hosts, plan.groups, packed.clone(), lost.clone()));
        }
        if loss.late_puts {
            world.objects.take_longer(LATE_MS.end);
        }
        Lossy { loss, after: plan.after(loss), packed, lost }
    }

    /// Everything is lost, and comes back.
    pub(crate) fn happen(self, world: &mut World, desk: &Desk) -> After {
        let Lossy { loss, after, packed, lost } = self;
        if !loss.under_load {
            wait_for_packs(world);
            if let Some(ended) = desk.ended() {
                // Packs know these.
                world.sim.client("deleting", async move {
                    ended.delete_some().await;
                    Ok(())
                });
                world.step_until(PACKED_MAX, |_, clients_ended| clients_ended);
            }
            wait_for_packs(world);
        }
        tracing::info!("all nodes are lost");
        let old = world.objects.clone();
        for machine in &world.machines {
            world.sim.crash(machine.host.as_str());
        }
        world.sim.crash("operator");
        lost.store(true, Ordering::Relaxed);
        if loss.under_load {
            desk.end(End::Halted);
        }
        old.be_good();
        let hosts = world.add_nodes(&after, "heir", Arc::default());
        for (index, clock) in world.gateway_clocks.iter().enumerate() {
            clock.be_wrong_by(0);
            world.sim.crash(gateway::host(index));
            world.sim.bounce(gateway::host(index));
        }
        let orders = world.add_operator(after.seed, "heir-operator", hosts.clone());
        world.form(&after, &orders);
        let restored = Arc::<AtomicBool>::default();
        let job = Job { loss, from: old.clone(), to: world.objects.clone(), hosts, restored: restored.clone() };
        world.sim.client("restore", job.run());
        let mut nemesis = Nemesis::new(&after, orders.clone(), world.gateway_clocks.clone());
        if loss.faults {
            let begun = world.sim.elapsed();
            world.step_until(FAULTS, |world, _| {
                nemesis.act(world);
                for objects in [&world.objects, &old] {
                    after.packs.iter().for_each(|packs| objects.be_bad(packs, world.sim.elapsed() - begun));
                }
                restored.load(Ordering::Relaxed) || !world.is_good()
            });
            nemesis.end(world);
        }
        old.be_good();
        world.objects.be_good();
        let done = world.step_until(RESTORED_MAX, |world, _| {
            nemesis.keep_up(world);
            restored.load(Ordering::Relaxed) || !world.is_good()
        });
        if !done {
            world.complain("nothing was restored");
        } else if let Some(ended) = desk.ended() {
            let packed = std::mem::take(&mut *packed.lock().unwrap_or_else(PoisonError::into_inner));
            world.sim.client("judges", async move {
                ended.judge(loss.under_load.then_some(packed)).await;
                Ok(())
            });
            world.come_to_an_end(desk, &orders, &mut nemesis);
        }
        After { damaged: nemesis.damaged().is_some(), faults: nemesis.into_faults() }
    }
}

/// Waits until leaders tell that packs have everything.
fn wait_for_packs(world: &mut World) {
    let mut since = world.sim.elapsed();
    let done = world.step_until(PACKED_MAX, |world, _| {
        let now = world.sim.elapsed();
        if world.machines.iter().any(|machine| machine.unpacked() > 0) {
            since = now;
        }
        now - since >= PACKED_FOR
    });
    if !done {
        world.complain("packs do not have everything, and nobody writes");
    }
}

/// Looks again and again which streams packs have, until everything is lost.
async fn watch(hosts: Vec<String>, groups: u32, packed: Arc<Mutex<Packed>>, lost: Arc<AtomicBool>) -> turmoil::Result {
    for host in hosts.iter().cycle() {
        if lost.load(Ordering::Relaxed) {
            break;
        }
        let client = node_client(network::connect(&network::address(host))?);
        for group in (1..=groups).map(GroupId) {
            let Ok(Ok(streams)) =
                timeout(PAUSE, replicas::list(client.clone(), group, BucketName::default_bucket())).await
            else {
                continue;
            };
            let mut packed = packed.lock().unwrap_or_else(PoisonError::into_inner);
            // Of one that goes on a pack may have bytes and not yet the record.
            for listed in streams.into_iter().filter(|listed| listed.packed == Some(listed.tail)) {
                let path = format!("/v1/stream/{}", listed.key.name);
                let end = packed.entry((path, listed.tail.number())).or_default();
                *end = listed.tail.bytes().max(*end);
            }
        }
        sleep(PAUSE).await;
    }
    Ok(())
}

/// What is restored to where.
struct Job {
    loss: Loss,
    from: Arc<Objects>,
    to: Arc<Objects>,
    hosts: Vec<String>,
    restored: Arc<AtomicBool>,
}

/// Says in the trace how it goes.
struct Told;

impl Guide for Told {
    type Failure = String;

    fn progress(&self, line: &str) {
        tracing::info!("restore: {line}");
    }

    async fn pause(&self, _: &str) -> Result<(), String> {
        sleep(PAUSE).await;
        Ok(())
    }

    fn refused(&self, why: String) -> String {
        why
    }
}

impl Job {
    /// Runs the command until it has succeeded; in between it is killed, as often as that is planned.
    async fn run(self) -> turmoil::Result {
        let Loss { kills, late_puts, .. } = self.loss;
        // What arrives after a group was restored would make the same command another one.
        let late = Duration::from_millis(if kills == 0 { rand::random_range(LATE_MS) } else { 0 });
        let from = self.from.clone();
        let late = tokio::spawn(async move {
            sleep(late).await;
            if late_puts {
                from.late_puts_arrive().await;
            }
        });
        if kills > 0 {
            late.await?;
        }
        for number in 0.. {
            let once = self.once(&self.hosts[number % self.hosts.len()]);
            let ended = if number < kills as usize {
                timeout(Duration::from_millis(rand::random_range(KILL_MS)), once)
                    .await
                    .unwrap_or(Err("killed".to_owned()))
            } else {
                once.await
            };
            match ended {
                Ok(()) => break,
                Err(why) => Told.progress(&why),
            }
            sleep(PAUSE).await;
        }
        self.restored.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// One run of the command.
    async fn once(&self, host: &str) -> Result<(), String> {
        let steady = |objects: &Arc<Objects>| -> Arc<dyn Store> {
            Arc::new(Steady::new(objects.clone(), SteadyOptions::default(), rand::random()))
        };
        let (from, to) = (steady(&self.from), steady(&self.to));
        let owner =
            restore::owner(&*from).await.map_err(|error| error.to_string())?.ok_or("nobody has stored anything")?;
        let backup = Backup::read(&from, owner, None).await.map_err(|error| error.to_string())?;
        if backup.groups.is_empty() {
            return Err("nobody has stored anything".to_owned());
        }
        if let Some(damage) = backup.damages.first() {
            return Err(format!("the place is damaged: {damage:?}"));
        }
        let mut node = admin_client(network::connect(&network::address(host)).map_err(|error| error.to_string())?);
        let status = timeout(PATIENCE, node.describe(DescribeRequest {})).await.map_err(|_| "no answer")?;
        let cluster = status.map_err(|status| status.to_string())?.into_inner().known_cluster();
        let cluster = cluster.map_err(|error| error.to_string())?.ok_or("the node knows no cluster")?;
        let plan = restore::Plan::new(&backup, &BTreeSet::new(), &cluster);
        plan.left_out.iter().for_each(|out| Told.progress(&format!("left out: {out:?}")));
        let restore = Restore { guide: &Told, node, from: &from, backup: &backup, plan: &plan };
        while !restore.owns(&*to).await? {
            Told.pause("the place is nobody's").await?;
        }
        restore.work(to, &SimulatedClock::default()).await.map(|_| ())
    }
}

//! `ursula restore`: takes the streams that a cluster has left in an object store into a new cluster, which has a place of
//! its own. The old place is only read. Every step may be done twice, so a run that was interrupted is run again.

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};
use tokio::time::Instant;
use ursula_common::packs::PackRef;
use ursula_common::verb::{EndImport, Import, ImportRun, Op, Reply};
use ursula_common::{BucketName, Clock as _, Error, GroupId, clock::SystemClock};
use ursula_storage_node::restore::{self, Copier, Damage, LeftOut, Plan, Scan, Tracker};

use crate::backup::{
    Found, From, Progress, Store, damage_json, damages_text, failed, groups_json, groups_text, lost_places, on_runtime,
};
use crate::cluster::change::Worker;
use crate::cluster::failure::Failure;
use crate::cluster::output::Output;
use crate::cluster::view::{View, client};
use crate::format::Format;

/// How long the nodes may take to make a new place their own.
const CLAIM_TIMEOUT: Duration = Duration::from_secs(30);

/// Flags of `ursula restore`.
#[derive(Debug, Args)]
pub(crate) struct Flags {
    #[command(flatten)]
    from: From,
    /// The place of the new cluster, as in the setting `store` of its nodes: another bucket or another prefix.
    #[arg(long, value_name = "URL")]
    store: String,
    /// The gRPC listener of any node of the new cluster.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:4438")]
    address: String,
    /// Check everything and say what would be restored, but restore nothing.
    #[arg(long)]
    dry_run: bool,
    /// Restore also if something is damaged, without the streams that this concerns.
    #[arg(long)]
    without_damaged: bool,
    /// How long nodes may not answer before the command gives up.
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    timeout: u64,
    /// How to say what came of it. With json, one object on standard output; progress goes to standard error.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    output: Format,
}

/// Runs the command: 0 if it is done, 1 if it is refused or has failed, 3 if nodes did not answer in time.
pub(crate) fn run(flags: &Flags) -> ExitCode {
    on_runtime(flags.output, async |output| restore(flags, output).await)
}

/// What all steps need.
struct Run<'a> {
    worker: Worker<'a>,
    address: &'a str,
    found: Found,
    plan: Plan,
    run: ImportRun,
}

async fn restore(flags: &Flags, output: &Output) -> Result<ExitCode, Failure> {
    let begun = Instant::now();
    let found = flags.from.read(output).await?;
    let mut damages = found.backup.damages.clone();
    let mut damaged = BTreeSet::new();
    if flags.without_damaged {
        let (all, lost) = found.scan(output).await?;
        (damages, damaged) = (all, lost_places(&lost));
    } else if !damages.is_empty() {
        let what = damages_text(&damages, &[]);
        return Err(Failure::refused(format!(
            "the place is damaged, and nothing was restored: {}; see what that concerns with `ursula backup verify`, and \
             restore the other streams with --without-damaged",
            what.trim_end()
        )));
    }
    let worker = Worker::new(output, flags.dry_run, Duration::from_secs(flags.timeout));
    let view = worker.look(&flags.address).await?;
    if view.cluster.id == found.backup.cluster {
        return Err(Failure::refused(
            "this cluster is the one that the place belongs to: restore into a new one".to_owned(),
        ));
    }
    let plan = Plan::new(&found.backup, &damaged, &view.cluster);
    let run = ImportRun { import: plan.import(&found.backup), attempt: rand::random() };
    let mut text = groups_text(&found.backup) + &damages_text(&damages, &[]) + &left_out_text(&plan.left_out);
    let (streams, groups) = (plan.streams(), plan.groups.len());
    if flags.dry_run {
        text += &format!("would restore {streams} streams into {groups} groups of cluster {}", view.cluster.id);
        output.result(&text, &report(&found, &plan, &damages, begun));
        return Ok(ExitCode::SUCCESS);
    }
    output.progress(text.trim_end());
    let target = flags.from.options.open(&flags.store).await?;
    is_its_place(&worker, &target, &view, &flags.store).await?;
    let run = Run { worker, address: &flags.address, found, plan, run };
    let done = run.work(target).await?;
    let value = report(&run.found, &run.plan, &damages, begun);
    let seconds = begun.elapsed().as_secs_f64();
    let verb = if done { "restored" } else { "had been restored before:" };
    output.result(&format!("{verb} {streams} streams in {groups} groups, {seconds:.1} s in all"), &value);
    Ok(ExitCode::SUCCESS)
}

/// What came of it, for programs.
fn report(found: &Found, plan: &Plan, damages: &[Damage], begun: Instant) -> Value {
    json!({
        "from": found.backup.cluster.to_string(),
        "to": plan.cluster.to_string(),
        "groups": groups_json(&found.backup),
        "damages": damages.iter().map(damage_json).collect::<Vec<_>>(),
        "streams": plan.streams(),
        "left_out": plan.left_out.iter().map(left_out_json).collect::<Vec<_>>(),
        "seconds": begun.elapsed().as_secs_f64(),
    })
}

/// Waits until the new cluster has made the place its own: then its nodes use it.
async fn is_its_place(worker: &Worker<'_>, target: &Store, view: &View, url: &str) -> Result<(), Failure> {
    let late = Instant::now() + CLAIM_TIMEOUT;
    loop {
        match restore::owner(&**target).await.map_err(failed)? {
            Some(owner) if owner == view.cluster.id => return Ok(()),
            Some(owner) => {
                return Err(Failure::refused(format!(
                    "{url} belongs to cluster {owner}, not to {}: name the `store` of the new nodes with --store",
                    view.cluster.id
                )));
            }
            None if Instant::now() >= late => {
                return Err(Failure::refused(format!(
                    "the nodes of cluster {} store nothing in {url}: start them with this setting `store`",
                    view.cluster.id
                )));
            }
            None => worker.pause("the nodes do not use their store").await?,
        }
    }
}

impl Run<'_> {
    /// Restores; false if an earlier run had done everything.
    async fn work(&self, target: Store) -> Result<bool, Failure> {
        let output = self.worker.output;
        self.create_buckets().await?;
        let mut begun: BTreeMap<GroupId, Option<PackRef>> = BTreeMap::new();
        for group in self.plan.groups.keys() {
            match self.step(*group, Op::BeginImport(self.run)).await? {
                Reply::ImportBegun(newest) => drop(begun.insert(*group, newest)),
                // An earlier run has ended it.
                _ => output.progress(&format!("group {group} had been restored before")),
            }
        }
        if begun.is_empty() {
            return Ok(false);
        }
        let mut copier = Copier::new(target, &self.plan, begun.clone(), SystemClock.now());
        copier.clear().await.map_err(failed)?;
        self.copy(&mut copier).await?;
        let steps = copier.finish().await.map_err(failed)?;
        for (group, steps) in steps {
            for (packs, records) in steps {
                let import = Import { run: self.run, packs, records };
                self.step(group, Op::Import(Box::new(import))).await?;
            }
            output.progress(&format!("group {group} has its streams"));
        }
        for group in begun.keys() {
            let streams = self.plan.groups.get(group).map_or(0, Vec::len) as u64;
            let end = EndImport { run: self.run, streams, next_stream: self.plan.next_stream };
            self.step(*group, Op::EndImport(end)).await?;
        }
        Ok(true)
    }

    async fn create_buckets(&self) -> Result<(), Failure> {
        let streams = self.plan.groups.values().flatten().map(|image| &image.key().bucket);
        let mut buckets: BTreeSet<&BucketName> = streams.chain(&self.found.backup.buckets).collect();
        buckets.remove(&BucketName::default_bucket());
        for bucket in buckets {
            self.step(GroupId::META, Op::CreateBucket(bucket.clone())).await?;
        }
        Ok(())
    }

    /// Copies the bytes. What turns out to be damaged ends it: nobody has seen anything yet.
    async fn copy(&self, copier: &mut Copier) -> Result<(), Failure> {
        let (store, backup) = (&self.found.store, &self.found.backup);
        let mut objects = Scan::all(store, backup);
        let mut tracker = Tracker::default();
        let mut progress = Progress::new("copied", backup.bytes());
        while let Some(scan) = objects.next().await {
            let Scan { group, bytes, pieces, .. } = scan.map_err(failed)?;
            for piece in pieces {
                if let Some(piece) = tracker.take(backup, group, piece) {
                    copier.take(group, piece);
                }
            }
            copier.after_object(bytes).await.map_err(failed)?;
            progress.add(bytes, self.worker.output);
        }
        let lost = tracker.finish(backup);
        let lost: Vec<_> = lost.into_iter().filter(|lost| self.plan.restores(lost.group, lost.id)).collect();
        match lost.first() {
            None => Ok(()),
            Some(first) => Err(Failure::refused(format!(
                "the place is damaged: bytes of {} streams are missing, such as of {}. Nobody is served by the new cluster \
                 until it is restored: see what is damaged with `ursula backup verify`, and restore the other streams with \
                 --without-damaged",
                lost.len(),
                first.key
            ))),
        }
    }

    /// Does a step, again and again while nodes do not answer or elect leaders.
    async fn step(&self, group: GroupId, op: Op) -> Result<Reply, Failure> {
        let mut client = client(self.address).map_err(Failure::refused)?;
        loop {
            match ursula_proto::import(&mut client, group, &op).await {
                Ok(reply) => return Ok(reply),
                Err(
                    error @ (Error::NotLeader { .. }
                    | Error::Unavailable
                    | Error::OutcomeUnknown
                    | Error::Overloaded
                    | Error::BucketBusy
                    | Error::MemoryFull
                    | Error::DiskFull),
                ) => {
                    self.worker.output.progress(&format!("group {group}: {error}"));
                    self.worker.pause(&format!("group {group} does not answer")).await?;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}

fn left_out_text(left_out: &[LeftOut]) -> String {
    left_out.iter().map(|out| format!("left out: stream {} (group {}): {}\n", out.key, out.group, out.why)).collect()
}

fn left_out_json(out: &LeftOut) -> Value {
    json!({ "stream": out.key.to_string(), "group": out.group.0, "why": out.why })
}

//! `ursula restore`: takes the streams that a cluster has left in an object store into a new cluster, which has a place of
//! its own. The old place is only read. Every step may be done twice, so a run that was interrupted is run again.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};
use tokio::time::Instant;
use ursula_common::clock::SystemClock;
use ursula_storage_node::restore::{Damage, Guide, LeftOut, Plan, Restore};

use crate::backup::{Found, From, Store, damage_json, damages_text, groups_json, groups_text, lost_places, on_runtime};
use crate::cluster::change::Worker;
use crate::cluster::failure::Failure;
use crate::cluster::output::Output;
use crate::cluster::view::client;
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
    let mut text = groups_text(&found.backup) + &damages_text(&damages, &[]) + &left_out_text(&plan.left_out);
    let (streams, groups) = (plan.streams(), plan.groups.len());
    if flags.dry_run {
        text += &format!("would restore {streams} streams into {groups} groups of cluster {}", view.cluster.id);
        output.result(&text, &report(&found, &plan, &damages, begun));
        return Ok(ExitCode::SUCCESS);
    }
    output.progress(text.trim_end());
    let target = flags.from.options.open(&flags.store).await?;
    let node = client(&flags.address).map_err(Failure::refused)?;
    let restore = Restore { guide: &worker, node, from: &found.store, backup: &found.backup, plan: &plan };
    is_its_place(&restore, &target, &flags.store).await?;
    let done = restore.work(target, &SystemClock).await?;
    let value = report(&found, &plan, &damages, begun);
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
async fn is_its_place(restore: &Restore<'_, Worker<'_>>, target: &Store, url: &str) -> Result<(), Failure> {
    let late = Instant::now() + CLAIM_TIMEOUT;
    while !restore.owns(&**target).await? {
        if Instant::now() >= late {
            return Err(Failure::refused(format!(
                "the nodes of cluster {} store nothing in {url}: start them with this setting `store`",
                restore.plan.cluster
            )));
        }
        restore.guide.pause("the nodes do not use their store").await?;
    }
    Ok(())
}

impl Guide for Worker<'_> {
    type Failure = Failure;

    fn progress(&self, line: &str) {
        self.output.progress(line);
    }

    fn pause(&self, waits_for: &str) -> impl Future<Output = Result<(), Failure>> {
        Worker::pause(self, waits_for)
    }

    fn refused(&self, why: String) -> Failure {
        Failure::refused(why)
    }
}

fn left_out_text(left_out: &[LeftOut]) -> String {
    left_out.iter().map(|out| format!("left out: stream {} (group {}): {}\n", out.key, out.group, out.why)).collect()
}

fn left_out_json(out: &LeftOut) -> Value {
    json!({ "stream": out.key.to_string(), "group": out.group.0, "why": out.why })
}

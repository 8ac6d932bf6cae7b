//! One seed in this process, and what is said about it.

use tracing::Level;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, filter, fmt};

use crate::damage::Complaints;
use crate::plan::Plan;
use crate::simulation::{Outcome, simulate};
use crate::trace::Fingerprint;

/// What nodes say that is worth reading.
const VERBOSE: &str = "info,openraft=warn,turmoil=warn,ursula=debug";

/// Simulates a seed and tells the outcome; true if nothing was wrong. A panic ends the process.
pub fn report(plan: &Plan, verbose: bool, trace: bool, tell: &mut dyn FnMut(&str)) -> bool {
    let say = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        say(panic);
        std::process::exit(101);
    }));
    let fingerprint = Fingerprint::default();
    let directives = std::env::var("URSULA_LOG").unwrap_or_else(|_| VERBOSE.to_owned());
    let messages = verbose.then(|| fmt::layer().with_timer(Since).with_filter(EnvFilter::new(directives)));
    let counted = filter::filter_fn(|metadata| Fingerprint::counts(metadata.target()));
    let traced = trace.then(|| fingerprint.clone().with_filter(counted));
    let complaints = Complaints::default();
    let of_nodes =
        filter::filter_fn(|metadata| *metadata.level() == Level::ERROR && Complaints::listens_to(metadata.target()));
    let heard = complaints.clone().with_filter(of_nodes.with_max_level_hint(LevelFilter::ERROR));
    tracing_subscriber::registry().with(messages).with(traced).with(heard).init();
    if verbose {
        tell(&format!("{plan:#?}"));
    }
    let mut outcome = simulate(plan);
    if !outcome.damaged {
        let complaint = complaints.first().map(|said| format!("a node whose files nobody changed says: {said}"));
        outcome.violations.extend(complaint);
    }
    let Outcome { violations, acked, faults, time, disk_calls, .. } = &outcome;
    if verbose {
        faults.iter().for_each(|fault| tell(fault));
    }
    violations.iter().for_each(|violation| tell(violation));
    let (count, seconds) = (faults.len(), time.as_secs_f64());
    tell(&format!("seed {}: {acked} appends, {count} faults, {seconds:.3} s, {disk_calls} calls of disks", plan.seed));
    if trace {
        let (hash, events) = fingerprint.get();
        tell(&format!("fingerprint {hash:016x} of {events} events"));
    }
    violations.is_empty()
}

/// The time of the simulation.
struct Since;

impl fmt::time::FormatTime for Since {
    fn format_time(&self, to: &mut fmt::format::Writer<'_>) -> std::fmt::Result {
        write!(to, "{:.3}", turmoil::sim_elapsed().unwrap_or_default().as_secs_f64())
    }
}

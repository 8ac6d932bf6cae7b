//! One run: a cluster, the load on it, faults, and the reading of everything at the end.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ursula_tests::{Cluster, Options};

use crate::client::Gateways;
use crate::load::{Load, LoadOptions, Shared};
use crate::nemesis::{Kind, Nemesis, Strike};
use crate::report::{self, Report};

/// What a run is.
#[derive(Debug, Clone)]
pub struct RunOptions {
    /// The processes.
    pub cluster: Options,
    /// The load.
    pub load: LoadOptions,
    /// Faults to choose from.
    pub kinds: Vec<Kind>,
    /// Also those that the cluster does not survive, such as the end of a node in memory.
    pub fatal: bool,
    /// It goes on until so many appends are acknowledged...
    pub appends: u64,
    /// ...and there were so many faults...
    pub faults: usize,
    /// ...and so much time has passed; or, if one of the two is wanted, it fails when it takes longer.
    pub time: Duration,
    /// Where the output of the processes is left if something is wrong.
    pub logs: Option<PathBuf>,
}

const PROGRESS_EVERY: Duration = Duration::from_secs(5);
/// The load alone, before the first fault.
const WARM_UP: Duration = Duration::from_secs(2);
const STEP: Duration = Duration::from_millis(200);

/// Does a run; `tell` gets lines about how it goes.
///
/// # Errors
/// If it cannot begin.
pub fn run(options: RunOptions, tell: &mut dyn FnMut(&str)) -> std::io::Result<Report> {
    let mut cluster = Cluster::start(options.cluster.clone());
    let gateways = Arc::new(Gateways::over_tcp());
    gateways.set(cluster.gateways());
    let load = Load::start(options.load.clone(), gateways)?;
    let shared = load.shared.clone();
    let strikes = strike_on(&options, &mut cluster, &shared, tell);
    let elapsed = shared.acks.now();
    let mut missing = Vec::new();
    let acked = shared.counters.acked.load(std::sync::atomic::Ordering::Relaxed);
    if acked < options.appends {
        missing.push(format!("{acked} of {} appends", options.appends));
    }
    if strikes.len() < options.faults {
        missing.push(format!("{} of {} faults", strikes.len(), options.faults));
    }
    tell("the load ends; everything is read again, by way of every gateway");
    load.finish();
    let report = Report::new(&shared, strikes, elapsed, missing, memory(&cluster));
    for violation in shared.findings.after(0) {
        tell(&violation.to_string());
    }
    if let Some(folder) = options.logs.filter(|_| !report.good) {
        leave_logs(&cluster, &folder)?;
        tell(&format!("the output of the processes is in {}", folder.display()));
    }
    Ok(report)
}

/// Faults, one after the other, until enough has been done.
fn strike_on(options: &RunOptions, cluster: &mut Cluster, shared: &Shared, tell: &mut dyn FnMut(&str)) -> Vec<Strike> {
    let counted = options.appends > 0 || options.faults > 0;
    let mut strikes: Vec<Strike> = Vec::new();
    let told = std::cell::Cell::new((Duration::ZERO, 0, 0));
    let tell = std::cell::RefCell::new(tell);
    let mut idle = || {
        let (last, faults, found) = told.get();
        let new = shared.findings.after(found);
        for violation in &new {
            tell.borrow_mut()(&format!("VIOLATION {violation}"));
        }
        let now = shared.acks.now();
        let due = now - last >= PROGRESS_EVERY;
        if due {
            tell.borrow_mut()(&report::progress(shared, faults));
        }
        told.set((if due { now } else { last }, faults, found + new.len()));
    };
    let mut nemesis = Nemesis::new(cluster, shared, &options.kinds, options.fatal, &mut idle);
    nemesis.wait(WARM_UP);
    loop {
        let acked = shared.counters.acked.load(std::sync::atomic::Ordering::Relaxed);
        let enough = acked >= options.appends && strikes.len() >= options.faults;
        let over = shared.acks.now() >= options.time;
        if over || (counted && enough) {
            return strikes;
        }
        let wants_fault = nemesis.has_faults() && (options.faults == 0 || strikes.len() < options.faults);
        if !wants_fault {
            nemesis.wait(STEP);
            continue;
        }
        let strike = nemesis.strike();
        tell.borrow_mut()(&report::strike(&strike));
        strikes.push(strike);
        let (last, _, found) = told.get();
        told.set((last, strikes.len(), found));
    }
}

/// The resident memory of each process that runs, in MiB.
fn memory(cluster: &Cluster) -> Vec<(String, u64)> {
    let resident = |pid: u32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        Some(line.split_whitespace().next()?.parse::<u64>().ok()? / 1024)
    };
    let members = cluster.members().into_iter();
    let pids = members.filter_map(|member| Some((member.to_string(), cluster.process(member)?.id())));
    let pids = pids.chain([("this".to_owned(), std::process::id())]);
    pids.filter_map(|(name, pid)| Some((name, resident(pid)?))).collect()
}

fn leave_logs(cluster: &Cluster, folder: &PathBuf) -> std::io::Result<()> {
    fs::create_dir_all(folder)?;
    for member in cluster.members() {
        let output = cluster.process(member).map(ursula_tests::Process::output).unwrap_or_default();
        fs::write(folder.join(format!("{}.log", member.to_string().replace(' ', "-"))), output)?;
    }
    Ok(())
}

//! What a run was like: a line for each fault, lines of progress, and the summary.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::load::Shared;
use crate::nemesis::{Kind, Strike};
use crate::violation::Lie;

/// The result of a run.
#[derive(Debug)]
pub struct Report {
    /// Whether nothing was wrong, and everything was done that was asked for.
    pub good: bool,
    /// What was not done.
    pub missing: Vec<String>,
    /// Acknowledged appends.
    pub acked: u64,
    strikes: Vec<Strike>,
    lies: BTreeMap<Lie, u64>,
    elapsed: Duration,
    counts: Vec<(&'static str, u64)>,
    /// Memory of each process at the end, and of this one, in MiB.
    memory: Vec<(String, u64)>,
    seed: u64,
}

fn load(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

impl Report {
    pub(crate) fn new(
        shared: &Shared,
        strikes: Vec<Strike>,
        elapsed: Duration,
        missing: Vec<String>,
        memory: Vec<(String, u64)>,
    ) -> Report {
        let counters = &shared.counters;
        let counts = vec![
            ("unknown", load(&counters.unknown)),
            ("refused", load(&counters.refused)),
            ("lifecycle", load(&counters.lifecycle)),
            ("kept", load(&counters.kept)),
            ("tails_checked", load(&counters.tails)),
            ("live_readers_resumed", load(&counters.resumed)),
            ("streams_read_whole", load(&counters.whole)),
        ];
        let lies = shared.findings.counts();
        let good = lies.is_empty() && missing.is_empty();
        let acked = load(&counters.acked);
        Report { good, missing, acked, strikes, lies, elapsed, counts, memory, seed: shared.options.seed }
    }

    /// The gaps that clients felt of one kind of fault: longest pauses of any writer, sorted.
    pub fn gaps(&self, kind: Kind) -> Vec<Duration> {
        let mut gaps: Vec<Duration> =
            self.strikes.iter().filter(|strike| strike.kind == kind).map(|strike| strike.gap.worst).collect();
        gaps.sort_unstable();
        gaps
    }

    /// Faults by kind.
    fn kinds(&self) -> BTreeMap<Kind, usize> {
        let mut kinds = BTreeMap::new();
        for strike in &self.strikes {
            *kinds.entry(strike.kind).or_default() += 1;
        }
        kinds
    }

    /// Lines for people.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let mut line = |line: String| {
            // Writing to a string does not fail.
            let _ = writeln!(text, "{line}");
        };
        let rate = self.acked as f64 / self.elapsed.as_secs_f64().max(0.001);
        line(format!("seed {}: {} appends acknowledged in {:.0?}, {rate:.0}/s", self.seed, self.acked, self.elapsed));
        line(self.counts.iter().map(|(name, count)| format!("{name} {count}")).collect::<Vec<_>>().join(", "));
        line(format!("{} faults of {} kinds; gap of the worst writer:", self.strikes.len(), self.kinds().len()));
        line(format!("  {:18} {:>6} {:>7} {:>7} {:>7}", "kind", "faults", "p50 s", "p99 s", "max s"));
        for (kind, count) in self.kinds() {
            let gaps = self.gaps(kind);
            let [p50, p99, max] = [0.5, 0.99, 1.0].map(|p| percentile(&gaps, p).as_secs_f64());
            line(format!("  {:18} {count:>6} {p50:>7.2} {p99:>7.2} {max:>7.2}", kind.name()));
        }
        line(Lie::ALL.map(|lie| format!("{} {}", lie.name(), self.count(lie))).join(", "));
        let memory = self.memory.iter().map(|(name, mib)| format!("{name} {mib}")).collect::<Vec<_>>();
        line(format!("memory in MiB: {}", memory.join(", ")));
        for missing in &self.missing {
            line(format!("not done: {missing}"));
        }
        line(if self.good { "good" } else { "FAILED" }.to_owned());
        text
    }

    fn count(&self, lie: Lie) -> u64 {
        self.lies.get(&lie).copied().unwrap_or(0)
    }

    /// One object.
    pub fn json(&self) -> Value {
        let seconds = |gap: Duration| (gap.as_secs_f64() * 1000.0).round() / 1000.0;
        let kind = |(kind, count): (Kind, usize)| {
            let gaps = self.gaps(kind);
            let [p50, p99, max] = [0.5, 0.99, 1.0].map(|p| seconds(percentile(&gaps, p)));
            (kind.name().to_owned(), json!({"faults": count, "gap_p50_s": p50, "gap_p99_s": p99, "gap_max_s": max}))
        };
        let kinds: serde_json::Map<String, Value> = self.kinds().into_iter().map(kind).collect();
        let lies: serde_json::Map<String, Value> =
            Lie::ALL.into_iter().map(|lie| (lie.name().to_owned(), self.count(lie).into())).collect();
        let counts: serde_json::Map<String, Value> =
            self.counts.iter().map(|(name, count)| ((*name).to_owned(), (*count).into())).collect();
        let memory: serde_json::Map<String, Value> =
            self.memory.iter().map(|(name, mib)| (name.clone(), (*mib).into())).collect();
        let timeline = |strike: &Strike| {
            json!({
                "at_s": seconds(strike.at), "kind": strike.kind.name(), "target": strike.target,
                "gap_s": seconds(strike.gap.worst), "gap_all_s": seconds(strike.gap.all),
                "recovered_s": seconds(strike.recovered),
            })
        };
        json!({
            "good": self.good, "seed": self.seed, "elapsed_s": seconds(self.elapsed), "acknowledged": self.acked,
            "counts": counts, "faults": self.strikes.len(), "kinds": kinds, "violations": lies,
            "missing": self.missing, "memory_mib": memory, "timeline": self.strikes.iter().map(timeline).collect::<Vec<_>>(),
        })
    }
}

/// The line of a fault.
pub(crate) fn strike(strike: &Strike) -> String {
    let [at, worst, all, recovered] =
        [strike.at, strike.gap.worst, strike.gap.all, strike.recovered].map(|time| time.as_secs_f64());
    format!(
        "{at:8.1} s  {:18} {:18} gap {worst:6.2} s (of all {all:5.2} s), recovered in {recovered:5.2} s",
        strike.kind.name(),
        strike.target
    )
}

/// The line of progress.
pub(crate) fn progress(shared: &Shared, faults: usize) -> String {
    let counters = &shared.counters;
    format!(
        "{:8.1} s  {} acknowledged, {} unknown, {} refused, {faults} faults, {} violations",
        shared.acks.now().as_secs_f64(),
        load(&counters.acked),
        load(&counters.unknown),
        load(&counters.refused),
        shared.findings.counts().values().sum::<u64>()
    )
}

/// Of sorted times; the largest that at least this part of them does not exceed.
pub fn percentile(sorted: &[Duration], part: f64) -> Duration {
    let rank = (sorted.len() as f64 * part).ceil() as usize;
    sorted.get(rank.clamp(1, sorted.len().max(1)) - 1).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests;

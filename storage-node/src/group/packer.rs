//! Stores what no pack has yet, for as long as this replica leads. Decides when; what goes into a pack the state says,
//! and whether one counts is decided at apply.
//!
//! A pack is planned once all that was committed in earlier terms is applied, and committed in the term in which it was
//! planned. So of all objects with its number the one that counts was planned last, which tells it from the others when
//! nothing is left but the store (`cold/src/history.rs`).

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tracing::error;
use ursula_cold::pack::{Builder, Head, Link, PackId, Packed};
use ursula_common::cluster::Cluster;
use ursula_common::packs::PackRef;
use ursula_common::verb::Op;
use ursula_common::{ClusterId, Offset};
use ursula_stream_core::{PackPlan, Packing};

use super::Group;
use crate::cold::Cold;
use crate::runtime;

/// Between two looks at what waits.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// After a pack that came to nothing. The store has its own pauses.
const FAILED_PAUSE: Duration = Duration::from_secs(1);
/// What the record of a stream counts for in memory. A pack has at most half as many bytes of records as of streams.
const RECORD_BYTES: u64 = 256;
/// What is planned at least, if less waits: more may come until there is memory.
const BYTES_MIN: u64 = 64 << 10;
const STREAMS_MIN: u64 = 128;

/// See the module.
pub(crate) struct Packer {
    group: Rc<Group>,
    cold: Cold,
    cluster: watch::Receiver<Option<Arc<Cluster>>>,
}

/// What a pack is to have of one stream.
struct Part {
    records: Vec<Bytes>,
    /// The offset after the last of them.
    end: Offset,
}

impl Packer {
    pub(crate) fn new(group: Rc<Group>, cold: Cold, cluster: watch::Receiver<Option<Arc<Cluster>>>) -> Packer {
        Packer { group, cold, cluster }
    }

    /// Stores pack after pack, for as long as the replica runs.
    pub(crate) async fn run(self) {
        let mut last = Instant::now();
        let mut goes_on = false;
        loop {
            if !std::mem::take(&mut goes_on) {
                tokio::select! {
                    biased;
                    () = sleep(LOOK_INTERVAL) => {}
                    () = self.group.pack_wanted() => {}
                }
            }
            let cluster = self.cluster.borrow().as_ref().map(|cluster| cluster.id);
            let Some(cluster) = cluster.filter(|_| self.group.replica.led_term().is_some()) else { continue };
            if !self.is_due(last) {
                continue;
            }
            let stored = self.pack(cluster).await;
            last = Instant::now();
            goes_on = stored && self.group.held_len() > 0;
            if !stored {
                sleep(FAILED_PAUSE).await;
            }
        }
    }

    /// Whether there should be a pack now. A group that never had one has to begin to keep account first.
    fn is_due(&self, last: Instant) -> bool {
        let sizes = self.cold.pack_sizes();
        match self.group.state.borrow().packing() {
            None => true,
            Some(_) if self.group.held_len() > 0 => true,
            Some(packing) => packing.bytes >= sizes.bytes || packing.due && last.elapsed() >= sizes.interval,
        }
    }

    /// Stores the next pack. Returns whether that, or what has to come before, was done.
    async fn pack(&self, cluster: ClusterId) -> bool {
        let has_packs = self.group.state.borrow().catalogue().is_some_and(|packs| packs.newest().is_some());
        if !self.cold.heard(self.cold.claim(cluster, has_packs).await) {
            return false;
        }
        let packing = self.group.state.borrow().packing();
        let Some(Packing { bytes, streams, .. }) = packing else {
            return self.group.propose_own(Op::BeginPacks).await;
        };
        let bytes_max = self.cold.pack_sizes().bytes;
        let bytes = bytes.max(BYTES_MIN).min(bytes_max);
        let streams = (streams as u64).max(STREAMS_MIN).min(bytes_max / 2 / RECORD_BYTES).max(1);
        // What goes into the object, and the object that is made of it.
        let memory = self.cold.memory(2 * (bytes + streams * RECORD_BYTES) as usize).await;
        let Some(term) = self.group.replica.led_term() else { return false };
        self.group.pack_term.set(Some(term));
        self.group.forget_held(Some(term));
        let plan = self.group.state.borrow().plan_pack(bytes, streams as usize);
        let Some(plan) = plan else {
            self.group.tell_all_held();
            return true;
        };
        let Some(parts) = self.read(&plan).await else { return false };
        let id = PackId { group: self.group.id, first: plan.pack, last: plan.pack, maker: runtime::random() };
        let prev = plan.prev.map(|prev| Link { id: PackId::of(self.group.id, &prev), hash: prev.hash });
        let head = Head { cluster, id, made: self.group.clock.now(), as_of: plan.as_of, prev, merged: None };
        let ends: Vec<Offset> = parts.iter().map(|part| part.end).collect();
        let (plan, packed) = match self.cold.build(move || build(head, plan, parts)).await {
            Ok(done) => done,
            Err(error) => {
                error!(group = %self.group.id, %error, "a pack cannot be made; it is tried again");
                return false;
            }
        };
        let bytes = packed.body.len() as u64;
        if !self.cold.heard(self.cold.put(id, packed.body).await) {
            return false;
        }
        drop(memory);
        let pack = PackRef { first: id.first, last: id.last, maker: id.maker, bytes, hash: packed.hash };
        let committed = self.group.propose_own(Op::CommitPack(Box::new(plan.commit(pack, &ends)))).await;
        if committed {
            self.group.metrics.cold.packs.increment(1);
            self.group.metrics.cold.pack_bytes.record(bytes as f64);
            let told = self.group.state.borrow().told(&plan, &ends);
            self.group.tell_held(&told);
        }
        committed
    }

    /// The bytes that a plan names; `None` if some cannot be read.
    async fn read(&self, plan: &PackPlan) -> Option<Vec<Part>> {
        let mut parts = Vec::with_capacity(plan.streams.len());
        for planned in &plan.streams {
            let mut part = Part { end: planned.start, records: Vec::new() };
            while part.end < planned.end {
                let more = match self.group.own_records(planned.id, part.end, planned.end).await {
                    Ok(more) => more,
                    Err(error) => {
                        let (group, stream) = (self.group.id, planned.id.0);
                        error!(%group, stream, offset = part.end.0, %error, "bytes cannot be packed; it is tried again");
                        return None;
                    }
                };
                part.end = Offset(part.end.0 + more.iter().map(|record| record.len() as u64).sum::<u64>());
                if more.is_empty() {
                    if self.group.state.borrow().has(&planned.key, planned.id) {
                        // It was trimmed: what the next plan wants of it is there.
                        return None;
                    }
                    // It has ended, and nobody wants its bytes any more.
                    part = Part { end: planned.start, records: Vec::new() };
                    break;
                }
                part.records.extend(more);
            }
            parts.push(part);
        }
        Some(parts)
    }
}

/// Makes the pack of a plan; the parts are those of its streams.
fn build(head: Head, plan: PackPlan, parts: Vec<Part>) -> (PackPlan, Packed) {
    let mut builder = Builder::new(head);
    let mut streams: Vec<_> = plan.streams.iter().zip(parts).filter(|(_, part)| !part.records.is_empty()).collect();
    streams.sort_unstable_by_key(|(planned, _)| planned.id);
    for (planned, Part { records, .. }) in streams {
        builder.add(planned.id, planned.start, Some(planned.prev).filter(|prev| *prev > 0), &records);
    }
    let packed = builder.finish(&plan.records);
    (plan, packed)
}

//! What a node tells of the object store: what it asked of it, what it has fetched, and what is on its way there.

use std::sync::atomic::{AtomicU64, Ordering};

use metrics::{Counter, Gauge, Histogram};
use ursula_cold::reader::Reader;
use ursula_cold::steady::{Health, Steady};
use ursula_common::metrics::Registry;

/// See the module.
pub(crate) struct ColdMetrics {
    pub(crate) packs: Counter,
    pub(crate) pack_bytes: Histogram,
    pub(crate) merged: Counter,
    pub(crate) deleted: Counter,
    pub(crate) orphans: Counter,
    pack_memory_bytes: Gauge,
    gets: Counter,
    got_bytes: Counter,
    damaged: Counter,
    cache_hits: Counter,
    cache_misses: Counter,
    cache_bytes: Gauge,
    cache_budget_bytes: Gauge,
    ahead_bytes: Gauge,
    gets_under_way: Gauge,
    gets_waiting: Gauge,
    failing: Gauge,
    errors: Counter,
    sent_bytes: Counter,
    calls: [Counter; 5],
}

impl ColdMetrics {
    pub(crate) fn new(registry: &Registry) -> ColdMetrics {
        let call = |name| registry.counter(name, "calls of the object store of this kind, each try counted");
        ColdMetrics {
            packs: registry.counter("ursula_node_packs_total", "packs that count"),
            pack_bytes: registry.histogram("ursula_node_pack_bytes", "bytes of a pack"),
            merged: registry.counter("ursula_node_store_merged_total", "objects that others came in the place of"),
            deleted: registry.counter("ursula_node_store_deleted_total", "objects removed that counted no more"),
            orphans: registry.counter("ursula_node_store_orphans_total", "objects removed that never counted"),
            pack_memory_bytes: registry
                .gauge("ursula_node_pack_memory_bytes", "memory set aside for packs on their way to the store"),
            gets: registry.counter("ursula_node_pack_gets_total", "fetches of parts of packs"),
            got_bytes: registry.counter("ursula_node_pack_got_bytes_total", "bytes of packs that were fetched"),
            damaged: registry.counter("ursula_node_pack_damaged_total", "parts of packs with a wrong checksum"),
            cache_hits: registry.counter("ursula_node_pack_cache_hits_total", "parts of packs found in memory"),
            cache_misses: registry.counter("ursula_node_pack_cache_misses_total", "parts of packs not found in memory"),
            cache_bytes: registry.gauge("ursula_node_pack_cache_bytes", "memory that holds parts of packs"),
            cache_budget_bytes: registry
                .gauge("ursula_node_pack_cache_budget_bytes", "memory that may hold parts of packs"),
            ahead_bytes: registry
                .gauge("ursula_node_pack_ahead_bytes", "memory for parts of packs that readers have not come to yet"),
            gets_under_way: registry.gauge("ursula_node_pack_gets", "fetches of parts of packs under way"),
            gets_waiting: registry
                .gauge("ursula_node_pack_gets_waiting", "fetches of parts of packs that wait for others to end"),
            failing: registry
                .gauge("ursula_node_store_failing", "1 while the object store does not do what it is asked"),
            errors: registry.counter("ursula_node_store_errors_total", "calls of the object store that failed"),
            sent_bytes: registry.counter("ursula_node_store_sent_bytes_total", "bytes of objects that were sent"),
            calls: [
                call("ursula_node_store_puts_total"),
                call("ursula_node_store_gets_total"),
                call("ursula_node_store_sizes_total"),
                call("ursula_node_store_lists_total"),
                call("ursula_node_store_deletes_total"),
            ],
        }
    }

    pub(super) fn report(&self, store: &Steady, reader: Option<&Reader>, is_failing: bool, pack_memory_bytes: usize) {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        self.pack_memory_bytes.set(pack_memory_bytes as f64);
        let is_failing = is_failing || *store.health().borrow() != Health::Healthy;
        self.failing.set(if is_failing { 1.0 } else { 0.0 });
        let counters = store.counters();
        let all = [&counters.puts, &counters.gets, &counters.sizes, &counters.lists, &counters.deletes];
        self.calls.iter().zip(all).for_each(|(metric, calls)| metric.absolute(read(&calls.tries)));
        self.errors.absolute(all.iter().map(|calls| read(&calls.errors)).sum());
        self.sent_bytes.absolute(read(&counters.puts.bytes));
        let Some(reader) = reader else { return };
        let (usage, counters) = (reader.usage(), reader.counters());
        self.cache_bytes.set(usage.cache_bytes as f64);
        self.cache_budget_bytes.set(usage.cache_bytes_max as f64);
        self.ahead_bytes.set(usage.ahead_bytes as f64);
        self.gets_under_way.set(usage.gets as f64);
        self.gets_waiting.set(usage.gets_waiting as f64);
        self.gets.absolute(read(&counters.gets));
        self.got_bytes.absolute(read(&counters.bytes));
        self.damaged.absolute(read(&counters.damaged));
        self.cache_hits.absolute(read(&counters.hits));
        self.cache_misses.absolute(read(&counters.misses));
    }
}

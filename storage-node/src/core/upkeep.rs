//! What a core does now and then: what is due in its groups, the files of its log, and what it tells of itself.

use std::rc::Rc;
use std::time::Duration;

use tokio::time::Instant;
use tracing::error;
use ursula_stream_core::Packing;

use super::trim::Trimmer;
use super::{Core, HOUSEKEEPING_INTERVAL, Hosted, Log};
use crate::archive::Archive;
use crate::data_dir::Needs;
use crate::group::Group;
use crate::journal::Journal;

/// How often the files of the log are looked after while no new one is begun.
const FILES_INTERVAL: Duration = Duration::from_secs(1);

impl Core {
    /// Looks after what lies on disk, for as long as the core runs.
    pub(super) async fn keep_log(self: Rc<Self>) {
        let Some(Log { dir, journal, archive }) = self.log.clone() else { return };
        let (mut files_due, mut upcoming) = (Instant::now(), dir.log().upcoming());
        let (mut trimmer, mut trim_due) = (Trimmer::default(), Instant::now());
        loop {
            tokio::time::sleep(HOUSEKEEPING_INTERVAL).await;
            journal.mark_if_idle();
            let hosted = self.all_hosted();
            let is_settled =
                |segment| dir.is_full(segment) && hosted.iter().all(|hosted| hosted.group.replica.is_settled(segment));
            if let Err(error) = archive.index_oldest(is_settled).await {
                error!(%error, "the index of a segment cannot be written; it is tried again");
            }
            for Hosted { group, .. } in &hosted {
                group.replica.keep_house().await;
            }
            if Instant::now() >= trim_due {
                trim_due = Instant::now() + FILES_INTERVAL;
                if let Err(error) = self.trim(&mut trimmer, &hosted).await {
                    error!(%error, "the log cannot be trimmed; it is tried again");
                }
            }
            dir.need(self.index, self.needs(&journal, &archive));
            if self.index > 0 || (Instant::now() < files_due && dir.log().upcoming() == upcoming) {
                continue;
            }
            (files_due, upcoming) = (Instant::now() + FILES_INTERVAL, dir.log().upcoming());
            if let Err(error) = dir.keep_house().await {
                error!(%error, "the files of the log cannot be looked after; it is tried again");
            }
        }
    }

    fn needs(&self, journal: &Journal, archive: &Archive) -> Needs {
        let until = journal.writes_from();
        // What was found and is not hosted may still be wanted.
        let unknown = self.found.borrow().keys().chain(&*self.changing.borrow()).copied().collect();
        Needs { until, unknown, oldest: archive.oldest() }
    }

    pub(super) fn keep_house(&self, mailbox_requests: usize) {
        let hosted = self.all_hosted();
        for Hosted { group, courier, .. } in &hosted {
            group.state.borrow_mut().forget_abandoned_tails();
            // What followers would propose, their leader proposes too.
            if group.replica.leads() {
                group.expire_if_due();
                courier.send_again();
                group.forget_abandoned_held();
                group.touch_tailed();
            } else {
                group.rest();
            }
        }
        self.set_gauges(&hosted, mailbox_requests);
    }

    fn set_gauges(&self, hosted: &[Hosted], mailbox_requests: usize) {
        let gauges = &self.metrics.cores[self.index];
        let (used, budget) = self.hot.borrow().usage();
        let sum = |count: fn(&Group) -> usize| hosted.iter().map(|hosted| count(&hosted.group)).sum::<usize>() as f64;
        gauges.ring_used_bytes.set(used as f64);
        gauges.ring_budget_bytes.set(budget as f64);
        gauges.mailbox_requests.set(mailbox_requests as f64);
        gauges.queued_ops.set(sum(Group::queue_len));
        gauges.held_answers.set(sum(Group::held_len));
        gauges.waiting_tails.set(sum(|group| group.state.borrow().waiting_tails()));
        gauges.streams.set(sum(|group| group.state.borrow().stats().streams));
        gauges.sessions.set(sum(|group| group.state.borrow().stats().sessions));
        let led = hosted.iter().filter(|hosted| hosted.group.replica.leads());
        let packing: Vec<Packing> = led.clone().filter_map(|hosted| hosted.group.state.borrow().packing()).collect();
        gauges.unpacked_bytes.set(packing.iter().map(|packing| packing.bytes).sum::<u64>() as f64);
        gauges.unpacked_streams.set(packing.iter().map(|packing| packing.streams).sum::<usize>() as f64);
        let catalogues: Vec<_> = led.clone().filter_map(|hosted| hosted.group.state.borrow().catalogue()).collect();
        gauges.store_objects.set(catalogues.iter().map(|packs| packs.iter().len()).sum::<usize>() as f64);
        gauges.store_bytes.set(catalogues.iter().map(|packs| packs.bytes()).sum::<u64>() as f64);
        gauges.store_replaced.set(led.map(|hosted| hosted.group.state.borrow().replaced().len()).sum::<usize>() as f64);
        if let Some(cold) = self.cold.as_ref().filter(|_| self.index == 0) {
            cold.report(&self.metrics.cold);
        }
        for Hosted { group, gauges, .. } in hosted {
            gauges.set(group.replica.standing());
        }
        if let Some(log) = &self.log {
            if let Some(space) = log.dir.space().filter(|_| self.index == 0) {
                self.metrics.log_bytes.set(space.used as f64);
                self.metrics.disk_free_bytes.set(space.free as f64);
            }
            gauges.log_pending_bytes.set(log.journal.pending_bytes() as f64);
            gauges.log_unindexed_records.set(log.archive.unindexed_records() as f64);
        }
    }
}

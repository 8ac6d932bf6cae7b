//! Brings the streams of a backup into a new cluster, step by step, through any node of it. Every step may be done twice, so a
//! run that was interrupted is run again. What whoever runs it is told, and how long it takes, is for a [`Guide`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ursula_common::packs::PackRef;
use ursula_common::verb::{Ack, EndImport, Import, ImportRun, Op, Reply};
use ursula_common::{BucketName, Clock, Error, GroupId};
use ursula_proto::AdminClient;

use super::{Backup, Copier, Lost, Plan, Scan, Store, Tracker, owner};
use crate::runtime;

/// Whoever restores.
pub trait Guide {
    /// Why it did not come to an end.
    type Failure;

    /// Hears how it goes.
    fn progress(&self, line: &str);

    /// Lets some time pass before nodes are asked again, or gives up.
    fn pause(&self, waits_for: &str) -> impl Future<Output = Result<(), Self::Failure>>;

    /// A sentence about why it cannot go on.
    fn refused(&self, why: String) -> Self::Failure;
}

/// A restore. It goes through one node; what it restores is in the plan.
pub struct Restore<'a, G> {
    /// Whoever restores.
    pub guide: &'a G,
    /// Any node of the new cluster.
    pub node: AdminClient,
    /// The place of the old cluster.
    pub from: &'a Arc<dyn Store>,
    /// What is in it.
    pub backup: &'a Backup,
    /// What of it goes where.
    pub plan: &'a Plan,
}

impl<G: Guide> Restore<'_, G> {
    /// Whether a place is that of the new cluster; false if it is nobody's yet.
    ///
    /// # Errors
    /// If it is somebody else's, or the store fails.
    pub async fn owns(&self, place: &dyn Store) -> Result<bool, G::Failure> {
        match owner(place).await.map_err(|error| self.guide.refused(error.to_string()))? {
            None => Ok(false),
            Some(owner) if owner == self.plan.cluster => Ok(true),
            Some(owner) => {
                let why = format!(
                    "the place belongs to cluster {owner}, not to {}: name the `store` of the new nodes with --store",
                    self.plan.cluster
                );
                Err(self.guide.refused(why))
            }
        }
    }

    /// Restores to the place of the new cluster; false if an earlier run had done everything.
    ///
    /// # Errors
    /// What the guide makes of it. Nobody is served by the new cluster then.
    pub async fn work(&self, to: Arc<dyn Store>, clock: &dyn Clock) -> Result<bool, G::Failure> {
        let failed = |error: super::StoreError| self.guide.refused(error.to_string());
        let run = ImportRun { import: self.plan.import(self.backup), attempt: runtime::random() };
        self.create_buckets().await?;
        let mut begun: BTreeMap<GroupId, Option<PackRef>> = BTreeMap::new();
        for group in self.plan.groups.keys() {
            match self.step(*group, Op::BeginImport(run)).await? {
                Reply::ImportBegun(newest) => drop(begun.insert(*group, newest)),
                // An earlier run has ended it.
                _ => self.guide.progress(&format!("group {group} had been restored before")),
            }
        }
        if begun.is_empty() {
            return Ok(false);
        }
        let mut copier = Copier::new(to, self.plan, begun.clone(), clock.now());
        copier.clear().await.map_err(failed)?;
        self.copy(&mut copier).await?;
        let steps = copier.finish().await.map_err(failed)?;
        for (group, steps) in steps {
            for (packs, records) in steps {
                self.step(group, Op::Import(Box::new(Import { run, packs, records }))).await?;
            }
            self.guide.progress(&format!("group {group} has its streams"));
        }
        for group in begun.keys() {
            let streams = self.plan.groups.get(group).map_or(0, Vec::len) as u64;
            let end = EndImport { run, streams, next_stream: self.plan.next_stream };
            self.step(*group, Op::EndImport(end)).await?;
        }
        Ok(true)
    }

    async fn create_buckets(&self) -> Result<(), G::Failure> {
        let streams = self.plan.groups.values().flatten().map(|image| &image.key().bucket);
        let mut buckets: BTreeSet<&BucketName> = streams.chain(&self.backup.buckets).collect();
        buckets.remove(&BucketName::default_bucket());
        for bucket in buckets {
            let ack = if self.backup.offloaded.contains(bucket) { Ack::Offloaded } else { Ack::Quorum };
            self.step(GroupId::META, Op::CreateBucket(bucket.clone(), ack)).await?;
        }
        Ok(())
    }

    /// Copies the bytes. What turns out to be damaged ends it: nobody has seen anything yet.
    async fn copy(&self, copier: &mut Copier) -> Result<(), G::Failure> {
        let failed = |error: super::StoreError| self.guide.refused(error.to_string());
        let mut objects = Scan::all(self.from, self.backup);
        let mut tracker = Tracker::default();
        let mut progress = Progress::new("copied", self.backup.bytes());
        while let Some(scan) = objects.next().await {
            let Scan { group, bytes, pieces, .. } = scan.map_err(failed)?;
            for piece in pieces {
                if let Some(piece) = tracker.take(self.backup, group, piece) {
                    copier.take(group, piece);
                }
            }
            copier.after_object(bytes).await.map_err(failed)?;
            progress.add(bytes, |line| self.guide.progress(line));
        }
        let lost = tracker.finish(self.backup);
        let lost: Vec<Lost> = lost.into_iter().filter(|lost| self.plan.restores(lost.group, lost.id)).collect();
        match lost.first() {
            None => Ok(()),
            Some(first) => Err(self.guide.refused(format!(
                "the place is damaged: bytes of {} streams are missing, such as of {}. Nobody is served by the new cluster \
                 until it is restored: see what is damaged with `ursula backup verify`, and restore the other streams with \
                 --without-damaged",
                lost.len(),
                first.key
            ))),
        }
    }

    /// Does a step, again and again while nodes do not answer or elect leaders.
    async fn step(&self, group: GroupId, op: Op) -> Result<Reply, G::Failure> {
        loop {
            match ursula_proto::import(&mut self.node.clone(), group, &op).await {
                Ok(reply) => return Ok(reply),
                Err(
                    error @ (Error::NotLeader { .. }
                    | Error::Unavailable
                    | Error::OutcomeUnknown
                    | Error::Overloaded
                    | Error::BucketBusy
                    | Error::StoreAway
                    | Error::MemoryFull
                    | Error::DiskFull),
                ) => {
                    self.guide.progress(&format!("group {group}: {error}"));
                    self.guide.pause(&format!("group {group} does not answer")).await?;
                }
                Err(error) => return Err(self.guide.refused(error.to_string())),
            }
        }
    }
}

/// How far something has come, told at each tenth.
#[derive(Debug)]
pub struct Progress {
    verb: &'static str,
    all: u64,
    done: u64,
}

impl Progress {
    /// Of so many bytes nothing is done.
    pub fn new(verb: &'static str, all: u64) -> Progress {
        Progress { verb, all, done: 0 }
    }

    /// So many more bytes are done.
    pub fn add(&mut self, bytes: u64, tell: impl FnOnce(&str)) {
        let tenth = |bytes: u64| bytes * 10 / self.all.max(1);
        let before = tenth(self.done);
        self.done += bytes;
        if tenth(self.done) > before {
            tell(&format!("{} {} of {}", self.verb, mebibytes(self.done), mebibytes(self.all)));
        }
    }
}

/// So many bytes, for people.
pub fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

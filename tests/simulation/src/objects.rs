//! The object store of a simulated cluster: one for all nodes, which takes its time, fails as stores do, and can be away.

use std::mem;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::sleep;
use ursula_cold::store::{Answer, Listed, MemoryStore, Name, Put, Store, StoreError};

use crate::plan::Packs;

/// What a call takes, in milliseconds.
const CALL_MS: Range<u64> = 1..10;
/// When it goes away, if it does.
const AWAY_AFTER: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Objects {
    inner: MemoryStore,
    away: AtomicBool,
    /// So many percent of the calls meet a fault.
    faults: AtomicU32,
    /// What a PUT takes besides, at most.
    put_ms: AtomicU64,
    /// What nobody waits for any more who has sent it.
    late: Mutex<Vec<(Name, Bytes)>>,
}

/// An object on its way, until somebody hears that it is there.
struct OnItsWay<'a>(&'a Objects, Option<(Name, Bytes)>);

impl Drop for OnItsWay<'_> {
    fn drop(&mut self) {
        self.0.late.lock().unwrap_or_else(PoisonError::into_inner).extend(self.1.take());
    }
}

/// What happens to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// Nothing is done.
    Refused,
    /// It is done, and the answer is lost.
    Unanswered,
    /// It is done, and what comes has a wrong bit.
    Flipped,
}

impl Objects {
    /// Is as bad as is planned for so long after the faults began.
    pub(crate) fn be_bad(&self, packs: &Packs, since: Duration) {
        self.faults.store(packs.faults_percent, Ordering::Relaxed);
        self.away.store((AWAY_AFTER..AWAY_AFTER + packs.away).contains(&since), Ordering::Relaxed);
    }

    /// Works from now on.
    pub(crate) fn be_good(&self) {
        self.faults.store(0, Ordering::Relaxed);
        self.away.store(false, Ordering::Relaxed);
    }

    /// A PUT takes up to so much longer.
    pub(crate) fn take_longer(&self, ms: u64) {
        self.put_ms.store(ms, Ordering::Relaxed);
    }

    /// What was sent by nodes that ended meanwhile arrives.
    pub(crate) async fn late_puts_arrive(&self) {
        let late = mem::take(&mut *self.late.lock().unwrap_or_else(PoisonError::into_inner));
        for (name, body) in late {
            tracing::info!(%name, "a late put arrives");
            drop(self.inner.put(&name, body).await);
        }
    }

    async fn call<T>(&self, work: Answer<'_, T>, flip: impl FnOnce(T) -> T) -> Result<T, StoreError> {
        sleep(Duration::from_millis(rand::random_range(CALL_MS))).await;
        let unavailable = |why: &str| Err(StoreError::Unavailable(why.to_owned()));
        if self.away.load(Ordering::Relaxed) {
            return unavailable("it is away");
        }
        let meets = rand::random_range(0..100) < self.faults.load(Ordering::Relaxed);
        let fault = [Fault::Refused, Fault::Unanswered, Fault::Flipped][rand::random_range(0..3)];
        match Some(fault).filter(|_| meets) {
            None => work.await,
            Some(Fault::Refused) => unavailable("it is busy"),
            Some(Fault::Unanswered) => {
                drop(work.await);
                unavailable("its answer was lost")
            }
            Some(Fault::Flipped) => work.await.map(flip),
        }
    }
}

impl Store for Objects {
    fn put<'a>(&'a self, name: &'a Name, body: Bytes) -> Answer<'a, Put> {
        Box::pin(async move {
            let mut sent = OnItsWay(self, Some((name.clone(), body.clone())));
            match self.put_ms.load(Ordering::Relaxed) {
                0 => {}
                max => sleep(Duration::from_millis(rand::random_range(0..max))).await,
            }
            let put = self.call(self.inner.put(name, body), |put| put).await;
            sent.1 = None;
            put
        })
    }

    fn get<'a>(&'a self, name: &'a Name, range: Range<u64>) -> Answer<'a, Bytes> {
        let flip = |bytes: Bytes| {
            let mut bytes = bytes.to_vec();
            let at = rand::random_range(0..bytes.len());
            bytes[at] ^= 1 << rand::random_range(0..8);
            bytes.into()
        };
        Box::pin(self.call(self.inner.get(name, range), flip))
    }

    fn size<'a>(&'a self, name: &'a Name) -> Answer<'a, u64> {
        Box::pin(self.call(self.inner.size(name), |size| size))
    }

    fn delete<'a>(&'a self, name: &'a Name) -> Answer<'a, ()> {
        Box::pin(self.call(self.inner.delete(name), |done| done))
    }

    fn list<'a>(&'a self, folder: &'a Name, after: Option<&'a Name>) -> Answer<'a, Vec<Listed>> {
        Box::pin(self.call(self.inner.list(folder, after), |listed| listed))
    }
}

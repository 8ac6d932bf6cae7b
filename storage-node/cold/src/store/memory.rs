//! Objects in memory, for tests and for the simulator. Must not answer otherwise than a store that keeps its promises.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::{Bound, Range};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::{Answer, LISTED_MAX, Listed, Name, Put, Store, StoreError};

/// A store in memory.
#[derive(Default)]
pub struct MemoryStore(Mutex<BTreeMap<Name, Bytes>>);

impl MemoryStore {
    fn objects(&self) -> MutexGuard<'_, BTreeMap<Name, Bytes>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn object(&self, name: &Name) -> Result<Bytes, StoreError> {
        self.objects().get(name).cloned().ok_or_else(|| StoreError::NotFound(name.clone()))
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} objects in memory", self.objects().len())
    }
}

impl Store for MemoryStore {
    fn put<'a>(&'a self, name: &'a Name, body: Bytes) -> Answer<'a, Put> {
        Box::pin(async move {
            let mut objects = self.objects();
            if objects.contains_key(name) {
                return Ok(Put::Exists);
            }
            objects.insert(name.clone(), body);
            Ok(Put::Stored)
        })
    }

    fn get<'a>(&'a self, name: &'a Name, range: Range<u64>) -> Answer<'a, Bytes> {
        Box::pin(async move {
            let body = self.object(name)?;
            if range.end > body.len() as u64 {
                return Err(ends_early(name, body.len() as u64, &range));
            }
            Ok(body.slice(range.start as usize..range.end as usize))
        })
    }

    fn size<'a>(&'a self, name: &'a Name) -> Answer<'a, u64> {
        Box::pin(async move { Ok(self.object(name)?.len() as u64) })
    }

    fn delete<'a>(&'a self, name: &'a Name) -> Answer<'a, ()> {
        Box::pin(async move {
            self.objects().remove(name);
            Ok(())
        })
    }

    fn list<'a>(&'a self, folder: &'a Name, after: Option<&'a Name>) -> Answer<'a, Vec<Listed>> {
        Box::pin(async move {
            let from = Bound::Excluded(after.unwrap_or(folder).clone());
            let objects = self.objects();
            let below = objects.range((from, Bound::Unbounded)).filter(|(name, _)| name.is_below(folder));
            let listed = below.map(|(name, body)| Listed { name: name.clone(), bytes: body.len() as u64 });
            Ok(listed.take(LISTED_MAX).collect())
        })
    }
}

/// The error for a range that an object does not have.
pub(super) fn ends_early(name: &Name, bytes: u64, range: &Range<u64>) -> StoreError {
    let reason = format!("it has {bytes} bytes, and those from {} to {} were asked for", range.start, range.end);
    StoreError::Damaged { name: name.clone(), reason }
}

//! A store in front of another one that behaves as stores do on bad days, as often as it is told.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Bytes, BytesMut};
use futures_util::stream::{self, StreamExt as _};

use super::{Answer, Body, Listed, Name, Put, Store, StoreError};

/// What happens to one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It is refused, and nothing happens.
    Refused,
    /// It is done, and the answer is lost.
    Unanswered,
    /// The rights are gone.
    Denied,
    /// The place for the objects is gone.
    NoPlace,
    /// What is read has one bit wrong; other calls work.
    Flipped,
    /// What is read breaks off in its midst; other calls work.
    BreaksOff,
    /// What is listed is as if the newest object were not there; other calls work.
    Stale,
    /// An object is put over the one that is there: the store knows no conditions. Other calls work.
    Overwrites,
}

/// A store with faults. Calls take the faults that were planned, one each, and then work.
#[derive(Debug)]
pub struct FaultStore {
    inner: Arc<dyn Store>,
    planned: Mutex<VecDeque<Option<Fault>>>,
}

impl FaultStore {
    /// A store that works as `inner` does.
    pub fn new(inner: Arc<dyn Store>) -> FaultStore {
        FaultStore { inner, planned: Mutex::default() }
    }

    /// The next calls meet these faults, in order; `None` is a call that works.
    pub fn plan(&self, faults: impl IntoIterator<Item = Option<Fault>>) {
        self.planned.lock().unwrap_or_else(PoisonError::into_inner).extend(faults);
    }

    /// No fault is left that was planned.
    pub fn is_calm(&self) -> bool {
        self.planned.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    fn next(&self) -> Option<Fault> {
        self.planned.lock().unwrap_or_else(PoisonError::into_inner).pop_front().flatten()
    }

    /// Takes a fault if it is the next one.
    fn is_next(&self, fault: Fault) -> bool {
        let mut planned = self.planned.lock().unwrap_or_else(PoisonError::into_inner);
        let is_next = planned.front() == Some(&Some(fault));
        if is_next {
            // The call behind it works.
            planned[0] = None;
        }
        is_next
    }

    async fn call<T>(&self, fault: Option<Fault>, work: Answer<'_, T>) -> Result<T, StoreError> {
        match fault {
            Some(Fault::Refused) => Err(StoreError::Unavailable("busy, said the fault".into())),
            Some(Fault::Denied) => Err(StoreError::Denied("the credentials have expired, said the fault".into())),
            Some(Fault::NoPlace) => Err(StoreError::NoPlace("there is no such bucket, said the fault".into())),
            Some(Fault::Unanswered) => {
                drop(work.await);
                Err(StoreError::Unavailable("the answer was lost, said the fault".into()))
            }
            _ => work.await,
        }
    }
}

fn broken_off() -> StoreError {
    StoreError::Unavailable("the answer broke off, said the fault".into())
}

impl Store for FaultStore {
    fn put<'a>(&'a self, name: &'a Name, body: Bytes) -> Answer<'a, Put> {
        Box::pin(async move {
            let fault = self.next();
            if fault == Some(Fault::Overwrites) {
                self.inner.delete(name).await?;
            }
            self.call(fault, self.inner.put(name, body)).await
        })
    }

    fn get<'a>(&'a self, name: &'a Name, range: Range<u64>) -> Answer<'a, Bytes> {
        Box::pin(async move {
            let fault = self.next();
            let body = self.call(fault, self.inner.get(name, range)).await?;
            match fault {
                Some(Fault::Flipped) => {}
                Some(Fault::BreaksOff) => return Err(broken_off()),
                _ => return Ok(body),
            }
            let mut body = BytesMut::from(&body[..]);
            let middle = body.len() / 2;
            body[middle] ^= 1;
            Ok(body.freeze())
        })
    }

    fn stream<'a>(&'a self, name: &'a Name, range: Range<u64>) -> Answer<'a, Body<'a>> {
        Box::pin(async move {
            let breaks_off = self.is_next(Fault::BreaksOff);
            let mut body = self.get(name, range).await?;
            if !breaks_off {
                return Ok(stream::iter([Ok(body)]).boxed());
            }
            body.truncate(body.len() / 2);
            Ok(stream::iter([Ok(body), Err(broken_off())]).boxed())
        })
    }

    fn size<'a>(&'a self, name: &'a Name) -> Answer<'a, u64> {
        Box::pin(async move { self.call(self.next(), self.inner.size(name)).await })
    }

    fn delete<'a>(&'a self, name: &'a Name) -> Answer<'a, ()> {
        Box::pin(async move { self.call(self.next(), self.inner.delete(name)).await })
    }

    fn list<'a>(&'a self, folder: &'a Name, after: Option<&'a Name>) -> Answer<'a, Vec<Listed>> {
        Box::pin(async move {
            let fault = self.next();
            let mut listed = self.call(fault, self.inner.list(folder, after)).await?;
            if fault == Some(Fault::Stale) {
                listed.pop();
            }
            Ok(listed)
        })
    }
}

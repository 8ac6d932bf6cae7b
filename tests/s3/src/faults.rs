//! What goes wrong between a client and the objects. Must not break what is stored: a store may fail, lie about what it did or
//! send bytes that are wrong, but what it has, it has.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use s3s::{Body, HttpError, HttpResponse};

/// One thing that may go wrong with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The connection ends without an answer, and nothing was done.
    Away,
    /// 503 `SlowDown`, and nothing was done.
    SlowDown,
    /// 500 `InternalError`, although it was done.
    FailsAfterwards,
    /// No answer for a minute, and nothing was done.
    Silent,
    /// The answer to a GET ends in the middle of its body.
    Truncated,
    /// One bit of the answer to a GET is wrong.
    Corrupted,
    /// A listing that was right when it was asked for before.
    StaleList,
    /// 412 to a PUT, although there is no such object.
    Precondition,
    /// 409 `ConditionalRequestConflict` to a PUT.
    Conflict,
    /// 400 `ExpiredToken`.
    Expired,
    /// 404 `NoSuchBucket`.
    NoBucket,
}

/// Requests that came, those with a fault included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// PUT of an object.
    pub puts: u64,
    /// GET of an object.
    pub gets: u64,
    /// HEAD of an object.
    pub heads: u64,
    /// Listings.
    pub lists: u64,
    /// DELETE of an object.
    pub deletes: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Faults(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// In turn, with how many requests go right before each.
    planned: Vec<Fault>,
    every: u64,
    /// Requests since faults were planned.
    seen: u64,
    happened: HashMap<Fault, u64>,
    counts: Counts,
    /// Listings, by what was asked.
    listings: HashMap<String, Bytes>,
}

impl Faults {
    /// From now on every so-many-th request that can have one has the next of these faults, in turn. None: all goes well.
    pub fn plan(&self, faults: &[Fault], every: u64) {
        let mut inner = self.inner();
        (inner.planned, inner.every, inner.seen) = (faults.to_vec(), every.max(1), 0);
    }

    /// How often a fault happened.
    pub fn happened(&self, fault: Fault) -> u64 {
        self.inner().happened.get(&fault).copied().unwrap_or(0)
    }

    /// What came so far.
    pub fn counts(&self) -> Counts {
        self.inner().counts
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a request to the store, or not.
    pub(crate) async fn pass<F>(
        &self,
        request: Request<Incoming>,
        store: impl FnOnce(Request<Incoming>) -> F,
    ) -> Result<HttpResponse, HttpError>
    where
        F: Future<Output = Result<HttpResponse, HttpError>>,
    {
        let method = request.method().clone();
        let listing = (method == Method::GET).then(|| request.uri().query().unwrap_or_default());
        let listing = listing.filter(|query| query.contains("list-type")).map(str::to_owned);
        let fault = self.next(&method, listing.as_deref());
        match fault {
            None => self.remember(listing, store(request).await?).await,
            Some(Fault::Away) => Err(HttpError::new("the connection ends".into())),
            Some(Fault::Silent) => {
                tokio::time::sleep(Duration::from_secs(60)).await;
                Err(HttpError::new("the connection ends".into()))
            }
            Some(Fault::SlowDown) => Ok(failure(StatusCode::SERVICE_UNAVAILABLE, "SlowDown")),
            Some(Fault::FailsAfterwards) => {
                // All of it, or the store has not done it.
                drop(store(request).await?.into_body().collect().await);
                Ok(failure(StatusCode::INTERNAL_SERVER_ERROR, "InternalError"))
            }
            Some(Fault::Precondition) => Ok(failure(StatusCode::PRECONDITION_FAILED, "PreconditionFailed")),
            Some(Fault::Conflict) => Ok(failure(StatusCode::CONFLICT, "ConditionalRequestConflict")),
            Some(Fault::Expired) => Ok(failure(StatusCode::BAD_REQUEST, "ExpiredToken")),
            Some(Fault::NoBucket) => Ok(failure(StatusCode::NOT_FOUND, "NoSuchBucket")),
            Some(Fault::Truncated | Fault::Corrupted) => damaged(store(request).await?, fault).await,
            Some(Fault::StaleList) => {
                let known = listing.as_ref().and_then(|query| self.inner().listings.get(query).cloned());
                match known {
                    Some(known) => Ok(Response::new(Body::from(known))),
                    None => self.remember(listing, store(request).await?).await,
                }
            }
        }
    }

    /// What goes wrong with the next request.
    fn next(&self, method: &Method, listing: Option<&str>) -> Option<Fault> {
        let mut inner = self.inner();
        let counts = &mut inner.counts;
        let count = match (method, listing) {
            (&Method::GET, Some(_)) => &mut counts.lists,
            (&Method::GET, None) => &mut counts.gets,
            (&Method::PUT, _) => &mut counts.puts,
            (&Method::DELETE, _) => &mut counts.deletes,
            _ => &mut counts.heads,
        };
        *count += 1;
        inner.seen += 1;
        let (number, every) = (inner.seen, inner.every);
        let planned = inner.planned.len() as u64;
        if planned == 0 || number % every != 0 {
            return None;
        }
        let fits = |fault: &Fault| match fault {
            Fault::Truncated | Fault::Corrupted => *method == Method::GET && listing.is_none(),
            Fault::StaleList => listing.is_some(),
            Fault::Precondition | Fault::Conflict => *method == Method::PUT,
            _ => true,
        };
        let fault = inner.planned[(number / every % planned) as usize];
        let fault = Some(fault).filter(fits)?;
        *inner.happened.entry(fault).or_default() += 1;
        Some(fault)
    }

    /// Keeps the answer to a listing, for those who are to get an old one.
    async fn remember(&self, listing: Option<String>, response: HttpResponse) -> Result<HttpResponse, HttpError> {
        let Some(query) = listing else { return Ok(response) };
        let (parts, body) = response.into_parts();
        let body = body.collect().await.map_err(HttpError::new)?.to_bytes();
        self.inner().listings.insert(query, body.clone());
        Ok(Response::from_parts(parts, Body::from(body)))
    }
}

/// The answer without its second half, or with a bit that is wrong.
async fn damaged(response: HttpResponse, fault: Option<Fault>) -> Result<HttpResponse, HttpError> {
    let (parts, body) = response.into_parts();
    let whole = body.collect().await.map_err(HttpError::new)?.to_bytes();
    let mut bytes = whole.to_vec();
    let middle = bytes.len() / 2;
    if fault == Some(Fault::Truncated) {
        bytes.truncate(middle);
    } else if let Some(byte) = bytes.get_mut(middle) {
        *byte ^= 1;
    }
    Ok(Response::from_parts(parts, Body::from(bytes)))
}

fn failure(status: StatusCode, code: &str) -> HttpResponse {
    let body = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>as planned</Message></Error>");
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response
}

//! A server whose requests go wrong, asked with patience: what it says it did, it did, and what it gives is what it was given
//! but for bits that fall over, which are for whoever has a checksum.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ursula_test_s3::{Fault, S3};

use crate::steady::{Steady, SteadyOptions};
use crate::store::tests::name;
use crate::store::{Name, Put, Store, StoreError};

const OPTIONS: SteadyOptions = SteadyOptions {
    try_timeout: Duration::from_millis(300),
    deadline: Duration::from_secs(20),
    bytes_per_second_min: 1 << 20,
    tries_max: 3,
    pause: Duration::from_millis(5),
    failures_max: 1000,
    rest: Duration::from_millis(1),
    rest_max: Duration::from_millis(1),
};
const OBJECTS: usize = 24;

async fn steady(server: &S3) -> Steady {
    let [_, secret] = S3::CREDENTIALS;
    Steady::new(Arc::new(super::store(server.endpoint(), S3::BUCKET, secret, None).await), OPTIONS, 7)
}

fn object(number: usize) -> (Name, Bytes) {
    (name(&format!("an/object-{number:03}")), Bytes::from(vec![number as u8; 100 + number]))
}

/// Repeats what may succeed later, as all do that need an object.
async fn at_last<T, F: Future<Output = Result<T, StoreError>>>(call: impl Fn() -> F) -> T {
    for _ in 0..50 {
        match call().await {
            Ok(answer) => return answer,
            Err(error) => assert!(error.is_transient(), "{error:?}"),
        }
    }
    panic!("a store that never answers");
}

#[tokio::test]
async fn what_was_answered_is_true() {
    let server = S3::start();
    let store = steady(&server).await;
    let faults =
        [Fault::SlowDown, Fault::FailsAfterwards, Fault::Away, Fault::Conflict, Fault::Truncated, Fault::Silent];
    server.faults().plan(&faults, 2);
    for number in 0..OBJECTS {
        let (name, body) = object(number);
        // That it exists means that a try had no answer.
        at_last(|| store.put(&name, body.clone())).await;
        let found = at_last(|| store.get(&name, 0..body.len() as u64)).await;
        assert_eq!(found, body);
        if number % 4 == 0 {
            at_last(|| store.delete(&name)).await;
            let gone = store.size(&name).await.map(drop);
            assert!(matches!(&gone, Err(error) if matches!(error, StoreError::NotFound(_)) || error.is_transient()));
        }
    }
    for fault in faults {
        assert!(server.faults().happened(fault) > 0, "{fault:?} happened");
    }
    server.faults().plan(&[], 1);
    let listed = store.list(&name("an"), None).await.expect("a listing");
    let left: Vec<Name> = (0..OBJECTS).filter(|number| number % 4 != 0).map(|number| object(number).0).collect();
    assert_eq!(listed.into_iter().map(|listed| listed.name).collect::<Vec<_>>(), left);
}

#[tokio::test]
async fn a_listing_may_be_old() {
    let server = S3::start();
    let store = steady(&server).await;
    let listed = async || store.list(&name("an"), None).await.expect("a listing").len();
    assert_eq!(listed().await, 0);
    let (name, body) = object(1);
    assert_eq!(store.put(&name, body).await.expect("stored"), Put::Stored);
    server.faults().plan(&[Fault::StaleList], 1);
    assert_eq!(listed().await, 0, "as it was");
    server.faults().plan(&[], 1);
    assert_eq!(listed().await, 1);
}

#[tokio::test]
async fn what_nobody_mends_by_waiting_is_not_tried_again() {
    let server = S3::start();
    let store = steady(&server).await;
    let (name, body) = object(1);
    server.faults().plan(&[Fault::Expired], 1);
    assert!(matches!(store.put(&name, body.clone()).await, Err(StoreError::Denied(_))));
    server.faults().plan(&[Fault::NoBucket], 1);
    assert!(matches!(store.put(&name, body.clone()).await, Err(StoreError::NoPlace(_))));
    assert_eq!(server.faults().counts().puts, 2);
    server.faults().plan(&[], 1);
    assert_eq!(store.put(&name, body).await.expect("stored"), Put::Stored);
}

//! Calls are tried again as often as they should be, and a store that does not answer is left alone. Time is paused.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::ready;
use futures_util::{FutureExt as _, StreamExt as _, stream};
use tokio::time::{Instant, advance};

use super::{Calls, Health, Steady, SteadyOptions};
use crate::store::fault::{Fault, FaultStore};
use crate::store::{Answer, Body, Listed, MemoryStore, Name, Put, Store, StoreError};

const OPTIONS: SteadyOptions = SteadyOptions {
    try_timeout: Duration::from_secs(10),
    deadline: Duration::from_secs(25),
    bytes_per_second_min: 1 << 20,
    tries_max: 3,
    pause: Duration::from_millis(100),
    failures_max: 4,
    rest: Duration::from_secs(1),
    rest_max: Duration::from_secs(3),
};

fn name() -> Name {
    Name::parse("an/object").expect("a name")
}

fn store() -> (Arc<FaultStore>, Steady) {
    let faulty = Arc::new(FaultStore::new(Arc::new(MemoryStore::default())));
    (faulty.clone(), Steady::new(faulty, OPTIONS, 7))
}

fn counts(calls: &Calls) -> [u64; 3] {
    [&calls.tries, &calls.errors, &calls.bytes].map(|count| count.load(Ordering::Relaxed))
}

fn failing(store: &Steady) -> Option<(Instant, Arc<str>)> {
    match store.health().borrow().clone() {
        Health::Healthy => None,
        Health::Failing { since, error } => Some((since, error)),
    }
}

#[tokio::test]
async fn a_store_that_is_asked_with_patience_is_a_store() {
    crate::store::tests::suite(&Steady::new(Arc::new(MemoryStore::default()), OPTIONS, 7)).await;
}

#[tokio::test(start_paused = true)]
async fn what_fails_for_a_moment_is_tried_again() {
    let (faulty, store) = store();
    faulty.plan([Some(Fault::Refused), Some(Fault::Unanswered)]);
    let put = store.put(&name(), Bytes::from_static(b"body")).await.expect("stored");
    assert_eq!(put, Put::Exists, "by the try that had no answer");
    faulty.plan([Some(Fault::Refused), None]);
    assert_eq!(store.get(&name(), 1..3).await.expect("bytes"), "od");
    assert_eq!(counts(&store.counters().puts), [3, 2, 4]);
    assert_eq!(counts(&store.counters().gets), [2, 1, 2]);
    assert_eq!(failing(&store), None);

    faulty.plan([Some(Fault::Refused); 3]);
    assert!(store.size(&name()).await.expect_err("not more often").is_transient());
    assert!(faulty.is_calm());
    assert_eq!(store.size(&name()).await.expect("four"), 4);
    assert_eq!(counts(&store.counters().sizes), [4, 3, 0]);
}

#[tokio::test(start_paused = true)]
async fn what_fails_for_good_is_not_tried_again() {
    let (faulty, store) = store();
    assert!(matches!(store.get(&name(), 0..4).await, Err(StoreError::NotFound(_))));
    assert_eq!(counts(&store.counters().gets), [1, 0, 0]);
    assert_eq!(failing(&store), None);
    let start = Instant::now();
    for (fault, says) in [(Fault::Denied, "credentials"), (Fault::NoPlace, "bucket")] {
        faulty.plan([Some(fault)]);
        store.delete(&name()).await.expect_err("for good");
        let (since, error) = failing(&store).expect("somebody has to help");
        assert_eq!(since, start);
        assert!(error.contains(says), "{error}");
        advance(Duration::from_secs(1)).await;
    }
    assert_eq!(counts(&store.counters().deletes), [2, 2, 0]);
    store.list(&name(), None).await.expect("it was not left alone");
    assert_eq!(failing(&store), None);
    assert_eq!(counts(&store.counters().lists), [1, 0, 0]);
}

#[tokio::test(start_paused = true)]
async fn pauses_grow_and_are_drawn_from_the_seed() {
    let took = async |seed: u64| {
        let faulty = Arc::new(FaultStore::new(Arc::new(MemoryStore::default())));
        let options = SteadyOptions { tries_max: 8, failures_max: 100, ..OPTIONS };
        let store = Steady::new(faulty.clone(), options, seed);
        faulty.plan([Some(Fault::Refused); 7]);
        let start = Instant::now();
        assert!(matches!(store.size(&name()).await, Err(StoreError::NotFound(_))));
        start.elapsed()
    };
    let (one, same, other) = (took(1).await, took(1).await, took(2).await);
    assert_eq!(one, same);
    assert_ne!(one, other);
    // 100 ms and its doubles, 12.7 s together if all were drawn to the full.
    assert!(one > Duration::from_millis(700) && one < Duration::from_millis(12_700), "{one:?}");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_does_not_answer_is_left_alone() {
    let (faulty, store) = store();
    faulty.plan([Some(Fault::Refused); 4]);
    store.size(&name()).await.expect_err("three tries");
    assert_eq!(failing(&store), None);
    let start = Instant::now();
    store.size(&name()).await.expect_err("the fourth");
    let (since, error) = failing(&store).expect("it is left alone");
    assert_eq!((since, &*error), (start, "busy, said the fault"));

    // Nothing gets through before the rest is over, then one call does; rests grow to a bound.
    for (rest, next) in [(1, 2), (2, 3), (3, 3), (3, 3)] {
        advance(Duration::from_secs(rest) - Duration::from_millis(1)).await;
        let tries = counts(&store.counters().sizes)[0];
        let refused = store.size(&name()).now_or_never().expect("at once").expect_err("left alone").to_string();
        assert!(refused.contains("left alone for a while after: busy, said the fault"), "{refused}");
        assert_eq!(counts(&store.counters().sizes)[0], tries);
        advance(Duration::from_millis(1)).await;
        faulty.plan([Some(Fault::Refused)]);
        store.size(&name()).await.expect_err("the probe fails");
        assert_eq!(counts(&store.counters().sizes)[0], tries + 1, "one probe, and then a rest of {next} s");
        assert!(faulty.is_calm());
    }
    assert_eq!(failing(&store).expect("still").0, start);

    advance(Duration::from_secs(3)).await;
    assert!(matches!(store.size(&name()).await, Err(StoreError::NotFound(_))), "an answer");
    assert_eq!(failing(&store), None);
    faulty.plan([Some(Fault::Refused), None]);
    assert!(matches!(store.size(&name()).await, Err(StoreError::NotFound(_))), "it counts from the beginning");
}

/// A store that never answers, or begins to and does not go on.
#[derive(Debug)]
struct Silent;

impl Store for Silent {
    fn put<'a>(&'a self, _: &'a Name, _: Bytes) -> Answer<'a, Put> {
        Box::pin(std::future::pending())
    }
    fn get<'a>(&'a self, _: &'a Name, _: std::ops::Range<u64>) -> Answer<'a, Bytes> {
        Box::pin(std::future::pending())
    }
    fn stream<'a>(&'a self, _: &'a Name, _: std::ops::Range<u64>) -> Answer<'a, Body<'a>> {
        let begin = stream::once(ready(Ok(Bytes::from_static(b"be"))));
        Box::pin(ready(Ok(begin.chain(stream::pending()).boxed())))
    }
    fn size<'a>(&'a self, _: &'a Name) -> Answer<'a, u64> {
        Box::pin(std::future::pending())
    }
    fn delete<'a>(&'a self, _: &'a Name) -> Answer<'a, ()> {
        Box::pin(std::future::pending())
    }
    fn list<'a>(&'a self, _: &'a Name, _: Option<&'a Name>) -> Answer<'a, Vec<Listed>> {
        Box::pin(std::future::pending())
    }
}

#[tokio::test(start_paused = true)]
async fn calls_end_in_time() {
    let store = Steady::new(Arc::new(Silent), OPTIONS, 7);
    let start = Instant::now();
    let error = store.size(&name()).await.expect_err("silence");
    assert!(error.to_string().contains("no answer within 10 s"), "{error}");
    assert!(start.elapsed() <= OPTIONS.deadline && start.elapsed() > Duration::from_secs(20), "{:?}", start.elapsed());
    // A large body has the time that it needs.
    let start = Instant::now();
    store.put(&name(), vec![0; 60 << 20].into()).await.expect_err("silence");
    assert!(start.elapsed() >= Duration::from_secs(70) && start.elapsed() <= Duration::from_secs(85));
}

#[tokio::test(start_paused = true)]
async fn what_comes_piece_by_piece_ends_in_time() {
    let store = Steady::new(Arc::new(Silent), OPTIONS, 7);
    let (start, object) = (Instant::now(), name());
    let mut body = store.stream(&object, 0..10 << 20).await.expect("it begins");
    assert_eq!(body.next().await.expect("a piece").expect("bytes"), "be");
    let error = body.next().await.expect("an end").expect_err("silence");
    assert!(error.to_string().contains("no answer within 20 s"), "{error}");
    assert_eq!(start.elapsed(), Duration::from_secs(20), "10 s, and what 10 MiB may take");
    assert!(body.next().await.is_none());
    assert_eq!(counts(&store.counters().gets), [1, 1, 2]);
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_is_given_up_is_made_by_the_next_call() {
    let (faulty, store) = store();
    faulty.plan([Some(Fault::Refused); 4]);
    store.size(&name()).await.expect_err("three tries");
    store.size(&name()).await.expect_err("the fourth");
    advance(OPTIONS.rest).await;
    let turn = store.breaker.enter().expect("a probe");
    assert!(store.size(&name()).await.expect_err("one probe at a time").is_transient());
    drop(turn);
    assert!(matches!(store.size(&name()).await, Err(StoreError::NotFound(_))), "an answer");
    assert_eq!(failing(&store), None);
}

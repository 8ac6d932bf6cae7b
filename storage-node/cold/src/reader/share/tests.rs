//! Nobody waits for ever, whoever else waits, and nothing is left of those who have gone.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::task::{JoinHandle, yield_now};
use ursula_common::BucketName;

use super::{Shares, Turn};

fn bucket(name: &str) -> BucketName {
    BucketName::parse(name).expect("a name")
}

/// Somebody who waits for a turn of a bucket.
fn wait(shares: &Shares, name: &str) -> JoinHandle<Turn> {
    let (shares, bucket) = (shares.clone(), bucket(name));
    tokio::spawn(async move { shares.turn(&bucket).await })
}

/// Lets all tasks come as far as they can.
async fn settle() {
    for _ in 0..1000 {
        yield_now().await;
    }
}

#[tokio::test]
async fn one_bucket_leaves_half_to_the_others() {
    let shares = Shares::new(8);
    let crowd: Vec<_> = (0..1000).map(|_| wait(&shares, "aaa")).collect();
    settle().await;
    assert_eq!(shares.count(), (4, 996));
    let other = wait(&shares, "bbb");
    settle().await;
    assert!(other.is_finished(), "there is room for another bucket");
    assert_eq!(shares.count(), (5, 996));
    crowd.iter().for_each(JoinHandle::abort);
}

#[tokio::test]
async fn a_bucket_that_comes_late_comes_next() {
    let shares = Shares::new(8);
    let mut turns = Vec::new();
    for _ in 0..4 {
        turns.push(shares.turn(&bucket("aaa")).await);
        turns.push(shares.turn(&bucket("bbb")).await);
    }
    let crowd: Vec<_> = (0..1000).map(|number| wait(&shares, ["aaa", "bbb"][number % 2])).collect();
    settle().await;
    let late: Vec<_> = (0..2).map(|_| wait(&shares, "ccc")).collect();
    settle().await;
    assert_eq!(shares.count(), (8, 1002));
    // One that ends lets one of the late ones begin, whoever else waits.
    for done in 1..=2 {
        drop(turns.pop());
        settle().await;
        assert_eq!(late.iter().filter(|late| late.is_finished()).count(), done);
    }
    assert_eq!(shares.count(), (8, 1000));
    crowd.iter().for_each(JoinHandle::abort);
}

/// Each time the one that has waited longest, of the buckets with the fewest under way.
#[tokio::test]
async fn buckets_take_turns() {
    let shares = Shares::new(2);
    let held = [shares.turn(&bucket("aaa")).await, shares.turn(&bucket("bbb")).await];
    let order = Arc::new(AtomicUsize::new(0));
    let mut places = Vec::new();
    for name in ["ccc", "ccc", "ccc", "ddd", "eee", "ddd"] {
        let (shares, name, order) = (shares.clone(), bucket(name), order.clone());
        places.push(tokio::spawn(async move {
            let turn = shares.turn(&name).await;
            let place = order.fetch_add(1, Ordering::Relaxed);
            drop(turn);
            place
        }));
        settle().await;
    }
    drop(held);
    let mut found = Vec::new();
    for place in places {
        found.push(place.await.expect("its turn"));
    }
    // Of one bucket one at a time, as half of two.
    assert_eq!(found, [0, 2, 4, 1, 3, 5]);
    assert_eq!(shares.count(), (0, 0));
    assert!(shares.state().buckets.is_empty(), "nothing is left of them");
}

#[tokio::test]
async fn who_gives_up_is_passed_over() {
    let shares = Shares::new(2);
    let (one, other) = (shares.turn(&bucket("aaa")).await, shares.turn(&bucket("bbb")).await);
    let gone: Vec<_> = (0..10_000).map(|_| wait(&shares, "aaa")).collect();
    settle().await;
    gone.iter().for_each(JoinHandle::abort);
    let stays = wait(&shares, "aaa");
    settle().await;
    drop(one);
    let turn = stays.await.expect("its turn");
    assert_eq!(shares.count(), (2, 0));
    // Told and gone in the same moment: the next one does not wait for him.
    let (late, next) = (wait(&shares, "aaa"), wait(&shares, "ccc"));
    settle().await;
    drop(turn);
    late.abort();
    drop(late.await);
    drop(other);
    drop(next.await.expect("its turn"));
    assert!(shares.state().buckets.is_empty(), "nothing is left of them");
}

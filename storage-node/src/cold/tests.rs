//! Whose a place for objects is.

use std::sync::Arc;

use tokio::sync::watch;
use ursula_cold::store::fault::{Fault, FaultStore};
use ursula_cold::store::{MemoryStore, Store, StoreError};
use ursula_common::ClusterId;

use super::{Cold, owner_of};
use crate::config::NodeConfig;
use crate::runtime::Runtime;

/// A node that uses the store.
fn node(store: &Arc<MemoryStore>) -> Cold {
    with(store.clone())
}

fn with(store: Arc<dyn Store>) -> Cold {
    Cold::new(store, &NodeConfig::default(), watch::channel(None).1, Runtime::default().outside())
}

#[tokio::test]
async fn a_place_belongs_to_the_cluster_that_came_first() {
    let store = Arc::<MemoryStore>::default();
    let (one, other) = (ClusterId(1), ClusterId(2));
    node(&store).claim(one, false).await.expect("the first");
    node(&store).claim(one, false).await.expect("another node of it");
    let refused = node(&store).claim(other, false).await.expect_err("another cluster");
    assert!(matches!(refused, StoreError::Foreign(_)), "{refused:?}");
    let says = refused.to_string();
    assert!(says.contains(&one.to_string()) && says.contains("choose another prefix"), "{says}");
    assert!(!node(&store).heard::<()>(Err(refused)), "nothing is stored there");
}

#[tokio::test]
async fn nobody_claims_another_place_than_that_of_their_packs() {
    let store = Arc::<MemoryStore>::default();
    let refused = node(&store).claim(ClusterId(1), true).await.expect_err("the packs are elsewhere");
    assert!(matches!(&refused, StoreError::Foreign(says) if says.contains("the value that it had")), "{refused:?}");
    assert_eq!(owner_of(&*store).await.expect("an answer"), None, "nothing was written");
    node(&store).claim(ClusterId(1), false).await.expect("the first");
    node(&store).claim(ClusterId(1), true).await.expect("where it was");
}

#[tokio::test]
async fn a_claim_without_an_answer_is_made_again() {
    let store = Arc::new(FaultStore::new(Arc::new(MemoryStore::default())));
    let node = with(store.clone());
    store.plan([Some(Fault::Denied)]);
    assert!(matches!(node.claim(ClusterId(1), false).await, Err(StoreError::Denied(_))));
    // It is not there, it is stored though the answer is lost, and then it is.
    store.plan([None, Some(Fault::Unanswered)]);
    node.claim(ClusterId(1), false).await.expect("claimed");
    assert!(store.is_calm());
    node.claim(ClusterId(1), false).await.expect("known");
}

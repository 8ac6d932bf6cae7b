//! Everything is lost but the store: kills a cluster, restores what its store has into a new one, and compares.

use std::process::Command;
use std::time::Instant;

use serde_json::{Value, json};
use ursula_test_s3::S3;
use ursula_tests::{Cluster, program};

use crate::work::Work;
use crate::{say, urls};

/// The place of the cluster that is lost.
pub(crate) const OLD: &str = "of/a/cluster";
/// The place of the one after it.
pub(crate) const NEW: &str = "of/another/cluster";

/// Ends `old` with all that it has on disks, and returns what became of its streams in a new cluster.
///
/// # Panics
/// If they cannot be restored.
pub(crate) fn restore(mut old: Cluster, s3: &S3, work: &Work, start: impl Fn(&S3) -> Cluster) -> Value {
    old.kill_all(&old.members());
    // Its directories go with it.
    drop(old);
    let new = start(s3);
    say("everything is lost but the store; restoring");
    let started = Instant::now();
    let [from, to] = [OLD, NEW].map(|place| s3.flags(place));
    let restored = Command::new(program("ursula"))
        .args(["restore", "--output", "json", "--from", &from[1], "--store", &to[1], "--address", &new.node_address(1)])
        .args(&from[2..])
        .envs(S3::env())
        .output()
        .expect("the command runs");
    let restoring = started.elapsed();
    let text = String::from_utf8_lossy(&restored.stdout);
    assert!(restored.status.success(), "{text} {}", String::from_utf8_lossy(&restored.stderr));
    let report: Value = serde_json::from_str(&text).expect("an object");
    say(&format!("restored in {:.1} s; reading", restoring.as_secs_f64()));
    let read = Instant::now();
    json!({
        "wrong": work.check(&urls(&new)),
        "restored_streams": report["streams"],
        "restored_left_out": report["left_out"].as_array().map_or(0, Vec::len),
        "restore_seconds": restoring.as_secs_f64(),
        "restored_read_seconds": read.elapsed().as_secs(),
    })
}

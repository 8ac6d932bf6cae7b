//! Seeds that must pass, each in a process of its own. `URSULA_SIMULATION_SEED` and `URSULA_SIMULATION_COUNT` choose
//! others than those that a change must pass.

use std::path::PathBuf;
use std::process::Command;

use ursula_simulation::{Seeds, run_seeds_with};

/// Processes at a time.
const JOBS: usize = 2;
/// What a change must pass.
const COUNT: u64 = 300;
/// Each is a test.
const PARTS: u64 = 4;

fn program() -> PathBuf {
    env!("CARGO_BIN_EXE_ursula-simulate").into()
}

fn from_environment(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().expect("a number"))
}

#[expect(clippy::print_stdout, reason = "what a seed that fails says is for whoever reads the output of the test")]
fn fail(seeds: &Seeds) -> Vec<u64> {
    run_seeds_with(&program(), seeds, &mut |line| println!("{line}"))
}

/// Simulates one of the parts of the seeds.
fn pass(part: u64) {
    let count = from_environment("URSULA_SIMULATION_COUNT", COUNT);
    let first = from_environment("URSULA_SIMULATION_SEED", 1);
    let (begin, end) = (first + count * part / PARTS, first + count * (part + 1) / PARTS);
    let failed = fail(&Seeds { first: begin, count: end - begin, jobs: JOBS, stop_at_first: false });
    assert_eq!(failed, [0; 0], "see one of them with: ursula-simulate --verbose --seed {:?}", failed.first());
}

#[test]
fn no_seed_of_the_first_part_finds_anything() {
    pass(0);
}

#[test]
fn no_seed_of_the_second_part_finds_anything() {
    pass(1);
}

#[test]
fn no_seed_of_the_third_part_finds_anything() {
    pass(2);
}

#[test]
fn no_seed_of_the_fourth_part_finds_anything() {
    pass(3);
}

/// Seeds beyond those that found something when it was still there.
const FOUND: [u64; 1] = [
    // A replica that had forgotten followed a leader from before that.
    536,
];

#[test]
fn seeds_that_have_found_something_find_nothing() {
    for seed in FOUND {
        assert_eq!(fail(&Seeds { first: seed, count: 1, jobs: 1, stop_at_first: true }), [0; 0]);
    }
}

/// The fingerprint of every message of a seed, and how often something happened.
fn trace(seed: u64) -> String {
    let output = Command::new(program()).args(["--trace", "--seed", &seed.to_string()]).output().expect("it runs");
    assert!(output.status.success(), "seed {seed}: {output:?}");
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn the_same_seed_has_the_same_trace() {
    // Everything is lost in the last one, and restored.
    for seed in [1, 2, 10] {
        let first = trace(seed);
        assert!(first.contains("fingerprint"), "{first}");
        assert_eq!(first, trace(seed));
    }
    assert_ne!(trace(1), trace(2));
}

//! A process whose clock jumps sees it at once, and only there.

use super::*;

fn seconds(clock: &WallClock) -> i64 {
    let mut date = Command::new("date");
    date.arg("+%s").envs(clock.variables());
    let output = date.output().expect("date runs");
    String::from_utf8_lossy(&output.stdout).trim().parse().expect("seconds")
}

#[test]
fn a_clock_jumps_both_ways() {
    let folder = tempfile::tempdir().expect("a folder");
    let clock = WallClock::prepare(folder.path(), "a");
    let right = WallClock::prepare(folder.path(), "b");
    for days in [-300, 0, 300] {
        let milliseconds = days * 86_400_000 + 500;
        clock.jump(milliseconds);
        let moved = seconds(&clock) - seconds(&right) - days * 86_400;
        assert!((-5..5).contains(&moved), "{days} days and {moved} s");
    }
}

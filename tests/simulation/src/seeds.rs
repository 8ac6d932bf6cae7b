//! Many seeds, each in a process of its own, some at a time.

use std::io::Read as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Which, and how.
#[derive(Debug, Clone)]
pub struct Seeds {
    /// The first one.
    pub first: u64,
    /// How many.
    pub count: u64,
    /// Processes at a time.
    pub jobs: usize,
    /// Ends with the first that fails.
    pub stop_at_first: bool,
}

const LOOK_EVERY: Duration = Duration::from_millis(10);
/// A seed that takes so many looks hangs. (The clock of this process is one of the simulation.)
const LOOKS_MAX: u32 = 30_000;
/// Tells how it goes after so many.
const TELL_EVERY: u64 = 50;

struct Running {
    seed: u64,
    child: Child,
    looks: u32,
}

/// Simulates them with this program; `tell` gets a line for each that fails. Returns those.
pub fn run_seeds(seeds: &Seeds, tell: &mut dyn FnMut(&str)) -> Vec<u64> {
    run_seeds_with(&std::env::current_exe().expect("this program has a path"), seeds, tell)
}

/// The same with the program at `program`.
pub fn run_seeds_with(program: &PathBuf, seeds: &Seeds, tell: &mut dyn FnMut(&str)) -> Vec<u64> {
    let (mut next, end) = (seeds.first, seeds.first + seeds.count);
    let (mut running, mut failed, mut done) = (Vec::<Running>::new(), Vec::new(), 0);
    while !running.is_empty() || next < end {
        while running.len() < seeds.jobs && next < end {
            let mut command = Command::new(program);
            command.args(["--seed", &next.to_string()]).stdout(Stdio::piped()).stderr(Stdio::piped());
            running.push(Running { seed: next, child: command.spawn().expect("it starts"), looks: 0 });
            next += 1;
        }
        std::thread::sleep(LOOK_EVERY);
        for index in (0..running.len()).rev() {
            running[index].looks += 1;
            let late = running[index].looks > LOOKS_MAX;
            let ended = running[index].child.try_wait().expect("it is a child");
            if ended.is_none() && !late {
                continue;
            }
            let Running { seed, mut child, .. } = running.swap_remove(index);
            done += 1;
            if ended.is_some_and(|status| status.success()) {
                if done % TELL_EVERY == 0 {
                    tell(&format!("{done} of {} seeds", seeds.count));
                }
                continue;
            }
            let _ = child.kill();
            let _ = child.wait();
            let said = if late { "it hangs".to_owned() } else { output(&mut child) };
            tell(&format!("seed {seed} FAILED: {said}"));
            failed.push(seed);
            if seeds.stop_at_first {
                next = end;
            }
        }
    }
    tell(&format!("{done} seeds, {} failed: {failed:?}", failed.len()));
    failed
}

/// What a process said that has ended.
fn output(child: &mut Child) -> String {
    let mut text = String::new();
    // Whatever it said is for people.
    let _ = child.stdout.take().map(|mut pipe| pipe.read_to_string(&mut text));
    let _ = child.stderr.take().map(|mut pipe| pipe.read_to_string(&mut text));
    text
}

//! Takes the place of the two functions of the C library from which a program learns what no seed decides: what time it
//! is, and what is random. Until a simulation begins they do what they always do.

#![expect(unsafe_code, reason = "functions of the C library have raw pointers")]

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use libc::{c_int, c_long, c_uint, c_void, clockid_t, size_t, ssize_t, timespec};
use tokio::runtime::Handle;

/// What the clock shows when a simulation begins, in seconds. Far from 0, so that durations can be taken off.
const BEGIN_SECONDS: i64 = 1_000_000;

/// When the simulation began, by the clock of the simulation; set when it begins.
static BEGIN: OnceLock<Instant> = OnceLock::new();
static RANDOM: AtomicU64 = AtomicU64::new(0);
static RUNS: AtomicU64 = AtomicU64::new(0);

/// From now on all randomness of this process follows from `seed`, and time is that of the tokio runtime that asks.
#[expect(clippy::disallowed_methods, reason = "what it reads is the clock of the simulation")]
pub(crate) fn begin(seed: u64) {
    RANDOM.store(seed, Ordering::SeqCst);
    RUNS.store(1, Ordering::SeqCst);
    BEGIN.get_or_init(Instant::now);
}

fn runs() -> bool {
    RUNS.load(Ordering::Relaxed) == 1
}

/// SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators).
fn next_random() -> u64 {
    const GAMMA: u64 = 0x9E37_79B9_7F4A_7C15;
    let mut mixed = RANDOM.fetch_add(GAMMA, Ordering::Relaxed).wrapping_add(GAMMA);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

/// The time of the simulation. A runtime begins with the begin of the simulation, as a machine that was started then.
fn now() -> timespec {
    let in_runtime = Handle::try_current().is_ok().then(|| tokio::time::Instant::now().into_std());
    let elapsed = in_runtime.zip(BEGIN.get()).map(|(now, begin)| now.saturating_duration_since(*begin));
    let elapsed = elapsed.unwrap_or_default();
    timespec { tv_sec: BEGIN_SECONDS + elapsed.as_secs() as i64, tv_nsec: c_long::from(elapsed.subsec_nanos()) }
}

/// In the place of that of the C library.
#[unsafe(no_mangle)]
#[inline(never)]
unsafe extern "C" fn clock_gettime(clock: clockid_t, to: *mut timespec) -> c_int {
    if !runs() {
        // SAFETY: the caller's promises are those that the system asks for.
        return unsafe { libc::syscall(libc::SYS_clock_gettime, clock, to) } as c_int;
    }
    // SAFETY: the caller promises that `to` can be written.
    unsafe { to.write(now()) };
    0
}

/// In the place of that of the C library.
#[unsafe(no_mangle)]
#[inline(never)]
unsafe extern "C" fn getrandom(to: *mut c_void, len: size_t, flags: c_uint) -> ssize_t {
    if !runs() {
        // SAFETY: the caller's promises are those that the system asks for.
        return unsafe { libc::syscall(libc::SYS_getrandom, to, len, flags) } as ssize_t;
    }
    if !to.is_null() {
        // SAFETY: the caller promises that `len` bytes can be written.
        let bytes = unsafe { std::slice::from_raw_parts_mut(to.cast::<u8>(), len) };
        for part in bytes.chunks_mut(8) {
            part.copy_from_slice(&next_random().to_le_bytes()[..part.len()]);
        }
    }
    len as ssize_t
}

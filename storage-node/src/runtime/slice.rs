//! How long a thread may run at a stretch, as far as the scheduler of Linux can be told. Changes nothing else about it.

/// What this thread asks for: the scheduler puts whoever wants a short slice before those who compute for long.
const SLICE_NS: u64 = 100_000;

/// Asks that this thread runs soon after it was woken, and for a short while: everybody waits for it. A system that
/// refuses, or knows no slices, serves as well, only later.
#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "there is no safe way to this system call")]
pub(super) fn ask_for_short() {
    /// `struct sched_attr` of Linux, first version; a policy of 0 is the one that every thread has.
    #[repr(C)]
    #[derive(Default)]
    struct Attributes {
        size: u32,
        policy: u32,
        flags: u64,
        nice: i32,
        priority: u32,
        runtime: u64,
        deadline: u64,
        period: u64,
    }
    // The call sets this too.
    let Ok(nice) = rustix::process::getpriority_process(None) else { return };
    let size = size_of::<Attributes>() as u32;
    let attributes = Attributes { size, nice, runtime: SLICE_NS, ..Attributes::default() };
    // SAFETY: the call reads `size` bytes at the address, and writes nothing.
    unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) };
}

#[cfg(not(target_os = "linux"))]
pub(super) fn ask_for_short() {}

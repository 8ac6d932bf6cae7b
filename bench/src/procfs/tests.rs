//! Literal lines of the kernel, and a look at this very process.

use super::*;

#[test]
fn stat_with_any_name() {
    for name in ["server", "tokio-rt (1) x", "a) R 1 2 3"] {
        let stat = format!(
            "4242 ({name}) S 1 4242 4242 0 -1 4194560 900 0 1 0 1234 567 8 9 20 0 5 0 100 2000 300 18446744073709551615\n"
        );
        let cpu = parse_stat(&stat, 100).expect("a valid line");
        assert_eq!((cpu.user, cpu.system), (Duration::from_millis(12_340), Duration::from_millis(5_670)), "{name}");
    }
    assert_eq!(parse_stat("4242 (server) S 1 2 3", 100), None);
    assert_eq!(parse_stat("", 100), None);
}

#[test]
fn status_has_kibibytes() {
    let status = "Name:\tserver\nVmHWM:\t  20000 kB\nVmRSS:\t   12345 kB\nThreads:\t4\n";
    assert_eq!(parse_kib(status, "VmRSS:"), Some(12_345 * 1024));
    assert_eq!(parse_kib(status, "VmHWM:"), Some(20_000 * 1024));
    assert_eq!(parse_kib("Name:\tkthreadd\n", "VmRSS:"), None);
}

#[test]
fn a_process_that_works_uses_time() {
    let before = look("self").expect("this process exists");
    let mut sum = 0_u64;
    let mut used = Cpu::default();
    while used.user + used.system < Duration::from_millis(30) {
        for n in 0..1_000_000_u64 {
            sum = std::hint::black_box(sum.wrapping_add(n));
        }
        used = look("self").expect("this process exists").cpu - before.cpu;
    }
    assert!(before.rss_bytes > 100_000);
    assert!(peak_rss_bytes(std::process::id()).expect("this process exists") >= before.rss_bytes);
    disk_read_bytes(std::process::id()).expect("this process exists");
    let both = usage(&[std::process::id(), std::process::id()]).expect("this process exists");
    assert!(both.rss_bytes > before.rss_bytes);
}

#[test]
fn a_missing_process_is_an_error() {
    assert!(matches!(usage(&[u32::MAX]), Err(Error::Process { .. })));
}

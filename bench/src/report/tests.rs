//! Figures as they are printed.

use super::*;
use crate::procfs::{Cpu, Usage};

#[test]
fn latencies_become_percentiles() {
    let mut latencies = Latencies::new();
    for millis in 1..=1000 {
        latencies.record(Duration::from_millis(millis));
    }
    let near = |millis: f64, wanted: f64| (millis - wanted).abs() / wanted < 0.002;
    for (quantile, wanted) in [(0.5, 500.0), (0.99, 990.0), (0.999, 999.0), (1.0, 1000.0)] {
        assert!(near(latencies.millis(quantile), wanted), "{quantile}");
    }
    latencies.record(Duration::from_secs(100_000));
    assert!(near(latencies.millis(1.0), 120_000.0), "too long for the histogram, yet counted");
}

#[test]
fn usage_is_per_unit_of_work() {
    let at = |user, system, rss_bytes| Usage {
        cpu: Cpu { user: Duration::from_millis(user), system: Duration::from_millis(system) },
        rss_bytes,
    };
    let mut report = Report::new();
    let before = Sample { server: Some(at(10, 20, 1 << 20)), client: at(0, 0, 0) };
    let after = Sample { server: Some(at(40, 80, 3 << 20)), client: at(5, 2, 0) };
    report.usage("append", 1000, &before, &after);
    assert_eq!(
        report.table(),
        "server_cpu_us_per_append     90.0\n\
         server_user_us_per_append    30.0\n\
         server_system_us_per_append  60.0\n\
         server_rss_before_mib        1.0\n\
         server_rss_after_mib         3.0\n\
         client_cpu_us_per_append     7.0\n"
    );
}

#[test]
fn json_is_one_line() {
    let mut report = Report::new();
    report.number("rate", 1.23456);
    report.counts("errors", [("503".to_owned(), 2)].iter().map(|(name, count)| (name, count)));
    assert_eq!(report.json(), "{\"errors\":{\"503\":2},\"rate\":1.235}\n");
}

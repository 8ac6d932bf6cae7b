//! What clients do: appends whose bytes tell their stream and their place, and reads that are compared with them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ursula_tests::{Http, Response};

const BINARY: (&str, &str) = ("Content-Type", "application/octet-stream");
/// After a request that was refused.
const REFUSED_PAUSE: Duration = Duration::from_millis(100);

/// Streams, and what was written to them. Each has one writer.
#[derive(Debug)]
pub(crate) struct Work {
    bytes: usize,
    writers: usize,
    /// Appends of each stream.
    appends: Vec<AtomicU64>,
    refused: AtomicU64,
    unknown: AtomicU64,
    slowest_us: AtomicU64,
}

impl Work {
    pub(crate) fn new(streams: usize, bytes: usize, writers: usize) -> Work {
        let appends = (0..streams).map(|_| AtomicU64::new(0)).collect();
        let zero = || AtomicU64::new(0);
        Work { bytes, writers, appends, refused: zero(), unknown: zero(), slowest_us: zero() }
    }

    /// Bytes that were acknowledged.
    pub(crate) fn written(&self) -> u64 {
        self.appends.iter().map(|count| count.load(Ordering::Relaxed)).sum::<u64>() * self.bytes as u64
    }

    /// Times that a request was refused.
    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Times that nobody could say whether a request was carried out, because a leader went; it was sent again.
    pub(crate) fn unknown(&self) -> u64 {
        self.unknown.load(Ordering::Relaxed)
    }

    /// The longest append.
    pub(crate) fn slowest(&self) -> Duration {
        Duration::from_micros(self.slowest_us.load(Ordering::Relaxed))
    }

    /// Runs one thread for each writer, with its connection to one of the gateways and its streams.
    fn each<T: Send>(
        &self,
        gateways: &[String],
        run: impl Fn(Http, &mut dyn Iterator<Item = usize>) -> T + Sync,
    ) -> Vec<T> {
        thread::scope(|scope| {
            let threads: Vec<_> = (0..self.writers)
                .map(|writer| {
                    let http = Http::connect(&gateways[writer % gateways.len()]);
                    let mut streams = (writer..self.appends.len()).step_by(self.writers);
                    let run = &run;
                    scope.spawn(move || run(http, &mut streams))
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().expect("it does not panic")).collect()
        })
    }

    pub(crate) fn create(&self, gateways: &[String]) {
        self.each(gateways, |mut http, streams| {
            for stream in streams {
                self.until_done(|| http.request("PUT", &path(stream), &[BINARY], ""));
            }
        });
    }

    /// Appends so many times in all, or until the end; `rate` times a second at most.
    pub(crate) fn write(&self, gateways: &[String], appends: u64, end: Option<Instant>, rate: Option<f64>) {
        let (next, started) = (AtomicU64::new(0), Instant::now());
        self.each(gateways, |mut http, streams| {
            let streams: Vec<usize> = streams.collect();
            for stream in streams.iter().cycle() {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let due = rate.map(|rate| started + Duration::from_secs_f64(number as f64 / rate));
                if number >= appends || end.is_some_and(|end| Instant::now() >= end) {
                    return;
                }
                due.into_iter().for_each(|due| thread::sleep(due.saturating_duration_since(Instant::now())));
                self.append(&mut http, *stream);
            }
        });
    }

    fn append(&self, http: &mut Http, stream: usize) {
        let count = &self.appends[stream];
        let body = record(stream, count.load(Ordering::Relaxed), self.bytes);
        // The number makes it harmless to send it again.
        let seq = count.load(Ordering::Relaxed).to_string();
        let headers = [BINARY, ("Producer-Id", "history"), ("Producer-Epoch", "0"), ("Producer-Seq", &seq)];
        let asked = Instant::now();
        self.until_done(|| http.request("POST", &path(stream), &headers, &body));
        self.slowest_us.fetch_max(asked.elapsed().as_micros() as u64, Ordering::Relaxed);
        count.fetch_add(1, Ordering::Relaxed);
    }

    /// Repeats a request until it was carried out.
    fn until_done(&self, mut ask: impl FnMut() -> Response) {
        loop {
            let answer = ask();
            match answer.status {
                200 | 201 | 204 => return,
                503 => self.refused.fetch_add(1, Ordering::Relaxed),
                _ if answer.has_code("outcome_unknown") => self.unknown.fetch_add(1, Ordering::Relaxed),
                status => panic!("{status}: {}", answer.text()),
            };
            thread::sleep(REFUSED_PAUSE);
        }
    }

    /// Reads everything, and returns how many streams are not what was written.
    pub(crate) fn check(&self, gateways: &[String]) -> u64 {
        let wrong = self.each(gateways, |mut http, streams| {
            let is_wrong = |stream: &usize| !self.is_whole(&mut http, *stream);
            streams.filter(is_wrong).count() as u64
        });
        wrong.into_iter().sum()
    }

    fn is_whole(&self, http: &mut Http, stream: usize) -> bool {
        let mut expected = (0..self.appends[stream].load(Ordering::Relaxed))
            .map(|number| record(stream, number, self.bytes))
            .peekable();
        let (mut offset, mut content) = ("-1".to_owned(), Vec::new());
        loop {
            let page = http.request("GET", &format!("{}?offset={offset}", path(stream)), &[], "");
            if page.status == 503 {
                thread::sleep(REFUSED_PAUSE);
                continue;
            }
            assert_eq!(page.status, 200, "{}", page.text());
            content.extend_from_slice(&page.body);
            let mut at = 0;
            while let Some(record) = expected.next_if(|record| content.len() - at >= record.len()) {
                if content[at..at + record.len()] != record {
                    return false;
                }
                at += record.len();
            }
            content.drain(..at);
            if page.header("stream-up-to-date").is_some() {
                return expected.peek().is_none() && content.is_empty();
            }
            offset = page.header("stream-next-offset").expect("where it goes on").to_owned();
        }
    }
}

fn path(stream: usize) -> String {
    format!("/v1/stream/history/{stream}")
}

/// Bytes that are easy to make, and found nowhere else.
fn record(stream: usize, number: u64, bytes: usize) -> Vec<u8> {
    let mut state = (stream as u64) << 40 | number | 1 << 63;
    let words = std::iter::repeat_with(|| {
        // SplitMix64: Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014.
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ mixed >> 31).to_le_bytes()
    });
    words.flatten().take(bytes).collect()
}

//! Writes a given number of bytes to many streams, as fast as the server takes them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::Error;
use crate::args::FillArgs;
use crate::target::Target;

pub(crate) const CONTENT_TYPE: &str = "application/octet-stream";
/// How long a server may refuse an append because it has too much to do.
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(20);

/// What is written, and how far it has come.
#[derive(Clone)]
pub(crate) struct Fill {
    args: FillArgs,
    target: Target,
    /// Appends that were acknowledged, and those that were refused and sent again.
    pub(crate) done: Arc<AtomicU64>,
    pub(crate) refused: Arc<AtomicU64>,
}

impl Fill {
    pub(crate) fn new(args: FillArgs, target: Target) -> Fill {
        let args = FillArgs { connections: args.connections.min(args.streams), ..args };
        Fill { args, target, done: Arc::default(), refused: Arc::default() }
    }

    /// Creates the streams.
    pub(crate) async fn create(&self) -> Result<(), Error> {
        self.target.create_streams(self.args.streams, CONTENT_TYPE).await
    }

    /// Appends everything. Returns how long it took.
    pub(crate) async fn run(&self) -> Result<Duration, Error> {
        let begin = Instant::now();
        let mut tasks = JoinSet::new();
        for worker in 0..self.args.connections {
            let fill = self.clone();
            tasks.spawn(async move { fill.work(worker).await });
        }
        while let Some(ended) = tasks.join_next().await {
            ended.map_err(std::io::Error::other)??;
        }
        Ok(begin.elapsed())
    }

    /// The appends that there will be.
    pub(crate) fn appends(&self) -> usize {
        self.args.total / self.args.bytes
    }

    /// The number of the `place`-th stream at the end, and the bytes that are in it.
    pub(crate) fn stored(&self, place: usize) -> (usize, u64) {
        self.stored_after(place, self.appends_to(place))
    }

    /// The number of the `place`-th stream about now.
    pub(crate) fn now(&self, place: usize) -> usize {
        self.stored_after(place, self.done.load(Ordering::Relaxed) as usize / self.args.streams).0
    }

    fn stored_after(&self, place: usize, appends: usize) -> (usize, u64) {
        let (generation, rest) = match self.appends_each() {
            // One that is full is replaced when the next append comes.
            Some(each) if appends > 0 => ((appends - 1) / each, (appends - 1) % each + 1),
            _ => (0, appends),
        };
        (self.stream(place, generation), (rest * self.args.bytes) as u64)
    }

    /// One connection, with streams of its own.
    async fn work(self, worker: usize) -> Result<(), Error> {
        let mut connection = self.target.connection();
        let body = vec![b'x'; self.args.bytes];
        let own = self.streams_of(worker);
        for turn in 0..self.appends_of(worker) {
            let place = worker + turn % own * self.args.connections;
            let before = turn / own;
            let generation = self.appends_each().map_or(0, |each| before / each);
            if self.appends_each().is_some_and(|each| before > 0 && before.is_multiple_of(each)) {
                let old = self.target.delete(self.stream(place, generation - 1));
                self.target.set_up(&mut connection, &old, |status| status < 300).await?;
                let new = self.target.put(self.stream(place, generation), CONTENT_TYPE);
                self.target.set_up(&mut connection, &new, |status| status < 300).await?;
            }
            let request = self.target.post(self.stream(place, generation), CONTENT_TYPE, &body);
            let begin = Instant::now();
            loop {
                let status = connection.exchange(&request).await?.status;
                match status {
                    0..300 => break,
                    429 | 503 if begin.elapsed() < PATIENCE => self.refused.fetch_add(1, Ordering::Relaxed),
                    _ => return Err(Error::Status(status)),
                };
                sleep(PAUSE).await;
            }
            self.done.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// The number of a stream, by its place and how many were there before it.
    fn stream(&self, place: usize, generation: usize) -> usize {
        generation * self.args.streams + place
    }

    /// Appends until a stream is full.
    fn appends_each(&self) -> Option<usize> {
        self.args.stream_bytes.map(|bytes| bytes.div_ceil(self.args.bytes))
    }

    fn streams_of(&self, worker: usize) -> usize {
        (self.args.streams - worker).div_ceil(self.args.connections)
    }

    fn appends_of(&self, worker: usize) -> usize {
        let (appends, connections) = (self.appends(), self.args.connections);
        appends / connections + usize::from(worker < appends % connections)
    }

    fn appends_to(&self, place: usize) -> usize {
        let (worker, nth) = (place % self.args.connections, place / self.args.connections);
        let (appends, own) = (self.appends_of(worker), self.streams_of(worker));
        appends / own + usize::from(nth < appends % own)
    }
}

#[cfg(test)]
mod tests;

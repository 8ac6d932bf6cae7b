//! moto: a server of S3's protocol in Python, which shares no code with ours.

use crate::process::dies_with_us;
use crate::{Http, Process, python};

/// A running server with an empty bucket. It keeps objects in memory, and lets everybody in.
#[derive(Debug)]
pub struct Moto {
    endpoint: String,
    _process: Process,
}

impl Moto {
    /// The one bucket that is there.
    pub const BUCKET: &str = "bucket";

    /// Starts a server.
    ///
    /// # Panics
    /// If its packages cannot be had: see [`python`].
    pub fn start() -> Moto {
        let mut command = dies_with_us(python().join("bin/moto_server"));
        command.args(["-H", "127.0.0.1", "-p", "0"]);
        let process = Process::spawn("moto", command);
        let line = process.line_with("Running on http://");
        let endpoint = line.split_whitespace().last().expect("an address").to_owned();
        let created = Http::connect(&endpoint).request("PUT", &format!("/{}", Moto::BUCKET), &[], "");
        assert_eq!(created.status, 200, "{}", created.text());
        Moto { endpoint, _process: process }
    }

    /// Where it listens, as `http://HOST:PORT`.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }
}

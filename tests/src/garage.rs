//! Garage: a server of S3's protocol for real use, which shares no code with ours. `just garage` installs it.

use std::net::{TcpListener, TcpStream};
use std::path::Path;

use tempfile::TempDir;

use crate::process::dies_with_us;
use crate::{Process, eventually, program};

/// A running server with an empty bucket.
#[derive(Debug)]
pub struct Garage {
    endpoint: String,
    // It ends before its files go.
    _process: Process,
    _folder: TempDir,
}

impl Garage {
    /// The one bucket that is there.
    pub const BUCKET: &str = "bucket";
    /// Its region.
    pub const REGION: &str = "garage";
    /// The name and the secret of the one who may use it.
    pub const CREDENTIALS: [&str; 2] =
        ["GK0123456789abcdef01234567", "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"];

    /// Starts a server.
    ///
    /// # Panics
    /// If it is not installed, or does not come up.
    pub fn start() -> Garage {
        let target = program("").parent().expect("the folder of all profiles").to_owned();
        let folder = tempfile::tempdir().expect("a folder");
        // Held together, so that they differ. It cannot be told to take any port.
        let free = [0; 2].map(|port| TcpListener::bind(("127.0.0.1", port)).expect("a port"));
        let [api, rpc] = free.map(|free| free.local_addr().expect("an address"));
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("garage.sh");
        let mut command = dies_with_us(script);
        command.arg(target.join("garage/bin/garage")).arg(folder.path()).args([api.to_string(), rpc.to_string()]);
        let [key, secret] = Garage::CREDENTIALS;
        command.env("AWS_ACCESS_KEY_ID", key).env("AWS_SECRET_ACCESS_KEY", secret);
        let process = Process::spawn("garage (`just garage` installs it)", command);
        process.line_with("Creating default bucket");
        let endpoint = format!("http://{api}");
        eventually("garage to listen", || TcpStream::connect(api).ok().map(drop));
        Garage { endpoint, _process: process, _folder: folder }
    }

    /// Where it listens, as `http://HOST:PORT`.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }
}

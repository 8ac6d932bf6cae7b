//! Garage: a server of S3's protocol for real use, which shares no code with ours. `just garage` installs it.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::process::Command;

use tempfile::TempDir;

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
        let path = folder.path().display();
        let (zeros, region) = ("00".repeat(32), Garage::REGION);
        let settings = format!(
            "metadata_dir = \"{path}/meta\"\ndata_dir = \"{path}/objects\"\ndb_engine = \"sqlite\"\n\
             replication_factor = 1\nrpc_bind_addr = \"{rpc}\"\nrpc_secret = \"{zeros}\"\n\
             [s3_api]\ns3_region = \"{region}\"\napi_bind_addr = \"{api}\"\n"
        );
        let file = folder.path().join("garage.toml");
        fs::write(&file, settings).expect("a file of settings");
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(target.join("garage/bin/garage")).arg("-c").arg(file);
        command.args(["server", "--single-node", "--default-bucket"]).env("RUST_LOG", "garage=info");
        let [key, secret] = Garage::CREDENTIALS;
        command.env("GARAGE_DEFAULT_ACCESS_KEY", key).env("GARAGE_DEFAULT_SECRET_KEY", secret);
        command.env("GARAGE_DEFAULT_BUCKET", Garage::BUCKET);
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

//! A server of S3's protocol in the process of a test: objects lie in a directory, requests come over a socket, and
//! answers go wrong where a test asks for it. Knows nothing of who asks.

mod faults;

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use s3s::Body;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;

pub use faults::{Counts, Fault, Faults};

/// See the crate. It ends when this is dropped.
#[derive(Debug)]
pub struct S3 {
    endpoint: String,
    faults: Arc<Faults>,
    runtime: Option<Runtime>,
    dir: TempDir,
}

impl S3 {
    /// The one bucket that is there.
    pub const BUCKET: &str = "bucket";
    /// The name and the secret of the one who may use it.
    pub const CREDENTIALS: [&str; 2] = ["key", "secret"];

    /// Starts a server with an empty bucket.
    ///
    /// # Panics
    /// If there is no port or no directory for it.
    pub fn start() -> S3 {
        let dir = tempfile::tempdir().expect("a directory");
        fs::create_dir(dir.path().join(S3::BUCKET)).expect("a bucket");
        let mut builder = S3ServiceBuilder::new(s3s_fs::FileSystem::new(dir.path()).expect("a file system"));
        let [key, secret] = S3::CREDENTIALS;
        builder.set_auth(SimpleAuth::from_single(key, secret));
        let service = builder.build();
        let runtime = Runtime::new().expect("a runtime");
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.set_nonblocking(true).expect("a listener");
        let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
        let faults = Arc::<Faults>::default();
        runtime.spawn(accept(listener, service, faults.clone()));
        S3 { endpoint, faults, runtime: Some(runtime), dir }
    }

    /// Where it listens, as `http://HOST:PORT`.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// What goes wrong, and what was asked.
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// The files of all objects.
    pub fn objects(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut folders = vec![self.dir.path().join(S3::BUCKET)];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                let path = entry.path();
                let objects = if path.is_dir() { &mut folders } else { &mut found };
                objects.push(path);
            }
        }
        found.sort();
        found
    }

    /// The folder of the objects below `prefix`.
    pub fn folder(&self, prefix: &str) -> PathBuf {
        self.dir.path().join(S3::BUCKET).join(prefix)
    }

    /// Settings of a node that keeps its objects below `prefix`, as flags.
    pub fn flags(&self, prefix: &str) -> Vec<String> {
        flags([&self.endpoint, S3::BUCKET, "eu-central-1"], prefix)
    }

    /// The variables that tell a process who it is.
    pub fn env() -> Vec<(String, String)> {
        env(S3::CREDENTIALS)
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        // Does not wait: that is not allowed in a task, where a test may drop it.
        self.runtime.take().into_iter().for_each(Runtime::shutdown_background);
    }
}

/// Settings of a node that keeps its objects below `prefix` in a bucket of any server of the protocol, as flags.
pub fn flags([endpoint, bucket, region]: [&str; 3], prefix: &str) -> Vec<String> {
    let place = format!("s3://{bucket}/{prefix}");
    let flags = [
        ["--store", &place],
        ["--store-endpoint", endpoint],
        ["--store-region", region],
        ["--store-path-style", "true"],
    ];
    flags.as_flattened().iter().map(|flag| (*flag).to_owned()).collect()
}

/// The variables that tell a process who it is, by the name and the secret.
pub fn env(credentials: [&str; 2]) -> Vec<(String, String)> {
    let names = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"];
    names.into_iter().zip(credentials).map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

async fn accept(listener: std::net::TcpListener, service: S3Service, faults: Arc<Faults>) {
    let listener = TcpListener::from_std(listener).expect("a listener in a runtime");
    while let Ok((socket, _)) = listener.accept().await {
        tokio::spawn(serve(socket, service.clone(), faults.clone()));
    }
}

/// Serves one connection. It ends where a fault wants that.
async fn serve(socket: TcpStream, service: S3Service, faults: Arc<Faults>) {
    let respond = service_fn(move |request: http::Request<Incoming>| {
        let (service, faults) = (service.clone(), faults.clone());
        async move { faults.pass(request, |request| async move { service.call(request.map(Body::from)).await }).await }
    });
    drop(auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(socket), respond).await);
}

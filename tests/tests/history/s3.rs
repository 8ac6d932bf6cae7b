//! A server of S3's protocol in this process, which can be away.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

const BUCKET: &str = "history";
const KEY: &str = "key";
const SECRET: &str = "secret";

/// See the module.
pub(crate) struct S3 {
    endpoint: String,
    away: Arc<AtomicBool>,
    _runtime: Runtime,
    dir: TempDir,
}

impl S3 {
    pub(crate) fn start() -> S3 {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::create_dir(dir.path().join(BUCKET)).expect("a bucket");
        let mut builder = S3ServiceBuilder::new(s3s_fs::FileSystem::new(dir.path()).expect("a file system"));
        builder.set_auth(SimpleAuth::from_single(KEY, SECRET));
        let service = builder.build();
        let runtime = Runtime::new().expect("a runtime");
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a port");
        let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
        let away = Arc::<AtomicBool>::default();
        let is_away = away.clone();
        runtime.spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (service, is_away) = (service.clone(), is_away.clone());
                tokio::spawn(async move {
                    // Connections last for one request, so none outlives the moment when it goes away.
                    if !is_away.load(Ordering::Relaxed) {
                        let mut server = auto::Builder::new(TokioExecutor::new());
                        server.http1().keep_alive(false);
                        drop(server.serve_connection(TokioIo::new(socket), service).await);
                    }
                });
            }
        });
        S3 { endpoint, away, _runtime: runtime, dir }
    }

    /// Cuts off whoever connects from now on, or serves again.
    pub(crate) fn set_away(&self, away: bool) {
        self.away.store(away, Ordering::Relaxed);
    }

    /// Where the objects below this prefix lie, as files.
    pub(crate) fn folder(&self, prefix: &str) -> PathBuf {
        self.dir.path().join(BUCKET).join(prefix)
    }

    /// Flags of a node that uses it with this prefix.
    pub(crate) fn flags_at(&self, prefix: &str) -> Vec<String> {
        let bucket = format!("s3://{BUCKET}/{prefix}");
        let flags = [
            ["--store", &bucket],
            ["--store-endpoint", &self.endpoint],
            ["--store-region", "eu-central-1"],
            ["--store-path-style", "true"],
        ];
        flags.as_flattened().iter().map(|flag| (*flag).to_owned()).collect()
    }

    /// Variables of a node that uses it.
    pub(crate) fn env(&self) -> Vec<(String, String)> {
        [("AWS_ACCESS_KEY_ID", KEY), ("AWS_SECRET_ACCESS_KEY", SECRET)]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into()
    }
}

//! Where the objects of a node are, as its settings say.

use std::path::PathBuf;
use std::sync::Arc;

use ursula_cold::store::{DirectoryStore, Encryption, Name, S3Options, S3Store, Store};

use crate::config::NodeConfig;
use crate::node::Formation;

/// The folder of a data directory that is its [`NodeConfig::STORE_LOCAL`].
const LOCAL: &str = "store";

/// A place for objects.
#[derive(Debug)]
pub(crate) enum Place {
    /// A bucket.
    S3(S3Options),
    /// A directory, for a node that is alone.
    Directory(PathBuf),
}

impl Place {
    /// What the settings say, if they do.
    ///
    /// # Errors
    /// A sentence about what is wrong with them.
    pub(crate) fn of(config: &NodeConfig) -> Result<Option<Place>, String> {
        let encryption = encryption(config.store_encryption.as_deref())?;
        let Some(url) = config.store.as_deref().filter(|_| config.has_store()) else { return Ok(None) };
        if url == NodeConfig::STORE_LOCAL
            && let Some(dir) = &config.data_dir
        {
            return Ok(Some(Place::Directory(dir.join(LOCAL))));
        }
        if let Some(path) = url.strip_prefix("file://") {
            let path = PathBuf::from(path);
            return match path.is_absolute() {
                true => Ok(Some(Place::Directory(path))),
                false => Err(format!("store {url:?} must name a directory from the root on: file:///PATH")),
            };
        }
        let rule = || format!("store {url:?} must be s3://BUCKET, s3://BUCKET/PREFIX or file:///DIRECTORY");
        let rest = url.strip_prefix("s3://").ok_or_else(rule)?;
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let prefix = prefix.trim_end_matches('/');
        let name = |prefix: &str| Name::parse(prefix).map_err(|error| format!("the prefix in store: {error}"));
        if bucket.is_empty() {
            return Err(rule());
        }
        Ok(Some(Place::S3(S3Options {
            bucket: bucket.to_owned(),
            prefix: (!prefix.is_empty()).then(|| name(prefix)).transpose()?,
            endpoint: config.store_endpoint.clone(),
            region: config.store_region.clone(),
            path_style: config.store_path_style,
            encryption,
        })))
    }

    /// The store of a node, if it has one. Whoever opens it has the data directory, which may have the store, for itself.
    ///
    /// # Errors
    /// A sentence about what is wrong, and what to do.
    pub(crate) async fn open(config: &NodeConfig, formation: Formation) -> Result<Option<Arc<dyn Store>>, String> {
        Ok(match Place::of(config)? {
            None => None,
            // The SDK reads files, and asks the machine who it is.
            Some(Place::S3(options)) => Some(Arc::new(Box::pin(S3Store::new(options)).await)),
            Some(Place::Directory(path)) if formation == Formation::Member => {
                return Err(format!(
                    "store is the directory {}, which the other nodes of a cluster do not have: set store to \
                     s3://BUCKET/PREFIX, or to nothing",
                    path.display()
                ));
            }
            Some(Place::Directory(path)) => {
                let failed = |error| format!("cannot keep objects in {}: {error}", path.display());
                Some(Arc::new(DirectoryStore::open(&path).map_err(failed)?))
            }
        })
    }
}

fn encryption(text: Option<&str>) -> Result<Encryption, String> {
    match text {
        None => Ok(Encryption::OfBucket),
        Some("sse-s3") => Ok(Encryption::S3),
        Some("sse-kms") => Ok(Encryption::Kms(None)),
        Some(text) => match text.strip_prefix("sse-kms:").filter(|key| !key.is_empty()) {
            Some(key) => Ok(Encryption::Kms(Some(key.to_owned()))),
            None => Err(format!("store_encryption {text:?} must be sse-s3, sse-kms or sse-kms:KEY")),
        },
    }
}

#[cfg(test)]
mod tests;

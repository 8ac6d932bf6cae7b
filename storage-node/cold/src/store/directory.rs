//! Objects as files of a directory, for a single node without S3. Whoever has the directory has the objects, and
//! whoever loses its disk loses them.
//!
//! A file is written under a name of its own, synced, and then linked to the name of the object, which
//! fails if there is one: an object is there whole or not at all.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write as _};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _};

use super::memory::ends_early;
use super::{Answer, Body, LISTED_MAX, Listed, Name, Put, Store, StoreError};

/// Below the directory: files that are being written.
const UNFINISHED: &str = ".unfinished";

/// What is read at a time of a range that need not be in memory as a whole.
const PIECE_BYTES: u64 = 256 << 10;

/// A store in a directory. Cheap to clone.
#[derive(Debug, Clone)]
pub struct DirectoryStore(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    unfinished: AtomicU64,
    /// Below the directory: those that are known to be on disk. There are a few for each group.
    folders: Mutex<BTreeSet<PathBuf>>,
}

impl DirectoryStore {
    /// The store in a directory that one process has for itself; it is made if need be.
    ///
    /// # Errors
    /// If the directory cannot be used.
    pub fn open(root: impl Into<PathBuf>) -> io::Result<DirectoryStore> {
        let root = root.into();
        make_synced(&root)?;
        let unfinished = root.join(UNFINISHED);
        match fs::remove_dir_all(&unfinished) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        fs::create_dir(&unfinished)?;
        Ok(DirectoryStore::at(root))
    }

    /// The store in a directory that another process may have: nothing in it is changed by this.
    ///
    /// # Errors
    /// If there is no such directory.
    pub fn beside(root: impl Into<PathBuf>) -> io::Result<DirectoryStore> {
        let root = root.into();
        fs::read_dir(&root)?;
        Ok(DirectoryStore::at(root))
    }

    fn at(root: PathBuf) -> DirectoryStore {
        DirectoryStore(Arc::new(Inner { root, unfinished: AtomicU64::new(0), folders: Mutex::default() }))
    }

    fn path(&self, name: &Name) -> PathBuf {
        self.0.root.join(name.as_str())
    }

    /// Runs what blocks outside of the thread that asks.
    fn blocking<'a, T: Send + 'static>(
        &self,
        name: &'a Name,
        work: impl FnOnce(&DirectoryStore, &Name) -> io::Result<T> + Send + 'static,
    ) -> Answer<'a, T> {
        let store = self.clone();
        Box::pin(async move {
            let own = name.clone();
            let done = tokio::task::spawn_blocking(move || work(&store, &own)).await;
            done.map_err(io::Error::other).flatten().map_err(|error| explain(name, &error))
        })
    }

    fn write(&self, name: &Name, body: &[u8]) -> io::Result<Put> {
        let path = self.path(name);
        let number = self.0.unfinished.fetch_add(1, Ordering::Relaxed);
        let unfinished = self.0.root.join(UNFINISHED).join(number.to_string());
        let outcome = write_synced(&unfinished, body).and_then(|()| self.link(&unfinished, &path));
        // What is left after an error goes when the store is opened again.
        drop(fs::remove_file(&unfinished));
        outcome
    }

    fn link(&self, unfinished: &Path, path: &Path) -> io::Result<Put> {
        let folder = path.parent().unwrap_or(&self.0.root);
        self.make_folder(folder)?;
        let put = match fs::hard_link(unfinished, path) {
            Ok(()) => Put::Stored,
            // Whoever put it there may not have come as far as to sync its name.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Put::Exists,
            Err(error) => return Err(error),
        };
        sync_dir(folder).map(|()| put)
    }

    /// Makes a folder and those above it, so that none of them is lost with the power.
    fn make_folder(&self, folder: &Path) -> io::Result<()> {
        let is_known = |folder| self.0.folders.lock().unwrap_or_else(PoisonError::into_inner).contains(folder);
        if folder == self.0.root || is_known(folder) {
            return Ok(());
        }
        self.make_folder(folder.parent().unwrap_or(&self.0.root))?;
        // That it is there does not mean that it was synced.
        make_synced(folder)?;
        self.0.folders.lock().unwrap_or_else(PoisonError::into_inner).insert(folder.to_owned());
        Ok(())
    }

    fn list_below(&self, folder: &Name, after: Option<&Name>) -> io::Result<Vec<Listed>> {
        let mut found = Vec::new();
        collect(&self.path(folder), folder, &mut found)?;
        found.retain(|listed| after.is_none_or(|after| listed.name > *after));
        found.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        found.truncate(LISTED_MAX);
        Ok(found)
    }
}

impl Store for DirectoryStore {
    fn put<'a>(&'a self, name: &'a Name, body: Bytes) -> Answer<'a, Put> {
        self.blocking(name, move |store, name| store.write(name, &body))
    }

    fn get<'a>(&'a self, name: &'a Name, range: Range<u64>) -> Answer<'a, Bytes> {
        let wanted = range.clone();
        let read = self.blocking(name, move |store, name| {
            let file = File::open(store.path(name))?;
            let bytes = file.metadata()?.len();
            if wanted.end > bytes {
                return Ok(Err(bytes));
            }
            let mut body = vec![0; (wanted.end - wanted.start) as usize];
            file.read_exact_at(&mut body, wanted.start)?;
            Ok(Ok(Bytes::from(body)))
        });
        Box::pin(async move { read.await?.map_err(|bytes| ends_early(name, bytes, &range)) })
    }

    fn stream<'a>(&'a self, name: &'a Name, range: Range<u64>) -> Answer<'a, Body<'a>> {
        Box::pin(async move {
            let bytes = self.size(name).await?;
            if range.end > bytes {
                return Err(ends_early(name, bytes, &range));
            }
            let pieces = stream::try_unfold(range.start, move |at| async move {
                let end = range.end.min(at + PIECE_BYTES);
                if at == end {
                    return Ok(None);
                }
                Ok(Some((self.get(name, at..end).await?, end)))
            });
            Ok(pieces.boxed())
        })
    }

    fn size<'a>(&'a self, name: &'a Name) -> Answer<'a, u64> {
        self.blocking(name, |store, name| Ok(fs::metadata(store.path(name))?.len()))
    }

    fn delete<'a>(&'a self, name: &'a Name) -> Answer<'a, ()> {
        self.blocking(name, |store, name| {
            let path = store.path(name);
            match fs::remove_file(&path) {
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
                Err(error) => Err(error),
                Ok(()) => sync_dir(path.parent().unwrap_or(&store.0.root)),
            }
        })
    }

    fn list<'a>(&'a self, folder: &'a Name, after: Option<&'a Name>) -> Answer<'a, Vec<Listed>> {
        let after = after.cloned();
        self.blocking(folder, move |store, folder| store.list_below(folder, after.as_ref()))
    }
}

fn write_synced(path: &Path, body: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(body)?;
    file.sync_all()
}

/// Makes a directory and those above it, as far as they are not there.
fn make_synced(dir: &Path) -> io::Result<()> {
    let Some(above) = dir.parent() else { return Ok(()) };
    let mut made = fs::create_dir(dir);
    if made.as_ref().is_err_and(|error| error.kind() == ErrorKind::NotFound) {
        make_synced(above)?;
        made = fs::create_dir(dir);
    }
    if let Err(error) = made.as_ref()
        && error.kind() != ErrorKind::AlreadyExists
    {
        return made;
    }
    // A name without a folder before it lies in the one where the process is.
    match sync_dir(if above.as_os_str().is_empty() { Path::new(".") } else { above }) {
        // Whoever made it for us did not let us see what lies beside it.
        Err(error) if error.kind() == ErrorKind::PermissionDenied && made.is_err() => Ok(()),
        synced => synced,
    }
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// All objects below a folder. What is no object is left out.
fn collect(path: &Path, folder: &Name, found: &mut Vec<Listed>) -> io::Result<()> {
    let entries = match fs::read_dir(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let Some(Ok(name)) = entry.file_name().to_str().map(|part| Name::parse(format!("{folder}/{part}"))) else {
            continue;
        };
        match entry.metadata() {
            Ok(data) if data.is_dir() => collect(&entry.path(), &name, found)?,
            Ok(data) => found.push(Listed { name, bytes: data.len() }),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn explain(name: &Name, error: &io::Error) -> StoreError {
    match error.kind() {
        ErrorKind::NotFound => StoreError::NotFound(name.clone()),
        ErrorKind::PermissionDenied => StoreError::Denied(error.to_string()),
        _ => StoreError::Unavailable(error.to_string()),
    }
}

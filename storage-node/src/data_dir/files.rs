//! Small files that are read and written whole.

use std::io;
use std::path::Path;
use std::sync::Arc;

use ursula_wal::{File, Io};

pub(super) fn temporary(name: &str) -> String {
    format!("{name}.new")
}

/// Opens a file, if it is there.
pub(super) fn open(io: &dyn Io, path: &Path) -> io::Result<Option<Arc<dyn File>>> {
    match io.open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Reads a file, if it is there.
pub(super) fn read(io: &dyn Io, path: &Path) -> io::Result<Option<Vec<u8>>> {
    open(io, path)?.map(|file| read_all(&*file)).transpose()
}

/// The bytes of a file.
pub(crate) fn read_all(file: &dyn File) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(file.len()?).map_err(io::Error::other)?];
    file.read_at(&mut bytes, 0)?;
    Ok(bytes)
}

/// Removes a file, if it is there.
pub(super) fn remove(io: &dyn Io, path: &Path) -> io::Result<()> {
    match io.remove(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Writes a file so that it is there whole, or as it was before.
pub(super) fn write(io: &dyn Io, dir: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    write_parts(io, dir, name, |put| put(bytes)).map(drop)
}

/// The same for bytes that come in parts. Returns how many there were.
pub(super) fn write_parts(
    io: &dyn Io,
    dir: &Path,
    name: &str,
    give: impl FnOnce(&mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()>,
) -> io::Result<u64> {
    let new = dir.join(temporary(name));
    remove(io, &new)?;
    let file = io.create(&new)?;
    let mut len = 0;
    give(&mut |bytes| {
        file.write_at(bytes, len)?;
        len += bytes.len() as u64;
        Ok(())
    })?;
    file.sync_data()?;
    io.rename(&new, &dir.join(name))?;
    io.sync_dir(dir)?;
    Ok(len)
}

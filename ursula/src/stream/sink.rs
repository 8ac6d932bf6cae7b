//! Where content goes: to standard output, as it is. Nobody may be reading any more, which ends a command without a word.

use std::cell::RefCell;
use std::io::ErrorKind;

use serde_json::value::RawValue;
use tokio::io::{AsyncWriteExt, Stdout, stdout};

use crate::cluster::failure::{End, Failure};

/// See the module.
pub(crate) struct Sink(RefCell<Option<Stdout>>);

impl Sink {
    pub(crate) fn new() -> Sink {
        Sink(RefCell::new(Some(stdout())))
    }

    /// Writes bytes; when this returns the system has them.
    ///
    /// # Errors
    /// If nobody takes them.
    pub(crate) async fn write(&self, bytes: &[u8]) -> Result<(), Failure> {
        if bytes.is_empty() {
            return Ok(());
        }
        // Nobody else is in here meanwhile: a command does one thing after the other.
        let mut out = self.0.take().unwrap_or_else(stdout);
        let written = async {
            out.write_all(bytes).await?;
            out.flush().await
        }
        .await;
        self.0.replace(Some(out));
        written.map_err(|error| match error.kind() {
            ErrorKind::BrokenPipe => Failure::of(End::Unread, ""),
            _ => Failure::refused(format!("standard output cannot be written: {error}")),
        })
    }
}

/// The messages of a JSON array, each on a line of its own and otherwise as it was sent.
///
/// # Errors
/// If it is none.
pub(super) fn lines_of(array: &[u8]) -> Result<Vec<u8>, Failure> {
    let messages: Vec<&RawValue> = serde_json::from_slice(array)
        .map_err(|error| Failure::refused(format!("the server sent something else than a JSON array: {error}")))?;
    let mut lines = Vec::with_capacity(array.len() + 1);
    for message in messages {
        // Within a message an end of line is mere space: in strings it is escaped.
        lines.extend(message.get().bytes().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { byte }));
        lines.push(b'\n');
    }
    Ok(lines)
}

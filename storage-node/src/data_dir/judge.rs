//! What is looked at before anything in a directory is changed, beside the log's own judgement.

use std::io;
use std::path::Path;

use ursula_common::GroupId;
use ursula_wal::{Damage, Io, Recovered, RecoveredGroup};

use super::identity::{Identity, Standing};
use super::{DataDirError, LOG, checkpoints, read_all};
use crate::checkpoint;
use crate::node::Formation;

/// Whether this version can read the checkpoints. One that is damaged concerns its group alone, unless there are no
/// other replicas.
pub(super) fn checkpoint_files(io: &dyn Io, path: &Path, formation: Formation) -> Result<(), DataDirError> {
    let dir = path.join(checkpoints::DIR);
    let failed = |error| DataDirError::Io { path: dir.display().to_string(), error };
    let names = match io.list(&dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        names => names.map_err(failed)?,
    };
    // Others are on their way, and go if they are not needed.
    for name in names.into_iter().filter(|name| !name.contains('.')) {
        let path = dir.join(&name);
        let file = io.open(&path).map_err(failed)?;
        let mut magic = [0; 8];
        let begins = file.len().map_err(failed)? >= magic.len() as u64;
        if begins {
            file.read_at(&mut magic, 0).map_err(failed)?;
        }
        let path = || path.display().to_string();
        if let Some(found) = checkpoint::other_version(magic) {
            return Err(DataDirError::NewerCheckpoint { path: path(), found });
        }
        if formation == Formation::Alone {
            let bytes = read_all(&*file).map_err(failed)?;
            let damaged = |error: io::Error| DataDirError::Checkpoint { path: path(), reason: error.to_string() };
            checkpoint::check(bytes.into()).map_err(damaged)?;
        }
    }
    Ok(())
}

/// Whether the log of a node that had one is there at all.
pub(super) fn log_is_there(io: &dyn Io, path: &Path, identity: &Identity) -> Result<(), DataDirError> {
    let log = path.join(LOG);
    match io.list(&log) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && identity.standing == Standing::Member => {
            Err(DataDirError::NoLog { path: log.display().to_string() })
        }
        _ => Ok(()),
    }
}

/// What speaks against a log whose files are fine, one by one.
pub(super) fn log(identity: &Identity, formation: Formation, found: &Recovered) -> Option<String> {
    let is_there = |group: &RecoveredGroup| group.vote.is_some() || group.purged.is_some() || !group.entries.is_empty();
    let meta = found.groups.get(&GroupId::META);
    if identity.standing == Standing::Member && !meta.is_some_and(|meta| is_there(meta) || meta.damage.is_some()) {
        let cluster = identity.cluster.as_deref().unwrap_or_default();
        return Some(format!(
            "it holds nothing of the meta group, although the node is a member of cluster {cluster}: files are missing. \
             Restore them, or put a new node in the place of this one (`ursula cluster replace-node`)"
        ));
    }
    let damaged = |(group, found): (&GroupId, &RecoveredGroup)| found.damage.map(|damage| (*group, damage));
    let (group, Damage { segment, at, .. }) = found.groups.iter().find_map(damaged)?;
    (formation == Formation::Alone).then(|| {
        format!(
            "{segment}.log is damaged at byte {at}, and group {group} needs it: restore the file. There is no other copy; \
             `ursula log dump` shows what can still be read"
        )
    })
}

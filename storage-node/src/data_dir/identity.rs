//! Whose directory it is: the node, and the cluster it belongs to. Drawn once, and never changed but by joining and
//! leaving.

use std::io;
use std::path::Path;
use std::sync::PoisonError;

use serde::{Deserialize, Serialize};
use ursula_common::GroupId;

use super::{DataDir, DataDirError, files};
use crate::config::NodeConfig;
use crate::node::Formation;

/// Persisted: the version of the layout of the directory.
pub(super) const FORMAT: u32 = 1;
pub(super) const FILE: &str = "identity.toml";
/// Before the checksum, which is the last line: eight hexadecimal digits of the CRC32C of all lines before it.
const CHECKSUM: &str = "checksum = ";

/// Whose directory it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Identity {
    pub(super) format: u32,
    /// The number of the node in its cluster.
    pub(crate) node_id: u64,
    /// Drawn when the directory was made: another directory is another node, whatever its number.
    #[serde(with = "hex")]
    pub(crate) incarnation: u64,
    /// Groups that hold streams, in the whole cluster.
    pub(crate) groups: u32,
    pub(super) standing: Standing,
    /// Whether the node is a cluster of its own, within one process.
    pub(super) alone: bool,
    /// The cluster, once the node belongs to one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cluster: Option<String>,
    /// Groups whose replica here was forgotten.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    forgotten: Vec<Forgotten>,
}

/// How far the log of a group went, by the leader that let this node go, when the replica here was forgotten. What that
/// had acknowledged lies before it, so a new replica votes and stands for nothing until its log is as long again: else
/// one that never heard of the change could lead with its vote, and without what was acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Forgotten {
    pub(crate) group: u32,
    /// The term of that leader.
    pub(crate) term: u64,
    /// The last entry of its log.
    pub(crate) last: u64,
}

/// What the node is in its cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Standing {
    /// It belongs to none.
    Unclaimed,
    /// It belongs to one, of which it may not have heard yet.
    Claimed,
    /// It has applied what the meta group says, so its log has something of that group.
    Member,
    /// It was taken out for ever.
    Removed,
}

impl DataDir {
    /// Whose directory it is.
    pub(crate) fn identity(&self) -> Identity {
        self.0.identity.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Makes the node a member of a cluster, for ever.
    ///
    /// # Errors
    /// If it belongs to another one, or the directory cannot be written.
    pub(crate) fn join(&self, cluster: &str, alone: bool) -> io::Result<()> {
        self.change_identity(|identity| match &identity.cluster {
            Some(known) if known == cluster => Ok(()),
            Some(known) => Err(io::Error::other(format!("this node belongs to the cluster {known}"))),
            None => {
                (identity.cluster, identity.alone) = (Some(cluster.to_owned()), alone);
                identity.standing = Standing::Claimed;
                Ok(())
            }
        })
    }

    /// Notes what the node is in its cluster; it never goes back.
    ///
    /// # Errors
    /// If the directory cannot be written.
    pub(crate) fn stand(&self, standing: Standing) -> io::Result<()> {
        self.change_identity(|identity| {
            identity.standing = identity.standing.max(standing);
            Ok(())
        })
    }

    /// Notes, before the replica of a group is forgotten, what a new one has to have.
    ///
    /// # Errors
    /// If the directory cannot be written.
    pub(crate) fn note_forgotten(&self, forgotten: Forgotten) -> io::Result<()> {
        self.change_identity(|identity| {
            identity.forgotten.retain(|other| other.group != forgotten.group);
            identity.forgotten.push(forgotten);
            Ok(())
        })
    }

    /// What a replica of a group has to have before it votes, if one was forgotten here.
    pub(crate) fn forgotten(&self, group: GroupId) -> Option<Forgotten> {
        self.identity().forgotten.into_iter().find(|forgotten| forgotten.group == group.0)
    }

    fn change_identity(&self, change: impl FnOnce(&mut Identity) -> io::Result<()>) -> io::Result<()> {
        let mut identity = self.0.identity.lock().unwrap_or_else(PoisonError::into_inner);
        let mut changed = identity.clone();
        change(&mut changed)?;
        if changed != *identity {
            files::write(&*self.0.io, &self.0.path, FILE, changed.to_toml().as_bytes())?;
            *identity = changed;
        }
        Ok(())
    }
}

impl Identity {
    pub(super) fn new(config: &NodeConfig, incarnation: u64) -> Identity {
        Identity {
            format: FORMAT,
            node_id: config.node_id,
            incarnation,
            groups: config.groups,
            standing: Standing::Unclaimed,
            alone: false,
            cluster: None,
            forgotten: Vec::new(),
        }
    }

    pub(super) fn parse(bytes: &[u8], path: &Path) -> Result<Identity, DataDirError> {
        #[derive(Deserialize)]
        struct Version {
            format: u32,
        }
        let name = || path.display().to_string();
        let unclear = |reason: String| DataDirError::Identity { path: name(), reason };
        let text = std::str::from_utf8(bytes).map_err(|error| unclear(error.to_string()))?;
        let Version { format } = toml::from_str(text).map_err(|error| unclear(error.message().to_owned()))?;
        // A later version may have another checksum, so it cannot be asked for first.
        if format != FORMAT {
            return Err(DataDirError::Format { path: name(), found: format });
        }
        let lines = text.rfind(CHECKSUM).map_or(text, |at| &text[..at]);
        if text.strip_prefix(lines) != Some(&checksum(lines)) {
            return Err(unclear("its checksum is wrong".to_owned()));
        }
        toml::from_str(lines).map_err(|error| unclear(error.message().to_owned()))
    }

    pub(super) fn check(&self, config: &NodeConfig, formation: Formation, path: &Path) -> Result<(), DataDirError> {
        let path = path.display().to_string();
        if self.node_id != config.node_id {
            return Err(DataDirError::OtherNode { path, stored: self.node_id, configured: config.node_id });
        }
        if self.groups != config.groups {
            return Err(DataDirError::OtherGroups { path, stored: self.groups, configured: config.groups });
        }
        let cluster = self.cluster.clone().unwrap_or_default();
        match (self.standing, formation) {
            (Standing::Removed, _) => Err(DataDirError::Removed { path, cluster }),
            (Standing::Unclaimed, _) => Ok(()),
            (_, Formation::Alone) if !self.alone => Err(DataDirError::OfSeveral { path, cluster }),
            (_, Formation::Member) if self.alone => Err(DataDirError::OfOne { path }),
            (Standing::Claimed | Standing::Member, Formation::Alone | Formation::Member) => Ok(()),
        }
    }

    pub(super) fn to_toml(&self) -> String {
        let lines = toml::to_string(self).expect("invariant: an identity is plain values");
        let checksum = checksum(&lines);
        lines + &checksum
    }
}

pub(super) fn checksum(lines: &str) -> String {
    format!("{CHECKSUM}\"{:08x}\"\n", crc32c::crc32c(lines.as_bytes()))
}

/// Numbers of 64 bits do not fit the integers of TOML.
pub(super) mod hex {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(in crate::data_dir) fn serialize<S: Serializer>(number: &u64, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&format!("{number:016x}"))
    }

    pub(in crate::data_dir) fn deserialize<'a, D: Deserializer<'a>>(from: D) -> Result<u64, D::Error> {
        u64::from_str_radix(&String::deserialize(from)?, 16).map_err(serde::de::Error::custom)
    }
}

//! Whose directory it is: the node, and the cluster it belongs to. Drawn once, and never changed but by joining.

use std::io;
use std::path::Path;
use std::sync::PoisonError;

use serde::{Deserialize, Serialize};

use super::{DataDir, DataDirError, files};
use crate::config::NodeConfig;

/// Persisted: the version of the layout of the directory.
pub(super) const FORMAT: u32 = 1;
pub(super) const FILE: &str = "identity.toml";

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
    /// The cluster, once the node belongs to one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cluster: Option<String>,
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
    pub(crate) fn join(&self, cluster: &str) -> io::Result<()> {
        let mut identity = self.0.identity.lock().unwrap_or_else(PoisonError::into_inner);
        match &identity.cluster {
            Some(known) if known == cluster => Ok(()),
            Some(known) => Err(io::Error::other(format!("this node belongs to the cluster {known}"))),
            None => {
                let joined = Identity { cluster: Some(cluster.to_owned()), ..identity.clone() };
                files::write(&*self.0.io, &self.0.path, FILE, joined.to_toml().as_bytes())?;
                *identity = joined;
                Ok(())
            }
        }
    }
}

impl Identity {
    pub(super) fn new(config: &NodeConfig, incarnation: u64) -> Identity {
        Identity { format: FORMAT, node_id: config.node_id, incarnation, groups: config.groups, cluster: None }
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
        if format != FORMAT {
            return Err(DataDirError::Format { path: name(), found: format });
        }
        toml::from_str(text).map_err(|error| unclear(error.message().to_owned()))
    }

    pub(super) fn check(&self, config: &NodeConfig, path: &Path) -> Result<(), DataDirError> {
        let path = path.display().to_string();
        if self.node_id != config.node_id {
            return Err(DataDirError::OtherNode { path, stored: self.node_id, configured: config.node_id });
        }
        if self.groups != config.groups {
            return Err(DataDirError::OtherGroups { path, stored: self.groups, configured: config.groups });
        }
        Ok(())
    }

    pub(super) fn to_toml(&self) -> String {
        toml::to_string(self).expect("invariant: an identity is plain values")
    }
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

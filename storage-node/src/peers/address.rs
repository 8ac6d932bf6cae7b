//! Where a node is, and which data directory is expected there.

use std::fmt;
use std::sync::Arc;

use ursula_proto::NodeChannel;

use crate::platform;

type Connect = dyn Fn() -> Option<NodeChannel> + Send + Sync;

/// See the module. Cheap to clone.
#[derive(Clone)]
pub(crate) struct PeerAddress {
    name: Arc<str>,
    incarnation: u64,
    connect: Arc<Connect>,
}

impl PeerAddress {
    /// A node that listens on `address` (`host:port`).
    ///
    /// # Errors
    /// If `address` is not a host and a port.
    pub(crate) fn remote(
        address: &str,
        incarnation: u64,
        connect: Arc<platform::Connect>,
    ) -> std::io::Result<PeerAddress> {
        ursula_proto::check_address(address).map_err(std::io::Error::other)?;
        let name: Arc<str> = address.into();
        let to = name.clone();
        Ok(PeerAddress { name, incarnation, connect: Arc::new(move || connect(&to).ok()) })
    }

    /// A node in this process; `name` tells it from others.
    pub(crate) fn local(name: &str, channel: NodeChannel, incarnation: u64) -> PeerAddress {
        PeerAddress { name: name.into(), incarnation, connect: Arc::new(move || Some(channel.clone())) }
    }

    /// The data directory that is expected there.
    pub(crate) fn incarnation(&self) -> u64 {
        self.incarnation
    }

    /// A connection of its own. Needs a runtime with I/O.
    pub(super) fn connect(&self) -> Option<NodeChannel> {
        (self.connect)()
    }
}

/// Whether it is the same place with the same data directory.
impl PartialEq for PeerAddress {
    fn eq(&self, other: &PeerAddress) -> bool {
        (&self.name, self.incarnation) == (&other.name, other.incarnation)
    }
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.name.fmt(f)
    }
}

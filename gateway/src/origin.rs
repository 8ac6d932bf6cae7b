//! Where a request came from: what proxies say of their clients is believed if they are trusted.

use std::net::IpAddr;

use http::{HeaderMap, HeaderName};
use ipnet::IpNet;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Who is at the other end of a connection, or was at the other end of that of a trusted proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Peer(pub(crate) IpAddr);

/// The addresses from which proxies reach this gateway.
#[derive(Debug, Clone, Default)]
pub(crate) struct Trusted(Vec<IpNet>);

impl Trusted {
    /// Each is an address, or a network such as `10.0.0.0/8`.
    ///
    /// # Errors
    /// The first that is neither.
    pub(crate) fn parse(networks: &[String]) -> Result<Trusted, String> {
        let parse = |text: &String| {
            let network = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
            network.map_err(|_| format!("trusted_proxies: {text} is no address and no network such as 10.0.0.0/8"))
        };
        networks.iter().map(parse).collect::<Result<_, _>>().map(Trusted)
    }

    /// Whether a proxy has this address.
    pub(crate) fn trusts(&self, address: IpAddr) -> bool {
        // A socket of both families shows addresses of the old one in the form of the new one.
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }

    /// The address of the client: the last in `X-Forwarded-For` that is not a proxy's, if a proxy sent this.
    pub(crate) fn client(&self, peer: Peer, headers: &HeaderMap) -> IpAddr {
        let lists = headers.get_all(FORWARDED_FOR).into_iter().rev().filter_map(|list| list.to_str().ok());
        let mut named = lists.flat_map(|list| list.rsplit(','));
        let mut client = peer.0.to_canonical();
        while self.trusts(client)
            && let Some(Ok(before)) = named.next().map(|address| address.trim().parse::<IpAddr>())
        {
            client = before.to_canonical();
        }
        client
    }

    /// The scheme of the URL that the client asked for, if a trusted proxy tells.
    pub(crate) fn scheme<'a>(&self, peer: Option<Peer>, headers: &'a HeaderMap) -> Option<&'a str> {
        let told = headers.get(FORWARDED_PROTO)?.to_str().ok()?;
        let is_trusted = peer.is_some_and(|Peer(address)| self.trusts(address));
        (is_trusted && matches!(told, "http" | "https")).then_some(told)
    }
}

#[cfg(test)]
mod tests;

//! The header of the PROXY protocol, versions 1 and 2, with which a load balancer begins a connection: it says who is at the
//! other end of its own. <https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>

use std::io::{self, ErrorKind};
use std::net::IpAddr;
use std::time::Duration;

use ppp::{HeaderResult, PartialResult, v1, v2};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

/// No header is longer; those of version 2 may carry more than addresses.
const HEADER_BYTES_MAX: usize = 4096;
/// Between two looks at a header that has come in part: senders send it at once.
const LOOK_PAUSE: Duration = Duration::from_millis(1);

/// Takes the header from the beginning of a connection. `None` if it says that the proxy speaks for itself.
///
/// # Errors
/// If there is none, it cannot be understood, or it does not come in `time`.
pub(super) async fn take(socket: &mut TcpStream, time: Duration) -> io::Result<Option<IpAddr>> {
    timeout(time, take_whole(socket)).await.map_err(|_| io::Error::from(ErrorKind::TimedOut))?
}

async fn take_whole(socket: &mut TcpStream) -> io::Result<Option<IpAddr>> {
    let mut bytes = vec![0; HEADER_BYTES_MAX];
    let mut seen = 0;
    loop {
        let there = socket.peek(&mut bytes).await?;
        if there == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        if there == seen {
            sleep(LOOK_PAUSE).await;
            continue;
        }
        seen = there;
        let header = HeaderResult::parse(&bytes[..there]);
        if header.is_incomplete() && there < HEADER_BYTES_MAX {
            continue;
        }
        let (len, source) = understood(header)?;
        socket.read_exact(&mut bytes[..len]).await?;
        return Ok(source);
    }
}

/// The length of a header, and the source that it names.
fn understood(header: HeaderResult<'_>) -> io::Result<(usize, Option<IpAddr>)> {
    let invalid = |error: &dyn std::fmt::Display| io::Error::new(ErrorKind::InvalidData, error.to_string());
    match header {
        HeaderResult::V1(header) => {
            let header = header.map_err(|error| invalid(&error))?;
            let source = match header.addresses {
                v1::Addresses::Tcp4(addresses) => Some(addresses.source_address.into()),
                v1::Addresses::Tcp6(addresses) => Some(addresses.source_address.into()),
                v1::Addresses::Unknown => None,
            };
            Ok((header.header.len(), source))
        }
        HeaderResult::V2(header) => {
            let header = header.map_err(|error| invalid(&error))?;
            let source = match header.addresses {
                v2::Addresses::IPv4(addresses) => Some(addresses.source_address.into()),
                v2::Addresses::IPv6(addresses) => Some(addresses.source_address.into()),
                v2::Addresses::Unix(_) | v2::Addresses::Unspecified => None,
            };
            Ok((header.len(), source.filter(|_| header.command == v2::Command::Proxy)))
        }
    }
}

#[cfg(test)]
mod tests;

//! Which process holds the other end of a connection on this machine, as `/proc` tells it. So a proxy can tell its
//! sources apart although all of them know one address, and the programs need not help.

use std::fs;
use std::net::{IpAddr, SocketAddr, TcpStream};

/// Which of `pids` has opened a connection that was accepted as `stream`; `None` if none of them has, any more.
pub fn owner(stream: &TcpStream, pids: &[u32]) -> Option<u32> {
    let (peer, here) = (stream.peer_addr().ok()?, stream.local_addr().ok()?);
    let socket = format!("socket:[{}]", inode(peer, here)?);
    pids.iter().copied().find(|pid| holds(*pid, &socket))
}

/// The inode of the socket whose local address is `local`.
fn inode(local: SocketAddr, remote: SocketAddr) -> Option<u64> {
    let (local, remote) = (kernel_form(local)?, kernel_form(remote)?);
    let table = fs::read_to_string("/proc/net/tcp").ok()?;
    table.lines().find_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let here = fields.next() == Some(&local) && fields.next() == Some(&remote);
        here.then(|| fields.nth(6)?.parse().ok())?
    })
}

/// An address as the kernel prints it.
fn kernel_form(address: SocketAddr) -> Option<String> {
    let IpAddr::V4(ip) = address.ip() else { return None };
    Some(format!("{:08X}:{:04X}", u32::from_ne_bytes(ip.octets()), address.port()))
}

fn holds(pid: u32, socket: &str) -> bool {
    let Ok(files) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    files.flatten().any(|file| fs::read_link(file.path()).is_ok_and(|target| target.as_os_str() == socket))
}

#[cfg(test)]
mod tests;

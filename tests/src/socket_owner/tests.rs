//! This process holds the other end of its own connections, and no other's.

use std::net::TcpListener;
use std::process;

use super::*;

#[test]
fn the_process_that_connected_is_found() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let connected = TcpStream::connect(listener.local_addr().expect("an address")).expect("a connection");
    let (accepted, _) = listener.accept().expect("a connection");
    assert_eq!(owner(&accepted, &[1, process::id()]), Some(process::id()));
    assert_eq!(owner(&accepted, &[]), None);
    drop(connected);
    assert_eq!(owner(&accepted, &[process::id()]), None, "nobody holds it any more");
}

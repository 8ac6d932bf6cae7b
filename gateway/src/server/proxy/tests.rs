//! Headers of load balancers, whole, in parts, and what is none.

use std::io::ErrorKind;
use std::net::IpAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::{HEADER_BYTES_MAX, take};

const TIME: Duration = Duration::from_secs(5);
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

async fn connection() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
    let client = TcpStream::connect(listener.local_addr().expect("an address")).await.expect("a connection");
    client.set_nodelay(true).expect("a socket");
    (client, listener.accept().await.expect("a connection").0)
}

/// A header of version 2 with this command, family and content.
fn v2(command: u8, family: u8, content: &[u8]) -> Vec<u8> {
    [V2, &[0x20 | command, family], &(content.len() as u16).to_be_bytes(), content].concat()
}

fn ipv4(extra: usize) -> Vec<u8> {
    let addresses = [203, 0, 113, 9, 10, 0, 0, 1, 0xc0, 0, 0x11, 0x55];
    // What follows the addresses is one value of a type that nobody knows.
    let more = if extra == 0 {
        vec![]
    } else {
        [&[0xe0], &((extra - 3) as u16).to_be_bytes()[..], &vec![7; extra - 3]].concat()
    };
    [&addresses[..], &more].concat()
}

#[tokio::test]
async fn a_header_names_the_client_and_is_taken_whole() {
    let client: Option<IpAddr> = "203.0.113.9".parse().ok();
    let v6: Option<IpAddr> = "2001:db8::5".parse().ok();
    let cases = [
        (b"PROXY TCP4 203.0.113.9 10.0.0.1 49152 4437\r\n".to_vec(), client),
        (b"PROXY TCP6 2001:db8::5 2001:db8::1 49152 4437\r\n".to_vec(), v6),
        (b"PROXY UNKNOWN\r\n".to_vec(), None),
        (v2(1, 0x11, &ipv4(0)), client),
        (v2(1, 0x11, &ipv4(2000)), client),
        (v2(0, 0x00, &[]), None),
        (v2(0, 0x11, &ipv4(0)), None),
    ];
    for (header, wanted) in cases {
        for at in [0, 5, header.len() - 1] {
            let (mut sender, mut socket) = connection().await;
            let sending = async {
                sender.write_all(&header[..at]).await.expect("a write");
                tokio::time::sleep(Duration::from_millis(if at > 0 { 20 } else { 0 })).await;
                sender.write_all(&[&header[at..], b"GET / HTTP/1.1\r\n"].concat()).await.expect("a write");
            };
            let (source, ()) = tokio::join!(take(&mut socket, TIME), sending);
            assert_eq!(source.expect("a header"), wanted, "{header:?} in two parts, at {at}");
            let mut rest = [0; 16];
            socket.read_exact(&mut rest).await.expect("the rest");
            assert_eq!(&rest, b"GET / HTTP/1.1\r\n", "{header:?}");
        }
    }
}

#[tokio::test]
async fn what_is_no_header_is_refused() {
    let endless = [b"PROXY TCP4 ".to_vec(), vec![b'1'; HEADER_BYTES_MAX]].concat();
    for bytes in [
        b"GET /b/s HTTP/1.1\r\nHost: h\r\n\r\n".to_vec(),
        b"PROXY TCP9 x y 1 2\r\n".to_vec(),
        endless,
        v2(9, 0x11, &ipv4(0)),
    ] {
        let (mut sender, mut socket) = connection().await;
        sender.write_all(&bytes).await.expect("a write");
        let error = take(&mut socket, TIME).await.expect_err("no header");
        assert_eq!(error.kind(), ErrorKind::InvalidData, "{}", String::from_utf8_lossy(&bytes));
    }
    let (sender, mut socket) = connection().await;
    drop(sender);
    assert_eq!(take(&mut socket, TIME).await.expect_err("an end").kind(), ErrorKind::UnexpectedEof);
    let (mut sender, mut socket) = connection().await;
    sender.write_all(b"PROXY TCP4 203").await.expect("a write");
    let error = take(&mut socket, Duration::from_millis(50)).await.expect_err("half a header");
    assert_eq!(error.kind(), ErrorKind::TimedOut);
}

//! Connections to a listener that answers from a script, one list of answers for each connection.

use tokio::net::TcpListener;

use super::*;

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const CLOSE: &str = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok";

/// A connection to a server that answers each request with the next text, and then hangs up.
async fn scripted(script: &'static [&'static [&'static str]]) -> Connection {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("a bound socket").to_string();
    tokio::spawn(async move {
        for answers in script {
            let (mut socket, _) = listener.accept().await.expect("a connection");
            for answer in *answers {
                let mut request = [0; REQUEST.len()];
                socket.read_exact(&mut request).await.expect("a request");
                socket.write_all(answer.as_bytes()).await.expect("an open connection");
            }
        }
    });
    Connection::new(address.into(), 128)
}

async fn fetch(connection: &mut Connection) -> Result<String, Error> {
    let mut body = Vec::new();
    connection.fetch(REQUEST, |piece| body.extend_from_slice(piece)).await?;
    Ok(String::from_utf8(body).expect("the script is text"))
}

#[tokio::test]
async fn one_connection_serves_many_requests() {
    let mut connection = scripted(&[&[OK, "HTTP/1.1 204 No Content\r\n\r\n", OK]]).await;
    let mut bodies = Vec::new();
    for _ in 0..3 {
        bodies.push(fetch(&mut connection).await.expect("an answer"));
    }
    assert_eq!(bodies, ["ok", "", "ok"]);
}

#[tokio::test]
async fn a_connection_that_the_server_ends_is_replaced() {
    let mut connection = scripted(&[&[CLOSE], &[OK], &["HTTP/1.1 200 OK\r\n\r\nuntil the end"], &[OK]]).await;
    assert_eq!(fetch(&mut connection).await.expect("announced"), "ok");
    assert_eq!(fetch(&mut connection).await.expect("a new connection"), "ok");
    assert!(fetch(&mut connection).await.is_err(), "a request on a dead connection is not sent again");
    assert_eq!(fetch(&mut connection).await.expect("a new connection"), "until the end");
    assert_eq!(fetch(&mut connection).await.expect("a new connection"), "ok");
}

#[tokio::test]
async fn a_body_that_is_cut_off_is_an_error() {
    let mut connection = scripted(&[&["HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"]]).await;
    assert!(matches!(fetch(&mut connection).await, Err(Error::Io(_))));
}

#[tokio::test]
async fn bodies_may_be_longer_than_the_buffer_and_heads_may_not() {
    const LONG: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
        50\r\n01234567890123456789012345678901234567890123456789012345678901234567890123456789\r\n\
        50\r\n01234567890123456789012345678901234567890123456789012345678901234567890123456789\r\n0\r\n\r\n";
    const HEAD: &str = "HTTP/1.1 200 OK\r\nX: 0123456789012345678901234567890123456789012345678901234567890123456789\
        0123456789012345678901234567890123456789\r\n\r\n";
    let mut connection = scripted(&[&[LONG, HEAD]]).await;
    assert_eq!(fetch(&mut connection).await.expect("an answer").len(), 160);
    assert!(matches!(fetch(&mut connection).await, Err(Error::HeadTooLong)));
}

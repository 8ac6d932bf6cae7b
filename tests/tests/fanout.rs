//! Many readers of one stream cost one tail at the storage node and one framing of each event, and every one
//! of them gets every event, in order.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use ursula_tests::{Decoder, EventParser, PATIENCE, Server, address_of, eventually};

const READERS: usize = 1000;
/// Sockets of the readers, and room for everything else.
const OPEN_FILES_MIN: u64 = READERS as u64 + 200;
const EVENTS: usize = 50;
const STREAM: &str = "/v1/stream/fanout/news";
const TEXT: (&str, &str) = ("Content-Type", "text/plain");

#[test]
fn a_thousand_readers_share_one_tail_and_every_frame() {
    raise_open_files();
    let server = Server::tiers();
    assert_eq!(server.request("PUT", STREAM, &[TEXT], "").status, 201);
    let value = |name| server.gateway_metrics().value(name);
    let opened_before = value("ursula_gateway_tail_upstreams_opened_total");

    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let host = address_of(&server.base_url).0;
    let readers: Vec<_> = (0..READERS).map(|_| runtime.spawn(read(host.to_owned()))).collect();
    eventually("all readers to share a tail", || {
        let (readers, tails) = (value("ursula_gateway_tail_readers"), value("ursula_gateway_tail_upstreams"));
        ((readers, tails) == (READERS as f64, 1.0)).then_some(())
    });

    let frames_before = value("ursula_gateway_tail_frames_total");
    let frames = || value("ursula_gateway_tail_frames_total") - frames_before;
    let events: Vec<String> = (0..EVENTS).map(|n| format!("event {n}")).collect();
    let mut http = server.connect();
    for (n, event) in events.iter().enumerate() {
        assert_eq!(http.request("POST", STREAM, &[TEXT], event).status, 204);
        eventually("the event to be framed", || (frames() > n as f64).then_some(()));
    }
    eventually("all events to be given to all readers", || {
        (value("ursula_gateway_tail_deliveries_total") == (EVENTS * READERS) as f64).then_some(())
    });
    assert_eq!(frames(), EVENTS as f64, "each event is framed once");
    assert_eq!(value("ursula_gateway_tail_upstreams"), 1.0);
    assert_eq!(value("ursula_gateway_tail_upstreams_opened_total") - opened_before, 1.0);
    assert_eq!(value("ursula_gateway_tail_lagged_total"), 0.0);

    assert_eq!(http.request("POST", STREAM, &[("Stream-Closed", "true")], "").status, 204);
    let results: Vec<_> = readers.into_iter().map(|reader| runtime.block_on(reader).expect("no panic")).collect();
    let wrong: Vec<_> = results.iter().filter(|result| result.as_ref().ok() != Some(&events)).collect();
    assert!(wrong.is_empty(), "{} readers missed something, such as {:?}", wrong.len(), wrong[0]);
    eventually("the tail to be closed", || (value("ursula_gateway_tail_upstreams") == 0.0).then_some(()));
}

/// For this process and the servers that it starts.
fn raise_open_files() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_some_and(|current| current < OPEN_FILES_MIN) {
        setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).expect("a limit up to the hard one");
    }
}

/// Reads the stream live to its end, and returns the data of its events. Each must be followed by a control event.
async fn read(host: String) -> io::Result<Vec<String>> {
    let mut socket = TcpStream::connect(&host).await?;
    let request = format!("GET {STREAM}?offset=-1&live=sse HTTP/1.1\r\nHost: {host}\r\n\r\n");
    socket.write_all(request.as_bytes()).await?;
    let (mut decoder, mut parser) = (Decoder::default(), EventParser::default());
    let (mut begun, mut needs_control, mut seen) = (false, false, Vec::new());
    let mut buffer = vec![0; 16 << 10];
    loop {
        let count = timeout(PATIENCE, socket.read(&mut buffer)).await??;
        if count == 0 {
            return Err(io::Error::other(format!("the connection ended after {} events", seen.len())));
        }
        decoder.push(&buffer[..count]);
        if !begun {
            let Some(head) = decoder.head(false)? else { continue };
            begun = head.status == 200;
        }
        let (body, complete) = decoder.body()?;
        parser.push(&body);
        while let Some(event) = parser.next_event() {
            let is_data = event.kind == "data";
            if is_data && needs_control {
                return Err(io::Error::other(format!("no control event after {:?}", seen.last())));
            }
            needs_control = is_data;
            seen.extend(is_data.then_some(event.data));
        }
        if complete && begun && !needs_control {
            return Ok(seen);
        }
        if complete {
            return Err(io::Error::other(format!("an incomplete response: {:?}", seen.last())));
        }
    }
}

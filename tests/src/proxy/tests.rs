//! Each way in which a link breaks, with an echo behind it.

use super::*;
use crate::{PATIENCE, Stopwatch, eventually};

/// An echo server, a proxy before it, and the one link through it.
struct World {
    proxy: Proxy,
    link: Arc<Link>,
}

/// Long enough that nothing comes by chance, short enough to wait for.
const SILENCE: Duration = Duration::from_millis(100);

fn world() -> World {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    spawn("echo", move || {
        for stream in listener.incoming().flatten() {
            spawn("echo connection", move || {
                let _ = std::io::copy(&mut &stream, &mut &stream);
            });
        }
    });
    let link = Arc::new(Link::default());
    let identified = link.clone();
    let proxy = Proxy::start(move |_| Some(identified.clone()));
    proxy.lead_to(&[address]);
    World { proxy, link }
}

impl World {
    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.proxy.address()).expect("the proxy accepts");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream
    }
}

fn echoes(mut stream: &TcpStream) -> std::io::Result<()> {
    stream.write_all(b"ping")?;
    let mut answer = [0; 4];
    stream.read_exact(&mut answer)?;
    assert_eq!(&answer, b"ping");
    Ok(())
}

fn assert_silent(mut stream: &TcpStream) {
    stream.set_read_timeout(Some(SILENCE)).expect("a timeout");
    let error = stream.read(&mut [0]).expect_err("nothing comes");
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
}

#[test]
fn bytes_pass_both_ways_and_ends_do() {
    let world = world();
    let mut stream = world.connect();
    let sent: Vec<u8> = (0..1_000_000_u32).flat_map(u32::to_le_bytes).collect();
    let reader = stream.try_clone().expect("a clone");
    let received = thread::spawn(move || {
        let mut received = Vec::new();
        (&reader).read_to_end(&mut received).map(|_| received)
    });
    stream.write_all(&sent).expect("it passes");
    stream.shutdown(Shutdown::Write).expect("an end");
    assert!(received.join().expect("no panic").expect("an end, not a reset") == sent);
}

#[test]
fn a_stalled_direction_holds_what_comes_until_it_is_healed() {
    for (out, back) in [(Flow::Stall, Flow::Pass), (Flow::Pass, Flow::Stall), (Flow::Stall, Flow::Stall)] {
        let world = world();
        let mut stream = world.connect();
        echoes(&stream).expect("it passes");
        world.link.set(out, back);
        stream.write_all(b"ping").expect("it is taken");
        assert_silent(&stream);
        let other = world.connect();
        (&other).write_all(b"ping").expect("new connections are accepted");
        assert_silent(&other);
        world.link.heal();
        for mut stream in [&stream, &other] {
            stream.read_exact(&mut [0; 4]).expect("what was held");
            echoes(stream).expect("it passes");
        }
    }
}

#[test]
fn a_cut_resets_connections_also_stalled_ones() {
    let world = world();
    let (mut idle, mut stalled) = (world.connect(), world.connect());
    echoes(&idle).expect("it passes");
    echoes(&stalled).expect("it passes");
    world.link.set(Flow::Stall, Flow::Pass);
    stalled.write_all(b"ping").expect("it is taken");
    assert_silent(&stalled);
    world.link.cut();
    for stream in [&mut idle, &mut stalled] {
        let error = stream.read(&mut [0]).expect_err("a reset");
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }
    world.link.heal();
    echoes(&world.connect()).expect("new connections pass");
}

#[test]
fn a_link_that_refuses_resets_new_connections_too() {
    let world = world();
    world.link.refuse(true);
    let mut stream = world.connect();
    let error = stream.read(&mut [0]).expect_err("a reset");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    world.link.heal();
    echoes(&world.connect()).expect("it passes");
}

#[test]
fn bytes_are_late_or_few() {
    let world = world();
    let stream = world.connect();
    for flow in [Flow::Delay(SILENCE), Flow::Slow(40)] {
        world.link.set(flow, Flow::Pass);
        let watch = Stopwatch::start();
        echoes(&stream).expect("it passes");
        assert!(watch.elapsed() >= SILENCE, "{flow:?}");
    }
}

#[test]
fn a_destination_that_is_gone_resets_and_may_move() {
    let world = world();
    let destinations = lock(&world.proxy.door.destinations).clone();
    world.proxy.lead_to(&[]);
    world.connect().read(&mut [0]).expect_err("a reset");
    world.proxy.lead_to(&destinations);
    echoes(&world.connect()).expect("it passes");
}

#[test]
fn a_proxy_that_is_dropped_ends_its_connections() {
    let world = world();
    let mut stream = world.connect();
    echoes(&stream).expect("it passes");
    let address = world.proxy.address();
    drop(world.proxy);
    stream.read(&mut [0]).expect_err("a reset");
    eventually("the port to be free", || TcpStream::connect(address).is_err().then_some(()));
}

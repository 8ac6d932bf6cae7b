//! A TCP proxy whose links break in the ways in which networks do: per source, per direction, switched at any time.
//!
//! It forwards bytes and knows nothing of what they mean. A link is all connections that one source opens to the one
//! destination of the proxy; who the source is, the owner of the proxy says when a connection comes.
#![expect(clippy::disallowed_methods, reason = "forwards in threads of its own, in real time")]

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::net::sockopt::set_socket_linger;

/// What happens to the bytes of one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Flow {
    /// They pass.
    #[default]
    Pass,
    /// They pass, so much later.
    Delay(Duration),
    /// They pass, at most so many a second.
    Slow(u32),
    /// Connections stay open, and nothing moves.
    Stall,
}

/// The connections of one source to one destination.
#[derive(Debug, Default)]
pub struct Link {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// From the source to the destination.
    out: Flow,
    /// From the destination to the source.
    back: Flow,
    refusing: bool,
    /// Counts cuts: connections that began before the last one are over.
    cuts: u64,
    sockets: Vec<Arc<Pair>>,
}

/// The two sockets of a connection.
#[derive(Debug)]
struct Pair {
    source: TcpStream,
    destination: TcpStream,
}

#[derive(Debug, Clone, Copy)]
enum Direction {
    Out,
    Back,
}

/// The most that is under way in one direction of a connection, beside what sockets hold.
const CHUNK_BYTES: usize = 64 << 10;
/// How long a write to a socket that takes nothing may block before a cut is noticed.
const WRITE_STEP: Duration = Duration::from_millis(100);
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);

impl Link {
    /// Sets what happens to the bytes from the source to the destination, and back; also to those of connections
    /// that are open.
    pub fn set(&self, out: Flow, back: Flow) {
        let mut state = self.state();
        (state.out, state.back) = (out, back);
        self.changed.notify_all();
    }

    /// Resets every connection, and new ones as long as this is on.
    pub fn refuse(&self, refusing: bool) {
        self.state().refusing = refusing;
        if refusing {
            self.cut();
        }
    }

    /// Resets every connection that is open.
    pub fn cut(&self) {
        let mut state = self.state();
        state.cuts += 1;
        for pair in state.sockets.drain(..) {
            for socket in [&pair.source, &pair.destination] {
                // Wakes the threads that read, without a word to the other side: with no time to linger, what the
                // other side hears when they let go is a reset. A socket that is gone already needs neither.
                let _ = set_socket_linger(socket, Some(Duration::ZERO));
                let _ = socket.shutdown(Shutdown::Read);
            }
        }
        self.changed.notify_all();
    }

    /// Everything passes again.
    pub fn heal(&self) {
        self.refuse(false);
        self.set(Flow::Pass, Flow::Pass);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a connection in, unless it is refused; returns the number of cuts before it.
    fn admit(&self, pair: &Arc<Pair>) -> Option<u64> {
        let mut state = self.state();
        // Those that ended by themselves.
        state.sockets.retain(|pair| Arc::strong_count(pair) > 1);
        state.sockets.push(pair.clone());
        (!state.refusing).then_some(state.cuts)
    }

    /// Waits until bytes may pass; false if the connection was cut.
    fn pass(&self, direction: Direction, bytes: usize, cuts: u64) -> bool {
        let mut state = self.state();
        loop {
            let flow = match direction {
                Direction::Out => state.out,
                Direction::Back => state.back,
            };
            let wait = match flow {
                _ if state.cuts != cuts => return false,
                Flow::Pass => return true,
                Flow::Delay(time) => time,
                Flow::Slow(rate) => Duration::from_secs_f64(bytes as f64 / f64::from(rate.max(1))),
                Flow::Stall => {
                    state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                    continue;
                }
            };
            let unchanged = |state: &mut State| state.cuts == cuts;
            let waited = self.changed.wait_timeout_while(state, wait, unchanged);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            return state.cuts == cuts;
        }
    }

    fn is_cut(&self, cuts: u64) -> bool {
        self.state().cuts != cuts
    }

    /// Forwards one direction of a connection until it ends or is cut.
    fn pump(&self, pair: &Pair, direction: Direction, cuts: u64) {
        let (mut from, mut to) = match direction {
            Direction::Out => (&pair.source, &pair.destination),
            Direction::Back => (&pair.destination, &pair.source),
        };
        let mut buffer = vec![0; CHUNK_BYTES];
        loop {
            let count = from.read(&mut buffer).unwrap_or(0);
            if !self.pass(direction, count, cuts) {
                return;
            }
            if count == 0 {
                // The other direction may go on. Where that is gone too, there is nobody to tell.
                let _ = to.shutdown(Shutdown::Write);
                return;
            }
            let mut left = &buffer[..count];
            while !left.is_empty() {
                match to.write(left) {
                    Ok(written) => left = &left[written..],
                    Err(error) if error.kind() == ErrorKind::WouldBlock && !self.is_cut(cuts) => {}
                    Err(_) => {
                        let _ = from.shutdown(Shutdown::Both);
                        return;
                    }
                }
            }
        }
    }
}

/// Says which link a new connection belongs to; `None` resets it.
pub type Identify = dyn Fn(&TcpStream) -> Option<Arc<Link>> + Send + Sync;

/// A listener in front of one destination, or several that take turns. It ends, with all its connections, when it is dropped.
pub struct Proxy {
    address: SocketAddr,
    door: Arc<Door>,
}

struct Door {
    destinations: Mutex<Vec<SocketAddr>>,
    /// Counts connections.
    turn: AtomicUsize,
    identify: Box<Identify>,
    links: Mutex<Vec<Arc<Link>>>,
    closing: AtomicBool,
}

impl Proxy {
    /// Listens on a port of `127.0.0.1` that the kernel chooses, with no destination so far.
    ///
    /// # Panics
    /// If there is no port or thread to be had.
    pub fn start(identify: impl Fn(&TcpStream) -> Option<Arc<Link>> + Send + Sync + 'static) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("the address of a listener");
        let door = Arc::new(Door {
            destinations: Mutex::default(),
            turn: AtomicUsize::new(0),
            identify: Box::new(identify),
            links: Mutex::default(),
            closing: AtomicBool::new(false),
        });
        let accepting = door.clone();
        spawn("proxy", move || accepting.accept(&listener));
        Proxy { address, door }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where new connections lead, in turn; they are reset as long as it is nowhere.
    pub fn lead_to(&self, destinations: &[SocketAddr]) {
        *lock(&self.door.destinations) = destinations.to_vec();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.door.closing.store(true, Ordering::SeqCst);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(self.address);
        for link in lock(&self.door.links).drain(..) {
            link.refuse(true);
        }
    }
}

impl Door {
    fn accept(self: Arc<Self>, listener: &TcpListener) {
        for source in listener.incoming().flatten() {
            if self.closing.load(Ordering::SeqCst) {
                return;
            }
            let door = self.clone();
            spawn("proxy connection", move || door.connect(source));
        }
    }

    fn connect(&self, source: TcpStream) {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let destination = {
            let destinations = lock(&self.destinations);
            destinations.get(turn % destinations.len().max(1)).copied()
        };
        let link = (self.identify)(&source);
        let open = |address: SocketAddr| TcpStream::connect_timeout(&address, CONNECT_PATIENCE).ok();
        let (Some(link), Some(destination)) = (link, destination.and_then(open)) else {
            let _ = set_socket_linger(&source, Some(Duration::ZERO));
            return;
        };
        for socket in [&source, &destination] {
            socket.set_nodelay(true).expect("a socket takes options");
            socket.set_write_timeout(Some(WRITE_STEP)).expect("a socket takes a timeout");
        }
        {
            let mut links = lock(&self.links);
            if !links.iter().any(|known| Arc::ptr_eq(known, &link)) {
                links.push(link.clone());
            }
        }
        let pair = Arc::new(Pair { source, destination });
        let Some(cuts) = link.admit(&pair) else {
            link.cut();
            return;
        };
        let (other_link, other_pair) = (link.clone(), pair.clone());
        spawn("proxy back", move || other_link.pump(&other_pair, Direction::Back, cuts));
        link.pump(&pair, Direction::Out, cuts);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) {
    thread::Builder::new().name(name.to_owned()).spawn(work).expect("a thread");
}

#[cfg(test)]
mod tests;

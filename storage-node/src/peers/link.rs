//! A link to one node: questions of many groups go out in frames, answers come back in any order.
//!
//! One task owns the connection. It takes whatever has queued into one frame, so the busier the cores, the
//! fewer the frames; while there is no connection, questions fail at once.

use std::collections::{BTreeMap, VecDeque};
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use metrics::Gauge;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Streaming};
use tracing::{info, warn};
use ursula_common::metrics::OpenGauge;
use ursula_common::{GroupId, NodeId};
use ursula_proto::peer::v1::message::Body;
use ursula_proto::peer::v1::{Frame, Message, Refused};
use ursula_proto::peer_client;

use super::error::whole;
use super::{Inner, PeerAddress, PeerError, Peers};

/// Bytes of questions that may wait for their frame.
const QUEUE_BYTES_MAX: usize = 64 << 20;
/// What a question costs beyond its body.
const QUESTION_BYTES: usize = 128;
/// A frame is closed when it has so many bytes.
const FRAME_BYTES_MAX: usize = 1 << 20;
/// And when it has so many questions: fewer than may be unanswered.
pub(super) const FRAME_MESSAGES_MAX: usize = 1024;
/// Frames that wait for the connection.
const FRAMES_MAX: usize = 2;
/// Questions that are taken out of the queue at a time.
const TAKEN_MAX: usize = 1024;
/// How long the other node may take to greet.
const OPEN_TIMEOUT: Duration = Duration::from_secs(2);
/// Nothing was heard for so long, although something was asked: the link is cut.
const SILENCE_MAX: Duration = Duration::from_secs(3);
/// How often silence is looked at.
const WATCH_INTERVAL: Duration = Duration::from_millis(500);
/// Between attempts to connect: doubled from the first to the last.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_millis(800);

/// What a link is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Priority {
    /// Small and in a hurry.
    Urgent,
    /// Everything with entries.
    Bulk,
}

/// The way to ask another node. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Link {
    queue: mpsc::UnboundedSender<Question>,
    room: Arc<Semaphore>,
    queue_bytes: Gauge,
}

struct Question {
    group: GroupId,
    body: Body,
    answer: oneshot::Sender<Result<Body, PeerError>>,
    room: Room,
}

/// An answer on its way. Dropping it forgets the question.
pub(crate) struct Answer(oneshot::Receiver<Result<Body, PeerError>>);

impl Future for Answer {
    type Output = Result<Body, PeerError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context).map(|answer| answer.unwrap_or(Err(PeerError::Lost)))
    }
}

/// Room in the queue of a link for one question; counted until the question is in its frame.
pub(crate) struct Room {
    permit: OwnedSemaphorePermit,
    queue_bytes: Gauge,
}

impl Room {
    fn new(permit: OwnedSemaphorePermit, queue_bytes: Gauge) -> Room {
        queue_bytes.increment(permit.num_permits() as f64);
        Room { permit, queue_bytes }
    }

    fn bytes(&self) -> usize {
        self.permit.num_permits()
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.queue_bytes.decrement(self.bytes() as f64);
    }
}

impl Link {
    pub(super) fn start(
        peers: &Arc<Inner>,
        to: NodeId,
        address: PeerAddress,
        priority: Priority,
        stop: watch::Receiver<()>,
    ) -> Link {
        let (queue, questions) = mpsc::unbounded_channel();
        let room = Arc::new(Semaphore::new(QUEUE_BYTES_MAX));
        let task = Task { peers: Arc::downgrade(peers), to, address, priority, questions, trouble: None, next_id: 1 };
        peers.runtime.spawn(task.run(stop));
        Link { queue, room, queue_bytes: peers.metrics.peer_queue_bytes.clone() }
    }

    /// Room for a question with so many bytes of entries, if there is some now.
    pub(crate) fn try_room(&self, bytes: usize) -> Option<Room> {
        let permit = self.room.clone().try_acquire_many_owned(cost(bytes)).ok()?;
        Some(Room::new(permit, self.queue_bytes.clone()))
    }

    /// Waits for room for a question with so many bytes of entries.
    pub(crate) fn room(&self, bytes: usize) -> impl Future<Output = Room> + use<> {
        let (room, queue_bytes) = (self.room.clone(), self.queue_bytes.clone());
        async move {
            let permit = room.acquire_many_owned(cost(bytes)).await.expect("invariant: never closed");
            Room::new(permit, queue_bytes)
        }
    }

    /// Asks. Questions arrive in the order of these calls.
    pub(crate) fn ask(&self, group: GroupId, body: Body, room: Room) -> Answer {
        let (answer, answered) = oneshot::channel();
        // A link that has ended drops the question, which the asker hears of.
        drop(self.queue.send(Question { group, body, answer, room }));
        Answer(answered)
    }
}

struct Task {
    peers: Weak<Inner>,
    to: NodeId,
    address: PeerAddress,
    priority: Priority,
    questions: mpsc::UnboundedReceiver<Question>,
    /// What was said last about why there is no connection.
    trouble: Option<String>,
    next_id: u64,
}

/// A connection that stands.
struct Connection {
    frames: mpsc::Sender<Frame>,
    answers: Streaming<Frame>,
    _open: OpenGauge,
}

/// A question that was sent or is about to be.
struct Waiting {
    answer: oneshot::Sender<Result<Body, PeerError>>,
    since: Instant,
}

impl Task {
    async fn run(mut self, mut stop: watch::Receiver<()>) {
        tokio::select! {
            _ = stop.changed() => {}
            () = self.keep() => {}
        }
    }

    /// Connects again and again, until nobody can ask any more.
    async fn keep(&mut self) {
        let mut pause = PAUSE_MIN;
        loop {
            let trouble = match self.open().await {
                Ok(connection) => {
                    self.report(None);
                    pause = PAUSE_MIN;
                    match self.serve(connection).await {
                        Some(trouble) => trouble,
                        None => return,
                    }
                }
                Err(trouble) => trouble,
            };
            self.report(Some(trouble));
            if !self.refuse_for(pause).await {
                return;
            }
            pause = PAUSE_MAX.min(2 * pause);
        }
    }

    async fn open(&self) -> Result<Connection, String> {
        let gone = || "this node has stopped".to_owned();
        let peers = Peers(self.peers.upgrade().ok_or_else(gone)?);
        let (frames, outgoing) = mpsc::channel(FRAMES_MAX);
        let mut request = Request::new(ReceiverStream::new(outgoing));
        let introduction = peers.introduction(self.to, &self.address).map_err(|error| error.to_string())?;
        introduction.write(request.metadata_mut());
        let channel = self.address.connect().ok_or_else(|| format!("{} is no address", self.address))?;
        let mut client = peer_client(channel);
        let opened = timeout(OPEN_TIMEOUT, client.exchange(request)).await;
        let answers = opened
            .map_err(|_| format!("no answer from {} within {OPEN_TIMEOUT:?}", self.address))?
            .map_err(|status| explain(&status))?;
        let open = OpenGauge::new(peers.0.metrics.peer_links.clone());
        Ok(Connection { frames, answers: answers.into_inner(), _open: open })
    }

    /// Serves a connection until it is lost, and says why; none if nobody can ask any more. Questions that
    /// have no answer by then are lost.
    async fn serve(&mut self, mut connection: Connection) -> Option<String> {
        let mut waiting: BTreeMap<u64, Waiting> = BTreeMap::new();
        let mut outgoing: VecDeque<(Message, Room)> = VecDeque::new();
        let mut taken = Vec::new();
        let mut watch = interval(WATCH_INTERVAL);
        watch.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut heard, mut probe) = (Instant::now(), false);
        loop {
            tokio::select! {
                biased;
                answers = connection.answers.message() => match answers {
                    Ok(Some(frame)) => {
                        heard = Instant::now();
                        frame.messages.into_iter().for_each(|message| resolve(&mut waiting, message));
                    }
                    Ok(None) => return Some("the node closed the link".to_owned()),
                    Err(status) => return Some(explain(&status)),
                },
                slot = connection.frames.reserve(), if probe || !outgoing.is_empty() => match slot {
                    Ok(slot) => {
                        probe = false;
                        slot.send(self.pack(&mut outgoing));
                    }
                    Err(_) => return Some("the connection was lost".to_owned()),
                },
                count = self.questions.recv_many(&mut taken, TAKEN_MAX), if outgoing.len() < TAKEN_MAX => {
                    if count == 0 {
                        return None;
                    }
                    let now = Instant::now();
                    for Question { group, body, answer, room } in taken.drain(..) {
                        let id = self.next_id;
                        self.next_id += 1;
                        waiting.insert(id, Waiting { answer, since: now });
                        outgoing.push_back((Message { id, group: group.0, body: Some(body) }, room));
                    }
                }
                _ = watch.tick() => {
                    waiting.retain(|_, waiting| !waiting.answer.is_closed());
                    let asked = waiting.values().next().map(|waiting| waiting.since);
                    // A node that was frozen itself must look at what has come before it judges others.
                    let silence = asked.map(|asked| asked.max(heard).elapsed()).unwrap_or_default();
                    if silence > SILENCE_MAX {
                        return Some(format!("no answer for {SILENCE_MAX:?}"));
                    }
                    probe = silence > WATCH_INTERVAL;
                }
            }
        }
    }

    fn pack(&self, outgoing: &mut VecDeque<(Message, Room)>) -> Frame {
        let (mut messages, mut bytes) = (Vec::with_capacity(outgoing.len().min(FRAME_MESSAGES_MAX)), 0);
        while bytes < FRAME_BYTES_MAX
            && messages.len() < FRAME_MESSAGES_MAX
            && let Some((message, room)) = outgoing.pop_front()
        {
            bytes += room.bytes();
            messages.push(message);
        }
        if let Some(peers) = self.peers.upgrade() {
            peers.metrics.peer_frame_messages.record(messages.len() as f64);
        }
        Frame { messages }
    }

    /// Refuses every question for a while. False if nobody can ask any more.
    async fn refuse_for(&mut self, pause: Duration) -> bool {
        let until = Instant::now() + pause;
        let why = PeerError::unreachable(self.trouble.as_deref().unwrap_or_default());
        loop {
            match tokio::time::timeout_at(until, self.questions.recv()).await {
                Ok(Some(question)) => drop(question.answer.send(Err(why.clone()))),
                Ok(None) => return false,
                Err(_) => return true,
            }
        }
    }

    /// Logs what is new, once: not each attempt. Both links of a peer have the same trouble.
    fn report(&mut self, trouble: Option<String>) {
        if self.priority == Priority::Urgent && trouble != self.trouble {
            match &trouble {
                Some(reason) => warn!(peer = %self.to, address = %self.address, %reason, "cannot reach a peer"),
                None => info!(peer = %self.to, address = %self.address, "a peer is reached again"),
            }
        }
        self.trouble = trouble;
    }
}

fn resolve(waiting: &mut BTreeMap<u64, Waiting>, message: Message) {
    let Some(asker) = waiting.remove(&message.id) else { return };
    let answer = match message.body {
        Some(Body::Refused(Refused { sentence, .. })) if sentence.is_empty() => Err(PeerError::Malformed),
        Some(Body::Refused(refused)) => {
            Err(PeerError::Refused { reason: refused.reason(), sentence: refused.sentence.into() })
        }
        Some(body) => Ok(body),
        None => Err(PeerError::Malformed),
    };
    // Who asked may have given up.
    drop(asker.answer.send(answer));
}

fn explain(status: &tonic::Status) -> String {
    match std::error::Error::source(status) {
        Some(source) => whole(source),
        None => status.message().to_owned(),
    }
}

fn cost(bytes: usize) -> u32 {
    (bytes + QUESTION_BYTES).min(QUEUE_BYTES_MAX) as u32
}

//! Bodies become uploads piece by piece, and only whole ones are published.

use std::time::Duration;

use http::StatusCode;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::UnboundedReceiverStream;
use ursula_common::limits::PAGE_BYTES_MAX;
use ursula_common::verb::{Appended, Create, Created, Lifetime, Op, PublishSnapshot, Reply, SnapshotCondition};
use ursula_common::{ContentType, Error, StreamKey, wire};

use super::*;
use crate::tests::{FakeLane, SentOp, quiet, within};

const FIRST: u64 = 5_000;

type Chunk = Result<Bytes, std::io::Error>;

fn put(world: &World, headers: &[(&str, &str)], body: Body) -> JoinHandle<Response<Body>> {
    let request = Request::put(format!("/v1/stream/stream{}", path(4))).header("host", "here");
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    tokio::spawn(world.ask(request.body(body).expect("a request")))
}

fn channel() -> (mpsc::UnboundedSender<Chunk>, Body) {
    let (sender, chunks) = mpsc::unbounded_channel();
    (sender, Body::from_stream(UnboundedReceiverStream::new(chunks)))
}

/// The next op, decoded.
async fn next_op(lane: &mut FakeLane) -> (SentOp, Op) {
    let mut ops = lane.frame().await.expect("a frame");
    assert_eq!(ops.len(), 1);
    let sent = ops.remove(0);
    let op = wire::decode_op(sent.op.clone()).expect("an op");
    (sent, op)
}

/// Takes an upload in; returns its pieces and what was published then, if anything was in this moment.
async fn take_upload(lane: &mut FakeLane, mut pieces: usize) -> (StreamKey, Vec<Bytes>) {
    let mut taken: Vec<Bytes> = Vec::new();
    let mut companion = None;
    let mut tail = Offset(FIRST);
    while pieces > 0 {
        let (sent, op) = next_op(lane).await;
        let piece = match op {
            Op::Create(Create { key, lifetime: Lifetime::Ttl(_), content_type: None, body, .. })
                if taken.is_empty() =>
            {
                companion = Some(key);
                body
            }
            Op::Append(append) => {
                assert_eq!((Some(append.key), append.expected_offset), (companion.clone(), Some(tail)));
                append.body
            }
            other => panic!("{other:?}"),
        };
        tail = Offset(tail.0 + piece.len() as u64);
        let content_type = ContentType::default();
        let reply = match taken.is_empty() {
            true => Reply::Created(Created { new: true, tail, closed: false, content_type }),
            false => Reply::Appended(Appended { tail, closed: false, duplicate: false, producer: None }),
        };
        taken.push(piece);
        lane.answer_op(&sent, Ok(reply));
        pieces -= 1;
    }
    (companion.expect("a companion"), taken)
}

#[tokio::test(start_paused = true)]
async fn a_body_is_stored_in_pieces_and_published() {
    let mut world = World::new();
    let body: Vec<u8> = (0..2 * PAGE_BYTES_MAX + 100).map(|at| (at / 7) as u8).collect();
    let (chunks, stream) = channel();
    let published = put(&world, &[("content-type", "text/html")], stream);
    let mut lane = world.node.lane(100).await;
    for chunk in body.chunks(100_000) {
        chunks.send(Ok(Bytes::copy_from_slice(chunk))).expect("it is read");
    }
    quiet().await;
    // The second piece is read when the first is stored.
    assert_eq!(world.metric("ursula_gateway_upload_bytes"), PAGE_BYTES_MAX);
    drop(chunks);
    let (companion, pieces) = take_upload(&mut lane, 3).await;
    assert!(pieces.concat() == body);
    assert_eq!(pieces.iter().map(Bytes::len).collect::<Vec<_>>(), [PAGE_BYTES_MAX, PAGE_BYTES_MAX, 100]);
    let (sent, op) = next_op(&mut lane).await;
    let Op::PublishSnapshot(publish) = op else { panic!("{op:?}") };
    assert_eq!(publish.key.companion(publish.upload), companion);
    let expected = PublishSnapshot {
        key: StreamKey::parse("default", "stream").expect("a key"),
        at: Offset(4),
        cut: None,
        upload: publish.upload,
        content_type: ContentType::parse("text/html"),
        bytes: body.len() as u64,
        digest: Sha256::digest(&body).into(),
        condition: SnapshotCondition::Any,
    };
    assert_eq!(publish, expected);
    assert_eq!(world.metric("ursula_gateway_upload_bytes"), 0);
    lane.answer_op(&sent, Ok(Reply::SnapshotPublished { new: true, at: Offset(4) }));
    let response = within(published).await.expect("no panic");
    assert_eq!(response.status(), StatusCode::CREATED);
    let location = format!("http://here/v1/stream/stream{}", path(4));
    assert_eq!(header(&response, "location"), Some(&*location));
}

#[tokio::test(start_paused = true)]
async fn an_empty_body_is_a_snapshot() {
    let mut world = World::new();
    let published = put(&world, &[], Body::empty());
    let mut lane = world.node.lane(100).await;
    assert_eq!(take_upload(&mut lane, 1).await.1, [Bytes::new()]);
    let (sent, op) = next_op(&mut lane).await;
    assert!(matches!(op, Op::PublishSnapshot(publish) if publish.bytes == 0));
    lane.answer_op(&sent, Ok(Reply::SnapshotPublished { new: false, at: Offset(4) }));
    let response = within(published).await.expect("no panic");
    assert_eq!((response.status(), header(&response, "location")), (StatusCode::OK, None));
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_published_is_not_uploaded() {
    let mut world = World::new();
    let _lane = world.node.lane(100).await;
    let length = (BYTES_MAX + 1).to_string();
    let response = within(put(&world, &[("content-length", &length)], channel().1)).await.expect("no panic");
    assert_eq!(header(&response, "connection"), Some("close"));
    assert_eq!(refused(response).await, (413, "body_too_large".into()));
    world.publish(1, 8, &[b"newer"]);
    let response = within(put(&world, &[], Body::from("older"))).await.expect("no panic");
    assert_eq!(header(&response, "stream-snapshot-offset"), Some("0000000000000000_0000000000000008"));
    assert_eq!(header(&response, "connection"), None);
    assert_eq!(refused(response).await, (409, "snapshot_stale".into()));
    let missing = Request::put(format!("/v1/stream/none{}", path(4))).header("host", "here").body(Body::from("x"));
    let response = within(world.ask(missing.expect("a request"))).await;
    assert_eq!(refused(response).await, (404, "stream_not_found".into()));
    assert_eq!(world.metric("ursula_gateway_window_ops"), 0);
}

#[tokio::test(start_paused = true)]
async fn what_breaks_off_is_never_published() {
    let wrong = ("content-digest", "sha-256=:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=:");
    let piece = || Ok(Bytes::from(vec![7; PAGE_BYTES_MAX]));
    type Rest = fn() -> Vec<Chunk>;
    let broken: Rest = || vec![Ok(Bytes::from_static(b"x")), Err(std::io::ErrorKind::UnexpectedEof.into())];
    let too_much: Rest = || (0..3).map(|_| Ok(Bytes::from(vec![7; PAGE_BYTES_MAX]))).collect();
    let slow: Rest = Vec::new;
    // What follows the first piece, whether the body ends then, and how many pieces are stored.
    let table = [
        (broken, true, 1, 400, "body_incomplete"),
        (too_much, true, 2, 413, "body_too_large"),
        (slow, false, 0, 408, "body_timeout"),
        (slow, true, 1, 400, "digest_mismatch"),
    ];
    for (rest, ends, stored, status, code) in table {
        let mut world = World::new();
        let (chunks, stream) = channel();
        let answer = put(&world, &[wrong], stream);
        let mut lane = world.node.lane(100).await;
        chunks.send(piece()).expect("it is read");
        rest().into_iter().for_each(|chunk| _ = chunks.send(chunk));
        let _open = (!ends).then_some(chunks);
        if stored > 0 {
            take_upload(&mut lane, stored).await;
        }
        assert_eq!(refused(within(answer).await.expect("no panic")).await, (status, code.into()));
        let (sent, op) = next_op(&mut lane).await;
        assert!(matches!(op, Op::Delete(key) if key.name.is_companion()), "{code}");
        lane.answer_op(&sent, Ok(Reply::Done));
        let nothing = tokio::time::timeout(Duration::from_secs(60), lane.frame()).await;
        assert!(nothing.is_err(), "{code}: {nothing:?}");
        assert_eq!(world.metric("ursula_gateway_upload_bytes"), 0, "{code}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_piece_that_is_lost_is_an_upload_that_is_lost() {
    for (error, status, code) in [
        (Error::StreamNotFound, 503, "snapshot_incomplete"),
        // Nothing was published, whatever became of the piece.
        (Error::ResultForgotten, 503, "unavailable"),
        (Error::MemoryFull, 503, "memory_full"),
    ] {
        let mut world = World::new();
        let answer = put(&world, &[], Body::from(vec![7; PAGE_BYTES_MAX + 1]));
        let mut lane = world.node.lane(100).await;
        take_upload(&mut lane, 1).await;
        let (sent, _) = next_op(&mut lane).await;
        lane.answer_op(&sent, Err(error));
        assert_eq!(refused(within(answer).await.expect("no panic")).await, (status, code.into()));
    }
}

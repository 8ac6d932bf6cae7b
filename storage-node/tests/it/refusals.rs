//! What a gateway may not send over a lane: the lane ends with an error, and nothing changes.

use bytes::Bytes;
use ursula_common::verb::{
    Ack, AcquireFork, Append, BucketStep, Create, ForkCut, ForkRef, Lifetime, Op, Reply, Retention, SagaStep,
};
use ursula_common::wire::encode_op;
use ursula_common::{BucketName, Error, GroupId, Offset, SagaId, StreamId};

use super::world::{BINARY, Lane, World, append, appended, create, created, eventually, fork, key};

const SESSION: u64 = 7;

#[tokio::test]
async fn ops_of_groups_are_not_a_gateways() {
    let mut world = World::start().await;
    let (stream, other) = (world.key_in(1, "stream"), world.key_in(2, "other"));
    world.create(&stream, BINARY).await;
    world.append(&stream, BINARY, "stays").await;
    let id = world.describe(&stream).await.expect("a stream").id;
    created(world.submit(fork(&other, &stream, None, 0)).await);
    let fork_id = world.describe(&other).await.expect("a fork").id;

    let step = || BucketStep { bucket: BucketName::parse("planted").expect("a name"), order: 9, ack: Ack::Quorum };
    let fork_ref = ForkRef { source: stream.clone(), fork: other.clone(), fork_id };
    let acquire = AcquireFork {
        fork_ref: ForkRef { fork_id: StreamId(999), ..fork_ref.clone() },
        offset: Some(Offset(1)),
        sub_offset: 0,
        content_type: None,
        cut: Some(ForkCut { stream: id, at: Offset(1) }),
    };
    let forbidden = [
        Op::InstallBucket(step()),
        Op::DropBucket(BucketStep { bucket: BucketName::default_bucket(), order: u64::MAX, ack: Ack::Quorum }),
        Op::AcquireFork(acquire),
        Op::ReleaseFork(fork_ref),
        Op::Touch(stream.clone()),
        Op::Expire,
        Op::SagaStep(SagaStep { saga: SagaId(1), message: 0, outcome: Ok(Reply::Done) }),
    ];
    for op in forbidden {
        let mut lane = world.lane(SESSION).await;
        // The whole frame is refused: what stands beside such an op is not to be trusted either.
        lane.send(&[(0, GroupId(1), append(&stream, BINARY, "no")), (1, GroupId(1), op.clone())]).await;
        assert_eq!(lane.answer().await, Err(Error::Malformed), "{op:?}");
    }
    assert_eq!(world.content(&stream, 0).await, b"stays");
    let planted = ursula_common::StreamKey::parse("planted", "stream").expect("a name");
    assert_eq!(world.submit(create(&planted, BINARY)).await, Err(Error::BucketNotFound));
    // The fork still holds its source, and nobody else does.
    world.delete(&stream).await;
    assert_eq!(world.content(&other, 0).await, b"stays");
    world.delete(&other).await;
    eventually("the source goes", async || world.describe(&stream).await == Err(Error::StreamNotFound)).await;
}

async fn send_garbage(lane: &mut Lane, op: Bytes) -> Result<(), Error> {
    lane.send_encoded(vec![(0, GroupId(1), op)]).await;
    lane.answer().await.map(drop)
}

#[tokio::test]
async fn bytes_that_are_no_op_end_the_lane() {
    let mut world = World::start().await;
    let stream = world.key_in(1, "stream");
    world.create(&stream, BINARY).await;
    let whole = encode_op(&append(&stream, BINARY, "body"));
    let empty = encode_op(&append(&stream, BINARY, ""));
    let ttl = Op::Create(Create {
        key: stream.clone(),
        content_type: None,
        lifetime: Lifetime::Ttl(u64::MAX),
        closed: false,
        body: Bytes::new(),
        fork: None,
        numbered: true,
        retention: Retention::default(),
    });
    let Op::Append(known) = append(&stream, BINARY, "x") else { unreachable!() };
    let far = Op::Append(Append { expected_offset: Some(Offset(u64::MAX)), ..known });
    let garbage: Vec<(&str, Vec<u8>)> = vec![
        ("nothing", Vec::new()),
        ("noise", vec![0xFF; 64]),
        ("an op cut short", whole[..whole.len() - 3].to_vec()),
        ("an unknown op", vec![0xFA, 0x3F, 0x00]),
        ("an append of nothing", empty),
        ("an endless time to live", encode_op(&ttl)),
        ("an offset past all offsets", encode_op(&far)),
    ];
    for (what, bytes) in garbage {
        let mut lane = world.lane(SESSION).await;
        assert_eq!(send_garbage(&mut lane, bytes.into()).await, Err(Error::Malformed), "{what}");
    }
    assert_eq!(world.describe(&stream).await.expect("a stream").tail, Offset::ZERO);
    let mut lane = world.lane(SESSION).await;
    appended(lane.ask(0, GroupId(1), &append(&stream, BINARY, "fine")).await);
}

#[tokio::test]
async fn what_was_asked_before_garbage_is_answered_or_can_be_asked_again() {
    let mut world = World::start().await;
    let stream = world.key_in(1, "stream");
    world.create(&stream, BINARY).await;
    let mut lane = world.lane(SESSION).await;
    lane.send(&[(0, GroupId(1), append(&stream, BINARY, "first"))]).await;
    lane.send_encoded(vec![(1, GroupId(1), Bytes::from_static(b"\xFF"))]).await;
    let mut answer = lane.answer().await;
    if let Ok((seq, result)) = answer {
        assert_eq!((seq, appended(result).tail), (0, Offset(5)));
        answer = lane.answer().await;
    }
    assert_eq!(answer, Err(Error::Malformed));
    let mut again = world.lane(SESSION).await;
    assert_eq!(appended(again.ask(0, GroupId(1), &append(&stream, BINARY, "first")).await).tail, Offset(5));
    assert_eq!(world.content(&stream, 0).await, b"first");
}

#[tokio::test]
async fn an_op_for_a_group_that_cannot_do_it_is_refused_alone() {
    let mut world = World::start().await;
    let bucket = BucketName::parse("elsewhere").expect("a name");
    let stream = key("stream");
    let mut lane = world.lane(SESSION).await;
    let refused = [
        (GroupId::META, create(&stream, BINARY)),
        (GroupId(1), Op::CreateBucket(bucket.clone(), Ack::Quorum)),
        (GroupId(1), Op::DeleteBucket(bucket.clone())),
    ];
    for (seq, (group, op)) in refused.into_iter().enumerate() {
        assert_eq!(lane.ask(seq as u64, group, &op).await, Err(Error::Malformed), "{op:?}");
    }
    assert_eq!(world.describe(&stream).await, Err(Error::StreamNotFound));
    assert_eq!(world.submit(Op::DeleteBucket(bucket)).await, Err(Error::BucketNotFound));
}

/// Sends frames without taking answers: all that the credit allows, and one more.
async fn overdraw(frame: &[Op], frames: u64) {
    let world = World::start().await;
    let group = world.group_of(&key("nowhere"));
    let mut lane = world.lane(SESSION).await;
    let taken = async || world.metric("ursula_node_frame_ops_count") as u64;
    let before = taken().await;
    let per_frame = frame.len() as u64;
    for number in 0..frames {
        let ops = (0..).zip(frame).map(|(i, op)| (number * per_frame + i, group, op.clone()));
        lane.send(&ops.collect::<Vec<_>>()).await;
    }
    eventually("the node took them", async || taken().await == before + frames).await;
    let mut answered = 0;
    let cut = loop {
        match lane.answer().await {
            Ok(_) => answered += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(cut, Error::Overloaded);
    assert!(answered <= (frames - 1) * per_frame, "{answered} answers");
}

#[tokio::test]
async fn a_lane_that_takes_no_answers_is_cut() {
    let lane = World::start().await.lane(SESSION).await;
    let (ops, bytes) = (u64::from(lane.credit_ops), lane.credit_bytes);
    assert!(ops.is_multiple_of(1024) && bytes.is_multiple_of(1 << 20));
    let key = key("nowhere");
    overdraw(&vec![Op::Delete(key.clone()); 1024], ops / 1024 + 1).await;
    // Their names come on top of the bodies.
    overdraw(&[append(&key, BINARY, vec![0; 1 << 20])], bytes >> 20).await;
}

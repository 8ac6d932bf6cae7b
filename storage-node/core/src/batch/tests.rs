//! The bytes of a batch: what they are, that they come back, that damage is an error.

use proptest::prelude::*;
use ursula_common::verb::{Ack, Append, BucketStep, Lifetime, Op, Producer, Reply, Retention, SagaStep};
use ursula_common::{BucketName, ContentType, Error, Offset, SagaId, StreamKey, verb};

use super::*;

fn key() -> StreamKey {
    StreamKey::parse("default", "a/b").expect("a name")
}

fn commands() -> Vec<Command> {
    let append = Append {
        key: key(),
        content_type: Some(ContentType::parse("text/plain")),
        body: Bytes::from_static(b"hello"),
        close: true,
        producer: Some(Producer { id: "p".into(), epoch: 1, seq: 2 }),
        stream_seq: Some("s".into()),
        expected_offset: Some(Offset(0)),
    };
    let create = verb::Create {
        key: key(),
        content_type: None,
        lifetime: Lifetime::Ttl(60),
        closed: false,
        body: Bytes::from_static(b"first"),
        fork: Some(verb::ForkFrom { source: key(), offset: Some(Offset(7)), sub_offset: 2 }),
        numbered: false,
        retention: Retention::default(),
    };
    let step = BucketStep { bucket: BucketName::default_bucket(), order: 3, ack: Ack::Quorum };
    let saga = |outcome| SagaStep { saga: SagaId(5), message: 2, outcome };
    let ops = [
        Op::Append(append),
        Op::Create(create),
        Op::Delete(key()),
        Op::Touch(key()),
        Op::Expire,
        Op::InstallBucket(step),
        Op::SagaStep(saga(Ok(Reply::Done))),
        Op::SagaStep(saga(Err(Error::NOT_HERE))),
    ];
    let origin = Origin { session: SessionId(0x0102_0304_0506_0708), seq: 300, acked: 2 };
    let command = |(n, op)| Command { at: Millis(1000 + n as u64), origin: (n == 0).then_some(origin), op };
    ops.into_iter().enumerate().map(command).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// These bytes lie in the logs of running clusters: the test may grow, its lines may not change.
#[test]
fn golden_bytes() {
    let one = |index: usize| hex(&encode_batch(&commands()[index..=index]));
    assert_eq!(hex(&encode_batch(&[])), "01");
    // at, session, seq, acked; key, type, body, close, producer, stream-seq, expected offset.
    let append = [
        "010a4a08e807120e09080706050403020110ac0218021a351233",
        "0a0e0a0764656661756c741203612f62120a746578742f706c61696e1a0568656c6c6f20012a070a0170100118023201733800",
    ];
    assert_eq!(one(0), append.concat());
    assert_eq!(one(4), "010a0808ec071a03820400");
}

#[test]
fn a_batch_comes_back() {
    let bytes = Bytes::from(encode_batch(&commands()));
    assert_eq!(decode_batch(bytes), Ok(commands()));
    assert_eq!(decode_batch(Bytes::from(encode_batch(&[]))), Ok(Vec::new()));
}

#[test]
fn bodies_are_slices_of_the_batch() {
    let bytes = Bytes::from(encode_batch(&commands()));
    let decoded = decode_batch(bytes.clone()).expect("decoded");
    let Op::Append(append) = &decoded[0].op else { panic!("an append comes first") };
    assert!(bytes.as_ptr_range().contains(&append.body.as_ptr()));
}

/// Whoever seals a batch need not decode it: with ops that came encoded, in a larger frame, and with others.
#[test]
fn a_sealed_batch_is_what_its_bytes_say() {
    let proposed = |(n, command): (usize, Command)| {
        let frame = Bytes::from([b"before", &wire::encode_op(&command.op)[..], b"after"].concat());
        let encoded = frame.slice(6..frame.len() - 5);
        let op = wire::decode_op(encoded.clone()).expect("an op");
        Proposed { command: Command { op, ..command }, encoded: (n % 4 != 1).then_some(encoded) }
    };
    let (bytes, sealed) = seal_batch(commands().into_iter().enumerate().map(proposed).collect());
    assert_eq!(bytes, encode_batch(&commands()));
    assert_eq!(sealed, commands());
    for command in &sealed[..2] {
        let (Op::Append(verb::Append { body, .. }) | Op::Create(verb::Create { body, .. })) = &command.op else {
            panic!("the first two have bodies")
        };
        assert!(bytes.as_ptr_range().contains(&body.as_ptr()));
    }
}

#[test]
fn other_versions_are_refused() {
    assert_eq!(decode_batch(Bytes::new()), Err(CodecError::Damaged));
    assert_eq!(decode_batch(Bytes::from_static(&[2])), Err(CodecError::UnknownVersion(2)));
    assert_eq!(decode_batch(Bytes::from_static(&[1, 0x0a])), Err(CodecError::Damaged));
    // An entry without an op.
    assert_eq!(decode_batch(Bytes::from_static(&[1, 0x0a, 0])), Err(CodecError::Damaged));
}

proptest! {
    #[test]
    fn noise_is_an_error_and_no_panic(noise: Vec<u8>) {
        let _ = decode_batch([&[VERSION], &noise[..]].concat().into());
    }

    #[test]
    fn damage_is_an_error_or_another_batch(at in 0..1000usize, flip in 1..=255u8, cut in 0..1000usize) {
        let mut bytes = encode_batch(&commands());
        let (at, cut) = (at % bytes.len(), cut % bytes.len());
        bytes[at] ^= flip;
        if let Ok(other) = decode_batch(bytes.clone().into()) {
            prop_assert_eq!(decode_batch(encode_batch(&other).into()), Ok(other));
        }
        bytes.truncate(cut);
        let _ = decode_batch(bytes.into());
    }
}

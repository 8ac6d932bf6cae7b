//! Random ops of clients, the same for the same seed on every machine. Few names, so that they meet.

use bytes::Bytes;
use ursula_common::verb::{Ack, Append, Create, ForkFrom, Lifetime, Op, Producer, Retention, Trim};
use ursula_common::verb::{PublishSnapshot, RemoveSnapshot, SnapshotCondition};
use ursula_common::{ContentType, Millis, Offset, StreamKey};

use super::world::{bucket, key};

pub(super) const BUCKETS: [&str; 3] = ["default", "bucket-1", "bucket-2"];

/// SplitMix64.
pub(super) struct Dice(pub(super) u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub(super) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    pub(super) fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize].clone()
    }

    fn key(&mut self) -> StreamKey {
        let bucket = self.pick(&["default", "default", "default", "default", "bucket-1", "bucket-2"][..]);
        let name = self.pick(&["a1", "a2", "a3", "b1", "b2", "b3"][..]);
        key(&format!("{bucket}:{name}"))
    }

    fn content_type(&mut self) -> Option<ContentType> {
        let text = match self.below(20) {
            0 => return None,
            1 => "application/json",
            2..6 => "TEXT/plain; x",
            _ => "text/plain",
        };
        Some(ContentType::parse(text))
    }

    fn body(&mut self) -> Bytes {
        let len = self.below(6);
        (0..len).map(|_| b'a' + self.below(26) as u8).collect()
    }

    fn lifetime(&mut self, now: u64) -> Lifetime {
        match self.below(10) {
            0 => Lifetime::ExpiresAt { text: "soon".into(), at: Millis(now + 3000) },
            1..4 => Lifetime::Ttl(self.below(20)),
            _ => Lifetime::Forever,
        }
    }

    fn retention(&mut self) -> Retention {
        Retention {
            max_age: self.chance(20).then(|| 1 + self.below(3)),
            max_bytes: self.chance(20).then(|| 1 + self.below(60)),
            snapshot: self.chance(30),
        }
    }

    fn offset(&mut self, percent: u64) -> Option<Offset> {
        self.chance(percent).then(|| Offset(self.below(12)))
    }

    fn condition(&mut self) -> SnapshotCondition {
        match self.below(10) {
            0 => SnapshotCondition::Absent,
            1..3 => SnapshotCondition::Is([self.below(3) as u8; 32]),
            _ => SnapshotCondition::Any,
        }
    }

    /// What has to do with snapshots; of uploads only of which stream they are.
    fn snapshot_op(&mut self) -> Op {
        let (key, at) = (self.key(), Offset(self.below(20)));
        let text = ContentType::parse("text/plain");
        match self.below(100) {
            0..35 => {
                let lifetime = if self.chance(5) { Lifetime::Forever } else { Lifetime::Ttl(1 + self.below(30)) };
                Op::Create(Create {
                    key: key.companion(0),
                    content_type: Some(text),
                    lifetime,
                    closed: false,
                    body: self.body(),
                    fork: None,
                    numbered: self.chance(70),
                    retention: Retention { snapshot: self.chance(5), ..Retention::default() },
                })
            }
            35..80 => Op::PublishSnapshot(PublishSnapshot {
                key,
                at,
                cut: None,
                upload: 0,
                content_type: text,
                bytes: self.below(6),
                digest: [self.below(3) as u8; 32],
                condition: self.condition(),
            }),
            80..85 => Op::RemoveSnapshot(RemoveSnapshot { key, at, condition: self.condition() }),
            85..90 => Op::Delete(key.companion(0)),
            90..93 => Op::Touch(key.companion(0)),
            _ => Op::Append(Append {
                key: key.companion(0),
                content_type: Some(text),
                body: Bytes::from_static(b"x"),
                close: false,
                producer: None,
                stream_seq: None,
                expected_offset: None,
            }),
        }
    }

    /// Any op of a client.
    pub(super) fn op(&mut self, now: u64) -> Op {
        if self.chance(20) {
            return self.snapshot_op();
        }
        let key = self.key();
        match self.below(100) {
            0..55 => {
                let close = self.chance(4);
                let body = if close { self.body() } else { Bytes::from_static(b"x") };
                let producer = self.chance(50).then(|| Producer {
                    id: self.pick(&["p", "q"][..]).into(),
                    epoch: self.below(2),
                    seq: self.below(3),
                });
                let stream_seq = self.chance(15).then(|| self.below(30).to_string().into());
                let expected_offset = self.offset(10);
                let content_type = self.content_type();
                Op::Append(Append { key, content_type, body, close, producer, stream_seq, expected_offset })
            }
            55..85 => {
                let fork = self.chance(55).then(|| {
                    let offset = self.offset(50);
                    let sub_offset = if offset.is_some() && self.chance(30) { self.below(4) } else { 0 };
                    ForkFrom { source: self.key(), offset, sub_offset }
                });
                let (content_type, lifetime, body) = (self.content_type(), self.lifetime(now), self.body());
                Op::Create(Create {
                    key,
                    content_type,
                    lifetime,
                    closed: self.chance(5),
                    body,
                    fork,
                    numbered: self.chance(70),
                    retention: self.retention(),
                })
            }
            85..90 => Op::Delete(key),
            90..94 => Op::Trim(Trim { key, to: Offset(self.below(20)), cut: None }),
            94..96 => Op::Touch(key),
            96..98 => {
                let ack = if self.chance(50) { Ack::Offloaded } else { Ack::Quorum };
                Op::CreateBucket(bucket(self.pick(&BUCKETS[..])), ack)
            }
            _ => Op::DeleteBucket(bucket(self.pick(&BUCKETS[..]))),
        }
    }
}

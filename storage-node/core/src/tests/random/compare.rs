//! Looks at the walk: what clients see of streams and buckets is what the model says.

use super::*;

impl Walk {
    pub(super) fn compare_key(&mut self, op: &Op) {
        if let Some(key) = op.stream_key() {
            self.compare(key);
        }
    }

    pub(super) fn observe_key(&mut self, op: &Op) {
        if let Some(key) = op.stream_key() {
            self.observe(key);
        }
    }

    /// Lets the model know where a stream begins, if readers can see it.
    pub(super) fn observe(&mut self, key: &StreamKey) {
        if let Ok(info) = self.world.state(home(key)).info(key, self.world.now) {
            self.model.observe(key, info.earliest);
        }
    }

    pub(super) fn compare_all(&mut self) {
        for bucket in BUCKETS {
            for name in ["a1", "a2", "a3", "b1", "b2", "b3"] {
                self.compare(&key(&format!("{bucket}:{name}")));
            }
        }
        for bucket in BUCKETS {
            let expected = match self.meta.get(bucket) {
                None => Err(Error::BucketNotFound),
                Some((true, _)) => Err(Error::BucketBusy),
                Some((false, ack)) => Ok(*ack),
            };
            assert_eq!(self.world.state(GroupId::META).bucket(&super::super::world::bucket(bucket)), expected);
        }
    }

    fn compare(&mut self, key: &StreamKey) {
        self.observe(key);
        let name = format!("{}:{}", key.bucket, key.name);
        let seen = self.world.read(&name);
        let closed = self.world.info(&name).is_ok_and(|info| info.closed);
        let expected = self.model.read(key);
        let expected_closed = expected.as_ref().is_ok_and(|(_, closed, _)| *closed);
        let first = self.world.info(&name).map(|info| info.earliest);
        assert_eq!(first.ok(), expected.as_ref().ok().map(|(.., first)| *first), "{name}");
        let expected = expected.map(|(bytes, ..)| String::from_utf8_lossy(bytes).into_owned());
        assert_eq!((seen, closed), (expected, expected_closed), "{name}");
        self.compare_snapshot(key);
        if let (Ok(info), Some(stream)) = (self.world.info(&name), self.model.streams.get(key))
            && let Some((at, own)) = self.world.rings.get(&(home(key), info.id)).filter(|(_, own)| !own.is_empty())
        {
            // What is too old goes when somebody comes by.
            let is_exact = info.retention.max_age.is_none();
            assert!(
                *at == stream.floor() || !is_exact && *at < stream.floor(),
                "{name}: {} bytes from {at}",
                own.len()
            );
        }
    }
}

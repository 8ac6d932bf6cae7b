//! Forks whose source is in another group, on another core: where they begin, what they inherit, and
//! when a source that was deleted goes.

use ursula_common::verb::{Create, Op};
use ursula_common::{Error, Offset, StreamKey};

use super::world::{BINARY, CORES, JSON, Range, TEXT, World, append, appended, create, created, eventually, fork};

/// Streams in groups 1, 2, 3 and so on: each is on another core than the one before.
fn chain<const N: usize>(world: &World, name: &str) -> [StreamKey; N] {
    const { assert!(CORES > 1, "neighbours are on different cores") };
    std::array::from_fn(|i| world.key_in(i as u32 + 1, name))
}

async fn stream(world: &mut World, key: &StreamKey, content_type: &str, records: &[&'static str]) {
    world.create(key, content_type).await;
    for record in records {
        world.append(key, content_type, *record).await;
    }
}

#[tokio::test]
async fn a_fork_without_an_offset_begins_at_the_tail_and_goes_its_own_way() {
    let mut world = World::start().await;
    let [source, forked] = chain(&world, "tail");
    stream(&mut world, &source, TEXT, &["both "]).await;
    let made = created(world.submit(fork(&forked, &source, None, 0)).await);
    assert_eq!((made.new, made.tail, made.content_type.as_str()), (true, Offset(5), TEXT));
    world.append(&source, TEXT, "source").await;
    world.append(&forked, TEXT, "fork").await;
    assert_eq!(world.content(&source, 0).await, b"both source");
    assert_eq!(world.content(&forked, 0).await, b"both fork");
    let link = world.describe(&forked).await.expect("a fork").fork.expect("a link");
    assert_eq!((link.source, link.at, link.depth), (source, Offset(5), 1));
}

#[tokio::test]
async fn a_sub_offset_counts_bytes_within_the_record() {
    let mut world = World::start().await;
    let [source, _] = chain(&world, "bytes");
    stream(&mut world, &source, BINARY, &["hello", "world!"]).await;
    let whole = b"helloworld!";
    // Anchor and sub-offset; an anchor inside a record counts what is left of it.
    let places = [(0, 0, 0), (0, 5, 5), (5, 0, 5), (5, 3, 8), (5, 6, 11), (7, 2, 9), (11, 0, 11)];
    for (i, (anchor, sub_offset, at)) in places.into_iter().enumerate() {
        let forked = world.key_in(2, &format!("at-{i}"));
        let made = created(world.submit(fork(&forked, &source, Some(anchor), sub_offset)).await);
        assert_eq!(made.tail, Offset(at), "{anchor} and {sub_offset}");
        assert_eq!(world.content(&forked, 0).await, &whole[..at as usize]);
        world.append(&forked, BINARY, "+").await;
        assert_eq!(world.content(&forked, 0).await, [&whole[..at as usize], b"+"].concat());
        assert!(!created(world.submit(fork(&forked, &source, Some(anchor), sub_offset)).await).new);
    }
    let nowhere = world.key_in(2, "nowhere");
    for (anchor, sub_offset) in [(0, 6), (5, 7), (7, 5), (11, 1), (0, u64::MAX)] {
        let refused = world.submit(fork(&nowhere, &source, Some(anchor), sub_offset)).await;
        assert_eq!(refused, Err(Error::ForkSubOffsetInvalid), "{anchor} and {sub_offset}");
    }
    let past = world.submit(fork(&nowhere, &source, Some(12), 0)).await;
    assert_eq!(past, Err(Error::ForkOffsetInvalid { tail: Offset(11) }));
    assert_eq!(world.submit(fork(&nowhere, &source, None, 1)).await, Err(Error::ForkSubOffsetInvalid));
    let unknown = world.key_in(3, "unknown");
    assert_eq!(world.submit(fork(&nowhere, &unknown, Some(0), 1)).await, Err(Error::ForkSourceNotFound));
    assert_eq!(world.describe(&nowhere).await, Err(Error::StreamNotFound));
}

#[tokio::test]
async fn a_sub_offset_counts_messages_of_json() {
    let mut world = World::start().await;
    let [source, _] = chain(&world, "json");
    let records = ["1,2,3,", r#"{"a":[1,2]},"x,y]",[],"#];
    stream(&mut world, &source, JSON, &records).await;
    let whole = records.concat().into_bytes();
    let places = [(0, 1, 2), (0, 3, 6), (2, 1, 4), (6, 0, 6), (6, 1, 18), (6, 2, 25), (6, 3, 28), (18, 1, 25)];
    for (i, (anchor, messages, at)) in places.into_iter().enumerate() {
        let forked = world.key_in(2, &format!("at-{i}"));
        let made = created(world.submit(fork(&forked, &source, Some(anchor), messages)).await);
        assert_eq!((made.tail, made.content_type.is_json()), (Offset(at), true), "{anchor} and {messages}");
        assert_eq!(world.content(&forked, 0).await, &whole[..at as usize]);
    }
    let nowhere = world.key_in(2, "nowhere");
    for (anchor, messages) in [(0, 4), (6, 4), (18, 3), (2, 3)] {
        let refused = world.submit(fork(&nowhere, &source, Some(anchor), messages)).await;
        assert_eq!(refused, Err(Error::ForkSubOffsetInvalid), "{anchor} and {messages}");
    }
    // Inside a message, and inside a string that holds commas.
    for inside in [1, 7, 20] {
        let refused = world.submit(fork(&nowhere, &source, Some(inside), 0)).await;
        assert_eq!(refused, Err(Error::ForkOffsetInvalid { tail: Offset(28) }), "at {inside}");
    }
}

#[tokio::test]
async fn bytes_are_inherited_through_three_sources() {
    let mut world = World::start().await;
    let [a, b, c, d] = chain(&world, "chain");
    stream(&mut world, &a, TEXT, &["aaa", "AAA"]).await;
    created(world.submit(fork(&b, &a, Some(3), 1)).await);
    world.append(&b, TEXT, "bbb").await;
    created(world.submit(fork(&c, &b, None, 0)).await);
    world.append(&c, TEXT, "ccc").await;
    created(world.submit(fork(&d, &c, Some(7), 2)).await);
    world.append(&d, TEXT, "ddd").await;
    // What the sources get later is not inherited.
    for source in [&a, &b, &c] {
        world.append(source, TEXT, "late").await;
    }
    let whole = b"aaaAbbbccddd";
    for from in 0..=whole.len() {
        assert_eq!(world.content(&d, from as u64).await, &whole[from..], "from {from}");
    }
    assert_eq!(world.describe(&d).await.expect("a fork").fork.expect("a link").depth, 3);
    // The fork itself says only where its source has the bytes.
    let own = world.read(&d, Range::from(2)).await.expect("a page");
    assert_eq!((own.start, own.next, own.bytes()), (2, 2, Vec::new()));
    assert_eq!(own.info.fork.expect("a link").source, c);
}

#[tokio::test]
async fn a_sub_offset_reaches_into_what_the_source_inherited() {
    let mut world = World::start().await;
    let [a, b, c] = chain(&world, "deep");
    stream(&mut world, &a, BINARY, &["first", "abcdefgh"]).await;
    // The middle one has the second record cut after five bytes, and bytes of its own after them.
    created(world.submit(fork(&b, &a, Some(5), 5)).await);
    world.append(&b, BINARY, "XYZ").await;
    for (i, (anchor, sub_offset, content)) in
        [(5, 3, "firstabc"), (5, 5, "firstabcde"), (10, 2, "firstabcdeXY"), (0, 1, "f"), (7, 1, "firstabc")]
            .into_iter()
            .enumerate()
    {
        let forked = world.key_in(3, &format!("inside-{i}"));
        let made = created(world.submit(fork(&forked, &b, Some(anchor), sub_offset)).await);
        assert_eq!(made.tail, Offset(content.len() as u64), "{anchor} and {sub_offset}");
        assert_eq!(world.content(&forked, 0).await, content.as_bytes());
    }
    // The record ends for the fork where the fork was cut.
    assert_eq!(world.submit(fork(&c, &b, Some(5), 6)).await, Err(Error::ForkSubOffsetInvalid));
    // One more hop: the record is found in the source of the source.
    created(world.submit(fork(&c, &b, Some(10), 1)).await);
    let last = world.key_in(4, "last");
    created(world.submit(fork(&last, &c, Some(6), 2)).await);
    assert_eq!(world.content(&last, 0).await, b"firstabc");
}

#[tokio::test]
async fn messages_are_counted_in_what_the_source_inherited() {
    let mut world = World::start().await;
    let [a, b, c] = chain(&world, "deep-json");
    stream(&mut world, &a, JSON, &["[1],[2],[3],[4],"]).await;
    created(world.submit(fork(&b, &a, Some(0), 3)).await);
    world.append(&b, JSON, "5,").await;
    created(world.submit(fork(&c, &b, Some(4), 2)).await);
    assert_eq!(world.content(&c, 0).await, b"[1],[2],[3],");
    let nowhere = world.key_in(3, "nowhere");
    assert_eq!(world.submit(fork(&nowhere, &b, Some(4), 3)).await, Err(Error::ForkSubOffsetInvalid));
    let inside = Err(Error::ForkOffsetInvalid { tail: Offset(14) });
    assert_eq!(world.submit(fork(&nowhere, &b, Some(5), 0)).await, inside);
}

#[tokio::test]
async fn sources_that_were_deleted_go_with_their_last_fork() {
    let mut world = World::start().await;
    let [a, b, c] = chain(&world, "cascade");
    let empty = world.metric("ursula_node_ring_used_bytes");
    stream(&mut world, &a, BINARY, &["from a, "]).await;
    created(world.submit(fork(&b, &a, None, 0)).await);
    world.append(&b, BINARY, "from b, ").await;
    created(world.submit(fork(&c, &b, None, 0)).await);
    world.append(&c, BINARY, "from c").await;
    eventually("streams are counted", async || world.metric("ursula_node_streams") == 3.0).await;
    assert!(world.metric("ursula_node_ring_used_bytes") > empty);

    world.delete(&a).await;
    world.delete(&b).await;
    for gone in [&a, &b] {
        assert_eq!(world.describe(gone).await, Err(Error::StreamGone));
        assert_eq!(world.submit(append(gone, BINARY, "x")).await, Err(Error::StreamGone));
        let taken = world.submit(create(gone, BINARY)).await;
        assert!(matches!(taken, Err(Error::StreamExists { .. })), "{taken:?}");
        let other = world.key_in(4, "other");
        assert_eq!(world.submit(fork(&other, gone, None, 0)).await, Err(Error::ForkSourceGone));
    }
    assert_eq!(world.content(&c, 0).await, b"from a, from b, from c");

    world.delete(&c).await;
    eventually("the cascade ends", async || {
        world.describe(&a).await == Err(Error::StreamNotFound) && world.describe(&b).await == Err(Error::StreamNotFound)
    })
    .await;
    eventually("their memory is free", async || world.metric("ursula_node_ring_used_bytes") == empty).await;
    eventually("no stream is left", async || world.metric("ursula_node_streams") == 0.0).await;
    for key in [&a, &b, &c] {
        assert!(world.create(key, BINARY).await.new);
    }
}

#[tokio::test]
async fn a_fork_may_bring_content_and_be_closed() {
    let mut world = World::start().await;
    let [source, forked] = chain(&world, "full");
    stream(&mut world, &source, BINARY, &["inherited "]).await;
    let Op::Create(plain) = fork(&forked, &source, None, 0) else { unreachable!() };
    let op = Op::Create(Create { body: "own".into(), closed: true, ..plain });
    let made = created(world.submit(op.clone()).await);
    assert_eq!((made.new, made.closed, made.tail), (true, true, Offset(13)));
    assert_eq!(world.content(&forked, 0).await, b"inherited own");
    assert!(!created(world.submit(op).await).new);
    let closed = Err(Error::StreamClosed { tail: Offset(13) });
    assert_eq!(world.submit(append(&forked, BINARY, "x")).await, closed);
    assert_eq!(appended(world.submit(append(&source, BINARY, "more")).await).tail, Offset(14));
}

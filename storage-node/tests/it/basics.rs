//! Every verb once over the wire, and where streams and buckets are.

use ursula_common::verb::{Ack, Appended, Created, Lifetime, Op, ReadFrom, Reply};
use ursula_common::{BucketName, ContentType, Error, GroupId, Offset, StreamKey};
use ursula_proto::{TargetRef, from_status, v1};

use super::world::{BINARY, GROUPS, Range, TEXT, World, append, close, create, created, key, within};

#[tokio::test]
async fn a_stream_is_created_once_and_keeps_what_is_appended() {
    let mut world = World::start().await;
    let key = key("notes");
    let made = Created { new: true, tail: Offset::ZERO, closed: false, content_type: ContentType::parse(TEXT) };
    assert_eq!(world.create(&key, TEXT).await, made);
    assert_eq!(world.create(&key, TEXT).await, Created { new: false, ..made });
    let exists = Error::StreamExists { tail: Offset::ZERO, closed: false };
    assert_eq!(world.submit(create(&key, BINARY)).await, Err(exists));

    let after = |tail, closed| Appended { tail: Offset(tail), closed, duplicate: false, producer: None };
    assert_eq!(world.append(&key, TEXT, "one ").await, after(4, false));
    assert_eq!(world.append(&key, TEXT, "two").await, after(7, false));
    let expected = ContentType::parse(TEXT);
    assert_eq!(world.submit(append(&key, BINARY, "no")).await, Err(Error::ContentTypeMismatch { expected }));
    assert_eq!(world.submit(close(&key, "")).await, Ok(Reply::Appended(after(7, true))));
    assert_eq!(world.submit(append(&key, TEXT, "no")).await, Err(Error::StreamClosed { tail: Offset(7) }));

    let info = world.describe(&key).await.expect("a stream");
    assert_eq!((info.tail, info.closed, info.earliest), (Offset(7), true, Offset::ZERO));
    assert_eq!((info.content_type.as_str(), &info.lifetime, &info.fork), (TEXT, &Lifetime::Forever, &None));
    for (from, wanted) in [(ReadFrom::Start, "one two"), (ReadFrom::At(Offset(4)), "two"), (ReadFrom::Now, "")] {
        let got = world.read(&key, Range::at(from)).await.expect("a page");
        assert_eq!((got.bytes(), got.next), (wanted.as_bytes().to_vec(), 7), "from {from:?}");
        assert_eq!(got.info, info);
    }

    world.delete(&key).await;
    assert_eq!(world.describe(&key).await, Err(Error::StreamNotFound));
    assert_eq!(world.read(&key, Range::from(0)).await.expect_err("gone"), Error::StreamNotFound);
    assert_eq!(world.submit(Op::Delete(key)).await, Err(Error::StreamNotFound));
}

#[tokio::test]
async fn a_stream_that_comes_again_is_another_one() {
    let mut world = World::start().await;
    let key = key("again");
    world.create(&key, BINARY).await;
    world.append(&key, BINARY, "old").await;
    let old = world.describe(&key).await.expect("a stream").id;
    world.delete(&key).await;
    world.create(&key, BINARY).await;
    let info = world.describe(&key).await.expect("a stream");
    assert_ne!(info.id, old);
    assert_eq!((info.tail.bytes(), world.content(&key, 0).await), (0, Vec::new()));

    world.append(&key, BINARY, "new, and longer").await;
    let refused = Err(Error::OffsetGone { earliest: info.earliest });
    for of_the_old in [1, 3, 4] {
        let got = world.read(&key, Range::from(of_the_old)).await;
        assert_eq!(got.map(drop), refused, "at {of_the_old}");
    }
    let next = Offset::first_of(info.earliest.0 / Offset::first_of(1).0 + 1);
    assert_eq!(world.read(&key, Range::from(next.0)).await.map(drop), refused, "of one that comes later");
    assert_eq!(world.content(&key, 0).await, b"new, and longer");
    assert_eq!(world.content(&key, info.earliest.0 + 5).await, b"and longer");
}

async fn names(world: &World, bucket: &str, prefix: &str, after: &str, limit: u32) -> Result<Vec<String>, Error> {
    let mut names = Vec::new();
    for group in 1..=GROUPS {
        let (bucket, prefix, after) = (bucket.to_owned(), prefix.to_owned(), after.to_owned());
        let request = v1::ListRequest { group, bucket, prefix, after, limit };
        let listed = within(world.client.clone().list(request)).await.map_err(|status| from_status(&status))?;
        let items = listed.into_inner().items;
        assert!(items.len() <= limit as usize);
        let listed: Vec<String> = items.into_iter().map(|item| item.name).collect();
        assert!(listed.is_sorted(), "a group lists in the order of names");
        names.extend(listed);
    }
    names.sort();
    Ok(names)
}

#[tokio::test]
async fn a_bucket_is_made_in_every_group_and_removed_when_it_is_empty() {
    let mut world = World::start().await;
    let bucket = BucketName::parse("logs").expect("a name");
    let describe = async |world: &World| {
        let request = v1::DescribeBucketRequest { bucket: "logs".to_owned() };
        within(world.client.clone().describe_bucket(request)).await.map(drop).map_err(|status| from_status(&status))
    };
    let keys: Vec<StreamKey> =
        (0..40).map(|i| StreamKey::parse("logs", &format!("{}/{i:02}", ["a", "b"][i % 2])).expect("a name")).collect();

    assert_eq!(describe(&world).await, Err(Error::BucketNotFound));
    assert_eq!(world.submit(create(&keys[0], BINARY)).await, Err(Error::BucketNotFound));
    assert_eq!(names(&world, "logs", "", "", 10).await, Err(Error::BucketNotFound));
    assert_eq!(world.submit(Op::CreateBucket(bucket.clone(), Ack::Quorum)).await, Ok(Reply::Bucket(true)));
    assert_eq!(world.submit(Op::CreateBucket(bucket.clone(), Ack::Quorum)).await, Ok(Reply::Bucket(false)));
    assert_eq!(describe(&world).await, Ok(()));

    for key in &keys {
        created(world.submit(create(key, BINARY)).await);
    }
    let all: Vec<String> = {
        let mut all: Vec<String> = keys.iter().map(|key| key.name.to_string()).collect();
        all.sort();
        all
    };
    assert_eq!(names(&world, "logs", "", "", 1000).await, Ok(all.clone()));
    assert_eq!(names(&world, "logs", "b/", "", 1000).await, Ok(all[20..].to_vec()));
    assert_eq!(names(&world, "logs", "", &all[30], 1000).await, Ok(all[31..].to_vec()));
    let first = names(&world, "logs", "", "", 1).await.expect("a listing");
    assert_eq!((first.len(), &first[0]), (GROUPS as usize, &all[0]));

    assert_eq!(world.submit(Op::DeleteBucket(bucket.clone())).await, Err(Error::BucketNotEmpty));
    // The bucket is whole again in the groups that had nothing in it.
    for key in &keys {
        world.delete(key).await;
        created(world.submit(create(key, BINARY)).await);
        world.delete(key).await;
    }
    assert_eq!(world.submit(Op::DeleteBucket(bucket)).await, Ok(Reply::Done));
    assert_eq!(describe(&world).await, Err(Error::BucketNotFound));
    assert_eq!(world.submit(create(&keys[0], BINARY)).await, Err(Error::BucketNotFound));
    let default = Op::DeleteBucket(BucketName::default_bucket());
    assert_eq!(world.submit(default).await, Err(Error::BucketProtected));
}

#[tokio::test]
async fn a_group_that_is_not_here_is_led_elsewhere() {
    let world = World::start().await;
    let elsewhere = GroupId(GROUPS + 1);
    let key = key("anywhere");
    let mut lane = world.lane(1).await;
    assert_eq!(lane.ask(0, elsewhere, &create(&key, BINARY)).await, Err(Error::NOT_HERE));
    // The lane goes on.
    created(lane.ask(1, world.group_of(&key), &create(&key, BINARY)).await);

    let target = Some(TargetRef { group: elsewhere, key, inherited: None }.into());
    let describe = v1::DescribeRequest { target: target.clone(), touch: false };
    let status = within(world.client.clone().describe(describe)).await.expect_err("no such group");
    assert_eq!(from_status(&status), Error::NOT_HERE);
    let read = v1::ReadRequest { target: target.clone(), from: Some(ReadFrom::Start.into()), ..Default::default() };
    let status = within(world.client.clone().read(read)).await.expect_err("no such group");
    assert_eq!(from_status(&status), Error::NOT_HERE);
    let tail = v1::TailRequest { target, from: 0, stream_id: 1, tell_up_to_date: false };
    let mut events = within(world.client.clone().tail(tail)).await.expect("a call").into_inner();
    assert_eq!(from_status(&within(events.message()).await.expect_err("no such group")), Error::NOT_HERE);
}

#[tokio::test]
async fn the_topology_names_a_group_for_every_slot() {
    let world = World::start().await;
    let watch = |have_version| v1::WatchTopologyRequest { have_version };
    let mut news = within(world.client.clone().watch_topology(watch(0))).await.expect("a call").into_inner();
    let topology = within(news.message()).await.expect("no error").expect("a topology");
    let key = key("placed");
    assert_eq!(ursula_proto::slot_table(&topology).expect("a table").group_of(&key), world.group_of(&key));
    let groups: Vec<u32> = topology.groups.iter().map(|group| group.id).collect();
    assert_eq!(groups, (0..=GROUPS).collect::<Vec<_>>());
    assert!(topology.groups.iter().all(|group| group.replicas == [topology.nodes[0].id]));
}

#[tokio::test]
async fn two_nodes_in_one_process_know_nothing_of_each_other() {
    let (mut one, mut other) = (World::start().await, World::start().await);
    let key = key("same-name");
    let bucket = BucketName::parse("mine").expect("a name");
    one.create(&key, BINARY).await;
    one.append(&key, BINARY, "of one").await;
    assert_eq!(one.submit(Op::CreateBucket(bucket.clone(), Ack::Quorum)).await, Ok(Reply::Bucket(true)));
    assert_eq!(other.describe(&key).await, Err(Error::StreamNotFound));
    assert_eq!(other.submit(Op::DeleteBucket(bucket)).await, Err(Error::BucketNotFound));

    assert!(other.create(&key, BINARY).await.new);
    other.append(&key, BINARY, "of the other").await;
    assert_eq!(one.content(&key, 0).await, b"of one");
    assert_eq!(other.content(&key, 0).await, b"of the other");
    one.delete(&key).await;
    assert_eq!(other.content(&key, 0).await, b"of the other");
    within(one.node.stop()).await.expect("a stop");
    assert_eq!(other.content(&key, 0).await, b"of the other");
    let asked = one.describe(&key).await;
    assert_eq!(asked, Err(Error::Unavailable), "a node that has stopped answers all the same");
}

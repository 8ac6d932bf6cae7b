//! Snapshots are read page by page, and never look whole when they are not.

use std::sync::atomic::Ordering;

use ursula_common::limits::PAGE_BYTES_MAX;

use super::*;
use crate::tests::{quiet, within};

const AT: &str = "0000000000000000_0000000000000004";

fn tag(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold("\"".to_owned(), |tag, byte| tag + &format!("{byte:02x}")) + "\""
}

#[tokio::test(start_paused = true)]
async fn the_newest_and_the_one_at_an_offset() {
    let world = World::new();
    for path in ["/snapshot", &path(4)] {
        assert_eq!(refused(world.get(path, &[]).await).await, (404, "snapshot_not_found".into()));
    }
    world.publish(1, 4, &[b"{\"a\":", b"1}"]);
    for asked in ["/snapshot", &path(4)] {
        let response = world.get(asked, &[]).await;
        assert_eq!(response.status(), 200);
        let location = (asked == "/snapshot").then(|| format!("http://here/v1/stream/stream/snapshot/{AT}"));
        assert_eq!(header(&response, "content-location"), location.as_deref());
        let expected = [
            ("content-type", "application/json"),
            ("content-length", "7"),
            ("cache-control", "no-cache"),
            ("etag", &tag(b"{\"a\":1}")),
            ("stream-snapshot-offset", AT),
            ("stream-next-offset", AT),
        ];
        for (name, value) in expected {
            assert_eq!(header(&response, name), Some(value), "{asked}: {name}");
        }
        assert_eq!(text(response.into_body()).await, "{\"a\":1}");
        let visits = world.stream.visits.load(Ordering::Relaxed);
        let known = world.get(asked, &[("if-none-match", &tag(b"{\"a\":1}"))]).await;
        assert_eq!((known.status().as_u16(), header(&known, "stream-next-offset")), (304, Some(AT)));
        assert_eq!(world.stream.visits.load(Ordering::Relaxed), visits + 1, "an access");
        let other = world.get(asked, &[("if-none-match", &tag(b""))]).await;
        assert_eq!(text(other.into_body()).await, "{\"a\":1}");
    }
    assert_eq!(refused(world.get(&path(8), &[]).await).await, (404, "snapshot_not_found".into()));
    world.publish(2, 8, &[]);
    assert_eq!(refused(world.get(&path(4), &[]).await).await, (404, "snapshot_not_found".into()));
    assert_eq!(text(world.get(&path(8), &[]).await.into_body()).await, "");
}

#[tokio::test(start_paused = true)]
async fn one_page_is_held_at_a_time() {
    let world = World::new();
    let pieces = [vec![1; PAGE_BYTES_MAX], vec![2; PAGE_BYTES_MAX], vec![3; 100]];
    world.publish(1, 4, &pieces.each_ref().map(Vec::as_slice));
    for path in ["/snapshot", "/bootstrap"] {
        let mut body = world.get(path, &[]).await.into_body();
        let (mut whole, mut most) = (Vec::new(), 0);
        while let Some(frame) = body.frame().await {
            whole.extend_from_slice(&frame.expect("no error").into_data().expect("data"));
            most = most.max(world.metric("ursula_gateway_page_bytes"));
        }
        let all = pieces.concat();
        assert!(whole == all || whole.windows(all.len()).any(|window| window == all), "{path}");
        assert_eq!(most, PAGE_BYTES_MAX, "{path}");
        drop(body);
        assert_eq!(world.metric("ursula_gateway_page_bytes"), 0, "{path}");
    }
}

/// The bytes that come before the body breaks; it must not end.
async fn broken(mut body: Body) -> usize {
    let mut bytes = 0;
    loop {
        match within(body.frame()).await.expect("no end") {
            Ok(frame) => bytes += frame.into_data().expect("data").len(),
            Err(_) => return bytes,
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_breaks_off_when_its_rest_is_gone() {
    for path in ["/snapshot", "/bootstrap"] {
        let world = World::new();
        let companion = world.publish(1, 4, &[&[1; PAGE_BYTES_MAX], b"rest"]);
        let response = world.get(path, &[]).await;
        assert_eq!(response.status(), 200);
        companion.delete();
        assert!(broken(response.into_body()).await >= PAGE_BYTES_MAX, "{path}");
    }
    // The page after a snapshot is not one of another stream.
    let world = World::new();
    world.publish(1, 4, &[b"[1]"]);
    let response = world.get("/bootstrap", &[]).await;
    world.stream.replace();
    world.stream.append(b"another one");
    assert!(broken(response.into_body()).await > 0);
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_without_its_bytes_is_none() {
    type Loss = fn(&World);
    let gone: Loss = |world| world.publish(1, 4, &[b"lost"]).delete();
    let short: Loss = |world| {
        world.publish(1, 4, &[b"not ", b"whole"]);
        world.node.store(&companion(1), "application/octet-stream").append(b"not ");
    };
    let long: Loss = |world| world.publish(1, 4, &[b"more"]).append(b" than all");
    for lose in [gone, short, long] {
        let world = World::new();
        lose(&world);
        assert_eq!(refused(world.get("/snapshot", &[]).await).await, (404, "snapshot_not_found".into()));
        let whole = text(world.get("/bootstrap", &[]).await.into_body()).await;
        assert!(whole.contains("\r\n\r\none two three\r\n--ursula-"), "{whole}");
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_is_replaced_before_its_first_byte_is_looked_up_again() {
    let world = World::new();
    let old = world.publish(1, 4, &[b"old"]);
    old.fall_silent(true);
    let reading = tokio::spawn(world.ask(
        Request::get("/v1/stream/stream/snapshot").header("host", "here").body(Body::empty()).expect("a request"),
    ));
    quiet().await;
    world.publish(2, 8, &[b"new"]);
    old.delete();
    old.fall_silent(false);
    let response = within(reading).await.expect("no panic");
    assert_eq!(header(&response, "stream-snapshot-offset"), Some("0000000000000000_0000000000000008"));
    assert_eq!(text(response.into_body()).await, "new");
}

/// The parts of a bootstrap, without its boundary.
async fn parts(response: Response<Body>) -> Vec<(Vec<String>, String)> {
    assert_eq!((response.status().as_u16(), header(&response, "cache-control")), (200, Some("no-store")));
    let content_type = header(&response, "content-type").expect("a type").to_owned();
    let boundary = content_type.strip_prefix("multipart/mixed; boundary=").expect("a boundary");
    let whole = text(response.into_body()).await;
    let end = format!("\r\n--{boundary}--\r\n");
    let whole = whole.strip_prefix(&format!("--{boundary}\r\n")).and_then(|whole| whole.strip_suffix(&end));
    let between = format!("\r\n--{boundary}\r\n");
    let parts = whole.expect("parts").split(&between).map(|part| {
        let (head, body) = part.split_once("\r\n\r\n").expect("a head");
        let mut head: Vec<String> = head.split("\r\n").map(str::to_owned).collect();
        head.sort();
        (head, body.to_owned())
    });
    parts.collect()
}

#[tokio::test(start_paused = true)]
async fn a_bootstrap_is_the_snapshot_and_the_page_after_it() {
    let world = World::new();
    let page = |length: usize, text: &str| {
        let next = "stream-next-offset: 0000000000000000_0000000000000013".to_owned();
        let head = [format!("content-length: {length}"), "content-type: text/plain".into(), next];
        ([&head[..], &["stream-up-to-date: true".into()]].concat(), text.to_owned())
    };
    assert_eq!(parts(world.get("/bootstrap", &[]).await).await, [page(13, "one two three")]);
    world.publish(1, 4, &[b"[1]"]);
    let snapshot = |at: &str, bytes: &[u8]| {
        let digest = world.stream.info().snapshot.expect("a snapshot").digest;
        assert_eq!(digest, Sha256::digest(bytes)[..]);
        [
            format!("content-length: {}", bytes.len()),
            "content-type: application/json".into(),
            format!("etag: {}", tag(bytes)),
            format!("stream-next-offset: {at}"),
            format!("stream-snapshot-offset: {at}"),
        ]
    };
    let mut found = parts(world.get("/bootstrap", &[]).await).await;
    found[0].0.retain(|line| !line.starts_with("repr-digest: sha-256=:"));
    assert_eq!(found, [(snapshot(AT, b"[1]").to_vec(), "[1]".into()), page(9, "two three")]);
    world.publish(2, 13, &[]);
    let mut found = parts(world.get("/bootstrap", &[]).await).await;
    found[0].0.retain(|line| !line.starts_with("repr-digest: sha-256=:"));
    let at = "0000000000000000_0000000000000013";
    assert_eq!(found, [(snapshot(at, b"").to_vec(), String::new()), page(0, "")]);
    world.stream.delete();
    assert!(broken(world.get("/bootstrap", &[]).await.into_body()).await > 0);
}

//! The store against a server of S3's protocol, in this process, and against answers that go wrong.

mod faults;

use std::sync::Arc;

use aws_config::BehaviorVersion;
use aws_sdk_s3::config::Credentials;
use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use ursula_test_s3::S3;
use ursula_tests::{Garage, Moto};

use super::super::tests::{name, suite, suite_without_conditions};
use super::super::{Put, Store, StoreError};
use super::{S3Options, S3Store};

/// A server that gives every connection the same answer.
async fn answering(answer: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
    let answer: Arc<str> = answer.into();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let answer = answer.clone();
            tokio::spawn(async move {
                let mut head = vec![0; 16 << 10];
                drop(socket.read(&mut head).await);
                drop(socket.write_all(answer.as_bytes()).await);
            });
        }
    });
    endpoint
}

async fn store(endpoint: &str, bucket: &str, secret: &str, prefix: Option<&str>) -> S3Store {
    let options = S3Options { prefix: prefix.map(name), ..options(endpoint, bucket, "eu-central-1") };
    store_of(options, ["key", secret]).await
}

fn options(endpoint: &str, bucket: &str, region: &str) -> S3Options {
    S3Options {
        bucket: bucket.to_owned(),
        endpoint: Some(endpoint.to_owned()),
        region: Some(region.to_owned()),
        path_style: true,
        ..S3Options::default()
    }
}

async fn store_of(options: S3Options, [key, secret]: [&str; 2]) -> S3Store {
    let credentials = Credentials::new(key, secret, None, None, "test");
    S3Store::with(options, aws_config::defaults(BehaviorVersion::latest()).credentials_provider(credentials)).await
}

#[tokio::test]
async fn a_server_of_the_protocol_is_a_store() {
    let server = S3::start();
    suite(&store(server.endpoint(), S3::BUCKET, "secret", None).await).await;
}

#[tokio::test]
async fn a_server_that_shares_no_code_with_it_is_a_store() {
    let moto = tokio::task::spawn_blocking(Moto::start).await.expect("a server");
    suite(&store(moto.endpoint(), Moto::BUCKET, "any", None).await).await;
}

#[tokio::test]
#[ignore = "Garage takes long to install; `just garage` does, and runs this"]
async fn garage_is_a_store() {
    let garage = tokio::task::spawn_blocking(Garage::start).await.expect("a server");
    let options = options(garage.endpoint(), Garage::BUCKET, Garage::REGION);
    // It stores an object again, whatever the condition.
    suite_without_conditions(&store_of(options, Garage::CREDENTIALS).await).await;
}

#[tokio::test]
async fn a_prefix_is_a_store_of_its_own() {
    let server = S3::start();
    suite(&store(server.endpoint(), S3::BUCKET, "secret", Some("of/one")).await).await;
    suite(&store(server.endpoint(), S3::BUCKET, "secret", Some("of/other")).await).await;
}

#[tokio::test]
async fn what_is_wrong_is_said() {
    let server = S3::start();
    let object = name("an/object");
    let body = Bytes::from_static(b"body");

    let endpoint = answering(failure("404 Not Found", "NoSuchBucket")).await;
    let elsewhere = store(&endpoint, "nowhere", "secret", None).await;
    let missing = elsewhere.put(&object, body.clone()).await.expect_err("no bucket");
    assert!(matches!(missing, StoreError::NoPlace(_)), "{missing:?}");
    assert_eq!(missing.to_string(), "there is no bucket \"nowhere\"; create it, or correct its name in the settings");

    let stranger = store(server.endpoint(), S3::BUCKET, "wrong", None).await;
    let refused = stranger.put(&object, body.clone()).await.expect_err("wrong credentials");
    assert!(matches!(refused, StoreError::Denied(_)), "{refused:?}");

    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let nobody = store(&format!("http://{free}"), S3::BUCKET, "secret", None).await;
    assert!(nobody.put(&object, body).await.expect_err("nobody listens").is_transient());
}

fn response(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
}

fn failure(status: &str, code: &str) -> String {
    let body = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>said so</Message></Error>");
    response(status, "Content-Type: application/xml\r\n", &body)
}

#[tokio::test]
async fn answers_that_are_errors_are_told_apart() {
    let object = name("an/object");
    let transient = [
        failure("503 Slow Down", "SlowDown"),
        failure("500 Internal Server Error", "InternalError"),
        failure("409 Conflict", "ConditionalRequestConflict"),
        failure("400 Bad Request", "RequestTimeout"),
        response("502 Bad Gateway", "", "<html>not of S3</html>"),
        String::new(),
    ];
    for answer in transient {
        let store = store(&answering(answer.clone()).await, S3::BUCKET, "secret", None).await;
        let error = store.put(&object, Bytes::from_static(b"body")).await.expect_err("an error");
        assert!(error.is_transient(), "{answer}: {error:?}");
        let error = store.get(&object, 0..4).await.expect_err("an error");
        assert!(error.is_transient(), "{answer}: {error:?}");
    }
    for code in ["ExpiredToken", "InvalidToken"] {
        let store = store(&answering(failure("400 Bad Request", code)).await, S3::BUCKET, "secret", None).await;
        let error = store.get(&object, 0..4).await.expect_err("an error");
        assert!(matches!(error, StoreError::Denied(_)), "{code}: {error:?}");
    }
    let endpoint = answering(failure("412 Precondition Failed", "PreconditionFailed")).await;
    let store = store(&endpoint, S3::BUCKET, "secret", None).await;
    assert_eq!(store.put(&object, Bytes::from_static(b"body")).await.expect("an answer"), Put::Exists);
}

#[tokio::test]
async fn a_body_that_is_not_what_was_asked_for_is_not_believed() {
    let object = name("an/object");
    let partial = "Content-Range: bytes 0-3/100\r\n";
    // Fewer bytes than asked for, and more: a server that knows no ranges.
    for body in ["bod", "body and what comes after it"] {
        let store = store(&answering(response("200 OK", partial, body)).await, S3::BUCKET, "secret", None).await;
        let error = store.get(&object, 0..4).await.expect_err("not four bytes");
        assert!(matches!(error, StoreError::Damaged { .. }), "{body}: {error:?}");
    }
    // The connection ends in the middle of the body.
    let broken = format!("HTTP/1.1 206 Partial Content\r\n{partial}Content-Length: 4\r\nConnection: close\r\n\r\nbo");
    let store = store(&answering(broken).await, S3::BUCKET, "secret", None).await;
    assert!(store.get(&object, 0..4).await.expect_err("half a body").is_transient());
}

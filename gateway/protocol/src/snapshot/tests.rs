//! Heads of requests for snapshots.

use http::HeaderValue;

use super::*;

const AT: Offset = Offset(42);
/// SHA-256 of nothing.
const DIGEST: &str = "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:";
const TAG: &str = "\"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\"";

fn key() -> StreamKey {
    StreamKey::parse("logs", "a").expect("a valid key")
}

fn headers(lines: &[(HeaderName, &'static str)]) -> HeaderMap {
    lines.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))).collect()
}

fn parse(lines: &[(HeaderName, &'static str)]) -> Result<PublishParts, Rejection> {
    PublishParts::parse(key(), AT, &headers(lines))
}

fn of_nothing() -> [u8; 32] {
    etag::to_digest(TAG).expect("a tag")
}

fn publish(parts: PublishParts) -> PublishSnapshot {
    match parts.into_op(7, 0, of_nothing()) {
        Ok(Op::PublishSnapshot(publish)) => publish,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_published() {
    let plain = PublishSnapshot {
        key: key(),
        at: AT,
        cut: None,
        upload: 7,
        content_type: ContentType::default(),
        bytes: 0,
        digest: of_nothing(),
        condition: SnapshotCondition::Any,
    };
    assert_eq!(publish(parse(&[]).expect("parts")), plain);
    let json = parse(&[(http::header::CONTENT_TYPE, "application/json; a=b"), (IF_MATCH, TAG)]).expect("parts");
    let content_type = ContentType::parse("application/json; a=b");
    let condition = SnapshotCondition::Is(of_nothing());
    assert_eq!(publish(json), PublishSnapshot { content_type, condition, ..plain.clone() });
    let absent = parse(&[(IF_NONE_MATCH, "*")]).expect("parts");
    assert_eq!(publish(absent), PublishSnapshot { condition: SnapshotCondition::Absent, ..plain });
}

#[test]
fn conditions_that_cannot_be_kept() {
    let longer = "\"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b85500\"";
    let tags = ["", "*", "\"\"", "e3b0", "\"x\"", longer, "\"0000000000000000_0000000000000042\""];
    for tag in tags.into_iter().chain([
        "W/\"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\"",
        "\"E3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\"",
        "\"+3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\"",
        "\"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\", \"x\"",
    ]) {
        let refused = parse(&[(IF_MATCH, tag)]).expect_err(tag);
        assert!(matches!(refused, Rejection::InvalidHeader { name: IF_MATCH, .. }), "{tag}");
    }
    assert!(matches!(parse(&[(IF_NONE_MATCH, TAG)]), Err(Rejection::InvalidHeader { name: IF_NONE_MATCH, .. })));
    let both = parse(&[(IF_NONE_MATCH, "*"), (IF_MATCH, TAG)]);
    assert!(matches!(both, Err(Rejection::InvalidHeader { name: IF_MATCH, .. })));
    let part = parse(&[(CONTENT_RANGE, "bytes 0-1/2")]);
    assert!(matches!(part, Err(Rejection::InvalidHeader { name: CONTENT_RANGE, .. })));
}

#[test]
fn removals() {
    let remove = |lines: &[_]| remove(key(), AT, &headers(lines));
    let condition = SnapshotCondition::Is(of_nothing());
    assert_eq!(remove(&[(IF_MATCH, TAG)]), Ok(RemoveSnapshot { key: key(), at: AT, condition }));
    assert_eq!(remove(&[]).expect("a verb").condition, SnapshotCondition::Any);
    assert!(matches!(remove(&[(IF_NONE_MATCH, "*")]), Err(Rejection::InvalidHeader { name: IF_NONE_MATCH, .. })));
}

#[test]
fn digests() {
    let first: &'static str = "sha-512=:AAAA:, sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:;x=y";
    for text in [DIGEST, first, "sha-512=:AAAA:", "", "sha-256"] {
        for name in [CONTENT_DIGEST, REPR_DIGEST] {
            publish(parse(&[(name, text)]).expect(text));
        }
    }
    let wrong = "sha-256=:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=:";
    for lines in
        [[(CONTENT_DIGEST, DIGEST), (REPR_DIGEST, wrong)], [(CONTENT_DIGEST, "md5=:AA:"), (REPR_DIGEST, wrong)]]
    {
        let parts = parse(&lines).expect("well-formed");
        assert_eq!(parts.into_op(7, 0, of_nothing()), Err(Rejection::DigestMismatch(REPR_DIGEST)));
    }
    for text in ["sha-256=", "sha-256=::", "sha-256=:AAAA:", "sha-256=47DE", "sha-256=:47DE=:", "sha-256=\"x\""] {
        let refused = parse(&[(CONTENT_DIGEST, text)]).expect_err(text);
        assert!(matches!(refused, Rejection::InvalidHeader { name, .. } if name == CONTENT_DIGEST), "{text}");
    }
    assert_eq!(repr_digest(&of_nothing()), DIGEST);
}

#[test]
fn lengths_that_are_known_beforehand() {
    let length = |text| parse(&[(CONTENT_LENGTH, text)]).expect("parts").check_length(100);
    assert_eq!((length("0"), length("100")), (Ok(()), Ok(())));
    let refused = Err(Rejection::SnapshotTooLarge { bytes_max: 100 });
    assert_eq!((length("101"), length("99999999999999999999")), (refused.clone(), refused));
    assert_eq!(parse(&[]).expect("parts").check_length(0), Ok(()));
}

//! Which names are allowed.

use super::*;

#[test]
fn bucket_names() {
    for good in ["ab", "a-b_c", "0x", "default", &"a".repeat(64)] {
        assert_eq!(BucketName::parse(good).expect(good).as_str(), good);
    }
    for bad in ["", "a", "A1", "-ab", "_ab", "a.b", "a b", "\u{e4}b", &"a".repeat(65)] {
        assert_eq!(BucketName::parse(bad), Err(InvalidName::Bucket), "{bad}");
    }
    for reserved in RESERVED_BUCKETS {
        assert_eq!(BucketName::parse(reserved), Err(InvalidName::ReservedBucket));
    }
}

#[test]
fn stream_names() {
    for good in ["a", "a/b/c", "yjs/x/docs/d/.updates", "\u{1f600} x", "...", &"n".repeat(1024)] {
        assert_eq!(StreamName::parse(good).expect(good).as_str(), good);
    }
    let long = "n".repeat(1025);
    let bad = [
        ("", InvalidName::EmptyStream),
        (long.as_str(), InvalidName::LongStream),
        ("a\0b", InvalidName::ControlCharacter),
        ("a\u{85}b", InvalidName::ControlCharacter),
        ("/a", InvalidName::Segment),
        ("a/", InvalidName::Segment),
        ("a//b", InvalidName::Segment),
        ("a/../b", InvalidName::Segment),
        (".", InvalidName::Segment),
        ("__ds", InvalidName::ReservedStream),
        ("__ds/subscriptions/x", InvalidName::ReservedStream),
    ];
    for (name, why) in bad {
        assert_eq!(StreamName::parse(name), Err(why), "{name}");
    }
}

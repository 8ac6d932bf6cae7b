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
        ("a//0123456789abcdef", InvalidName::Segment),
        ("a/../b", InvalidName::Segment),
        (".", InvalidName::Segment),
        ("__ds", InvalidName::ReservedStream),
        ("__ds/subscriptions/x", InvalidName::ReservedStream),
    ];
    for (name, why) in bad {
        assert_eq!(StreamName::parse(name), Err(why), "{name}");
    }
}

#[test]
fn companions() {
    let name = StreamName::parse("a/b").expect("a name");
    let companion = name.companion(0x0123_4567_89ab_cdef);
    assert_eq!(companion.as_str(), "a/b//0123456789abcdef");
    assert_eq!(companion.companion(1).as_str(), "a/b//0000000000000001");
    assert_eq!((companion.owner(), companion.is_companion()), ("a/b", true));
    assert_eq!((name.owner(), name.is_companion()), ("a/b", false));
    assert_eq!(StreamName::parse_any(companion.as_str()), Ok(companion));
    assert_eq!(StreamName::parse_any("a/b"), Ok(name));
    let longest = StreamName::parse(&"n".repeat(1024)).expect("a name").companion(u64::MAX);
    assert_eq!(StreamName::parse_any(longest.as_str()), Ok(longest));
    for bad in
        ["a//", "//0123456789abcdef", "a//123", "a//0123456789ABCDEF", "a//0123456789abcdef0", "a//+123456789abcdef"]
    {
        assert_eq!(StreamName::parse_any(bad), Err(InvalidName::Segment), "{bad}");
    }
    let nested = "a//0123456789abcdef//0123456789abcdef";
    assert_eq!(StreamName::parse_any(nested), Err(InvalidName::Segment));
    assert_eq!(StreamName::parse_any("__ds/a//0123456789abcdef"), Err(InvalidName::Segment));
}

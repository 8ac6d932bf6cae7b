//! Tags differ where bytes may.

use std::collections::BTreeSet;

use super::*;

fn tag(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).expect("a header value")
}

#[test]
fn every_part_counts() {
    let at = |group, stream, start, next, closed| {
        let tag = etag(GroupId(group), StreamId(stream), Offset(start), Offset(next), closed);
        tag.to_str().expect("ASCII").to_owned()
    };
    assert_eq!(at(1, 255, 0, 42, true), "\"1.ff:0:42:c\"");
    let tags = [
        at(1, 1, 0, 5, false),
        at(2, 1, 0, 5, false),
        at(1, 2, 0, 5, false),
        at(1, 1, 1, 5, false),
        at(1, 1, 0, 6, false),
        at(1, 1, 0, 5, true),
        at(1, 11, 0, 5, false),
        at(11, 1, 0, 5, false),
    ];
    assert_eq!(tags.iter().collect::<BTreeSet<_>>().len(), tags.len());
}

#[test]
fn what_matches() {
    let etag = tag("\"1.2:0:5\"");
    let matches = |texts: &[&str]| {
        let mut headers = HeaderMap::new();
        texts.iter().for_each(|text| _ = headers.append(IF_NONE_MATCH, tag(text)));
        IfNoneMatch::from_headers(&headers).matches(&etag)
    };
    for texts in [&["\"1.2:0:5\""][..], &["W/\"1.2:0:5\""], &["*"], &["\"x\" , \"1.2:0:5\""], &["\"x\"", "\"1.2:0:5\""]]
    {
        assert!(matches(texts), "{texts:?}");
    }
    for texts in [&[][..], &[""], &["1.2:0:5"], &["\"1.2:0:5:c\""], &["\"x\",,\"y\""], &["w/\"1.2:0:5\""]] {
        assert!(!matches(texts), "{texts:?}");
    }
}

#[test]
fn digests_as_tags() {
    let digest: [u8; 32] = std::array::from_fn(|at| 8 * at as u8 + 1);
    let tag = of_digest(&digest);
    assert_eq!(tag, "\"0109111921293139414951596169717981899199a1a9b1b9c1c9d1d9e1e9f1f9\"");
    assert_eq!(to_digest(tag.to_str().expect("ASCII")), Some(digest));
}

//! JSON in, stored form, JSON out.

use proptest::prelude::*;
use ursula_common::json;

use super::*;

fn store(body: &str) -> Result<String, Rejection> {
    let json = ContentType::parse("application/json");
    let stored = StoredBody::new(&json, Bytes::copy_from_slice(body.as_bytes()))?.into_bytes();
    Ok(String::from_utf8(stored.into()).expect("JSON is UTF-8"))
}

fn back(stored: &str) -> Bytes {
    sent(&ContentType::parse("application/json"), &[Bytes::copy_from_slice(stored.as_bytes())]).concat().into()
}

#[test]
fn one_level_of_arrays_goes() {
    let table = [
        ("1", "1,"),
        ("null", "null,"),
        ("\"a, b\"", "\"a, b\","),
        ("[]", ""),
        (" [ \n ] ", ""),
        ("[1]", "1,"),
        ("[1, 2 ,3]", "1,2,3,"),
        ("[[1,2],[3]]", "[1,2],[3],"),
        ("[[]]", "[],"),
        ("[[[1, 2]]]", "[[1,2]],"),
        ("{\"a\": [1, {\"b\": \"]\"}]}", "{\"a\":[1,{\"b\":\"]\"}]},"),
        ("\t{\t\r\n }\r\n", "{},"),
    ];
    for (body, stored) in table {
        assert_eq!(store(body).as_deref(), Ok(stored), "{body}");
    }
}

#[test]
fn the_text_of_a_message_is_kept() {
    let table = [
        "12345678901234567890",
        "1e999999",
        "-0.10",
        "{\"b\":1,\"a\":2,\"b\":3}",
        "\"\\u00e4\\ud800 \u{e4} \\\\\\\" [ { \\n\"",
    ];
    for message in table {
        assert_eq!(store(message), Ok(format!("{message},")));
        assert_eq!(back(&format!("{message},{message},")), format!("[{message},{message}]"));
    }
    let big = format!("[{}]", vec!["12345678901234567890"; 50_000].join(" , "));
    assert_eq!(store(&big).expect("valid").len(), 50_000 * 21);
}

#[test]
fn what_is_not_json() {
    for body in ["{", "[1,]", "nope", "1 2", "{'a':1}", "[1] x", "\"\n\"", "01", "\u{feff}1", "[", "]", " "] {
        assert!(matches!(store(body), Err(Rejection::InvalidJson(_))), "{body}");
    }
    let json = ContentType::parse("application/json");
    for body in [&b"\"\xff\""[..], b"\xff", b"[\"\xc3\x28\"]", b"\"\xed\xa0\x80\""] {
        let refused = StoredBody::new(&json, Bytes::copy_from_slice(body));
        assert!(matches!(refused, Err(Rejection::InvalidJson(_))), "{body:?}");
    }
}

#[test]
fn deep_nesting_is_refused_and_harmless() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    // The outermost array is not part of the message.
    assert!(store(&nested(JSON_DEPTH_MAX + 1)).is_ok());
    assert!(matches!(store(&nested(JSON_DEPTH_MAX + 2)), Err(Rejection::InvalidJson(_))));
    assert!(store(&format!("[{}]", vec!["[[]]"; 1000].join(","))).is_ok());
    assert!(matches!(store(&nested(1_000_000)), Err(Rejection::InvalidJson(_))));
    assert!(matches!(store(&"[".repeat(100_000)), Err(Rejection::InvalidJson(_))));
    assert!(matches!(store(&"{\"a\":".repeat(100_000)), Err(Rejection::InvalidJson(_))));

    let page = back(&store(&nested(JSON_DEPTH_MAX + 1)).expect("valid"));
    serde_json::from_slice::<serde_json::Value>(&page).expect("a page that a common parser takes");
}

#[test]
fn pages_of_other_types_are_their_bytes() {
    let text = ContentType::parse("text/plain");
    let chunks = [Bytes::from_static(b"a,"), Bytes::from_static(b"b,")];
    assert_eq!(sent(&text, &chunks), chunks);
    assert_eq!(sent(&text, &[]), [""; 0]);
    assert_eq!(sent(&text, &chunks)[1].as_ptr(), chunks[1].as_ptr());
    let json = sent(&ContentType::parse("application/json"), &chunks);
    assert_eq!(json, ["[", "a,", "b", "]"]);
    assert_eq!(json[1].as_ptr(), chunks[0].as_ptr());
    assert_eq!(back(""), "[]");
}

fn any_json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        ".*".prop_map(serde_json::Value::String),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
            proptest::collection::btree_map(".*", inner, 0..6).prop_map(|map| map.into_iter().collect()),
        ]
    })
}

proptest! {
    #[test]
    fn messages_survive(messages in proptest::collection::vec(any_json(), 1..5)) {
        let pretty = serde_json::to_string_pretty(&messages).expect("a value");
        let stored = store(&pretty).expect("valid JSON");
        prop_assert_eq!(&stored, &messages.iter().map(|message| format!("{message},")).collect::<String>());
        prop_assert!(!stored.contains('\n'));
        prop_assert_eq!(json::message_ends(stored.as_bytes()).count(), messages.len());
        prop_assert_eq!(json::cut(stored.as_bytes(), messages.len() as u64), Some(stored.len()));
        let read: Vec<serde_json::Value> = serde_json::from_slice(&back(&stored)).expect("valid JSON");
        prop_assert_eq!(read, messages);
    }

    #[test]
    fn no_body_panics(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        _ = flatten(&body);
    }

    #[test]
    fn no_text_like_json_panics(body in "[\\[\\]{}\",:\\\\ 1a]{0,60}") {
        _ = store(&body);
    }
}

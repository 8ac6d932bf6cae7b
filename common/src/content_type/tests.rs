//! Which content types are the same, and which are JSON or text.

use super::*;

#[test]
fn text_is_kept_and_nonsense_becomes_the_default() {
    assert_eq!(ContentType::parse(" Text/Plain; charset=UTF-8 ").as_str(), "Text/Plain; charset=UTF-8");
    for text in ["", "text", "/plain", "text/", "te xt/plain", "text/pl\u{e4}in"] {
        assert_eq!(ContentType::parse(text).as_str(), ContentType::DEFAULT, "{text}");
    }
}

#[test]
fn comparison_ignores_case_and_parameters() {
    let plain = ContentType::parse("text/plain");
    assert!(plain.same_media_type(&ContentType::parse("TEXT/plain;charset=utf-8")));
    assert!(!plain.same_media_type(&ContentType::parse("text/html")));
}

#[test]
fn json_and_text_are_told_from_binary() {
    assert!(ContentType::parse("Application/JSON; charset=utf-8").is_json());
    assert!(!ContentType::parse("application/ndjson").is_json());
    assert!(ContentType::parse("TEXT/markdown").is_text());
    assert!(!ContentType::default().is_text());
    assert!(!ContentType::parse("t/x").is_text());
}

//! What is tried again, and what is said when it is not.

use super::*;

fn said(status: u16, headers: &[(&'static str, &'static str)], body: &str) -> Refusal {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.insert(*name, value.parse().expect("a value"));
    }
    refusal(StatusCode::from_u16(status).expect("a status"), &map, body.as_bytes())
}

fn of(code: &str, retry: &str) -> String {
    format!(r#"{{"error":{{"code":"{code}","message":"so it is","retry":"{retry}"}}}}"#)
}

#[test]
fn what_the_server_says_is_told_with_its_code_and_what_to_do() {
    let refusal = said(404, &[], &of("stream_not_found", "no"));
    assert_eq!(refusal.code.as_deref(), Some("stream_not_found"));
    assert_eq!(refusal.sentence, "so it is (stream_not_found); `ursula stream create` does");
    let gone = said(410, &[("stream-earliest-offset", "1_7")], &of("offset_gone", "no"));
    assert!(gone.sentence.ends_with("it begins with --offset 1_7"), "{}", gone.sentence);
    let foreign = said(404, &[], "<html>");
    assert!(foreign.code.is_none() && foreign.sentence.contains("404 Not Found"), "{}", foreign.sentence);
}

#[test]
fn nothing_is_done_twice() {
    let refused = |status, retry| Missed::Refused(said(status, &[], &of("x", retry)));
    let cases = [
        (Missed::Unreachable(String::new()), [true, true, true]),
        (Missed::Lost(String::new()), [true, true, false]),
        (refused(503, "later"), [true, true, true]),
        (refused(424, "if_idempotent"), [true, true, false]),
        (refused(409, "no"), [false, false, false]),
        (Missed::Refused(said(502, &[], "<html>")), [true, true, false]),
    ];
    for (missed, expected) in cases {
        let again = [Repeat::Read, Repeat::Idempotent, Repeat::Never].map(|repeat| missed.may_try_again(repeat, true));
        assert_eq!(again, expected, "{missed:?}");
    }
    assert!(!Missed::Unreachable(String::new()).may_try_again(Repeat::Read, false), "nobody waits for a wrong address");
}

#[test]
fn a_pause_is_as_long_as_the_server_says_within_reason() {
    let pause = |value| said(503, &[("retry-after", value)], &of("overloaded", "later")).pause;
    assert_eq!(pause("2"), Duration::from_secs(2));
    assert_eq!(pause("86400"), PAUSE_MAX);
    assert_eq!(pause("tomorrow"), Duration::ZERO);
}

#[test]
fn a_url_is_one_of_http() {
    assert_eq!(base_of("https://streams.example/").as_deref(), Ok("https://streams.example"));
    assert_eq!(base_of("http://[::1]:4437/below").as_deref(), Ok("http://[::1]:4437/below"));
    for wrong in ["", "127.0.0.1:4437", "ftp://h", "http://", "http://user@h", "http://h?x", "/path"] {
        assert!(base_of(wrong).is_err(), "{wrong}");
    }
}

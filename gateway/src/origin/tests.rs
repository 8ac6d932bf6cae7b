//! Proxies that are trusted are believed, others are not.

use std::net::IpAddr;

use http::{HeaderMap, HeaderValue};

use super::{Peer, Trusted};

fn trusted() -> Trusted {
    Trusted::parse(&["10.0.0.0/8".to_owned(), "::1".to_owned(), "192.0.2.7".to_owned()]).expect("networks")
}

fn peer(address: &str) -> Peer {
    Peer(address.parse().expect("an address"))
}

fn forwarded(lists: &[&str]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for list in lists {
        headers.append("x-forwarded-for", HeaderValue::from_str(list).expect("a header"));
    }
    headers
}

#[test]
fn the_client_is_the_last_that_no_proxy_is() {
    let cases: [(&str, &[&str], &str); 10] = [
        ("198.51.100.1", &[], "198.51.100.1"),
        ("198.51.100.1", &["203.0.113.9"], "198.51.100.1"),
        ("10.1.2.3", &[], "10.1.2.3"),
        ("10.1.2.3", &["203.0.113.9"], "203.0.113.9"),
        ("::ffff:10.1.2.3", &["203.0.113.9"], "203.0.113.9"),
        ("10.1.2.3", &["6.6.6.6, 203.0.113.9, 10.9.9.9"], "203.0.113.9"),
        ("10.1.2.3", &["6.6.6.6", "203.0.113.9, 192.0.2.7"], "203.0.113.9"),
        ("10.1.2.3", &["203.0.113.9, nonsense"], "10.1.2.3"),
        ("::1", &["2001:db8::5"], "2001:db8::5"),
        ("10.1.2.3", &["10.4.5.6"], "10.4.5.6"),
    ];
    for (from, lists, client) in cases {
        let wanted: IpAddr = client.parse().expect("an address");
        assert_eq!(trusted().client(peer(from), &forwarded(lists)), wanted, "{from} {lists:?}");
    }
}

#[test]
fn only_a_trusted_proxy_tells_the_scheme() {
    let headers = |scheme| HeaderMap::from_iter([("x-forwarded-proto".parse().expect("a name"), scheme)]);
    let https = headers(HeaderValue::from_static("https"));
    assert_eq!(trusted().scheme(Some(peer("10.1.2.3")), &https), Some("https"));
    assert_eq!(trusted().scheme(Some(peer("198.51.100.1")), &https), None);
    assert_eq!(trusted().scheme(None, &https), None);
    assert_eq!(Trusted::default().scheme(Some(peer("10.1.2.3")), &https), None);
    let nonsense = headers(HeaderValue::from_static("javascript"));
    assert_eq!(trusted().scheme(Some(peer("10.1.2.3")), &nonsense), None);
}

#[test]
fn what_is_no_network_is_named() {
    let error = Trusted::parse(&["10.0.0.0/8".to_owned(), "10.0.0.0/33".to_owned()]).expect_err("no network");
    assert_eq!(error, "trusted_proxies: 10.0.0.0/33 is no address and no network such as 10.0.0.0/8");
}

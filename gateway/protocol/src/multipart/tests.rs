//! Bodies of several parts.

use http::header::CONTENT_LENGTH;

use super::*;

#[test]
fn two_parts() {
    let mut multipart = Multipart::new(0xfeed);
    let response = multipart.response(());
    let content_type = "multipart/mixed; boundary=ursula-0000000000000000000000000000feed";
    assert_eq!(
        (response.status().as_u16(), &response.headers()[CONTENT_TYPE]),
        (200, &HeaderValue::from_static(content_type))
    );
    assert_eq!(response.headers()[CACHE_CONTROL], "no-store");
    let text = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("text/plain"))]);
    let sized = HeaderMap::from_iter([(CONTENT_LENGTH, 2.into())]);
    let (first, second, end) = (multipart.part(&text), multipart.part(&sized), multipart.end());
    let body = [&first[..], b"one", &second, b"\r\n", &end].concat();
    let expected = "--ursula-0000000000000000000000000000feed\r\ncontent-type: text/plain\r\n\r\none\r\n\
                    --ursula-0000000000000000000000000000feed\r\ncontent-length: 2\r\n\r\n\r\n\r\n\
                    --ursula-0000000000000000000000000000feed--\r\n";
    assert_eq!(String::from_utf8_lossy(&body), expected);
}

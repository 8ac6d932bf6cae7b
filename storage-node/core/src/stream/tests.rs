//! Shared content types.

use super::*;

#[test]
fn equal_content_types_share_their_text() {
    let mut types = ContentTypes::default();
    let share = |types: &mut ContentTypes, text: &str| types.share(ContentType::parse(text));
    let first = share(&mut types, "text/plain");
    for n in 0..ContentTypes::KEPT_MAX - 1 {
        share(&mut types, &format!("text/x-{n}"));
    }
    let same = share(&mut types, "text/plain");
    assert_eq!(first.as_str().as_ptr(), same.as_str().as_ptr());
    assert_ne!(first, share(&mut types, "text/plain; charset=utf-8"), "kept as they were written");
    // One more than are kept: sharing starts over, what was handed out stays.
    assert!(types.0.len() <= ContentTypes::KEPT_MAX);
    let again = share(&mut types, "text/plain");
    assert_ne!(first.as_str().as_ptr(), again.as_str().as_ptr());
    assert_eq!(again.as_str().as_ptr(), share(&mut types, "text/plain").as_str().as_ptr());
    assert_eq!(first, again);
}

#[test]
fn a_stream_stays_small() {
    assert!(size_of::<Stream>() <= 72, "{} bytes", size_of::<Stream>());
}

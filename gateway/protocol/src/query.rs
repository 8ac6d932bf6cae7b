//! The query parameters that are known; others are ignored.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

use crate::{Rejection, path};

/// A value that must be valid text.
///
/// # Errors
/// [`Rejection::InvalidQuery`].
pub(crate) fn text(query: Option<&str>, wanted: &'static str) -> Result<Option<String>, Rejection> {
    let mut found = None;
    for pair in query.unwrap_or_default().split('&') {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        if decode(name) == wanted {
            let value = value.replace('+', " ");
            let problem = "must be UTF-8, with two hexadecimal digits after each %";
            let value = path::decode(&value).map_err(|_| Rejection::InvalidQuery { name: wanted, problem })?;
            found = Some(value.into_owned());
        }
    }
    Ok(found)
}

/// The decoded pairs of a query, in their order.
pub(crate) fn pairs(query: Option<&str>) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode(name), decode(value))
    })
}

/// As forms encode: `+` is a space. Bytes that are not UTF-8 become a character that no valid value
/// holds.
fn decode(text: &str) -> Cow<'_, str> {
    if !text.contains('+') {
        return percent_decode_str(text).decode_utf8_lossy();
    }
    Cow::Owned(percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned())
}

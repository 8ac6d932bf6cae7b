//! The stored form of JSON messages, `m1,m2,`: where one message ends and the next begins.
//!
//! Only the commas and brackets of bytes that were checked before they were stored are looked at
//! here. Nothing is parsed or validated, and no input can panic.

/// The length in bytes of the first `messages` messages of a stored record, with their commas;
/// `None` if the record holds fewer.
pub fn cut(record: &[u8], messages: u64) -> Option<usize> {
    match usize::try_from(messages) {
        Ok(0) => Some(0),
        Ok(count) => message_ends(record).nth(count - 1),
        Err(_) => None,
    }
}

/// Whether a message starts or ends at byte `at` of a stored record.
pub fn is_boundary(record: &[u8], at: usize) -> bool {
    at == 0 || message_ends(record).take_while(|end| *end <= at).last() == Some(at)
}

/// The place after the comma of each message.
pub fn message_ends(record: &[u8]) -> impl Iterator<Item = usize> {
    let mut depth = 0usize;
    let mut in_string = false;
    let mut escaped = false;
    record.iter().enumerate().filter_map(move |(at, byte)| {
        if in_string {
            in_string = escaped || *byte != b'"';
            escaped = !escaped && *byte == b'\\';
            return None;
        }
        match byte {
            b'"' => in_string = true,
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            b',' if depth == 0 => return Some(at + 1),
            _ => {}
        }
        None
    })
}

#[cfg(test)]
mod tests;

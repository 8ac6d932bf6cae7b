//! Server-sent events, parsed from bytes as they come. Knows no protocol above `event:` and `data:`.

/// Collects lines into events.
#[derive(Debug, Default)]
pub(super) struct Events {
    /// A line that is not complete yet.
    partial: Vec<u8>,
    control: bool,
    data: Vec<u8>,
    has_data: bool,
}

/// One event.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Event<'a> {
    /// `event: data`, with its lines joined.
    Data(&'a [u8]),
    /// `event: control`.
    Control(&'a [u8]),
}

impl Events {
    /// Takes bytes, and hands every event that they complete to `sink`.
    pub(super) fn push(&mut self, mut input: &[u8], mut sink: impl FnMut(Event<'_>)) {
        while let Some(end) = input.iter().position(|byte| *byte == b'\n') {
            if self.partial.is_empty() {
                self.line(&input[..end], &mut sink);
            } else {
                self.partial.extend_from_slice(&input[..end]);
                let line = std::mem::take(&mut self.partial);
                self.line(&line, &mut sink);
            }
            input = &input[end + 1..];
        }
        self.partial.extend_from_slice(input);
    }

    fn line(&mut self, line: &[u8], sink: &mut impl FnMut(Event<'_>)) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            if self.has_data {
                sink(if self.control { Event::Control(&self.data) } else { Event::Data(&self.data) });
            }
            self.data.clear();
            (self.control, self.has_data) = (false, false);
        } else if let Some(value) = line.strip_prefix(b"data:") {
            if self.has_data {
                self.data.push(b'\n');
            }
            self.data.extend_from_slice(value.strip_prefix(b" ").unwrap_or(value));
            self.has_data = true;
        } else if let Some(value) = line.strip_prefix(b"event:") {
            self.control = value.trim_ascii() == b"control";
        }
    }
}

#[cfg(test)]
mod tests;

//! Records that say what they are: who wrote them, into which stream, as which one, and whether a byte is wrong.
//! Does no I/O; knows the three ways in which the protocol stores and shows bytes.

use std::fmt;

use xxhash_rust::xxh3::xxh3_64;

/// One incarnation of one stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag {
    /// Number of the stream in a run; and how large its records are, see [`Tag::with_larger_records`].
    pub stream: u32,
    /// Which of the streams that bore this number.
    pub incarnation: u32,
}

impl Tag {
    /// Its number, without how large its records are.
    pub(crate) fn number(self) -> u32 {
        self.stream & ((1 << DOUBLINGS_SHIFT) - 1)
    }
}

/// From this bit on the number of a stream says how often the usual size of records is doubled in it.
const DOUBLINGS_SHIFT: u32 = 28;

impl Tag {
    /// The same for a stream in which records have so often twice the size.
    #[must_use]
    pub fn with_larger_records(self, doublings: u32) -> Tag {
        Tag { stream: self.stream | doublings << DOUBLINGS_SHIFT, ..self }
    }
}

/// What a writer appends at once. Writer and sequence make all its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Record {
    /// Where it was written to; a fork shows records of its source.
    pub tag: Tag,
    /// Who wrote it.
    pub writer: u16,
    /// Counts the records of this writer in this stream, from 0.
    pub seq: u32,
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Record { tag: Tag { stream, incarnation }, writer, seq } = self;
        write!(f, "record {seq} of writer {writer} in stream {stream}.{incarnation}")
    }
}

/// How bytes are stored and shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// Lines of text.
    Text,
    /// JSON strings.
    Json,
    /// Lines again, for a type that event streams show in base64.
    Binary,
}

/// Records have between so many characters of filling...
const FILLING_MIN: usize = 16;
/// ...and so many more.
const FILLING_SPREAD: u64 = 200;
/// What records are filled with, from a place of their own on.
const FILLING: &[u8; 256] = &filling();

const fn filling() -> [u8; 256] {
    let mut bytes = [0; 256];
    let mut at = 0;
    while at < bytes.len() {
        bytes[at] = b'a' + ((at * 7 + at / 26) % 26) as u8;
        at += 1;
    }
    bytes
}

impl Record {
    fn text(self) -> Vec<u8> {
        let Record { tag: Tag { stream, incarnation }, writer, seq } = self;
        let mut text = format!("{stream:x}-{incarnation:x}-{writer:x}-{seq:x}-").into_bytes();
        let spread = xxh3_64(&text) % FILLING_SPREAD;
        let mut left = (FILLING_MIN + spread as usize) << (stream >> DOUBLINGS_SHIFT);
        while left > 0 {
            let part = left.min(FILLING.len());
            text.extend_from_slice(&FILLING[..part]);
            left -= part;
        }
        let sum = xxh3_64(&text);
        text.extend_from_slice(format!("-{sum:016x}").as_bytes());
        text
    }

    /// The body of the append.
    pub fn body(self, format: Format) -> Vec<u8> {
        let mut text = self.text();
        match format {
            Format::Text | Format::Binary => text.push(b'\n'),
            Format::Json => {
                text.insert(0, b'"');
                text.push(b'"');
            }
        }
        text
    }

    /// How far it moves the tail.
    pub fn stored_bytes(self, format: Format) -> u64 {
        format.stored_bytes(self.text().len())
    }

    fn parse(text: &[u8]) -> Option<Record> {
        let mut fields = std::str::from_utf8(text).ok()?.split('-');
        let mut field = || u32::from_str_radix(fields.next()?, 16).ok();
        let tag = Tag { stream: field()?, incarnation: field()? };
        let record = Record { tag, writer: field()?.try_into().ok()?, seq: field()? };
        (record.text() == text).then_some(record)
    }
}

impl Format {
    /// The type of a stream of this format.
    pub fn content_type(self) -> &'static str {
        match self {
            Format::Text => "text/plain",
            Format::Json => "application/json",
            Format::Binary => "application/octet-stream",
        }
    }

    /// JSON has two quotes, and a comma after each message.
    fn stored_bytes(self, text_bytes: usize) -> u64 {
        let extra = match self {
            Format::Text | Format::Binary => 1,
            Format::Json => 3,
        };
        text_bytes as u64 + extra
    }

    /// The records in a page or an event, each with the bytes by which it moves the tail.
    ///
    /// # Errors
    /// What is wrong with the bytes.
    pub fn split(self, payload: &[u8]) -> Result<Vec<(Record, u64)>, String> {
        let texts: Vec<&[u8]> = match self {
            Format::Text | Format::Binary if payload.is_empty() => Vec::new(),
            Format::Text | Format::Binary => {
                let lines = payload.strip_suffix(b"\n").ok_or_else(|| shown("the end is missing of", payload))?;
                lines.split(|byte| *byte == b'\n').collect()
            }
            Format::Json if payload == b"[]" => Vec::new(),
            Format::Json => {
                let inner = payload.strip_prefix(b"[\"").and_then(|rest| rest.strip_suffix(b"\"]"));
                let inner = inner.ok_or_else(|| shown("no array of strings:", payload))?;
                split_at(inner, b"\",\"")
            }
        };
        let parse = |text: &[u8]| {
            let record = Record::parse(text).ok_or_else(|| shown("not what anybody wrote:", text))?;
            Ok((record, self.stored_bytes(text.len())))
        };
        texts.into_iter().map(parse).collect()
    }
}

fn split_at<'a>(mut bytes: &'a [u8], separator: &[u8; 3]) -> Vec<&'a [u8]> {
    let mut parts = Vec::new();
    while let Some(at) = find(bytes, separator) {
        parts.push(&bytes[..at]);
        bytes = &bytes[at + separator.len()..];
    }
    parts.push(bytes);
    parts
}

/// Quotes are rare, and searching for one byte is fast.
fn find(bytes: &[u8], separator: &[u8; 3]) -> Option<usize> {
    let mut from = 0;
    loop {
        let at = from + bytes[from..].iter().position(|byte| *byte == separator[0])?;
        if bytes[at..].starts_with(separator) {
            return Some(at);
        }
        from = at + 1;
    }
}

/// Both ends of bytes that may be many.
fn shown(what: &str, bytes: &[u8]) -> String {
    const SHOWN: usize = 80;
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(SHOWN)]).into_owned();
    let end = String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(SHOWN)..]).into_owned();
    format!("{what} {} bytes, {text:?} ... {end:?}", bytes.len())
}

/// Reads an offset as what it is in this server: the number of the stream, and the stored bytes before it.
pub(crate) fn place(offset: &str) -> Option<(u64, u64)> {
    let (number, bytes) = offset.split_once('_')?;
    (number.len() == 16 && bytes.len() == 16).then(|| Some((number.parse().ok()?, bytes.parse().ok()?)))?
}

/// The offset of a place.
pub(crate) fn offset(number: u64, bytes: u64) -> String {
    format!("{number:016}_{bytes:016}")
}

#[cfg(test)]
mod tests;

//! `ursula log dump`: prints line by line, and at the end what is wrong in sentences. Memory does not follow the size
//! of the log.

use std::collections::BTreeSet;
use std::io::{self, BufWriter, Stdout, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::{Value, json};
use ursula_wal::ReadOnlyIo;
use ursula_wal::dump::{Line, Says, dump};

/// Sentences that are kept for the end; the rest is counted.
const SENTENCES_MAX: usize = 20;
const NOT_READ: u8 = 1;
const WRONG: u8 = 3;

pub(super) fn run(dir: &Path, as_json: bool, only_summary: bool) -> ExitCode {
    let log = match find(dir) {
        Ok(log) => log,
        Err(sentence) => return fail(&sentence),
    };
    let mut printer = Printer::new(as_json, only_summary);
    let read = dump(&ReadOnlyIo, &log, &mut |line| printer.line(line));
    if let Err(error) = read {
        return fail(&format!("{}: {error}", log.display()));
    }
    printer.end(&log)
}

/// The log of a data directory, or the log itself.
fn find(dir: &Path) -> Result<PathBuf, String> {
    let shown = dir.display();
    if !dir.is_dir() {
        return Err(format!("{shown} is not a directory: name the data directory of a storage node"));
    }
    if dir.join("log").is_dir() {
        return Ok(dir.join("log"));
    }
    let names = std::fs::read_dir(dir).map_err(|error| format!("{shown}: {error}"))?;
    let is_ours = |name: &str| name.ends_with(".log") || name.starts_with("spare-");
    let found = names.flatten().any(|entry| entry.file_name().to_str().is_some_and(is_ours));
    if found {
        return Ok(dir.to_owned());
    }
    Err(format!("{shown} holds no log: name the data directory of a storage node, which has a folder `log`"))
}

#[expect(clippy::print_stderr, reason = "this is for the person at the terminal")]
fn fail(sentence: &str) -> ExitCode {
    eprintln!("error: {sentence}");
    ExitCode::from(NOT_READ)
}

struct Printer {
    out: BufWriter<Stdout>,
    as_json: bool,
    only_summary: bool,
    /// The segment whose records come now.
    segment: String,
    identities: BTreeSet<u64>,
    segments: u64,
    records: u64,
    /// Sentences about what is wrong, and how many there would be.
    sentences: Vec<String>,
    wrong: u64,
}

impl Printer {
    fn new(as_json: bool, only_summary: bool) -> Printer {
        Printer {
            out: BufWriter::new(io::stdout()),
            as_json,
            only_summary,
            segment: String::new(),
            identities: BTreeSet::new(),
            segments: 0,
            records: 0,
            sentences: Vec::new(),
            wrong: 0,
        }
    }

    fn line(&mut self, line: &Line) {
        match line {
            Line::Segment { id, identity, .. } => {
                self.segments += 1;
                self.segment = format!("{id}.log");
                self.identities.insert(*identity);
                if self.identities.len() == 2 {
                    self.say(format!("{} was written by another node than those before it", self.segment));
                }
            }
            Line::Record { .. } => self.records += 1,
            _ => {}
        }
        if let Some(sentence) = self.sentence(line) {
            self.say(sentence);
        }
        if !self.only_summary {
            let text = if self.as_json { value(line).to_string() } else { line.to_string() };
            self.print(&text);
        }
    }

    /// What is wrong with it.
    fn sentence(&self, line: &Line) -> Option<String> {
        let file = &self.segment;
        match line {
            Line::Damaged { at, said: Some(Says { group: Some(group), kind, index, .. }) } => Some(format!(
                "{file} is damaged at byte {at}, in what group {group} said ({kind} {index}): the node refuses this \
                 group if it still needs it, and serves the others"
            )),
            Line::Damaged { at, said: _ } => Some(format!(
                "{file} is damaged at byte {at}, and it cannot be told whose record it was: the node refuses every \
                 group that may have been there"
            )),
            Line::CutOff { len, size } => {
                Some(format!("{file} has {len} bytes of {size}: it was cut off, and the node does not start"))
            }
            Line::Index { name, rows: Err(error) } => {
                Some(format!("{name} cannot be used ({error}): reads that need it fail"))
            }
            Line::File { name, what, is_wrong: true } => Some(format!("{name} is wrong: {what}")),
            Line::Segment { .. }
            | Line::Record { .. }
            | Line::End { .. }
            | Line::Index { rows: Ok(_), .. }
            | Line::File { is_wrong: false, .. } => None,
        }
    }

    fn say(&mut self, sentence: String) {
        self.wrong += 1;
        if self.sentences.len() < SENTENCES_MAX {
            self.sentences.push(sentence);
        }
    }

    fn end(mut self, log: &Path) -> ExitCode {
        let Printer { segments, records, wrong, .. } = self;
        let sentences = std::mem::take(&mut self.sentences);
        if self.as_json {
            let summary = json!({
                "log": log.display().to_string(),
                "segments": segments,
                "records": records,
                "wrong": wrong,
                "sentences": sentences,
            });
            self.print(&json!({ "summary": summary }).to_string());
        } else {
            let whole = if wrong == 0 { "nothing is wrong" } else { "NOT WHOLE" };
            self.print(&format!("\n{}: {segments} segments, {records} records: {whole}", log.display()));
            let more = wrong - sentences.len() as u64;
            sentences.iter().for_each(|sentence| self.print(&format!("- {sentence}.")));
            if more > 0 {
                self.print(&format!("- And {more} places more."));
            }
            if wrong > 0 {
                self.print(
                    "Restore the files from a copy, or let the cluster make what is lost again: `ursula cluster status` \
                     says which groups are refused and what to do.",
                );
            }
        }
        if let Err(error) = self.out.flush() {
            stop(&error);
        }
        if wrong == 0 { ExitCode::SUCCESS } else { ExitCode::from(WRONG) }
    }

    fn print(&mut self, text: &str) {
        if let Err(error) = writeln!(self.out, "{text}") {
            stop(&error);
        }
    }
}

/// Whoever read has gone: there is nobody to go on for.
fn stop(error: &io::Error) -> ! {
    if error.kind() != io::ErrorKind::BrokenPipe {
        fail(&format!("standard output: {error}"));
    }
    std::process::exit(NOT_READ.into())
}

fn value(line: &Line) -> Value {
    match line {
        Line::Segment { id, writer, previous, identity, size } => json!({
            "segment": format!("{id}.log"),
            "writer": writer,
            "previous": previous.to_string(),
            "identity": format!("{identity:016x}"),
            "bytes": size,
        }),
        Line::Record { at, says, len, batch } => record(*at, Some(says), json!({ "bytes": len, "batch": batch })),
        Line::Damaged { at, said } => record(*at, said.as_ref(), json!({ "damaged": true })),
        Line::CutOff { len, size } => json!({ "at": len, "cut_off": true, "should_be": size }),
        Line::End { at, sealed } => json!({ "at": at, "end": true, "sealed": sealed }),
        Line::Index { name, rows: Ok(rows) } => json!({ "index": name, "streams": rows }),
        Line::Index { name, rows: Err(error) } => json!({ "index": name, "wrong": error }),
        Line::File { name, what, is_wrong: false } => json!({ "file": name, "what": what }),
        Line::File { name, what, is_wrong: true } => json!({ "file": name, "wrong": what }),
    }
}

fn record(at: u32, says: Option<&Says>, mut value: Value) -> Value {
    value["at"] = at.into();
    if let Some(Says { kind, group, index, extra }) = says {
        value["record"] = (*kind).into();
        value["group"] = group.map(|group| group.0).into();
        value["index"] = (*index).into();
        value["extra"] = (*extra).into();
    }
    value
}

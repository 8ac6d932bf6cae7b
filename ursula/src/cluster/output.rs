//! What a command says: progress line by line, and at its end a text or one JSON object.

use std::cell::RefCell;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use serde_json::{Value, json};

use super::failure::{End, Failure};

/// Where a command says things.
pub(crate) struct Output {
    json: bool,
    /// What was said last: the same again would be noise.
    last: RefCell<String>,
}

impl Output {
    pub(crate) fn new(json: bool) -> Output {
        Output { json, last: RefCell::default() }
    }

    /// Says what goes on.
    pub(crate) fn progress(&self, line: &str) {
        if *self.last.borrow() == line {
            return;
        }
        line.clone_into(&mut self.last.borrow_mut());
        // Whoever reads may have gone; that must not stop the work.
        let _ = if self.json { writeln!(std::io::stderr(), "{line}") } else { writeln!(std::io::stdout(), "{line}") };
    }

    /// Says what came of it.
    pub(crate) fn result(&self, text: &str, value: &Value) {
        let _ = if self.json {
            writeln!(std::io::stdout(), "{value}")
        } else {
            writeln!(std::io::stdout(), "{}", text.trim_end())
        };
    }

    /// Says how it stands, in the place of what was said before. False if nobody listens any more.
    pub(crate) fn again(&self, text: &str, value: &Value) -> bool {
        let mut out = std::io::stdout();
        let said = match (self.json, out.is_terminal()) {
            (true, _) => writeln!(out, "{value}"),
            (false, true) => write!(out, "\x1b[H\x1b[2J{text}"),
            (false, false) => writeln!(out, "{text}"),
        };
        said.and_then(|()| out.flush()).is_ok()
    }

    /// Says why it failed.
    pub(crate) fn failed(&self, failure: &Failure) -> ExitCode {
        if self.json {
            let late = failure.end == End::Late;
            let error = json!({ "error": { "message": failure.text, "code": failure.code, "in_progress": late } });
            let _ = writeln!(std::io::stdout(), "{error}");
        }
        match failure.end {
            End::Unread => {}
            End::Interrupted => drop(writeln!(std::io::stderr(), "{}", failure.text)),
            End::Refused | End::Late | End::Unknown => drop(writeln!(std::io::stderr(), "error: {}", failure.text)),
        }
        ExitCode::from(failure.exit_code())
    }
}

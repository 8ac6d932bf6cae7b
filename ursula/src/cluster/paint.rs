//! Colours for people at a terminal, and numbers as they read them.

use std::io::IsTerminal;

use clap::ValueEnum;

/// Whether to use colours: the values of `--color`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    /// At a terminal, unless NO_COLOR is set.
    Auto,
    Always,
    Never,
}

/// Paints, or leaves texts as they are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Paint(bool);

impl Paint {
    pub(crate) fn new(color: Color) -> Paint {
        let wanted = || std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|no| no.is_empty());
        Paint(match color {
            Color::Auto => wanted(),
            Color::Always => true,
            Color::Never => false,
        })
    }

    /// Somebody should look at this.
    pub(crate) fn bad(self, text: impl AsRef<str>) -> String {
        self.with("31", text.as_ref())
    }

    /// It is under way, or was asked for.
    pub(crate) fn busy(self, text: impl AsRef<str>) -> String {
        self.with("33", text.as_ref())
    }

    /// What stands above other things.
    pub(crate) fn title(self, text: impl AsRef<str>) -> String {
        self.with("1", text.as_ref().trim_end())
    }

    fn with(self, style: &str, text: &str) -> String {
        if self.0 && !text.is_empty() { format!("\x1b[{style}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// A number of bytes, to three digits or so.
pub(crate) fn size(bytes: u64) -> String {
    let (mut size, mut unit) = (bytes as f64, "B");
    for larger in ["KiB", "MiB", "GiB", "TiB"] {
        if size < 1024.0 {
            break;
        }
        (size, unit) = (size / 1024.0, larger);
    }
    if unit == "B" || size >= 100.0 { format!("{size:.0} {unit}") } else { format!("{size:.1} {unit}") }
}

//! How commands print what they have to say: the values of `--output`.

use clap::ValueEnum;

/// For people, or for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Text,
    Json,
}

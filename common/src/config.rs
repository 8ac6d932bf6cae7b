//! Loads the settings of a binary: defaults, then a TOML file, then the environment, then flags.
//!
//! A key that nobody knows is an error wherever it stands, so that a typo is never a silent default.

use std::path::Path;

use figment::Figment;
use figment::providers::{Env, Format, Serialized, Toml};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Why settings cannot be used; the text names the key and where it was set.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file is not there or cannot be read.
    #[error("cannot read the configuration file {path}: {source}")]
    File {
        /// The file.
        path: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// A value is wrong, missing, or of a key that does not exist.
    #[error("the configuration is not valid: {0}")]
    Value(Box<figment::Error>),
    /// Values contradict each other or are out of range.
    #[error("the configuration is not valid: {0}")]
    Rule(String),
}

/// Settings of one binary.
pub trait Settings: Serialize + DeserializeOwned + Default {
    /// The environment variables `<prefix><KEY>` set keys.
    const ENV_PREFIX: &'static str;

    /// Checks what types cannot.
    ///
    /// # Errors
    /// A sentence that says what is wrong and what would be right.
    fn check(&self) -> Result<(), String>;
}

/// Merges defaults, `file`, the environment and `flags` (keys that are absent there are not set).
///
/// # Errors
/// [`ConfigError`] for an unreadable file, an unknown key or a wrong value.
pub fn load<S: Settings>(file: Option<&Path>, flags: &impl Serialize) -> Result<S, ConfigError> {
    let mut figment = Figment::from(Serialized::defaults(S::default()));
    if let Some(path) = file {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::File { path: path.display().to_string(), source })?;
        figment = figment.merge(Toml::string(&text));
    }
    let figment = figment.merge(Env::prefixed(S::ENV_PREFIX)).merge(Serialized::defaults(flags));
    let settings: S = figment.extract().map_err(|error| ConfigError::Value(Box::new(error)))?;
    settings.check().map_err(ConfigError::Rule)?;
    Ok(settings)
}

/// The settings as a TOML file that [`load`] reads.
///
/// # Panics
/// If the settings have a type that TOML does not: a mistake in the program.
pub fn to_toml<S: Settings>(settings: &S) -> String {
    toml::to_string_pretty(settings).expect("settings are tables of plain values")
}

#[cfg(test)]
mod tests;

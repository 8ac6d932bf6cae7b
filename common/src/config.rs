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
    let settings: S = read(file, flags)?;
    settings.check().map_err(ConfigError::Rule)?;
    Ok(settings)
}

/// Does what [`load`] does, but leaves [`Settings::check`] to the caller, who may still change something.
///
/// # Errors
/// [`ConfigError`] for an unreadable file, an unknown key or a value of the wrong type.
pub fn read<S: Settings>(file: Option<&Path>, flags: &impl Serialize) -> Result<S, ConfigError> {
    let mut figment = Figment::from(Serialized::defaults(S::default()));
    if let Some(path) = file {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::File { path: path.display().to_string(), source })?;
        figment = figment.merge(Toml::string(&text));
    }
    let environment = Env::prefixed(S::ENV_PREFIX).filter(|key| !is_service_link(key.as_str()));
    let figment = figment.merge(environment).merge(Serialized::defaults(flags));
    figment.extract().map_err(|error| ConfigError::Value(Box::new(error)))
}

/// Kubernetes sets `<NAME>_SERVICE_HOST`, `<NAME>_PORT` and the like for each service, and a service may
/// have the name that our prefix has.
fn is_service_link(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    key == "port" || key.starts_with("port_") || key.starts_with("service_")
}

/// The settings as a TOML file that [`load`] reads.
///
/// # Panics
/// If the settings have a type that TOML does not: a mistake in the program.
pub fn to_toml<S: Settings>(settings: &S) -> String {
    toml::to_string_pretty(settings).expect("settings are tables of plain values")
}

/// Words in the names of keys whose values are nobody's business.
const SECRET: [&str; 4] = ["secret", "password", "token", "credential"];

/// The same for people who look at a process that runs: keys that may hold a secret come without their value.
pub fn shown<S: Settings>(settings: &S) -> String {
    let line = |line: &str| match line.split_once(" = ") {
        Some((key, _)) if SECRET.iter().any(|word| key.contains(word)) => format!("{key} = \"left out\"\n"),
        Some(_) | None => format!("{line}\n"),
    };
    to_toml(settings).lines().map(line).collect()
}

#[cfg(test)]
mod tests;

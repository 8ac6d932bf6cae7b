//! Which source wins, and what is refused.

use super::*;

#[derive(Debug, PartialEq, Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Example {
    listen: String,
    cores: usize,
}

impl Default for Example {
    fn default() -> Self {
        Example { listen: "127.0.0.1:1".into(), cores: 1 }
    }
}

impl Settings for Example {
    const ENV_PREFIX: &'static str = "URSULA_EXAMPLE_THAT_NOBODY_SETS_";

    fn check(&self) -> Result<(), String> {
        if self.cores == 0 { Err("cores must be at least 1".into()) } else { Ok(()) }
    }
}

#[derive(Serialize, Default)]
struct Flags {
    #[serde(skip_serializing_if = "Option::is_none")]
    cores: Option<usize>,
}

fn with_file(text: &str, flags: &Flags) -> Result<Example, ConfigError> {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), text).expect("a file that can be written");
    load(Some(file.path()), flags)
}

#[test]
fn flags_win_over_the_file_and_the_file_over_defaults() {
    let loaded = with_file("cores = 3\nlisten = \"127.0.0.1:2\"", &Flags { cores: Some(4) }).expect("valid");
    assert_eq!(loaded, Example { listen: "127.0.0.1:2".into(), cores: 4 });
    assert_eq!(load::<Example>(None, &Flags::default()).expect("valid"), Example::default());
}

#[test]
fn what_is_wrong_is_named() {
    let unknown = with_file("corse = 3", &Flags::default()).expect_err("an unknown key").to_string();
    assert!(unknown.contains("corse"), "{unknown}");
    let wrong = with_file("cores = \"three\"", &Flags::default()).expect_err("a wrong type").to_string();
    assert!(wrong.contains("cores"), "{wrong}");
    let rule = with_file("cores = 0", &Flags::default()).expect_err("a broken rule").to_string();
    assert!(rule.contains("at least 1"), "{rule}");
    let missing = load::<Example>(Some(Path::new("/does/not/exist.toml")), &Flags::default());
    assert!(missing.expect_err("no file").to_string().contains("/does/not/exist.toml"));
}

#[test]
fn what_is_printed_can_be_loaded() {
    let settings = Example { listen: "[::1]:7".into(), cores: 9 };
    assert_eq!(with_file(&to_toml(&settings), &Flags::default()).expect("valid"), settings);
}

#[test]
fn secrets_are_not_shown() {
    #[derive(Default, Serialize, serde::Deserialize)]
    struct Guarded {
        cores: usize,
        admin_token: String,
    }
    impl Settings for Guarded {
        const ENV_PREFIX: &'static str = "URSULA_EXAMPLE_THAT_NOBODY_SETS_";
        fn check(&self) -> Result<(), String> {
            Ok(())
        }
    }
    let guarded = Guarded { cores: 1, admin_token: "open sesame".into() };
    assert_eq!(shown(&guarded), "cores = 1\nadmin_token = \"left out\"\n");
}

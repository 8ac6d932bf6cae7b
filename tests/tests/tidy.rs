//! Checks of the tree itself: who may depend on whom, how long files are, where things may be named, and
//! what documents speak of. Each check lists everything it finds.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// What a crate may depend on. A crate that is not listed fails the check.
struct Rule {
    package: &'static str,
    /// Packages of this workspace that it may use.
    ours: &'static [&'static str],
    /// Packages of others that it must never use; `*` at the end stands for anything.
    never: &'static [&'static str],
}

const RULES: [Rule; 15] = [
    Rule { package: "ursula-common", ours: &[], never: &["http", "tonic*", "axum*", "openraft*", "aws*"] },
    Rule {
        package: "ursula-stream-core",
        ours: &["ursula-common"],
        never: &[
            "tokio*",
            "rand*",
            "fastrand",
            "getrandom",
            "time",
            "chrono",
            "jiff",
            "hashbrown",
            "indexmap",
            "rustix",
        ],
    },
    Rule { package: "ursula-wal", ours: &["ursula-common"], never: &["openraft*", "tonic*", "tokio*"] },
    Rule { package: "ursula-cold", ours: &["ursula-common"], never: &["openraft*", "tonic*", "axum*"] },
    Rule { package: "ursula-protocol", ours: &["ursula-common"], never: &["tokio*", "axum*", "tonic*"] },
    Rule { package: "ursula-proto", ours: &["ursula-common"], never: &["axum*", "openraft*"] },
    Rule {
        package: "ursula-storage-node",
        ours: &["ursula-cold", "ursula-common", "ursula-proto", "ursula-stream-core", "ursula-wal"],
        never: &["axum*"],
    },
    Rule {
        package: "ursula-gateway",
        ours: &["ursula-common", "ursula-proto", "ursula-protocol"],
        never: &["openraft*", "aws*"],
    },
    Rule {
        package: "ursula",
        ours: &["ursula-bench", "ursula-common", "ursula-gateway", "ursula-proto", "ursula-storage-node", "ursula-wal"],
        never: &[],
    },
    // These see the server from outside, as its users do.
    Rule { package: "ursula-bench", ours: &[], never: &[] },
    Rule { package: "ursula-tests", ours: &[], never: &[] },
    Rule { package: "ursula-history", ours: &["ursula-test-s3", "ursula-tests"], never: &[] },
    Rule { package: "ursula-test-s3", ours: &[], never: &[] },
    Rule { package: "ursula-soak", ours: &["ursula-tests"], never: &[] },
    // It takes the server apart, to run it in a world of its own.
    Rule {
        package: "ursula-simulation",
        ours: &[
            "ursula-cold",
            "ursula-common",
            "ursula-gateway",
            "ursula-proto",
            "ursula-soak",
            "ursula-storage-node",
            "ursula-wal",
        ],
        never: &[],
    },
];

/// The most lines of a source file.
const LINES_MAX: usize = 500;

/// Words that only some files may hold. A word begins where an identifier begins; `..` stands for anything on
/// the same line.
struct Place {
    words: &'static [&'static str],
    /// Files, and folders if they end in `/`, where the words may stand; and why.
    allowed: &'static [(&'static str, &'static str)],
}

const OUTSIDERS: [(&str, &str); 2] =
    [("bench/", "sees the server from outside"), ("tests/", "sees the server from outside")];

const PLACES: [Place; 6] = [
    Place {
        words: &["StatusCode::", "StatusCode as", "as_u16()"],
        allowed: &[
            ("gateway/protocol/src/status.rs", "the one place that knows statuses of HTTP"),
            ("storage-node/src/ops.rs", "the operations listener speaks no dialect: a page is there or not"),
            ("storage-node/cold/src/store/s3.rs", "the one place that knows what S3 answers"),
        ],
    },
    Place {
        words: &["Code::", "tonic::..Code", "Status::new(", "Status::internal(", "Status::unavailable("],
        allowed: &[("proto/src/status.rs", "the one place that knows codes of gRPC")],
    },
    Place {
        words: &["openraft"],
        allowed: &[
            ("storage-node/src/raft.rs", "the one place that knows openraft"),
            ("storage-node/src/raft/", "the one place that knows openraft"),
            ("storage-node/src/process.rs", "how much of it is logged"),
            ("ursula/src/main.rs", "how much of it is logged"),
        ],
    },
    Place {
        words: &["aws_sdk_s3", "aws_config", "aws_smithy"],
        allowed: &[
            ("storage-node/cold/src/store/s3.rs", "the one place that knows the SDK of S3"),
            ("storage-node/cold/src/store/s3/", "its tests"),
        ],
    },
    Place {
        words: &["thread::spawn", "thread::Builder", "thread::scope", "thread::sleep"],
        allowed: &[("storage-node/src/runtime.rs", "the seam that starts threads")],
    },
    Place {
        // The Instant of tokio is controlled by tests and the simulator, and welcome.
        words: &["SystemTime::now", "std::time..Instant", "std::time..SystemTime", "Utc::now"],
        allowed: &[("common/src/clock.rs", "the seam that reads the clock")],
    },
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace")
}

/// Every file of the tree whose name ends so, relative to the root.
fn files(ends: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder of the tree") {
            let entry = entry.expect("an entry");
            let name = entry.file_name().to_string_lossy().into_owned();
            let skipped = matches!(name.as_str(), "target" | "node_modules" | ".git");
            if entry.file_type().expect("a type").is_dir() {
                folders.extend((!skipped).then(|| entry.path()));
            } else if ends.iter().any(|end| name.ends_with(end)) {
                found.push(entry.path().strip_prefix(root()).expect("below the root").to_owned());
            }
        }
    }
    found.sort();
    assert!(!found.is_empty(), "no files that end in {ends:?}");
    found
}

fn read(file: &Path) -> String {
    fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

#[track_caller]
fn assert_none(what: &str, found: &[String]) {
    assert!(found.is_empty(), "{what}:\n  {}", found.join("\n  "));
}

fn matches(pattern: &str, name: &str) -> bool {
    pattern.strip_suffix('*').map_or(pattern == name, |start| name.starts_with(start))
}

#[test]
fn crates_depend_on_what_they_may() {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let args = ["metadata", "--no-deps", "--format-version", "1", "--offline"];
    let output = Command::new(cargo).args(args).current_dir(root()).output().expect("cargo runs");
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo prints JSON");
    let text = |value: &Value| value.as_str().expect("a string").to_owned();
    let mut wrong = Vec::new();
    let mut seen = BTreeSet::new();
    for package in metadata["packages"].as_array().expect("packages") {
        let name = text(&package["name"]);
        seen.insert(name.clone());
        let Some(rule) = RULES.iter().find(|rule| rule.package == name) else {
            wrong.push(format!("{name} has no rule here"));
            continue;
        };
        for dependency in package["dependencies"].as_array().expect("dependencies") {
            if !dependency["kind"].is_null() {
                continue;
            }
            let uses = text(&dependency["name"]);
            let ours = dependency["path"].is_string();
            if ours && !rule.ours.contains(&uses.as_str()) {
                wrong.push(format!("{name} may not depend on {uses}"));
            }
            if rule.never.iter().any(|never| matches(never, &uses)) {
                wrong.push(format!("{name} must never see {uses}"));
            }
        }
    }
    assert_none("dependencies that the design forbids", &wrong);
    let gone: Vec<String> =
        RULES.iter().map(|rule| rule.package.to_owned()).filter(|package| !seen.contains(package)).collect();
    assert_none("rules for crates that are not there", &gone);
}

#[test]
fn the_state_machine_uses_nothing_impure() {
    let impure = ["HashMap", "HashSet", "std::fs", "std::net", "std::thread", "Instant", "SystemTime", "std::env"];
    let in_core = |file: &PathBuf| {
        let path = file.to_string_lossy();
        path.starts_with("storage-node/core/src/") && !path.contains("/tests/") && !path.ends_with("tests.rs")
    };
    let sources: Vec<PathBuf> = files(&[".rs"]).into_iter().filter(in_core).collect();
    assert!(!sources.is_empty());
    assert_none("words that a pure state machine does not need", &lines_with(&sources, &impure));
}

#[test]
fn sources_are_short_and_say_what_they_own() {
    let mut wrong = Vec::new();
    for file in files(&[".rs"]) {
        let text = read(&file);
        let lines = text.lines().count();
        if lines > LINES_MAX {
            wrong.push(format!("{} has {lines} lines of at most {LINES_MAX}", file.display()));
        }
        if !text.starts_with("//! ") {
            wrong.push(format!("{} does not begin with `//! ` and what it owns", file.display()));
        }
        let inline = |line: &str| matches!(line.trim(), "mod tests {" | "mod test {" | "pub mod tests {");
        if text.lines().any(inline) {
            wrong.push(format!("{} holds its tests: they belong in a file beside it", file.display()));
        }
    }
    assert_none("sources to tidy up", &wrong);
}

#[test]
fn words_stay_in_their_places() {
    let mut wrong = Vec::new();
    for Place { words, allowed } in &PLACES {
        let outside = |file: &PathBuf| {
            let path = file.to_string_lossy();
            let may = |place: &str| if place.ends_with('/') { path.starts_with(place) } else { path == place };
            let is_test = path.contains("/tests/") || path.ends_with("tests.rs");
            !is_test && !allowed.iter().chain(&OUTSIDERS).any(|(place, _)| may(place))
        };
        let sources: Vec<PathBuf> = files(&[".rs"]).into_iter().filter(outside).collect();
        wrong.extend(lines_with(&sources, words));
        for (place, reason) in *allowed {
            if !root().join(place).exists() {
                wrong.push(format!("{place} ({reason}) is not there"));
            }
        }
    }
    assert_none("words outside the files that own them", &wrong);
}

/// The lines that hold one of `words`, with their places.
fn lines_with<W: AsRef<str>>(files: &[PathBuf], words: &[W]) -> Vec<String> {
    let mut found = Vec::new();
    for file in files {
        for (number, line) in read(file).lines().enumerate() {
            if words.iter().any(|word| holds(line, word.as_ref())) {
                found.push(format!("{}:{}: {}", file.display(), number + 1, line.trim()));
            }
        }
    }
    found
}

fn holds(line: &str, word: &str) -> bool {
    let (first, rest) = word.split_once("..").unwrap_or((word, ""));
    let in_identifier = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(first).any(|(at, _)| {
        let begins = !first.starts_with(in_identifier) || !line[..at].ends_with(in_identifier);
        begins && line[at + first.len()..].contains(rest)
    })
}

#[test]
fn words_are_found_where_identifiers_begin() {
    let yes =
        [("Code::Unknown", "Code::"), ("use std::time::{Duration, Instant};", "std::time..Instant"), ("a b", "b")];
    let no = [("StatusCode::OK", "Code::"), ("use tokio::time::Instant;", "std::time..Instant"), ("ab", "b")];
    assert!(yes.iter().all(|(line, word)| holds(line, word)));
    assert!(!no.iter().any(|(line, word)| holds(line, word)));
}

#[test]
fn texts_speak_of_the_project_alone() {
    // Put together here, so that this file does not hold them.
    let word = |parts: [&str; 2]| parts.concat();
    let words = [
        word(["/wo", "rk/"]),
        word(["/ro", "ot/"]),
        word(["/ho", "me/"]),
        word(["/tm", "p/"]),
        word(["://static.cra", "tes.io"]),
        word(["://index.cra", "tes.io"]),
        word(["://cra", "tes.io"]),
        word(["registry.npm", "js.org"]),
        word(["registry.yarn", "pkg.com"]),
        word(["://proxy.gol", "ang.org"]),
        word(["://py", "pi.org"]),
        word(["/iss", "ues/"]),
        word(["/pu", "ll/"]),
    ];
    let kinds =
        [".rs", ".md", ".toml", ".js", ".json", ".proto", ".sh", ".yml", ".yaml", "justfile", "Dockerfile", "run"];
    assert_none("texts that speak of something else", &lines_with(&files(&kinds), &words));
}

#[test]
fn links_lead_somewhere_and_every_document_is_linked() {
    let mut linked: BTreeMap<PathBuf, PathBuf> = BTreeMap::new();
    let mut wrong = Vec::new();
    for document in files(&[".md"]) {
        let folder = document.parent().expect("a folder");
        for target in links(&read(&document)) {
            if target.contains("://") || target.starts_with('#') {
                continue;
            }
            let path = target.split('#').next().unwrap_or_default();
            match root().join(folder).join(path).canonicalize() {
                Ok(file) => {
                    linked.insert(file, document.clone());
                }
                Err(_) => wrong.push(format!("{} links to {target}, which is not there", document.display())),
            }
        }
    }
    let root = root().canonicalize().expect("the root");
    for document in files(&[".md"]).into_iter().filter(|file| file.starts_with("docs")) {
        let file = root.join(&document);
        if linked.get(&file).is_none_or(|from| *from == document) {
            wrong.push(format!("nothing links to {}", document.display()));
        }
    }
    assert_none("links to mend", &wrong);
}

/// The targets of `[text](target)`, outside of fenced blocks.
fn links(text: &str) -> Vec<String> {
    let prose: Vec<&str> = text.split("```").step_by(2).collect();
    let prose = prose.join("");
    let after = prose.split("](").skip(1);
    after.filter_map(|rest| rest.split_once(')')).map(|(target, _)| target.to_owned()).collect()
}

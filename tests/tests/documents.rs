//! Every command that a document shows is run, as it stands there.
//!
//! - A block that begins with ```` ```sh ```` runs to its end and succeeds.
//! - One that begins with ```` ```sh stays ```` is one command that goes on in a terminal of its own, until the next
//!   heading, where Ctrl-C is pressed.
//! - Each line of a block that begins with ```` ```text output ```` must come in the output of the commands of its
//!   section; `...` stands for lines that are left out.
//!
//! Documents name ports, and other servers may have them. So they are run on an address of their own: it
//! stands in the place of 127.0.0.1, in the text and in the settings that programs have by default.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;
use ursula_tests::{Process, eventually, program};

/// Blocks that are not run, by document and first line; and why.
const NOT_RUN: [(&str, &str, &str); 4] = [
    ("README.md", "./.ci/run", "it runs this test"),
    ("bench/README.md", "cargo build --release -p ursula-bench", "a release build, and minutes of an idle machine"),
    ("bench/README.md", "A_ARGS='--root /bench-bucket --create-bucket' \\", "needs a peer, and an idle machine"),
    ("tests/js/README.md", "npm ci", "run by the test of the official suites"),
];
/// What blocks may be: in any other language a command could hide.
const LANGUAGES: [&str; 5] = ["", "json", "text", "toml", "text output"];
/// Where documents lie.
const FOLDERS: [&str; 6] = ["", "docs", "docs/adr", "docs/formats", "bench", "tests/js"];

struct Block {
    info: String,
    text: String,
    /// For messages.
    place: String,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace")
}

fn documents() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for folder in FOLDERS {
        for entry in fs::read_dir(root().join(folder)).expect("a folder of documents") {
            let path = entry.expect("an entry").path();
            if path.extension().is_some_and(|extension| extension == "md") {
                found.push(path.strip_prefix(root()).expect("below the root").to_owned());
            }
        }
    }
    found.sort();
    found
}

/// The fenced blocks of each section of a document.
fn sections(document: &Path) -> Vec<Vec<Block>> {
    let text = fs::read_to_string(root().join(document)).expect("a document");
    let mut sections = vec![Vec::new()];
    let mut open: Option<Block> = None;
    for (number, line) in text.lines().enumerate() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(info)) => {
                let place = format!("{}:{}", document.display(), number + 1);
                open = Some(Block { info: info.trim().to_owned(), text: String::new(), place });
            }
            (Some(_), Some(_)) => sections.last_mut().expect("a section").extend(open.take()),
            (Some(block), None) => block.text.push_str(&format!("{line}\n")),
            (None, None) if line.starts_with('#') => sections.push(Vec::new()),
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "{} ends within a block", document.display());
    sections
}

fn is_not_run(document: &Path, block: &Block) -> bool {
    let first = block.text.lines().next().unwrap_or_default();
    NOT_RUN.iter().any(|(file, line, _)| Path::new(file) == document && *line == first)
}

/// A place to run commands of one document in.
struct Desk {
    address: String,
    programs: String,
    /// For what commands leave behind.
    folder: TempDir,
}

impl Desk {
    fn new() -> Desk {
        // Processes at the same time have different ids, so they use different addresses of this machine.
        let [_, a, b, c] = std::process::id().to_be_bytes();
        let address = format!("127.{}.{b}.{}", a.saturating_add(100), c.max(1));
        let ursula = program("ursula");
        let programs = ursula.parent().expect("a folder").to_str().expect("a path of text").to_owned();
        Desk { address, programs, folder: tempfile::tempdir().expect("a folder") }
    }

    fn here(&self, text: &str) -> String {
        text.replace("127.0.0.1", &self.address).replace("target/debug", &self.programs)
    }

    fn command(&self, script: &str) -> Command {
        let mut command = Command::new("bash");
        command.args(["-euo", "pipefail", "-c", script]).current_dir(root());
        for (key, _) in std::env::vars_os() {
            // What cargo tells this test must not reach a cargo that a document runs.
            let key = key.to_string_lossy().into_owned();
            let of_this_test = ["URSULA_", "CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "NEXTEST", "RUST_LOG"];
            if of_this_test.iter().any(|start| key.starts_with(start)) {
                command.env_remove(key);
            }
        }
        let at = |port: u16| format!("{}:{port}", self.address);
        command
            .env("NO_COLOR", "1")
            .env("TMPDIR", self.folder.path())
            .env("URSULA_URL", format!("http://{}", at(4437)))
            .env("URSULA_GATEWAY_LISTEN", at(4437))
            .env("URSULA_GATEWAY_OPERATIONS_LISTEN", at(4436))
            .env("URSULA_GATEWAY_NODES", format!("[\"{}\"]", at(4438)))
            .env("URSULA_NODE_LISTEN", at(4438))
            .env("URSULA_NODE_OPERATIONS_LISTEN", at(4439))
            .env("URSULA_DEV_GATEWAY", format!("{{listen=\"{}\",operations_listen=\"{}\"}}", at(4437), at(4436)))
            .env("URSULA_DEV_NODE", format!("{{operations_listen=\"{}\"}}", at(4439)));
        command
    }

    fn run_section(&self, document: &Path, blocks: &[Block]) {
        let mut terminals: Vec<Process> = Vec::new();
        let mut said = String::new();
        for block in blocks.iter().filter(|block| !is_not_run(document, block)) {
            let text = self.here(&block.text);
            match block.info.as_str() {
                "sh" => said.push_str(&self.run(block, &text)),
                "sh stays" => terminals.push(Process::spawn(&block.place, self.command(&format!("exec {text}")))),
                "text output" => {
                    for line in text.lines().map(str::trim).filter(|line| !matches!(*line, "" | "...")) {
                        eventually(&format!("{line:?} of {}", block.place), || {
                            let outputs = terminals.iter().map(Process::output);
                            outputs.chain([said.clone()]).any(|output| output.contains(line)).then_some(())
                        });
                    }
                }
                other => assert!(LANGUAGES.contains(&other), "{}: is {other:?} a command?", block.place),
            }
        }
        for terminal in terminals.iter().rev() {
            assert!(terminal.try_wait().is_none(), "a command ended that should stay: {}", terminal.output());
            terminal.interrupt();
            terminal.wait();
        }
    }

    /// Runs a block to its end, and returns its output.
    fn run(&self, block: &Block, script: &str) -> String {
        let output = self.command(script).output().expect("bash runs");
        let said = String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned();
        assert!(output.status.success(), "{} fails: {}\n{said}", block.place, output.status);
        // curl succeeds whatever the server answers.
        let refused = ["HTTP/1.1 4", "HTTP/1.1 5", "{\"error\":"].iter().any(|sign| said.contains(sign));
        assert!(!refused, "{} was refused:\n{said}", block.place);
        said
    }
}

#[test]
fn commands_of_the_documents_work() {
    // What `cargo run` needs, so that nobody waits for it with a deadline.
    let desk = Desk::new();
    let built = desk.command("cargo build").output().expect("bash runs");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    for document in documents() {
        for blocks in sections(&document) {
            desk.run_section(&document, &blocks);
        }
    }
}

#[test]
fn what_is_not_run_is_there_and_the_rest_has_commands() {
    let mut run = 0;
    let mut not_run = 0;
    for document in documents() {
        for block in sections(&document).iter().flatten().filter(|block| block.info.starts_with("sh")) {
            assert!(matches!(block.info.as_str(), "sh" | "sh stays"), "{}", block.place);
            *(if is_not_run(&document, block) { &mut not_run } else { &mut run }) += 1;
        }
    }
    assert_eq!(not_run, NOT_RUN.len(), "each exception is of use");
    assert!(run > 5, "documents have commands: {run}");
}

//! What AWS is told to make is what its provider takes, and what instances run first are scripts with settings of ours.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use ursula_tests::{program, python, run as run_program};

/// Has the provider's schema, in the form of declarations. A release of the provider, 6.x, is behind each.
const PROVIDER: &str = "@cdktf/provider-aws@21.22.1";
const PROVIDER_FILE: &str = "cdktf-provider-aws-21.22.1.tgz";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tree").to_owned()
}

fn run(command: &mut Command) -> String {
    let name = format!("{command:?}");
    let output = command.output().unwrap_or_else(|error| panic!("{name}: {error}"));
    let text = String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned();
    assert!(output.status.success(), "{name} failed:\n{text}");
    text
}

fn script(name: &str) -> String {
    let text = fs::read_to_string(root().join("deploy/aws/templates").join(name)).expect("a script");
    text.lines().filter(|line| !line.starts_with("%{")).fold(String::new(), |text, line| text + line + "\n")
}

/// What a script writes into a file with this mark at its end.
fn written(script: &str, mark: &str) -> String {
    let (_, rest) = script.split_once(&format!("<<'{mark}'\n")).expect("a file that is written");
    rest.split_once(&format!("\n{mark}\n")).expect("its end").0.to_owned()
}

#[test]
fn the_provider_takes_the_module() {
    let provider = Path::new(env!("CARGO_TARGET_TMPDIR")).join(PROVIDER_FILE);
    if !provider.exists() {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
        run(Command::new("npm").args(["pack", "--silent", PROVIDER]).current_dir(&folder));
        fs::rename(folder.path().join(PROVIDER_FILE), &provider).expect("the package");
    }
    let check = root().join("tests/terraform/check.py");
    let module = root().join("deploy/aws");
    let said = run(Command::new(python().join("bin/python")).args([&check, &provider, &module]));
    assert!(said.trim_end().ends_with(" 0 problems"), "{said}");
}

#[test]
fn instances_run_scripts() {
    for name in ["node.sh", "gateway.sh"] {
        run(Command::new("bash").args(["-n", "-c", &script(name)]));
    }
}

#[test]
fn gateways_and_nodes_take_their_settings() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("gateway.toml");
    let settings = written(&script("gateway.sh"), "TOML")
        .replace("${nodes}", "['10.20.128.10:4438']")
        .replace("${proxies}", "['10.20.0.0/16']")
        .replace("${public_url}", "https://streams.example.com");
    fs::write(&file, settings).expect("a file");
    run(Command::new(program("ursula-gateway")).args(["--check", "--config"]).arg(&file));

    let unit = written(&script("node.sh"), "UNIT");
    let words: Vec<&str> = unit.split_whitespace().collect();
    let given = words.windows(2).filter(|pair| pair[0] == "--env").filter_map(|pair| pair[1].split_once('='));
    let fill = |value: &str| match value {
        "${id}" => "1".to_owned(),
        "${groups}" => "8".to_owned(),
        "${store}" => "s3://bucket/cluster".to_owned(),
        value => value.replace("${address}", "10.20.128.10"),
    };
    let settings: Vec<_> =
        given.filter(|(key, _)| *key != "AWS_REGION").map(|(key, value)| (key, fill(value))).collect();
    assert!(settings.len() >= 6, "{settings:?}");
    let settings: Vec<(&str, &str)> = settings.iter().map(|(key, value)| (*key, value.as_str())).collect();
    let output = run_program("ursula-storage-node", &["--check"], &settings);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

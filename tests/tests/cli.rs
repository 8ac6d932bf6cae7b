//! The programs as people meet them: settings, mistakes, and what is said about them.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Output;

use tempfile::TempDir;
use ursula_tests::run;

/// Every program that takes settings: its name, the arguments that lead there, the prefix of its variables, and
/// the table that its keys are in.
const PROGRAMS: [(&str, &[&str], &str, &str); 3] = [
    ("ursula", &["dev"], "URSULA_DEV_", "[gateway]\n"),
    ("ursula-gateway", &[], "URSULA_GATEWAY_", ""),
    ("ursula-storage-node", &[], "URSULA_NODE_", ""),
];

fn file(folder: &TempDir, text: &str) -> PathBuf {
    let file = folder.path().join("settings.toml");
    std::fs::write(&file, text).expect("a file");
    file
}

fn with_file(program: &str, args: &[&str], file: &Path, more: &[&str]) -> Output {
    let mut all = args.to_vec();
    all.extend(["--config", file.to_str().expect("a path of text")]);
    all.extend(more);
    run(program, &all, &[])
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// It failed, and said why in one line that holds all of `words`, and nothing of panics.
#[track_caller]
fn assert_fails_with(output: &Output, words: &[&str]) {
    let said = stderr(output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.lines().any(|line| words.iter().all(|word| line.contains(word))), "no {words:?} in {said}");
    assert!(!said.contains("panicked"), "{said}");
    assert_eq!(stdout(output), "");
}

#[test]
fn an_unknown_key_in_a_file_is_an_error_that_names_it() {
    let folder = TempDir::new().expect("a folder");
    for (program, args, _, table) in PROGRAMS {
        let file = file(&folder, &format!("{table}lisen = \"127.0.0.1:1\"\n"));
        assert_fails_with(&with_file(program, args, &file, &["--check"]), &["lisen"]);
    }
}

#[test]
fn an_unknown_variable_is_an_error_that_names_it() {
    for (program, args, prefix, _) in PROGRAMS {
        let mut all = args.to_vec();
        all.push("--check");
        let output = run(program, &all, &[(&format!("{prefix}LISEN"), "127.0.0.1:1")]);
        assert_fails_with(&output, &["lisen"]);
    }
}

#[test]
fn a_wrong_value_is_an_error_that_names_its_key() {
    let folder = TempDir::new().expect("a folder");
    for (program, args, _, table) in PROGRAMS {
        let file = file(&folder, &format!("{table}operations_listen = \"nowhere\"\n"));
        assert_fails_with(&with_file(program, args, &file, &["--check"]), &["operations_listen"]);
    }
    let file = file(&folder, "op_timeout_ms = 0\n");
    assert_fails_with(&with_file("ursula-gateway", &[], &file, &["--check"]), &["op_timeout_ms must be"]);
    assert_fails_with(&run("ursula-storage-node", &["--ring-bytes", "1", "--check"], &[]), &["ring_bytes must be"]);
    assert_fails_with(&run("ursula", &["dev", "--ring-bytes", "1", "--check"], &[]), &["ring_bytes must be"]);
}

#[test]
fn a_file_that_is_not_there_is_an_error_that_names_it() {
    for (program, args, _, _) in PROGRAMS {
        let output = with_file(program, args, Path::new("no-such-file.toml"), &["--check"]);
        assert_fails_with(&output, &["no-such-file.toml"]);
    }
}

#[test]
fn check_accepts_the_defaults_and_starts_nothing() {
    for (program, args, _, _) in PROGRAMS {
        let mut all = args.to_vec();
        all.push("--check");
        let output = run(program, &all, &[]);
        assert!(output.status.success(), "{}", stderr(&output));
        assert_eq!((stdout(&output), stderr(&output)), (String::new(), String::new()));
    }
}

#[test]
fn printed_settings_are_a_file_with_the_same_settings() {
    let folder = TempDir::new().expect("a folder");
    for (program, args, prefix, table) in PROGRAMS {
        let address = if program == "ursula" { "--node-operations-listen" } else { "--operations-listen" };
        let mut all = args.to_vec();
        all.extend(["--print-config", address, "127.0.0.1:1234"]);
        let printed = run(program, &all, &[]);
        assert!(printed.status.success(), "{}", stderr(&printed));
        let text = stdout(&printed);
        assert!(text.contains("127.0.0.1:1234"), "{text}");
        let again = with_file(program, args, &file(&folder, &text), &["--print-config"]);
        assert!(again.status.success(), "{}", stderr(&again));
        assert_eq!(stdout(&again), text);
        // A flag counts more than a variable, and that more than a file.
        let key = format!("{prefix}{}", if table.is_empty() { "LISTEN" } else { "GATEWAY" });
        let value = if table.is_empty() { "127.0.0.1:5678" } else { "{listen=\"127.0.0.1:5678\"}" };
        let file = file(&folder, &format!("{table}listen = \"127.0.0.1:9\"\n"));
        let mut all = args.to_vec();
        all.extend(["--config", file.to_str().expect("a path of text"), "--print-config"]);
        let by_variable = stdout(&run(program, &all, &[(&key, value)]));
        assert!(by_variable.contains("listen = \"127.0.0.1:5678\""), "{by_variable}");
        all.extend(["--listen", "127.0.0.1:4321"]);
        let by_flag = stdout(&run(program, &all, &[(&key, value)]));
        assert!(by_flag.contains("listen = \"127.0.0.1:4321\""), "{by_flag}");
    }
}

#[test]
fn a_process_with_a_directory_has_its_history_there_unless_it_is_told() {
    let store = |args: &[&str], env: &[(&str, &str)]| {
        let printed = run("ursula", &[&["dev", "--print-config"], args].concat(), env);
        assert!(printed.status.success(), "{}", stderr(&printed));
        let text = stdout(&printed);
        text.lines().find_map(|line| line.strip_prefix("store = ")).map(|value| value.trim_matches('"').to_owned())
    };
    let dir = ["--data-dir", "/data"];
    assert_eq!(store(&[], &[]), None);
    assert_eq!(store(&dir, &[]).as_deref(), Some("local"));
    assert_eq!(store(&[&dir[..], &["--store", "none"]].concat(), &[]).as_deref(), Some("none"));
    assert_eq!(store(&[&dir[..], &["--store", "file:///objects"]].concat(), &[]).as_deref(), Some("file:///objects"));
    assert_eq!(store(&dir, &[("URSULA_DEV_NODE", "{store=\"s3://bucket\"}")]).as_deref(), Some("s3://bucket"));
}

#[test]
fn a_port_in_use_is_told_with_its_address() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("its address").to_string();
    let free = "127.0.0.1:0";
    let words = ["cannot listen on", address.as_str(), "in use"];
    for flags in
        [["--listen", &address, "--operations-listen", free], ["--listen", free, "--operations-listen", &address]]
    {
        for (program, args, _, _) in PROGRAMS {
            let mut all = args.to_vec();
            all.extend(flags);
            if program == "ursula" {
                all.extend(["--node-operations-listen", free]);
            }
            assert_fails_with(&run(program, &all, &[]), &words);
        }
    }
}

#[test]
fn a_node_address_that_is_none_is_told() {
    let args = ["--listen", "127.0.0.1:0", "--operations-listen", "127.0.0.1:0", "--node", "not an address"];
    assert_fails_with(&run("ursula-gateway", &args, &[]), &["not an address"]);
}

#[test]
fn help_and_version_are_there() {
    for (program, _, _, _) in PROGRAMS {
        for flag in ["--help", "--version"] {
            let output = run(program, &[flag], &[]);
            assert!(output.status.success());
            assert!(stdout(&output).contains("ursula"), "{}", stdout(&output));
        }
    }
}

#[test]
fn an_unknown_flag_is_told_by_name() {
    for (program, args, _, _) in PROGRAMS {
        let mut all = args.to_vec();
        all.push("--lisen");
        let output = run(program, &all, &[]);
        assert_eq!(output.status.code(), Some(2));
        assert!(stderr(&output).contains("--lisen"), "{}", stderr(&output));
    }
}

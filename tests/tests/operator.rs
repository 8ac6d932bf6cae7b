//! The commands of operators beside those that change a cluster: completions, a load, a report, a status that goes on.

use std::process::{Command, Stdio};

use serde_json::Value;
use ursula_tests::{Process, Server, program, run};

#[test]
fn shells_complete_commands() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = run("ursula", &["completions", shell], &[]);
        let script = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && output.stderr.is_empty());
        for word in ["stream", "append", "cluster", "completions"] {
            assert!(script.contains(word), "{shell} does not complete {word}");
        }
    }
    // The shell that is there reads it.
    let bash =
        Command::new("bash").args(["-c", "source /dev/stdin && complete -p ursula"]).stdin(Stdio::piped()).spawn();
    let mut bash = bash.expect("bash");
    let script = run("ursula", &["completions", "bash"], &[]).stdout;
    std::io::Write::write_all(&mut bash.stdin.take().expect("a pipe"), &script).expect("it reads");
    assert!(bash.wait().expect("it ends").success());
    assert_eq!(run("ursula", &["completions", "csh"], &[]).status.code(), Some(2));
}

#[test]
fn a_load_is_put_on_a_server() {
    let server = Server::dev();
    let args =
        ["bench", "append", "--url", &server.base_url, "--streams", "2", "--connections", "2", "--duration", "200ms"];
    let output = run("ursula", &[&args[..], &["--warmup", "10ms", "--output", "json"]].concat(), &[]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
    let report: Value = serde_json::from_str(&text).expect("an object");
    assert!(report.to_string().contains("p99_ms"), "{report}");
    let nobody = run("ursula", &["bench", "append", "--url", "http://127.0.0.1:1"], &[]);
    assert_eq!(nobody.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&nobody.stderr).starts_with("error: "));
}

#[test]
fn a_report_has_all_but_content() {
    let server = Server::tiers();
    let node = server.node_address.clone().expect("a node");
    assert_eq!(
        server.request("PUT", "/v1/stream/very-secret-name", &[("Content-Type", "text/plain")], "secret").status,
        201
    );
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("report.tar.gz");
    let out = out.to_str().expect("a path");
    let operations = |url: &str| url.trim_start_matches("http://").trim_end_matches("/metrics").to_owned();
    let (gateway, storage) = (operations(&server.gateway_metrics_url), operations(&server.node_metrics_url));
    let places = ["--metrics-address", &gateway, "--metrics-address", &storage, "--metrics-address", "127.0.0.1:1"];
    let args = [&["debug", "bundle", "--address", &node, "--out", out, "--output", "json"][..], &places].concat();
    let output = run("ursula", &args, &[]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said: Value = serde_json::from_slice(&output.stdout).expect("an object");
    assert_eq!(said["missing"].as_array().map(Vec::len), Some(1), "only nobody is missing: {said}");

    let unpacked = Command::new("tar").args(["-xzf", out, "-C"]).arg(folder.path()).status().expect("tar runs");
    assert!(unpacked.success());
    let read = |name: &str| {
        let path = folder.path().join("ursula-debug").join(name);
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{name}: {error}"))
    };
    assert!(read("summary.txt").contains("left out: 127.0.0.1:1"));
    assert!(read("nodes/1.txt").contains("protocol_min"));
    let status: Value = serde_json::from_str(&read("status.json")).expect("an object");
    assert_eq!(status["nodes"][0]["id"], 1);
    for (address, metric) in [(&gateway, "ursula_gateway_requests_total"), (&storage, "ursula_node_ring_used_bytes")] {
        let page = |page: &str| read(&format!("operations/{}/{page}.txt", address.replace(':', "-")));
        assert!(page("metrics").contains(metric));
        assert!(page("health").starts_with("# 200") && page("ready").starts_with("# 200"));
        assert!(page("settings").contains("operations_listen = "));
    }
    let everything = Command::new("grep").args(["-r", "secret"]).arg(folder.path().join("ursula-debug")).status();
    assert_eq!(everything.expect("grep runs").code(), Some(1), "nothing of what is in streams");

    let nobody = run(
        "ursula",
        &["debug", "bundle", "--address", "127.0.0.1:1", "--metrics-address", "127.0.0.1:1", "--out", out],
        &[],
    );
    assert_eq!(nobody.status.code(), Some(3), "{}", String::from_utf8_lossy(&nobody.stderr));
    let nowhere = run("ursula", &["debug", "bundle", "--address", &node, "--out", "/no/such/folder/x.tar.gz"], &[]);
    assert_eq!(nowhere.status.code(), Some(1));
}

#[test]
fn disks_and_a_store_that_is_away_are_shown() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().to_str().expect("a path");
    let listen = ["--listen", "127.0.0.2:0", "--operations-listen", "127.0.0.2:0", "--data-dir", dir];
    let store = ["--store", "s3://bucket", "--store-endpoint", "http://127.0.0.1:1", "--store-region", "nowhere"];
    let credentials = [("AWS_ACCESS_KEY_ID", "nobody"), ("AWS_SECRET_ACCESS_KEY", "nothing")];
    let node = Process::start("ursula-storage-node", &[&listen[..], &store].concat(), &credentials);
    let serving = node.line_with(" listen=");
    let address = serving.split(" listen=").nth(1).and_then(|rest| rest.split(' ').next()).expect("an address");
    let init = run("ursula", &["cluster", "init", "--node", &format!("1={address}")], &[]);
    assert!(init.status.success(), "{}", String::from_utf8_lossy(&init.stderr));
    let status = |more: &[&str]| {
        let output = run("ursula", &[&["cluster", "status", "--address", address], more].concat(), &[]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    ursula_tests::eventually("the store to be missed", || {
        let status: Value = serde_json::from_str(&status(&["--output", "json"])).expect("an object");
        let node = &status["nodes"][0];
        assert!(node["log_bytes"].as_u64() > Some(0) && node["disk_free_bytes"].as_u64() > Some(0), "{node}");
        (node["store_failing"] == true).then_some(())
    });
    assert!(status(&[]).contains("node 1 cannot use the object store"));
}

#[test]
fn a_status_is_shown_again_and_again() {
    let server = Server::tiers();
    let node = server.node_address.clone().expect("a node");
    let watch = ["cluster", "status", "--address", &node, "--watch", "1", "--output", "json"];
    let process = Process::start("ursula", &watch, &[]);
    ursula_tests::eventually("three of them", || (process.output().lines().count() >= 3).then_some(()));
    let line: Value = serde_json::from_str(process.output().lines().next().expect("a line")).expect("an object");
    assert_eq!((&line["groups"][0]["behind"], &line["nodes"][0]["unreachable"]), (&0.into(), &Value::Null));
    process.interrupt();
    assert!(!process.wait().success());

    let coloured = |more: &[&str], env: &[(&str, &str)]| {
        let output = run("ursula", &[&["cluster", "status", "--address", &node], more].concat(), env);
        assert!(output.status.success());
        String::from_utf8_lossy(&output.stdout).contains('\x1b')
    };
    assert!(coloured(&["--color", "always"], &[]));
    assert!(!coloured(&[], &[]), "not at a terminal");
    let piped = format!("'{}' cluster status --address {node} --watch 1 | head -n 1", program("ursula").display());
    assert!(
        Command::new("timeout").args(["30", "bash", "-c", &piped]).status().expect("bash").success(),
        "it ends with its reader"
    );
}

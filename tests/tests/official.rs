//! The official suites against each deployment: see `js/README.md`. They take turns, because several of their
//! tests are sensitive to time.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use ursula_tests::{Cluster, Member, Options, Proxy, Server, StallWatch};

/// Tests of each suite. A suite that grows or shrinks must be looked at.
const CONFORMANCE: usize = 332;
const CLIENT: usize = 23;
const YJS: usize = 7;

/// A pattern that every name of a test matches.
const EVERYTHING: &str = "";

/// The suite takes it as a bound, and the servers under test answer sooner.
const LONG_POLL_TIMEOUT_MS: &str = "5000";

/// Some tests of the suites give the server half a second. A run in which the machine or its disk stood still for longer
/// than this says nothing if it fails, and is repeated.
const STALL_MAX: Duration = Duration::from_millis(200);
const RUNS_MAX: usize = 5;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("js")
}

/// Held for as long as a suite runs; installs the packages if they are not those of the lock file.
fn turn() -> File {
    let lock = File::create(Path::new(env!("CARGO_TARGET_TMPDIR")).join("official.lock")).expect("a lock file");
    lock.lock().expect("the lock of the official suites");
    let wanted = fs::read(folder().join("package-lock.json")).expect("the lock file of npm");
    let installed = folder().join("node_modules/.installed");
    if fs::read(&installed).ok() != Some(wanted.clone()) {
        let output = run(Command::new("npm").arg("ci"));
        assert!(output.status.success(), "npm ci failed:\n{}", text(&output));
        fs::write(&installed, wanted).expect("a note of what is installed");
    }
    lock
}

fn run(command: &mut Command) -> Output {
    let name = format!("{command:?}");
    command.current_dir(folder()).output().unwrap_or_else(|error| panic!("{name}: {error}; node and npm are needed"))
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

/// Runs one suite and holds it to its count, which is left in a file for reports.
fn suite(deployment: &str, base_url: &str, project: &str, root: &str, count: usize) {
    suite_of(deployment, base_url, project, root, EVERYTHING, count);
}

/// The same, of the tests whose name matches the pattern `only`.
#[expect(clippy::print_stdout, reason = "what the test runner shows of a failed test")]
fn suite_of(deployment: &str, base_url: &str, project: &str, root: &str, only: &str, count: usize) {
    let name = format!("{project}{}-{deployment}", root.replace('/', "-"));
    let wanted = format!("{count} passed, 0 failed");
    for run in 1..=RUNS_MAX {
        let stalls = StallWatch::start();
        let output = run_suite(&name, base_url, project, root, only);
        let stdout = String::from_utf8_lossy(&output.stdout);
        let counted = stdout.lines().last().unwrap_or_default();
        fs::write(reports().join(format!("{name}.count")), format!("{counted}\n")).expect("a report");
        if counted == wanted && output.status.success() {
            return;
        }
        let (machine, disk) = stalls.longest();
        let repeat = machine.max(disk) > STALL_MAX && run < RUNS_MAX;
        println!(
            "{name}, run {run}: {counted}; the machine stood still for {machine:?} at most, its disk for {disk:?}"
        );
        for failed in stdout.lines().filter(|line| line.starts_with("failed: ")) {
            println!("{failed}");
        }
        assert!(repeat, "{name}: {counted} instead of {wanted}\n{}", text(&output));
    }
}

fn reports() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("official")
}

fn run_suite(name: &str, base_url: &str, project: &str, root: &str, only: &str) -> Output {
    fs::create_dir_all(reports()).expect("a folder for reports");
    let mut vitest = Command::new("npx");
    vitest
        .args(["--no-install", "vitest", "run", "--project", project, "--testNamePattern", only])
        .env("BASE_URL", base_url)
        .env("STREAM_ROOT", root)
        .env("LONG_POLL_TIMEOUT_MS", LONG_POLL_TIMEOUT_MS)
        .env("REPORT", reports().join(format!("{name}.json")))
        .env("NO_COLOR", "1")
        .env_remove("SUBSCRIPTIONS");
    run(&mut vitest)
}

const ROOT: &str = "/v1/stream";

#[test]
fn conformance_of_one_process() {
    let _turn = turn();
    suite("dev", &Server::dev().base_url, "conformance", ROOT, CONFORMANCE);
}

#[test]
fn conformance_of_two_processes() {
    let _turn = turn();
    suite("tiers", &Server::tiers().base_url, "conformance", ROOT, CONFORMANCE);
}

/// A copy of the suite with another root: the suite itself knows no buckets.
#[test]
fn conformance_of_a_bucket() {
    let _turn = turn();
    suite("tiers", &Server::tiers().base_url, "conformance", "/bkt1", CONFORMANCE);
}

#[test]
fn client_and_one_process() {
    let _turn = turn();
    suite("dev", &Server::dev().base_url, "client", ROOT, CLIENT);
}

#[test]
fn client_and_a_bucket_of_two_processes() {
    let _turn = turn();
    suite("tiers", &Server::tiers().base_url, "client", "/bkt1", CLIENT);
}

#[test]
fn yjs_and_one_process() {
    let _turn = turn();
    suite("dev", &Server::dev().base_url, "yjs", ROOT, YJS);
}

#[test]
fn yjs_and_two_processes() {
    let _turn = turn();
    suite("tiers", &Server::tiers().base_url, "yjs", ROOT, YJS);
}

/// Three nodes and two gateways, with a proxy in front of the gateways whose connections go to them in turn.
fn cluster() -> (Cluster, Proxy) {
    let gateway_flags = ["--long-poll-timeout-ms", "1000"].map(str::to_owned).into();
    let cluster = Cluster::start(Options { gateway_flags, ..Options::default() });
    let link = Arc::default();
    let front = Proxy::start(move |_| Some(Arc::clone(&link)));
    let gateways = cluster.gateways().into_iter().flatten().map(|address| address.parse().expect("an address"));
    front.lead_to(&gateways.collect::<Vec<_>>());
    (cluster, front)
}

fn base_url(front: &Proxy) -> String {
    format!("http://{}", front.address())
}

#[test]
fn conformance_of_a_cluster() {
    let _turn = turn();
    let (_cluster, front) = cluster();
    suite("cluster", &base_url(&front), "conformance", ROOT, CONFORMANCE);
}

/// Tests that let streams expire within one or two seconds, and give a request half a second. A leader that is
/// killed meanwhile takes longer, so there they would fail by their own clock; the cluster above passes them.
const WITHOUT_DEADLINES: &str = "^(?!.*(TTL Expiration Behavior|Fork - TTL and Expiry))";
const DEADLINES: usize = 23;
/// Between two kills.
const KILL_EVERY: Duration = Duration::from_secs(10);
/// How long a node is gone.
const GONE: Duration = Duration::from_secs(2);

#[test]
fn conformance_of_a_cluster_whose_leaders_are_killed() {
    let _turn = turn();
    let (mut cluster, front) = cluster();
    let base_url = base_url(&front);
    thread::scope(|scope| {
        let run = scope
            .spawn(|| suite_of("kills", &base_url, "conformance", ROOT, WITHOUT_DEADLINES, CONFORMANCE - DEADLINES));
        // Here, because processes end with the thread that starts them.
        while !run.is_finished() {
            if let Some(node) = cluster.leader() {
                cluster.kill(Member::Node(node));
                thread::sleep(GONE);
                cluster.start_member(Member::Node(node));
            }
            thread::sleep(KILL_EVERY - GONE);
        }
        run.join().expect("the suite passes");
    });
}

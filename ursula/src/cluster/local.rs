//! `ursula cluster local`: three storage nodes and two gateways as processes of this machine, to try a cluster and
//! to break it.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep};
use ursula_common::cli::{self, Failure};

/// Flags of `ursula cluster local`.
#[derive(Debug, clap::Args)]
pub(crate) struct Flags {
    /// Where the nodes keep their data, and every process its messages. A cluster that is there goes on.
    #[arg(long, value_name = "DIRECTORY", default_value = "ursula-cluster")]
    dir: PathBuf,
    /// Storage nodes.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=9))]
    nodes: u16,
    /// Gateways.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=9))]
    gateways: u16,
    /// Where the first gateway serves clients; the ports of the others and of the nodes follow from it.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:4437")]
    listen: SocketAddr,
}

/// A process of the cluster.
struct Member {
    name: String,
    arguments: Vec<String>,
    child: Child,
}

/// How long a process may take until it listens, and the pause before it is looked at again.
const START_TIMEOUT: Duration = Duration::from_secs(30);
const START_PAUSE: Duration = Duration::from_millis(20);

/// Offsets from the first port: gateways, their operations, nodes, their operations.
const GATEWAYS: u16 = 0;
const OPERATIONS: u16 = 10;
const NODES: u16 = 20;
const NODE_OPERATIONS: u16 = 30;

/// Runs until a signal comes; then all processes are ended.
pub(crate) async fn run(flags: &Flags) -> Result<(), Failure> {
    let mut stop = Box::pin(cli::stop_signal()?);
    let mut ended = signal(SignalKind::child())?;
    std::fs::create_dir_all(&flags.dir)?;
    let mut members = Vec::new();
    let outcome = tokio::select! {
        started = start(flags, &mut members) => started,
        () = &mut stop => Ok(()),
    };
    if outcome.is_ok() {
        say(&banner(flags, &members));
        loop {
            tokio::select! {
                () = &mut stop => break,
                _ = ended.recv() => tell_ended(&flags.dir, &mut members),
            }
        }
    }
    end(members);
    outcome
}

async fn start(flags: &Flags, members: &mut Vec<Member>) -> Result<(), Failure> {
    for id in 1..=flags.nodes {
        members.push(spawn(&flags.dir, format!("node-{id}"), node_arguments(flags, id))?);
    }
    for id in 1..=flags.nodes {
        until_it_listens(flags, members, address(flags, NODES, id)).await?;
    }
    let nodes: Vec<String> = (1..=flags.nodes).map(|id| format!("{id}={}", address(flags, NODES, id))).collect();
    let nodes = nodes.iter().flat_map(|node| ["--node", node.as_str()]);
    let mut init = tokio::process::Command::new(std::env::current_exe()?);
    let init = init.args(["cluster", "init"]).args(nodes).kill_on_drop(true).status().await?;
    if !init.success() {
        return Err("the cluster could not be formed; see above, and the messages of the nodes".into());
    }
    for id in 1..=flags.gateways {
        members.push(spawn(&flags.dir, format!("gateway-{id}"), gateway_arguments(flags, id))?);
    }
    for id in 1..=flags.gateways {
        until_it_listens(flags, members, address(flags, GATEWAYS, id)).await?;
    }
    Ok(())
}

/// Waits for a listener, as long as all processes go on.
async fn until_it_listens(flags: &Flags, members: &mut [Member], address: SocketAddr) -> Result<(), Failure> {
    let late = Instant::now() + START_TIMEOUT;
    while TcpStream::connect(address).await.is_err() {
        for Member { name, child, .. } in members.iter_mut() {
            if let Some(status) = child.try_wait()? {
                let log = log_path(&flags.dir, name);
                return Err(format!("{name} has ended ({status}); {} says why", log.display()).into());
            }
        }
        if Instant::now() > late {
            return Err(format!("nothing listens on {address}; see the messages in {}", flags.dir.display()).into());
        }
        sleep(START_PAUSE).await;
    }
    Ok(())
}

/// The address of process `id` of those that begin `offset` ports after the first gateway.
fn address(flags: &Flags, offset: u16, id: u16) -> SocketAddr {
    let port = flags.listen.port().saturating_add(offset + id - 1);
    SocketAddr::new(flags.listen.ip(), port)
}

fn node_arguments(flags: &Flags, id: u16) -> Vec<String> {
    let data = flags.dir.join(format!("node-{id}"));
    let operations = address(flags, NODE_OPERATIONS, id).to_string();
    let number = id.to_string();
    let listen = address(flags, NODES, id).to_string();
    let data = data.display().to_string();
    let pairs =
        [("--node-id", number), ("--data-dir", data), ("--listen", listen), ("--operations-listen", operations)];
    arguments("storage-node", &pairs)
}

fn gateway_arguments(flags: &Flags, id: u16) -> Vec<String> {
    let operations = address(flags, OPERATIONS, id).to_string();
    let mut pairs = vec![("--listen", address(flags, GATEWAYS, id).to_string()), ("--operations-listen", operations)];
    pairs.extend((1..=flags.nodes).map(|id| ("--node", address(flags, NODES, id).to_string())));
    arguments("gateway", &pairs)
}

fn arguments(command: &str, pairs: &[(&str, String)]) -> Vec<String> {
    let pairs = pairs.iter().flat_map(|(flag, value)| [(*flag).to_owned(), value.clone()]);
    std::iter::once(command.to_owned()).chain(pairs).collect()
}

fn log_path(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!("{name}.log"))
}

fn spawn(dir: &Path, name: String, arguments: Vec<String>) -> io::Result<Member> {
    let log = std::fs::OpenOptions::new().create(true).append(true).open(log_path(dir, &name))?;
    // It ends with this process, however that ends.
    let parent = std::process::id().to_string();
    let mut command = Command::new(std::env::current_exe()?);
    let child = command.args(["--end-with", &parent]).args(&arguments).stderr(log).spawn()?;
    Ok(Member { name, arguments, child })
}

fn banner(flags: &Flags, members: &[Member]) -> String {
    let gateways: Vec<String> =
        (1..=flags.gateways).map(|id| format!("http://{}", address(flags, GATEWAYS, id))).collect();
    let processes: Vec<String> =
        members.iter().map(|member| format!("  {:<10} process {}", member.name, member.child.id())).collect();
    format!(
        "\nUrsula serves streams on {}\n{}\nData and messages: {}\nLook at it: ursula cluster status --address {}\n\
         Kill any process, and go on. Ctrl-C ends all.\n",
        gateways.join(" and "),
        processes.join("\n"),
        flags.dir.display(),
        address(flags, NODES, 1),
    )
}

/// Says which processes have ended since the last call, and how to start them again.
fn tell_ended(dir: &Path, members: &mut Vec<Member>) {
    let has_ended = |member: &mut Member| member.child.try_wait().ok().flatten();
    let mut running = Vec::new();
    for mut member in std::mem::take(members) {
        match has_ended(&mut member) {
            Some(status) => say(&obituary(dir, &member, status)),
            None => running.push(member),
        }
    }
    *members = running;
}

fn obituary(dir: &Path, Member { name, arguments, .. }: &Member, status: ExitStatus) -> String {
    let log = log_path(dir, name);
    format!(
        "{name} has ended ({status}); start it again with:\n  ursula {} 2>>{}\n",
        arguments.join(" "),
        log.display()
    )
}

fn end(members: Vec<Member>) {
    for mut member in members {
        // It may have ended already.
        drop(member.child.kill());
        drop(member.child.wait());
    }
}

#[expect(clippy::print_stdout, reason = "this is for the person at the terminal")]
fn say(text: &str) {
    print!("{text}");
    drop(io::Write::flush(&mut io::stdout()));
}

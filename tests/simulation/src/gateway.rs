//! A gateway on a host of the simulation.

use std::io;
use std::sync::Arc;

use ursula_gateway::{Gateway, GatewayConfig, Seed, serve_socket};

use crate::clock::SimulatedClock;
use crate::network;

/// The host of gateway number `index`.
pub(crate) fn host(index: usize) -> String {
    format!("gateway-{index}")
}

/// Serves for ever; `nodes` are hosts of storage nodes.
pub(crate) async fn run(nodes: Vec<String>, op_timeout_ms: u64, clock: Arc<SimulatedClock>) -> io::Result<()> {
    let seed = |host: &String| {
        let name = network::address(host);
        let channel = network::connect(&name).map_err(io::Error::other)?;
        Ok::<_, io::Error>(Seed { name, channel })
    };
    let config = GatewayConfig { op_timeout_ms, ..GatewayConfig::default() };
    let seeds = nodes.iter().map(seed).collect::<Result<_, _>>()?;
    let gateway = Gateway::start_over(config, seeds, Arc::new(network::connect), clock)?;
    let listener = network::listen().await?;
    loop {
        let (socket, _) = listener.accept().await?;
        tokio::spawn(serve_socket(gateway.clone(), socket));
    }
}

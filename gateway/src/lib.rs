//! The gateway: serves the HTTP dialect to clients and forwards to storage nodes over gRPC.
//!
//! Holds nothing that cannot be lost: clients resume at another gateway. Knows no Raft and no storage.

mod app;
mod cluster;
mod config;
mod failures;
mod handlers;
mod hub;
mod jitter;
mod lanes;
mod link;
mod metrics;
mod origin;
mod pages;
pub mod process;
mod requests;
mod server;
mod traced;

pub use app::Gateway;
pub use cluster::{Connect, Seed};
pub use config::{GatewayConfig, GatewayFlags};
pub use server::{serve, serve_socket};

#[cfg(test)]
mod tests;

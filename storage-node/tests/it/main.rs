//! A storage node in this process, asked over its contract: no socket, no gateway.

mod basics;
mod cluster;
mod cold;
mod durable;
mod forks;
mod lifetimes;
mod memory;
mod offloaded;
mod pages;
mod refusals;
mod sessions;
mod snapshots;
mod tails;
mod trim;
mod world;

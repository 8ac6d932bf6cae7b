//! Tests of the state machine as a whole: scenarios for each verb, and a random walk beside a model.

mod append;
mod bucket;
mod compact;
mod create;
mod dice;
mod fork;
mod import;
mod lifetime;
mod model;
mod packing;
mod publish;
mod query;
mod random;
mod session;
mod trim;
mod world;

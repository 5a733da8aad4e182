//! Relata: a Zanzibar-style authorization server.
//!
//! The modules in reading order; `docs/ARCHITECTURE.md` tells how a Check and a Write pass
//! through them.

pub mod cli;
pub mod condition;
pub mod config;
pub mod context;
pub mod datastore;
pub mod doctor;
pub mod engine;
pub mod feed;
pub mod footprint;
pub mod graph;
pub mod metrics;
pub mod revision;
pub mod schema;
pub mod server;
pub mod store_file;
pub mod time;
pub mod trace;
pub mod tuple;
pub mod upkeep;

/// The wire types of `proto/relata/v1`, generated at build time.
pub mod proto {
    #![allow(missing_docs, clippy::all, clippy::pedantic)]
    tonic::include_proto!("relata.v1");

    /// The descriptors of the whole API, for reflection.
    pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/relata_descriptor.bin"));
}

//! Everything that is tested from outside, in one binary: linking is the cost of a test run.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod advisories;
mod ask;
mod chaos;
mod cli;
mod conformance;
mod datastore;
mod doctor;
mod dual_write;
mod examples;
mod faults;
mod feed;
mod grpc;
mod history;
mod journal;
mod key_rotation;
mod language;
mod layering;
mod memory;
mod observed;
mod oidc;
mod oracle;
mod overload;
mod pgbouncer;
mod postgres;
mod postgres_faults;
mod postgres_server;
mod program;
mod rolling_upgrade;
mod scenarios;
mod shared;
mod traces;
mod transport;
mod two_servers;
mod upkeep;

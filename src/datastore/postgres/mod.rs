//! The record on PostgreSQL, 14 and later, without extensions or server settings.
//!
//! ```text
//! client    Postgres: the trait, method by method
//! settings  where the database is and how much of it to use
//! sessions  whether a pooler in transaction mode stands between
//! lane      connections: who may use how many, when one is kept, when dropped
//! commit    one group of writes, one transaction, four round trips
//! reads     heads, the log, tuples, schemas, stores: each one statement, hence one snapshot
//! history   the log as people ask for it: backwards, of somebody, of something
//! keys      API keys
//! upkeep    what expired, was deleted, or is too old, step by step
//! notify    hints between nodes
//! migrate   tables and their version
//! survey    what can be seen of a database, for `relata doctor`
//! rows      rows into domain values
//! failure   errors, told apart by what can be done about them
//! ```

mod client;
mod commit;
mod failure;
mod history;
mod keys;
mod lane;
mod migrate;
mod notify;
mod reads;
mod rows;
mod sessions;
mod settings;
mod stores;
mod survey;
mod upkeep;

pub use client::Postgres;
pub use settings::{DatabaseUrl, DatabaseUrlError, PostgresSettings};
pub use survey::{
    ConnectionFacts, DurabilityFacts, Follower, PostgresSurvey, ServerFacts, SizeFacts, Slot, StandbyFacts,
    survey,
};

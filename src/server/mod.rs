//! gRPC: one file per RPC, wire conversion, errors, lifecycle.
//!
//! How a call passes through here:
//!
//! ```text
//! lifecycle   a shard accepts the connection
//! access      who calls, and whether they may; refusals carry details like any other
//! permission/, tuple/, schema/, store/
//!   call      takes the request apart, bounds it by its deadline, logs what fails
//!   convert   wire values become domain values, or a refusal that names the field
//!   registry  the store's name becomes its replica
//!   consistency  "how fresh" becomes a revision
//!   search    a first slice inline, the rest on the pool
//! status      whatever went wrong becomes one row of one table
//! ```

pub(crate) mod access;
mod call;
mod chunk;
mod consistency;
mod convert;
mod cursor;
mod deadline;
#[doc(hidden)]
pub mod fuzzing;
mod health;
pub mod lifecycle;
pub mod logging;
mod node;
mod permission;
mod pool;
mod refusals;
mod registry;
mod schema;
mod search;
mod status;
mod store;
mod tuple;
mod vocabulary;

pub use access::TokenFileError;
pub use lifecycle::{RunError, bind, run};

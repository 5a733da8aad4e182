//! gRPC: one file per RPC, wire conversion, errors, lifecycle.
//!
//! How a call passes through here:
//!
//! ```text
//! accept, tls  a shard lets a client connect; connection says who is at the other end
//! observe     counts and times the call, and begins its span if it is to be recorded
//! access      who calls, and whether they may; refusals carry details like any other
//! admission   whether there is room for it, of calls, bytes and time
//! permission/, tuple/, schema/, store/
//!   call      takes the request apart, bounds it by its deadline, logs what fails
//!   convert   wire values become domain values, or a refusal that names the field
//!   registry  the store's name becomes its replica
//!   consistency  "how fresh" becomes a revision
//!   search    a first slice inline, the rest on the pool, in turn
//!   outlet    what a stream is made from is let go in time, however slow its reader
//! traces      spans that have ended go to a collector
//! journal     who may know later what was decided, and why it took long
//! status      whatever went wrong becomes one row of one table
//! ```

mod accept;
pub(crate) mod access;
mod admission;
mod call;
mod changes;
mod chunk;
mod connection;
mod consistency;
mod convert;
mod cursor;
mod deadline;
#[doc(hidden)]
pub mod fuzzing;
mod health;
pub mod journal;
mod key;
pub mod lifecycle;
pub mod logging;
pub(crate) mod machine;
mod node;
mod observe;
pub mod operations;
mod outlet;
mod permission;
mod pool;
mod readiness;
mod refusals;
mod registry;
mod sample;
mod schema;
mod search;
mod status;
mod store;
pub mod tls;
mod traces;
mod tuple;
mod vocabulary;

pub use accept::{Inside, InsideDoor, inside};
pub use access::TokenFileError;
pub use call::STALENESS;
pub use connection::Peer;
pub use lifecycle::{Listeners, RunError, bind, run, run_with_inside};

//! Faults on demand, for any test that needs a network to break at a chosen moment.
//!
//! ```text
//! proxy   a TCP proxy: cuts, refuses, swallows, delays, throttles, springs traps
//! trap    where a connection breaks: before, within, after or long before the n-th message
//! wire    where a message of PostgreSQL ends and the next one begins
//! ```
//!
//! ```no_run
//! let (proxy, url) = Proxy::before_database(&fresh_database()?);
//! let node = Postgres::connect(PostgresSettings::new(url.parse()?)).await?;
//! let sprung = proxy.set(Trap::at(Side::Client, Moment::After).when(|message| message.says("COMMIT\0")));
//! // ("READ COMMITTED" is not meant.) The next COMMIT reaches the server; its answer never comes back.
//! ```
//!
//! The other half, a datastore that fails on demand, is `relata::datastore::faulty`.

mod proxy;
mod tests;
mod trap;
mod wire;

#[allow(unused_imports, reason = "whoever needs a fault takes what it needs")]
pub use self::{
    proxy::{Gate, Link, Protocol, Proxy, Seen, Target},
    trap::{Cut, Moment, Sprung, Trap},
    wire::{Message, Side},
};

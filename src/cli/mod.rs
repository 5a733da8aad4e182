//! The command line: `relata` is the server and its client in one binary.
//!
//! ```text
//! args ──parse──▶ Command ──▶ one file per subcommand ──▶ Exit
//!   settings: flag, RELATA_* variable, context file, default      exit: what each number means
//!   connect:  a channel with token and deadline                    output, tree: what people and
//!   dial, tls, transport: how it comes about, or why not           programs get to see
//!   wire:     domain values to and from the API
//! ```

mod args;
mod bootstrap;
mod capacity;
mod check;
mod completions;
mod connect;
mod context;
mod dial;
mod doctor;
mod duration;
mod exit;
mod expand;
mod explanation;
mod freshness;
mod journal;
mod key;
mod key_direct;
mod list_objects;
mod list_relations;
mod list_subjects;
mod migrate;
mod object;
mod output;
mod question;
mod record;
mod removal;
mod schema;
mod secret;
mod serve;
mod settings;
mod store;
mod test;
mod tidying;
mod tls;
mod transport;
mod tree;
mod tuple;
mod version;
mod wire;

pub use args::run;
pub use exit::Exit;

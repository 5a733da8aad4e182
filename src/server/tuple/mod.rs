//! `TupleService`: stored facts and their changes.

mod delete;
mod log;
mod read;
mod service;
mod watch;
mod write;

pub use service::Tuples;
pub(super) use write::note;

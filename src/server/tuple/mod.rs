//! `TupleService`: stored facts and their changes.

mod read;
mod service;
mod watch;
mod write;

pub use service::Tuples;
pub(super) use write::note;

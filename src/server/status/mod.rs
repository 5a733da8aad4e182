//! One table from every error to a gRPC status.
//!
//! Each row has a code, a machine-readable reason (`google.rpc.ErrorInfo`, domain `relata`), a
//! message for people, metadata for programs, and the field at fault where there is one. Causes
//! inside the server go to the log and never to the client. `docs/errors.md` lists the reasons.

mod error;
mod reason;
mod table;
#[cfg(test)]
mod tests;

pub use error::{At, Error, refuse_duplicates};
pub use reason::Reason;
#[cfg(test)]
use table::DOMAIN;

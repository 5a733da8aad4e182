//! Whether there is room for a call: one layer in front of every method.
//!
//! ```text
//! ledger   counts of calls, streams and bytes; nobody gets all of them
//! lag      how long calls wait for the thread that serves them
//! body     bytes are counted as they come and until they are taken
//! readers  streams whose readers take nothing are ended
//! layer    asks all of these
//! ```
//!
//! A refusal costs little and comes before anything is computed, so a node that is asked for many
//! times what it can do goes on doing what it can. What a call has taken up is given back when the
//! last of its answer has been sent, or it was given up.
//!
//! Health is asked by nobody in particular. A question of it is never refused; its streams have a
//! bound of their own, in all and by connection, so that strangers take up nobody's places.

mod body;
mod lag;
mod layer;
mod ledger;
mod readers;

pub use lag::{is_lagging, pulse, waited};
pub use layer::{AdmissionLayer, Charge, Purse};
pub use ledger::{Account, Ledger};
pub use readers::Readers;

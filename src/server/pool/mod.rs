//! Threads for searches that outlast their first slice, and whose turn it is on them.
//!
//! A runtime that serves thousands of calls must not compute for long. A search runs its first
//! slice of fuel where its call is served, which ends almost every Check; what is left goes here.
//!
//! ```text
//! Pool::seat ─▶ would it begin in time? ──no──▶ OVERLOADED, at once
//!                 │ yes
//!                 ▼
//!            line of (store, caller, kind) ── too many ──▶ QUEUE_FULL, or who floods makes room
//!                 │ a place, stores and lines in turn
//!                 ▼
//!            Seat::run ─▶ slices, stores and lines in turn ─▶ threads of low priority
//! ```
//!
//! Between two slices the call looks at its deadline: a dropped call simply submits no more, and
//! its place goes to the next.

mod line;
mod schedule;
mod threads;

pub use line::{Kind, Line};
pub use schedule::Bounds;
pub use threads::{Pool, Seat};

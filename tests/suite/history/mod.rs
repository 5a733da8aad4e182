//! The history checker: decides afterwards whether what clients of a run were told is something
//! that the promises allow.
//!
//! ```text
//! clients ──▶ journal: operations, with begin and end by one clock ──┐
//! databases ─▶ logs, one per branch of the history ──▶ lineage ──────┴─▶ rules ──▶ report
//! ```
//!
//! It shares no code with the server: it reads zookies, evaluates the schema and replays the log by
//! itself. What it knows of the truth comes from the databases, read directly, and every answer
//! names the revision that it must agree with: number, and eight bytes of the write, so that it is
//! known of which branch an answer was, when a failover has given a number out twice.

pub mod fact;
pub mod journal;
mod knowledge;
pub mod lineage;
pub mod model;
pub mod operation;
pub mod point;
pub mod report;
pub mod rules;
#[cfg(test)]
mod tests;

pub use rules::{Bounds, judge};

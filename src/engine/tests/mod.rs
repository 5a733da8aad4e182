//! The corner cases of the semantics, one test per rule.

mod agreement;
mod check;

//! The corner cases of the semantics, one test per rule; and random worlds.

mod agreement;
mod check;
mod conditions;
mod limits;
mod lists;
mod order_and_memo;
mod trees;

//! `relata doctor`: what is found in a database becomes findings with a severity and a remedy.
//!
//! ```text
//! datastore::*::survey   looks, and judges nothing
//! finding                what is said, how bad it is, what to do about it
//! expectations           what a server of these settings needs
//! postgres, sqlite       the judgement of each database
//! shared                 what is judged alike on both: versions, clocks, stores and memory
//! words                  sizes, times and counts as people read them
//! ```
//!
//! Judging is a function of values: it reads no clock and asks nobody.

mod expectations;
mod finding;
mod postgres;
mod shared;
mod sqlite;
mod words;

pub use expectations::Expectations;
pub use finding::{Finding, Severity, Topic};
pub use postgres::judge as judge_postgres;
pub use sqlite::judge as judge_sqlite;
pub use words::{samples, size};

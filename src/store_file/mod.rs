//! Store files (`.fga.yaml`): a schema, tuples and tests in one place, as OpenFGA's tools read
//! them, so that a platform team can check a schema without any server.
//!
//! ```text
//! store.fga.yaml ──format──▶ raw YAML with places ──load──▶ StoreFile (domain values)
//!                                                             ├──run──▶ Report, in process
//!                                                             └──cli/serve──▶ a running server
//! tuples.csv, .jsonl, .json, .yaml, lines ──tuple_file──▶ tuples, each with its line
//! ```
//!
//! What Relata adds to the format: `expires_at` on a tuple, `now` on a test, `conditional` as the
//! value of an assertion and `excluded_users` beside `users`. A file without them is read by any
//! other tool.

mod format;
mod load;
mod run;
pub mod tuple_file;
pub mod tuple_text;

pub use load::{
    CheckCase, Expected, ExpectedSubjects, ListObjectsCase, ListSubjectsCase, LoadError, Model, StoreFile,
    SubjectFilter, Test, load, schema_of_json,
};
pub use run::{Mismatch, Report, RunError, TestReport, run};

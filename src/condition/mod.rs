//! Typed conditions in CEL: parse, check, evaluate with fuel, say what is missing.
//!
//! ```text
//! text ──parse──▶ syntax (as written, with spans; length and depth bounded)
//!                  └──check──▶ tree (parameters are slots, functions resolved, types fit)
//!                               └──fold──▶ tree (constants joined, patterns and networks compiled)
//!                                           └──▶ Condition
//!
//! Condition::evaluate(tuple's context, request's context, fuel)
//!   parameter ──convert──▶ value of the declared type, at most once
//!   tree ──evaluate, functions──▶ value, or what is missing, or a fault ──▶ Outcome
//! ```
//!
//! The language is the Common Expression Language without bytes and messages, with OpenFGA's
//! `ipaddress`. An upload cannot harm a server: every pass recurses at most as deep as the
//! parser allows, and evaluation pays fuel for whatever it does. `docs/decisions/0001` says why
//! it is written here.

mod check;
mod compiled;
mod conversions;
mod convert;
mod evaluate;
mod fold;
mod fuel;
mod functions;
mod literal;
mod macros;
mod moment;
mod outcome;
mod parse;
mod pattern;
mod signatures;
mod syntax;
mod tree;
mod types;
mod value;

pub use compiled::{Condition, MAX_PARAMETERS, MAX_TUPLE_CONTEXT_BYTES};
pub use outcome::{ConditionError, ContextMismatch, ErrorCause, EvaluationError, Outcome, Required};
pub use parse::MAX_EXPRESSION_BYTES;
pub use types::{MAX_TYPE_DEPTH, ParameterType, ParameterTypeError};

#[cfg(test)]
mod tests;

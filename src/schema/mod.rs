//! The schema language: OpenFGA's DSL in, a checked schema and its compiled rules out.
//!
//! ```text
//! text ──parse──▶ ast::Document (as written, with spans) ◀──json──▶ OpenFGA's AuthorizationModel
//!                  │      ▲
//!                resolve  │ print: a document as canonical text
//!                  ▼      │
//!                 Schema (names resolved, every mistake reported at once)
//!                  └──rules::compile──▶ Rules (dense ids; what the engine runs)
//! ```

pub mod ast;
pub mod diagnostic;
mod document;
mod json;
pub mod model;
mod parse;
mod print;
mod resolve;
pub mod rules;
#[cfg(test)]
mod tests;
mod text;

pub use diagnostic::{Diagnostic, Diagnostics, Kind, Place, Severity, Style};
pub use json::{document_from_json, document_to_json, from_json, to_json};
pub use model::{
    Dialect, RelationDefinition, Restriction, RestrictionSubject, Rewrite, Schema, TypeDefinition,
};
pub use print::{Inexpressible, print, print_document};
pub use resolve::{MAX_EXCLUSIONS, MAX_KINDS};
pub use rules::{
    Direction, Effect, KindId, RelationId, Rule, RuleId, Rules, SubjectKind, TupleError, TypeId,
};
pub use text::{MAX_NESTING, MAX_TEXT_BYTES, parse, parse_document, parse_with_warnings};

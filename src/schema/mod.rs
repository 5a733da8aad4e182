//! The schema language: OpenFGA's DSL in, a checked schema and its compiled rules out.
//!
//! ```text
//! text ──parse──▶ ast (as written, with spans)
//!                  └──resolve──▶ Schema (names resolved, every mistake reported at once)
//!                                 ├──print──▶ text     ├──json──▶ OpenFGA's AuthorizationModel
//!                                 └──rules::compile──▶ Rules (dense ids; what the engine runs)
//! ```

pub mod model;
pub mod rules;

pub use model::{
    Dialect, RelationDefinition, Restriction, RestrictionSubject, Rewrite, Schema, TypeDefinition,
};
pub use rules::{KindId, RelationId, Rule, RuleId, Rules, SubjectKind, TupleError, TypeId};

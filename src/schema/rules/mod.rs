//! Compiled rules: what the engine runs and the graph is bound to.
//!
//! ```text
//! Schema ──compile──▶ table (every relation as rules of dense ids, shared where equal)
//!                       └──analysis──▶ what can be known without a tuple
//! Rules  ──direction──▶ what another schema does to the answers about each relation
//! Tuple  ──validate──▶ may it be written? The same answer for stored and contextual tuples.
//! ```
//!
//! A *goal* of the engine is (object ordinal, [`RuleId`]): eight bytes. The first rules are the
//! relations themselves, so the goal "has relation r to o" needs no look-up.

mod analysis;
mod compile;
mod components;
mod direction;
mod table;
#[cfg(test)]
pub(crate) mod testing;
mod validate;

pub(crate) use components::Components;
pub use direction::{Direction, Effect};
pub use table::{
    Allowed, CompiledRelation, ConditionId, KindId, RelationId, Rule, RuleId, Rules, SubjectKind, TypeId,
};
pub use validate::{TupleError, TupleFault};

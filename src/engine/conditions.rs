//! Conditions of tuples, each evaluated once per request.

use hashbrown::HashMap;

use super::limits::Meter;
use super::scope::Scope;
use super::verdict::Truth;
use crate::condition::Outcome;
use crate::graph::{AttributesId, View};

/// What the conditions met so far came to. Attributes with equal ids are equal, so their
/// conditions come to the same.
#[derive(Debug, Default)]
pub(super) struct Conditions {
    outcomes: HashMap<AttributesId, Outcome, foldhash::fast::FixedState>,
}

impl Conditions {
    /// Whether an edge that carries the attributes counts.
    pub(super) fn truth<V: View>(
        &mut self,
        scope: &Scope<'_, V>,
        attributes: Option<AttributesId>,
        meter: &mut Meter<'_>,
    ) -> Truth {
        match attributes {
            None => Truth::Yes,
            Some(id) => match self.outcome(scope, id, meter) {
                Outcome::True => Truth::Yes,
                Outcome::False => Truth::No,
                Outcome::Missing(_) | Outcome::Error(_) => Truth::Unknown,
            },
        }
    }

    /// What the condition of the attributes came to.
    pub(super) fn outcome<V: View>(
        &mut self,
        scope: &Scope<'_, V>,
        id: AttributesId,
        meter: &mut Meter<'_>,
    ) -> &Outcome {
        self.outcomes.entry(id).or_insert_with(|| {
            let Some(carried) = &scope.view.attributes(id).condition else { return Outcome::True };
            let condition = scope
                .rules
                .condition_id(carried.name.as_str())
                .and_then(|id| scope.rules.conditions().get(usize::from(id.0)));
            // INVARIANT: the view skips tuples whose condition the schema lacks.
            let Some(condition) = condition else { return Outcome::False };
            let mut fuel = scope.limits.condition;
            let outcome = condition.evaluate(&carried.context, scope.context, scope.required, &mut fuel);
            meter.spent(scope.limits.condition.saturating_sub(fuel));
            outcome
        })
    }
}

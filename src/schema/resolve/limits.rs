//! Whether a schema fits what the rest of the server counts on.

use super::index::{At, Index};
use super::targets::Targets;
use crate::schema::ast::{Expression, Relation, Subject, Type};
use crate::schema::diagnostic::{Kind, Mistakes};
use crate::schema::rules::Components;

/// How many kinds of subject a schema may have: two per type and one per relation, each with a
/// number of sixteen bits.
pub const MAX_KINDS: usize = 65_535;

/// How many exclusions may stand behind one another: `a but not b`, where `b` is `c but not d`,
/// and so on, within definitions and across them. Each level may repeat the work of the one
/// above it.
pub const MAX_EXCLUSIONS: u32 = 32;

/// Notes what is too large.
pub(super) fn check(index: &Index<'_>, targets: &Targets<'_>, mistakes: &mut Mistakes) {
    let kinds = 2 * index.document.types.len() + index.relations().len();
    if kinds > MAX_KINDS {
        mistakes.note(
            Kind::TooLarge,
            &(0..0),
            format!(
                "the schema is too large: {} types and {} relations; twice the types and the relations may be {MAX_KINDS} together",
                index.document.types.len(),
                index.relations().len()
            ),
        );
        return;
    }
    if let Some(at) = too_deep(index, targets)
        && let Some((declared, relation)) = index.relations().get(at)
    {
        mistakes
            .note(
                Kind::TooLarge,
                &relation.name.span,
                format!(
                    "`{}` of type `{}` has more than {MAX_EXCLUSIONS} `but not` behind one another",
                    relation.name.text, declared.name.text
                ),
            )
            .hint("an `or` of what is excluded says the same in one step");
    }
}

/// A relation with too many exclusions behind it. Relations that ask each other in a loop count
/// as one: loops through exclusions are evaluated by other means.
fn too_deep(index: &Index<'_>, targets: &Targets<'_>) -> Option<At> {
    let edges: Vec<Vec<(At, u32)>> = index
        .relations()
        .iter()
        .map(|&(declared, relation)| {
            let mut edges = Vec::new();
            collect(index, targets, declared, relation, &relation.expression, 0, &mut edges);
            edges
        })
        .collect();
    let leads = |at: usize, position: usize| edges.get(at)?.get(position).copied();
    let components = Components::new(edges.len(), |at, position| {
        // There are fewer relations than kinds, and kinds fit sixteen bits.
        leads(at as usize, position).and_then(|(to, _)| u32::try_from(to).ok())
    });
    let number = |at: At| u32::try_from(at).map_or(0, |at| components.of(at) as usize);
    let mut depth = vec![0_u32; components.len()];
    // What a component leads to comes before it.
    for component in 0..components.len() {
        for at in components.nodes(component) {
            let at = *at as usize;
            let deepest = edges
                .get(at)
                .into_iter()
                .flatten()
                .filter(|(to, _)| number(*to) != component)
                .map(|(to, exclusions)| depth.get(number(*to)).copied().unwrap_or(0) + exclusions)
                .max()
                .unwrap_or(0);
            if deepest > MAX_EXCLUSIONS {
                return Some(at);
            }
            if let Some(known) = depth.get_mut(component) {
                *known = (*known).max(deepest);
            }
        }
    }
    None
}

/// Every relation that a definition asks, and behind how many `but not` of it. Recursion is
/// bounded by the nesting of definitions.
fn collect(
    index: &Index<'_>,
    targets: &Targets<'_>,
    declared: &Type,
    relation: &Relation,
    expression: &Expression,
    exclusions: u32,
    edges: &mut Vec<(At, u32)>,
) {
    let mut descend = |operand: &Expression, exclusions: u32| {
        collect(index, targets, declared, relation, operand, exclusions, edges);
    };
    let own = declared.name.text.as_str();
    match expression {
        Expression::Invalid => {}
        Expression::Union(operands) | Expression::Intersection(operands) => {
            for operand in operands {
                descend(operand, exclusions);
            }
        }
        Expression::Exclusion { base, subtract } => {
            descend(base, exclusions);
            descend(subtract, exclusions + 1);
        }
        Expression::This(_) => {
            let usersets = relation.restrictions.iter().filter_map(|item| match &item.subject {
                Subject::Object | Subject::Wildcard => None,
                Subject::Userset(name) => index.place(&item.subject_type.text, &name.text),
            });
            edges.extend(usersets.map(|at| (at, exclusions)));
        }
        Expression::Computed(name) => {
            edges.extend(index.place(own, &name.text).map(|at| (at, exclusions)));
        }
        Expression::From { computed, tupleset } => {
            let led = index.place(own, &tupleset.text).and_then(|at| targets.of(at, &computed.text));
            edges.extend(led.into_iter().flat_map(|led| led.relations.iter().map(|at| (*at, exclusions))));
        }
    }
}

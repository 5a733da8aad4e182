//! Whether a schema fits what the rest of the server counts on.

use super::index::{At, Index};
use super::targets::Targets;
use crate::schema::ast::{Expression, Relation, Subject, Type};
use crate::schema::diagnostic::{Kind, Mistakes};

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
    let graph = Exclusions::build(index, targets);
    if let Some(at) = graph.too_deep()
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

/// Which relations a relation is asked of, and through how many `but not`.
struct Exclusions {
    edges: Vec<Vec<(At, u32)>>,
}

impl Exclusions {
    fn build(index: &Index<'_>, targets: &Targets<'_>) -> Self {
        let edges = index
            .relations()
            .iter()
            .map(|&(declared, relation)| {
                let mut edges = Vec::new();
                collect(index, targets, declared, relation, &relation.expression, 0, &mut edges);
                edges
            })
            .collect();
        Self { edges }
    }

    /// A relation with too many exclusions behind it. Relations that ask each other in a loop
    /// count as one: loops through exclusions are evaluated by other means.
    fn too_deep(&self) -> Option<At> {
        let component = self.components();
        // A component is numbered after every component it leads to.
        let mut order: Vec<At> = (0..self.edges.len()).collect();
        let number = |at: At| component.get(at).copied().unwrap_or(0);
        order.sort_unstable_by_key(|at| number(*at));
        let mut depth = vec![0_u32; self.edges.len()];
        for at in order {
            let mut deepest = 0;
            for (to, exclusions) in self.edges.get(at).into_iter().flatten() {
                if number(*to) != number(at) {
                    deepest = deepest.max(depth.get(number(*to)).copied().unwrap_or(0) + exclusions);
                }
            }
            if deepest > MAX_EXCLUSIONS {
                return Some(at);
            }
            if let Some(known) = depth.get_mut(number(at)) {
                *known = (*known).max(deepest);
            }
        }
        None
    }

    /// Strongly connected components (Tarjan), on the heap.
    fn components(&self) -> Vec<usize> {
        const UNSEEN: usize = usize::MAX;
        let count = self.edges.len();
        let mut seen_at = vec![UNSEEN; count];
        let mut lowest = vec![0; count];
        let mut component = vec![UNSEEN; count];
        let mut open: Vec<At> = Vec::new();
        let (mut seen, mut components) = (0, 0);
        for root in 0..count {
            if seen_at.get(root) != Some(&UNSEEN) {
                continue;
            }
            let mut path: Vec<(At, usize)> = vec![(root, 0)];
            while let Some((at, next)) = path.pop() {
                if next == 0 {
                    set(&mut seen_at, at, seen);
                    set(&mut lowest, at, seen);
                    seen += 1;
                    open.push(at);
                }
                let edge = self.edges.get(at).and_then(|edges| edges.get(next));
                if let Some((to, _)) = edge {
                    path.push((at, next + 1));
                    if seen_at.get(*to) == Some(&UNSEEN) {
                        path.push((*to, 0));
                    } else if component.get(*to) == Some(&UNSEEN) {
                        lower(&mut lowest, at, seen_at.get(*to).copied().unwrap_or(0));
                    }
                    continue;
                }
                if lowest.get(at) == seen_at.get(at) {
                    while let Some(member) = open.pop() {
                        set(&mut component, member, components);
                        if member == at {
                            break;
                        }
                    }
                    components += 1;
                }
                if let Some((parent, _)) = path.last() {
                    let reached = lowest.get(at).copied().unwrap_or(0);
                    lower(&mut lowest, *parent, reached);
                }
            }
        }
        component
    }
}

fn set(values: &mut [usize], at: usize, value: usize) {
    if let Some(slot) = values.get_mut(at) {
        *slot = value;
    }
}

fn lower(values: &mut [usize], at: usize, value: usize) {
    if let Some(slot) = values.get_mut(at) {
        *slot = (*slot).min(value);
    }
}

/// Recursion is bounded by the nesting of definitions.
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

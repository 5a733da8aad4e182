//! Where `x from y` leads: the relation `x` of every type that `y` may name.

use std::collections::{HashMap, HashSet};

use super::index::{At, Index};
use crate::schema::ast::{Expression, Relation, Subject};
use crate::schema::diagnostic::{Kind, Mistakes};
use crate::schema::model::Dialect;

/// How many places all `from` of a schema may lead to together. A tupleset of many types,
/// followed by many relations, is a product that a short text can make large.
pub(super) const MAX_TARGETS: usize = 1_000_000;

/// Where one `from` leads.
#[derive(Debug, Default)]
pub(super) struct Led {
    /// Relations of that name on the types the tupleset names, each once.
    pub relations: Vec<At>,
    /// Whether there may be more: the tupleset's definition has mistakes of its own.
    pub uncertain: bool,
}

/// Where every `from` of a document leads.
#[derive(Debug, Default)]
pub(super) struct Targets<'a> {
    led: HashMap<At, HashMap<&'a str, Led>>,
}

impl<'a> Targets<'a> {
    /// Follows every `from` whose tupleset names objects directly.
    pub(super) fn new(index: &Index<'a>, mistakes: &mut Mistakes) -> Option<Self> {
        let mut targets = Self::default();
        let mut parents: HashMap<At, HashSet<&str>> = HashMap::new();
        let mut count = 0;
        for &(declared, relation) in index.relations() {
            let mut froms = Vec::new();
            collect(&relation.expression, &mut froms);
            for (computed, tupleset) in froms {
                let Some(at) = index.place(&declared.name.text, tupleset) else { continue };
                let Some(parent) = index.relation(&declared.name.text, tupleset) else { continue };
                if not_direct(parent).is_some() {
                    continue;
                }
                let parents = parents.entry(at).or_insert_with(|| {
                    parent.restrictions.iter().map(|item| item.subject_type.text.as_str()).collect()
                });
                let led = targets.led.entry(at).or_default();
                let led = led.entry(computed).or_insert_with(|| follow(index, parent, parents, computed));
                // Counted for every use, since rules and searches follow every use.
                count += led.relations.len();
                if count > MAX_TARGETS {
                    mistakes
                        .note(
                            Kind::TooLarge,
                            &relation.name.span,
                            format!("the `from` of this schema lead to more than {MAX_TARGETS} relations"),
                        )
                        .hint("let fewer types stand in one tupleset relation");
                    return None;
                }
            }
        }
        Some(targets)
    }

    /// Where `computed from tupleset` leads; `None` if the tupleset does not name objects
    /// directly, which is reported elsewhere.
    pub(super) fn of(&self, tupleset: At, computed: &str) -> Option<&Led> {
        self.led.get(&tupleset)?.get(computed)
    }
}

fn follow(index: &Index<'_>, parent: &Relation, parents: &HashSet<&str>, computed: &str) -> Led {
    let having = index.types_having(computed);
    let place = |name: &str| index.place(name, computed);
    if index.dialect() == Dialect::V1_0 {
        // Any subject may be written, so any type that has the relation counts.
        return Led { relations: having.iter().filter_map(|name| place(name)).collect(), uncertain: false };
    }
    let uncertain = matches!(parent.expression, Expression::Invalid)
        || parents.iter().any(|name| index.type_named(name).is_none());
    // The shorter list is walked, so that no text makes this quadratic.
    let mut relations: Vec<At> = if parents.len() < having.len() {
        parents.iter().filter_map(|name| place(name)).collect()
    } else {
        having.iter().filter(|name| parents.contains(*name)).filter_map(|name| place(name)).collect()
    };
    relations.sort_unstable();
    Led { relations, uncertain }
}

/// Recursion is bounded by the nesting of definitions.
fn collect<'a>(expression: &'a Expression, found: &mut Vec<(&'a str, &'a str)>) {
    match expression {
        Expression::This(_) | Expression::Computed(_) | Expression::Invalid => {}
        Expression::From { computed, tupleset } => found.push((&computed.text, &tupleset.text)),
        Expression::Union(operands) | Expression::Intersection(operands) => {
            for operand in operands {
                collect(operand, found);
            }
        }
        Expression::Exclusion { base, subtract } => {
            collect(base, found);
            collect(subtract, found);
        }
    }
}

/// Why the tuples of a relation do not simply name objects; `None` if they do.
pub(super) fn not_direct(relation: &Relation) -> Option<&'static str> {
    match &relation.expression {
        Expression::Invalid => None,
        Expression::This(_) => relation.restrictions.iter().find_map(|item| match item.subject {
            Subject::Object => None,
            Subject::Wildcard => Some("it allows a wildcard"),
            Subject::Userset(_) => Some("it allows usersets"),
        }),
        Expression::Computed(_)
        | Expression::From { .. }
        | Expression::Union(_)
        | Expression::Intersection(_)
        | Expression::Exclusion { .. } => Some("it is derived from other relations"),
    }
}

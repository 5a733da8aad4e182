//! From a resolved schema to its rules.

use std::collections::HashMap;
use std::sync::Arc;

use super::analysis::{Analysis, dependencies};
use super::components::Components;
use super::table::{
    Allowed, CompiledRelation, ConditionId, KindId, RelationId, Rule, RuleId, Rules, SubjectKind, TypeId,
};
use crate::schema::{Dialect, RestrictionSubject, Rewrite, Schema};
use crate::tuple::RelationName;

impl Rules {
    /// Compiles a schema: unions and intersections flattened, equal rules shared, the operands of
    /// an `and` ordered by what they are likely to cost.
    ///
    /// A name that does not exist, which a resolved schema cannot hold, compiles to a rule that
    /// never holds.
    #[must_use]
    pub fn compile(schema: &Schema) -> Self {
        let mut rules = declare(schema);
        allow(schema, &mut rules);
        let mut shared: HashMap<Rule, RuleId> = HashMap::new();
        for id in 0..rules.relations.len() {
            let relation = RelationId(dense(id));
            let expression = lower(&mut rules, &mut shared, relation);
            if let Some(compiled) = rules.relations.get_mut(id) {
                compiled.expression = expression;
            }
        }
        order_operands(&mut rules);
        rules.analysis = Analysis::new(&rules);
        rules
    }
}

/// INVARIANT: resolve refuses schemas whose types, relations or conditions do not fit 16 bits.
fn dense(id: usize) -> u16 {
    u16::try_from(id).unwrap_or(u16::MAX)
}

/// The names of a schema, each with its id; every relation is a rule already, of the same number.
fn declare(schema: &Schema) -> Rules {
    let mut rules = Rules {
        types: schema.types.iter().map(|definition| definition.name.clone()).collect(),
        relations: Vec::new(),
        conditions: schema.conditions.clone(),
        rules: Vec::new(),
        type_ids: HashMap::new(),
        relation_ids: HashMap::new(),
        condition_ids: HashMap::new(),
        analysis: Analysis::default(),
    };
    for (id, condition) in schema.conditions.iter().enumerate() {
        rules.condition_ids.insert(condition.name().clone(), ConditionId(dense(id)));
    }
    for (id, definition) in schema.types.iter().enumerate() {
        let object_type = TypeId(dense(id));
        rules.type_ids.insert(definition.name.clone(), object_type);
        for relation in &definition.relations {
            let id = RelationId(dense(rules.relations.len()));
            rules.relation_ids.insert((object_type, relation.name.clone()), id);
            rules.rules.push(Rule::Relation(id));
            rules.relations.push(CompiledRelation {
                object_type,
                name: relation.name.clone(),
                expression: RuleId(u32::from(id.0)),
                allowed: Arc::default(),
                usersets: Arc::default(),
                rewrite: relation.rewrite.clone(),
            });
        }
    }
    rules
}

/// Fills in which tuples may be written.
fn allow(schema: &Schema, rules: &mut Rules) {
    let definitions = schema.types.iter().flat_map(|definition| &definition.relations);
    let allowed: Vec<Arc<Vec<Allowed>>> = match schema.dialect {
        Dialect::V1_0 => {
            let tuplesets = tuplesets(rules);
            let everything: Vec<Allowed> = (0..rules.kind_count())
                .map(|kind| Allowed { kind: KindId(dense(kind)), condition: None })
                .collect();
            // The kinds of plain objects are the first ones.
            let objects = Arc::new(everything.iter().take(rules.types.len()).copied().collect());
            let (everything, nothing) = (Arc::new(everything), Arc::default());
            definitions
                .zip(tuplesets)
                .map(|(definition, is_tupleset)| match (definition.rewrite.has_this(), is_tupleset) {
                    (false, _) => Arc::clone(&nothing),
                    (true, true) => Arc::clone(&objects),
                    (true, false) => Arc::clone(&everything),
                })
                .collect()
        }
        Dialect::V1_1 | Dialect::V1_2 => definitions
            .map(|definition| {
                let mut allowed: Vec<Allowed> = definition
                    .restrictions
                    .iter()
                    .filter_map(|restriction| rules.allowed(restriction))
                    .collect();
                allowed.sort_unstable();
                allowed.dedup();
                Arc::new(allowed)
            })
            .collect(),
    };
    let mut lists: HashMap<*const Vec<Allowed>, Arc<Vec<RelationId>>> = HashMap::new();
    for (id, allowed) in allowed.into_iter().enumerate() {
        let usersets = lists.entry(Arc::as_ptr(&allowed)).or_insert_with(|| {
            let mut usersets: Vec<RelationId> = allowed
                .iter()
                .filter_map(|way| match rules.subject_kind(way.kind) {
                    SubjectKind::Userset(relation) => Some(relation),
                    SubjectKind::Object(_) | SubjectKind::Wildcard(_) => None,
                })
                .collect();
            usersets.dedup();
            Arc::new(usersets)
        });
        let usersets = Arc::clone(usersets);
        if let Some(relation) = rules.relations.get_mut(id) {
            relation.allowed = allowed;
            relation.usersets = usersets;
        }
    }
}

/// Which relations some `… from …` reads its objects from, by [`RelationId`].
fn tuplesets(rules: &Rules) -> Vec<bool> {
    let mut found = vec![false; rules.relations.len()];
    for relation in &rules.relations {
        for part in relation.rewrite.parts() {
            let Rewrite::TupleToUserset { tupleset, .. } = part else { continue };
            let Some(RelationId(id)) = rules.relation_id(relation.object_type, tupleset) else { continue };
            if let Some(slot) = found.get_mut(usize::from(id)) {
                *slot = true;
            }
        }
    }
    found
}

impl Rules {
    fn allowed(&self, restriction: &crate::schema::Restriction) -> Option<Allowed> {
        let subject_type = self.type_id(restriction.subject_type.as_str())?;
        let kind = self.kind_id(match &restriction.subject {
            RestrictionSubject::Object => SubjectKind::Object(subject_type),
            RestrictionSubject::Wildcard => SubjectKind::Wildcard(subject_type),
            RestrictionSubject::Userset(relation) => {
                SubjectKind::Userset(self.relation_id(subject_type, relation)?)
            }
        });
        let condition = match &restriction.condition {
            None => None,
            Some(name) => Some(self.condition_id(name.as_str())?),
        };
        Some(Allowed { kind, condition })
    }
}

impl Rewrite {
    /// Every rewrite inside this one, itself included. Heap, not recursion.
    fn parts(&self) -> impl Iterator<Item = &Rewrite> {
        let mut open = vec![self];
        std::iter::from_fn(move || {
            let part = open.pop()?;
            match part {
                Self::This | Self::Computed(_) | Self::TupleToUserset { .. } => {}
                Self::Union(operands) | Self::Intersection(operands) => open.extend(operands),
                Self::Exclusion { base, subtract } => open.extend([&**base, &**subtract]),
            }
            Some(part)
        })
    }

    /// Whether stored tuples of the relation itself count.
    fn has_this(&self) -> bool {
        self.parts().any(|part| *part == Self::This)
    }
}

/// One step of lowering in post-order: operands are made before what they are operands of.
enum Lower<'a> {
    Visit(&'a Rewrite),
    Or(usize),
    And(usize),
    Not,
}

fn lower(rules: &mut Rules, shared: &mut HashMap<Rule, RuleId>, relation: RelationId) -> RuleId {
    let rewrite = rules.relation(relation).rewrite.clone();
    let object_type = rules.relation(relation).object_type;
    let mut todo = vec![Lower::Visit(&rewrite)];
    let mut made: Vec<RuleId> = Vec::new();
    let nothing = Rule::Or(Vec::new());
    while let Some(step) = todo.pop() {
        let rule = match step {
            Lower::Visit(Rewrite::Union(operands)) => {
                todo.push(Lower::Or(operands.len()));
                todo.extend(operands.iter().rev().map(Lower::Visit));
                continue;
            }
            Lower::Visit(Rewrite::Intersection(operands)) => {
                todo.push(Lower::And(operands.len()));
                todo.extend(operands.iter().rev().map(Lower::Visit));
                continue;
            }
            Lower::Visit(Rewrite::Exclusion { base, subtract }) => {
                todo.extend([Lower::Not, Lower::Visit(subtract), Lower::Visit(base)]);
                continue;
            }
            Lower::Visit(Rewrite::This) => Rule::This(relation),
            Lower::Visit(Rewrite::Computed(name)) => {
                rules.relation_id(object_type, name).map_or_else(|| nothing.clone(), Rule::Relation)
            }
            Lower::Visit(Rewrite::TupleToUserset { tupleset, computed }) => {
                through(rules, object_type, tupleset, computed).unwrap_or_else(|| nothing.clone())
            }
            Lower::Or(count) => {
                let operands = flatten(rules, made.split_off(made.len().saturating_sub(count)), |rule| {
                    if let Rule::Or(inner) = rule { Some(inner) } else { None }
                });
                if let [only] = *operands {
                    made.push(only);
                    continue;
                }
                Rule::Or(operands)
            }
            Lower::And(count) => {
                let operands = flatten(rules, made.split_off(made.len().saturating_sub(count)), |rule| {
                    if let Rule::And(inner) = rule { Some(inner) } else { None }
                });
                match *operands {
                    [] => nothing.clone(),
                    [only] => {
                        made.push(only);
                        continue;
                    }
                    _ => Rule::And(operands),
                }
            }
            Lower::Not => {
                // INVARIANT: base and subtract were visited before this step.
                let (Some(subtract), Some(base)) = (made.pop(), made.pop()) else { continue };
                Rule::Not { base, subtract }
            }
        };
        made.push(share(rules, shared, rule));
    }
    // INVARIANT: lowering a rewrite leaves exactly its own rule.
    made.pop().unwrap_or_else(|| share(rules, shared, nothing))
}

fn share(rules: &mut Rules, shared: &mut HashMap<Rule, RuleId>, rule: Rule) -> RuleId {
    if let Rule::Relation(relation) = rule {
        return rules.relation_rule(relation);
    }
    *shared.entry(rule).or_insert_with_key(|rule| {
        rules.rules.push(rule.clone());
        RuleId(u32::try_from(rules.rules.len() - 1).unwrap_or(u32::MAX))
    })
}

/// Operands of operands of the same operator become operands. Sorted, so that `a or b` and
/// `b or a` are one rule.
fn flatten(
    rules: &Rules,
    operands: Vec<RuleId>,
    same: impl Fn(&Rule) -> Option<&Vec<RuleId>>,
) -> Vec<RuleId> {
    let mut flat: Vec<RuleId> = Vec::with_capacity(operands.len());
    for operand in operands {
        match same(rules.rule(operand)) {
            Some(inner) => flat.extend(inner),
            None => flat.push(operand),
        }
    }
    flat.sort_unstable();
    flat.dedup();
    flat
}

/// `computed from tupleset`, for each type the tupleset may name that has the relation.
fn through(
    rules: &Rules,
    object_type: TypeId,
    tupleset: &RelationName,
    computed: &RelationName,
) -> Option<Rule> {
    let tupleset = rules.relation_id(object_type, tupleset)?;
    let computed = rules
        .relation(tupleset)
        .allowed
        .iter()
        .filter_map(|way| match rules.subject_kind(way.kind) {
            SubjectKind::Object(parent) => Some((parent, rules.relation_id(parent, computed)?)),
            SubjectKind::Wildcard(_) | SubjectKind::Userset(_) => None,
        })
        .collect::<Vec<_>>();
    let mut computed = computed;
    computed.dedup();
    Some(Rule::TupleToUserset { tupleset, computed })
}

/// What one rule costs at least, in arbitrary units: a guess that needs no tuple.
fn own_cost(rule: &Rule) -> u64 {
    match rule {
        Rule::Relation(_) | Rule::Or(_) | Rule::And(_) | Rule::Not { .. } => 0,
        Rule::This(_) => 1,
        Rule::TupleToUserset { .. } => 4,
    }
}

/// Added for every rule that can come back to itself through tuples.
const RECURSION_COST: u64 = 1_000;
const MAX_COST: u64 = 1 << 40;

/// Puts the operands of every `and` in the order of their cost: an `and` is given up at the first
/// operand that fails, so the cheap ones go first and a recursive one last.
#[expect(clippy::indexing_slicing, reason = "costs are by rule, and components hold rules")]
fn order_operands(rules: &mut Rules) {
    let targets: Vec<Vec<u32>> = dependencies(rules);
    let components = Components::new(targets.len(), |rule, i| targets[rule as usize].get(i).copied());
    let mut costs: Vec<u64> = vec![0; targets.len()];
    for component in 0..components.len() {
        let nodes = components.nodes(component);
        let inside = |rule: u32| components.of(rule) as usize == component;
        let is_recursive = nodes.iter().any(|rule| targets[*rule as usize].iter().any(|to| inside(*to)));
        let mut cost = if is_recursive { RECURSION_COST } else { 0 };
        for rule in nodes {
            cost += own_cost(&rules.rules[*rule as usize]);
            for to in targets[*rule as usize].iter().filter(|to| !inside(**to)) {
                cost = MAX_COST.min(cost + costs[*to as usize]);
            }
        }
        for rule in nodes {
            costs[*rule as usize] = cost;
        }
    }
    for rule in &mut rules.rules {
        if let Rule::And(operands) = rule {
            operands.sort_by_key(|RuleId(operand)| (costs[*operand as usize], *operand));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::rules::testing::{computed, relation, schema, this, union};

    #[test]
    fn relations_come_first_and_equal_rules_are_one() {
        let rules = Rules::compile(&schema(vec![
            ("user", vec![]),
            (
                "doc",
                vec![
                    relation("a", this(), &["user"]),
                    relation("b", union(vec![computed("a"), this()]), &["user"]),
                    relation("c", union(vec![computed("b"), union(vec![computed("a"), computed("b")])]), &[]),
                    relation("d", union(vec![computed("a"), computed("b")]), &[]),
                    relation("e", union(vec![computed("a"), computed("a")]), &[]),
                ],
            ),
        ]));
        for id in 0..5 {
            assert_eq!(rules.rule(RuleId(id)), &Rule::Relation(RelationId(dense(id as usize))));
        }
        assert_eq!(rules.expression(RelationId(2)), rules.expression(RelationId(3)));
        assert_eq!(rules.rule(rules.expression(RelationId(2))), &Rule::Or(vec![RuleId(0), RuleId(1)]));
        assert_eq!(rules.expression(RelationId(4)), RuleId(0), "a union of one relation is that relation");
    }
}

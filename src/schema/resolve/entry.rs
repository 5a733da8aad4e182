//! Whether a relation can ever have a member.
//!
//! A relation has an entry point if some finite chain of tuples could make somebody a member:
//! the least fixed point of "direct types have one; a union has one if an operand has; an
//! intersection or exclusion if all operands have". What is outside it can be removed from the
//! schema without changing any answer, so it is surely a mistake.

use std::collections::HashMap;

use super::index::{At, Index};
use super::targets::Targets;
use crate::schema::ast::{Expression, Name, Relation, Subject, Type};
use crate::schema::diagnostic::{Kind, Mistakes};
use crate::schema::model::Dialect;

/// Notes every relation that nobody can ever have.
pub(super) fn check(index: &Index<'_>, targets: &Targets<'_>, mistakes: &mut Mistakes) {
    let mut entry = EntryPoints::build(index, targets);
    entry.propagate();
    let loops = entry.loops();
    for (at, &(declared, relation)) in index.relations().iter().enumerate() {
        if entry.reached(at) {
            continue;
        }
        let (type_name, name) = (&declared.name.text, &relation.name.text);
        mistakes.enter(Some(format!("relation {type_name}#{name}")));
        let (message, hint) = if loops.get(at).copied().unwrap_or(false) {
            (
                format!(
                    "nobody can ever have `{name}` on `{type_name}`: its definition only leads around in a loop"
                ),
                "let one relation of the loop name types, for example `[user]`".to_owned(),
            )
        } else {
            (
                format!("nobody can ever have `{name}` on `{type_name}`: its definition has no entry point"),
                format!(
                    "let it name types that may be written directly, for example `define {name}: [user] or …`"
                ),
            )
        };
        mistakes.note(Kind::NoEntrypoint, &relation.name.span, message).hint(hint);
    }
    mistakes.enter(None);
}

/// A node of the proof graph: a relation, or a part of a definition.
#[derive(Debug, Clone, Default)]
struct Node {
    /// How many more of its operands must have an entry point before it has one.
    missing: usize,
    /// Nodes it is an operand of.
    dependents: Vec<usize>,
}

struct EntryPoints<'i, 'a> {
    index: &'i Index<'a>,
    targets: &'i Targets<'a>,
    /// The relations at their [`At`], then the parts of definitions.
    nodes: Vec<Node>,
    /// The node of a part, by its address: parts are borrowed from the document throughout.
    parts: HashMap<*const Expression, usize>,
}

impl<'i, 'a> EntryPoints<'i, 'a> {
    fn build(index: &'i Index<'a>, targets: &'i Targets<'a>) -> Self {
        let relations = vec![Node { missing: 1, dependents: Vec::new() }; index.relations().len()];
        let mut entry = Self { index, targets, nodes: relations, parts: HashMap::new() };
        for (at, &(declared, relation)) in index.relations().iter().enumerate() {
            let part = entry.part(declared, relation, &relation.expression);
            entry.depends(at, part);
        }
        entry
    }

    /// Adds the node of a part. Recursion is bounded by the nesting of definitions.
    fn part(&mut self, declared: &Type, relation: &Relation, expression: &Expression) -> usize {
        let node = self.nodes.len();
        self.nodes.push(Node { missing: 1, dependents: Vec::new() });
        self.parts.insert(std::ptr::from_ref(expression), node);
        match expression {
            Expression::Invalid => self.given(node),
            Expression::This(_) => self.direct(node, relation),
            Expression::Computed(name) => match self.index.place(&declared.name.text, &name.text) {
                Some(at) => self.depends(node, at),
                None => self.given(node),
            },
            Expression::From { computed, tupleset } => {
                let led = self
                    .index
                    .place(&declared.name.text, &tupleset.text)
                    .and_then(|tupleset| self.targets.of(tupleset, &computed.text));
                match led {
                    // Where nothing is found, that is the mistake, and it has been reported.
                    Some(led) if !led.uncertain && !led.relations.is_empty() => {
                        for at in &led.relations {
                            self.depends(node, *at);
                        }
                    }
                    _ => self.given(node),
                }
            }
            Expression::Union(operands) => {
                for operand in operands {
                    let part = self.part(declared, relation, operand);
                    self.depends(node, part);
                }
            }
            Expression::Intersection(operands) => {
                self.needs(node, operands.len());
                for operand in operands {
                    let part = self.part(declared, relation, operand);
                    self.depends(node, part);
                }
            }
            // A subtract that is always empty is a mistake as well.
            Expression::Exclusion { base, subtract } => {
                self.needs(node, 2);
                for operand in [base, subtract] {
                    let part = self.part(declared, relation, operand);
                    self.depends(node, part);
                }
            }
        }
        node
    }

    fn direct(&mut self, node: usize, relation: &Relation) {
        if self.index.dialect() == Dialect::V1_0 || relation.restrictions.is_empty() {
            self.given(node);
        }
        for item in &relation.restrictions {
            match &item.subject {
                Subject::Object | Subject::Wildcard => self.given(node),
                Subject::Userset(name) => match self.index.place(&item.subject_type.text, &name.text) {
                    Some(at) => self.depends(node, at),
                    None => self.given(node),
                },
            }
        }
    }

    fn depends(&mut self, node: usize, on: usize) {
        if let Some(on) = self.nodes.get_mut(on) {
            on.dependents.push(node);
        }
    }

    fn given(&mut self, node: usize) {
        self.needs(node, 0);
    }

    fn needs(&mut self, node: usize, count: usize) {
        if let Some(node) = self.nodes.get_mut(node) {
            node.missing = count;
        }
    }

    fn reached(&self, node: usize) -> bool {
        self.nodes.get(node).is_none_or(|node| node.missing == 0)
    }

    /// Each edge is followed at most once.
    fn propagate(&mut self) {
        let mut queue: Vec<usize> = (0..self.nodes.len()).filter(|node| self.reached(*node)).collect();
        while let Some(reached) = queue.pop() {
            let dependents = self.nodes.get(reached).map(|node| node.dependents.clone()).unwrap_or_default();
            for dependent in dependents {
                if let Some(node) = self.nodes.get_mut(dependent)
                    && node.missing > 0
                {
                    node.missing -= 1;
                    if node.missing == 0 {
                        queue.push(dependent);
                    }
                }
            }
        }
    }

    /// Which unreached relations lead into a loop of computed relations, following the operands
    /// that keep them from being reached: the others have no entry point for lack of types.
    fn loops(&self) -> Vec<bool> {
        let count = self.index.relations().len();
        let mut callers: Vec<Vec<At>> = vec![Vec::new(); count];
        let mut open: Vec<usize> = vec![0; count];
        for (at, &(declared, relation)) in self.index.relations().iter().enumerate() {
            if self.reached(at) {
                continue;
            }
            let mut blamed = Vec::new();
            self.blame(&relation.expression, &mut blamed);
            for name in blamed {
                if let Some(callee) = self.index.place(&declared.name.text, &name.text) {
                    if let Some(callers) = callers.get_mut(callee) {
                        callers.push(at);
                    }
                    if let Some(open) = open.get_mut(at) {
                        *open += 1;
                    }
                }
            }
        }
        // Peel off what ends somewhere; what remains goes around.
        let mut ended: Vec<At> = (0..count).filter(|at| open.get(*at) == Some(&0)).collect();
        while let Some(at) = ended.pop() {
            for caller in callers.get(at).into_iter().flatten() {
                if let Some(open) = open.get_mut(*caller) {
                    *open -= 1;
                    if *open == 0 {
                        ended.push(*caller);
                    }
                }
            }
        }
        open.into_iter().map(|open| open > 0).collect()
    }

    /// The computed relations for whose sake a part is not reached.
    fn blame<'e>(&self, expression: &'e Expression, blamed: &mut Vec<&'e Name>) {
        let reached = |part: &Expression| {
            self.parts.get(&std::ptr::from_ref(part)).is_none_or(|node| self.reached(*node))
        };
        if reached(expression) {
            return;
        }
        match expression {
            Expression::This(_) | Expression::From { .. } | Expression::Invalid => {}
            Expression::Computed(name) => blamed.push(name),
            Expression::Union(operands) => {
                for operand in operands {
                    self.blame(operand, blamed);
                }
            }
            // The first operand that fails is enough.
            Expression::Intersection(operands) => {
                if let Some(operand) = operands.iter().find(|operand| !reached(operand)) {
                    self.blame(operand, blamed);
                }
            }
            Expression::Exclusion { base, subtract } => {
                self.blame(if reached(base) { subtract } else { base }, blamed);
            }
        }
    }
}

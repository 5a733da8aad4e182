//! Expand: one rewrite level of `object#relation`, with the stored tuples as leaves (paper
//! §2.4.5). Conditions are shown, not evaluated.

use std::fmt;

use super::limits::{Meter, Stop, Work, progress};
use super::scope::Scope;
use super::verdict::{EngineError, Progress};
use crate::graph::{Edge, Met, Ordinal, SubjectNode, View};
use crate::schema::{KindId, RelationId, Rewrite, Rules, SubjectKind};
use crate::tuple::{Object, RelationName, Tuple};

/// `object#relation`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Userset {
    /// The object.
    pub object: Object,
    /// The relation to it.
    pub relation: RelationName,
}

impl fmt::Display for Userset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.object, self.relation)
    }
}

/// A rewrite with the stored tuples as its leaves, in the form in which it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsersetTree {
    /// What was expanded; the same in every node.
    pub userset: Userset,
    /// The rewrite.
    pub node: UsersetNode,
}

/// One rewrite.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UsersetNode {
    /// The tuples stored directly.
    Leaf(Vec<Tuple>),
    /// Another relation of the same object.
    Computed(Userset),
    /// A relation of every object a tupleset names.
    TupleToUserset {
        /// Whose tuples name the objects.
        tupleset: Userset,
        /// The relation of each of them.
        computed: Vec<Userset>,
    },
    /// Any of these.
    Union(Vec<UsersetTree>),
    /// All of these.
    Intersection(Vec<UsersetTree>),
    /// One and not the other.
    Difference {
        /// Who has it …
        base: Box<UsersetTree>,
        /// … unless they have this.
        subtract: Box<UsersetTree>,
    },
}

/// One Expand, while it runs.
#[derive(Debug)]
pub struct Expand {
    object: Ordinal,
    relation: RelationId,
    /// The rewrite in post-order, the next part last; `None` before the first run.
    todo: Option<Vec<Part>>,
    /// Trees that are operands of parts to come.
    made: Vec<UsersetTree>,
    tuples: Tuples,
    work: Work,
}

#[derive(Debug)]
enum Part {
    Leaf,
    Computed(RelationName),
    Through { tupleset: RelationName, computed: RelationName },
    Union(usize),
    Intersection(usize),
    Difference,
}

/// The tuples read for the part at work, and where to go on.
#[derive(Debug, Default)]
struct Tuples {
    found: Vec<Tuple>,
    usersets: Vec<Userset>,
    kind: usize,
    from: u64,
}

impl Expand {
    /// Expands `object#relation`.
    #[must_use]
    pub fn new(object: Ordinal, relation: RelationId) -> Self {
        Self {
            object,
            relation,
            todo: None,
            made: Vec::new(),
            tuples: Tuples::default(),
            work: Work::default(),
        }
    }

    /// Goes on for at most `fuel` units.
    pub fn run<V: View>(
        &mut self,
        scope: &Scope<'_, V>,
        fuel: &mut u64,
    ) -> Progress<Result<UsersetTree, EngineError>> {
        let mut work = self.work;
        let outcome = self.build(scope, &mut Meter { limits: scope.limits, work: &mut work, slice: fuel });
        self.work = work;
        progress(outcome)
    }

    /// What it has cost so far.
    #[must_use]
    pub fn work(&self) -> Work {
        self.work
    }

    fn build<V: View>(&mut self, scope: &Scope<'_, V>, meter: &mut Meter<'_>) -> Result<UsersetTree, Stop> {
        let relation = scope.rules.relation(self.relation);
        let userset = Userset { object: scope.view.object(self.object), relation: relation.name.clone() };
        let here = |name: &RelationName| Userset { object: userset.object.clone(), relation: name.clone() };
        loop {
            let todo = self.todo.get_or_insert_with(|| parts(&relation.rewrite));
            let node = match todo.last() {
                None => {
                    let nothing = UsersetTree { userset, node: UsersetNode::Leaf(Vec::new()) };
                    // INVARIANT: the parts of a rewrite leave one tree.
                    return Ok(self.made.pop().unwrap_or(nothing));
                }
                Some(Part::Leaf) => {
                    let mut kinds: Vec<KindId> = relation.allowed.iter().map(|way| way.kind).collect();
                    kinds.dedup();
                    self.tuples.read(scope, meter, self.object, self.relation, &kinds, |_| None)?;
                    UsersetNode::Leaf(std::mem::take(&mut self.tuples).found)
                }
                Some(Part::Computed(name)) => UsersetNode::Computed(here(name)),
                Some(Part::Through { tupleset, computed }) => {
                    // INVARIANT: the schema was resolved, so the tupleset exists.
                    let id = scope.rules.relation_id(relation.object_type, tupleset).unwrap_or(self.relation);
                    let kinds = parents(scope.rules, id, computed);
                    self.tuples.read(scope, meter, self.object, id, &kinds, |parent| {
                        Some(Userset { object: scope.view.object(parent), relation: computed.clone() })
                    })?;
                    let computed = std::mem::take(&mut self.tuples).usersets;
                    UsersetNode::TupleToUserset { tupleset: here(tupleset), computed }
                }
                Some(Part::Union(count)) => UsersetNode::Union(take(&mut self.made, *count)),
                Some(Part::Intersection(count)) => UsersetNode::Intersection(take(&mut self.made, *count)),
                Some(Part::Difference) => {
                    // INVARIANT: both operands were made before.
                    let (Some(subtract), Some(base)) = (self.made.pop(), self.made.pop()) else {
                        todo.pop();
                        continue;
                    };
                    UsersetNode::Difference { base: Box::new(base), subtract: Box::new(subtract) }
                }
            };
            todo.pop();
            self.made.push(UsersetTree { userset: userset.clone(), node });
        }
    }
}

/// The types a tupleset may name that have the relation.
fn parents(rules: &Rules, tupleset: RelationId, computed: &RelationName) -> Vec<KindId> {
    let mut kinds: Vec<KindId> = rules
        .relation(tupleset)
        .allowed
        .iter()
        .map(|way| way.kind)
        .filter(|kind| match rules.subject_kind(*kind) {
            SubjectKind::Object(parent) => rules.relation_id(parent, computed).is_some(),
            SubjectKind::Wildcard(_) | SubjectKind::Userset(_) => false,
        })
        .collect();
    kinds.dedup();
    kinds
}

fn take(made: &mut Vec<UsersetTree>, count: usize) -> Vec<UsersetTree> {
    made.split_off(made.len().saturating_sub(count))
}

/// A rewrite in post-order, reversed. Heap, not recursion.
fn parts(rewrite: &Rewrite) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut open = vec![rewrite];
    // Parent before operands, the last operand first: from behind, that is post-order.
    while let Some(rewrite) = open.pop() {
        parts.push(match rewrite {
            Rewrite::This => Part::Leaf,
            Rewrite::Computed(name) => Part::Computed(name.clone()),
            Rewrite::TupleToUserset { tupleset, computed } => {
                Part::Through { tupleset: tupleset.clone(), computed: computed.clone() }
            }
            Rewrite::Union(operands) => {
                open.extend(operands);
                Part::Union(operands.len())
            }
            Rewrite::Intersection(operands) => {
                open.extend(operands);
                Part::Intersection(operands.len())
            }
            Rewrite::Exclusion { base, subtract } => {
                open.extend([&**base, &**subtract]);
                Part::Difference
            }
        });
    }
    parts
}

impl Tuples {
    /// Reads the tuples of some kinds: as usersets where `userset` makes one, else as they are.
    fn read<V: View>(
        &mut self,
        scope: &Scope<'_, V>,
        meter: &mut Meter<'_>,
        object: Ordinal,
        relation: RelationId,
        kinds: &[KindId],
        userset: impl Fn(Ordinal) -> Option<Userset>,
    ) -> Result<(), Stop> {
        while let Some(kind) = kinds.get(self.kind).copied() {
            if let Ok(from) = u32::try_from(self.from) {
                for met in scope.view.members(object, relation, kind, Ordinal(from)) {
                    meter.edge()?;
                    self.from = u64::from(met.node().0) + 1;
                    let Met::Edge(Edge { node, attributes }) = met else { continue };
                    if let Some(userset) = userset(node) {
                        self.usersets.push(userset);
                    } else {
                        let subject = SubjectNode { kind, node };
                        self.found.push(scope.tuple(object, relation, subject, attributes));
                    }
                    meter.leaf((self.found.len() + self.usersets.len()) as u64)?;
                }
            }
            self.kind += 1;
            self.from = 0;
        }
        Ok(())
    }
}

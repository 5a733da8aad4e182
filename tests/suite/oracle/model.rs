//! The slow and obvious model: every goal of the world, both bounds, to a fixed point.
//!
//! For one subject, `lo` holds what is certain and `hi` what is possible, by the alternating
//! fixed point of the well-founded semantics: an uncertain tuple counts for `hi` only, and a
//! subtract is judged by the other bound. Nothing is lazy, shared or clever here.

use std::collections::{BTreeMap, BTreeSet};

use super::world::{Expr, Fact, Formula, NAMES, NOW, Subject, World, parameters};

/// What a tuple is worth to the request.
#[derive(Debug, Clone, PartialEq)]
enum Worth {
    Yes,
    No,
    Missing(BTreeSet<usize>),
    Error,
}

/// The answer to one question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    Allowed,
    Denied,
    Conditional(BTreeSet<usize>),
    Error,
}

/// A goal: an object and a node of some relation's expression, as a number. Sets of goals are
/// a bool for each.
type Goal = usize;

#[derive(Debug, Clone)]
enum Node {
    /// By name; the type is the goal's.
    Relation(usize),
    This(usize),
    Computed(usize),
    /// Tupleset and relation asked.
    From(usize, usize),
    Or(Vec<usize>),
    And(Vec<usize>),
    Not(usize, usize),
}

/// A tuple and what it is worth.
type Weighed<'a> = (&'a Fact, Worth);

pub struct Model<'a> {
    nodes: Vec<Node>,
    /// Per (type, name): the node of the relation, and of its expression.
    relation: Vec<Vec<Option<(usize, usize)>>>,
    /// Tuples that count, by (type, id, name) of their object and relation.
    facts: BTreeMap<(usize, usize, usize), Vec<Weighed<'a>>>,
    /// All goals: type, id, node.
    goals: Vec<(usize, usize, usize)>,
    /// Per node: the goal of the object with id 0.
    first: Vec<Goal>,
}

impl<'a> Model<'a> {
    pub fn new(world: &'a World) -> Self {
        let types = world.objects.len();
        let relation = vec![vec![None; NAMES]; types];
        let mut model =
            Self { nodes: vec![], relation, facts: BTreeMap::new(), goals: vec![], first: vec![] };
        for object_type in 0..types {
            for name in 0..NAMES {
                if let Some(relation) = &world.relations[object_type][name] {
                    model.nodes.push(Node::Relation(name));
                    let node = model.nodes.len() - 1;
                    let expression = model.add(name, &relation.expr);
                    model.relation[object_type][name] = Some((node, expression));
                    for node in node..model.nodes.len() {
                        model.first.push(model.goals.len());
                        model
                            .goals
                            .extend((0..=world.objects[object_type]).map(|id| (object_type, id, node)));
                    }
                }
            }
        }
        for fact in &world.facts {
            let shadowed = !fact.contextual
                && world.facts.iter().any(|other| {
                    other.contextual
                        && other.object == fact.object
                        && other.relation == fact.relation
                        && other.subject == fact.subject
                });
            let expired = fact.expires_at.is_some_and(|moment| moment <= NOW);
            if !shadowed && !expired && world.allowed(fact) {
                let place = (fact.object.0, fact.object.1, fact.relation);
                model.facts.entry(place).or_default().push((fact, worth(world, fact)));
            }
        }
        model
    }

    fn goal(&self, id: usize, node: usize) -> Goal {
        self.first[node] + id
    }

    fn facts(&self, object_type: usize, id: usize, name: usize) -> &[Weighed<'a>] {
        self.facts.get(&(object_type, id, name)).map_or(&[], Vec::as_slice)
    }

    fn add(&mut self, name: usize, expr: &Expr) -> usize {
        let node = match expr {
            Expr::This => Node::This(name),
            Expr::Computed(other) => Node::Computed(*other),
            Expr::From(tupleset, computed) => Node::From(*tupleset, *computed),
            Expr::Or(operands) => Node::Or(operands.iter().map(|e| self.add(name, e)).collect()),
            Expr::And(operands) => Node::And(operands.iter().map(|e| self.add(name, e)).collect()),
            Expr::Not(base, subtract) => Node::Not(self.add(name, base), self.add(name, subtract)),
        };
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    /// Both bounds for one subject.
    pub fn solve(&self, subject: Subject) -> Solution {
        let mut lo = vec![false; self.goals.len()];
        loop {
            let hi = self.least(subject, true, &lo);
            let next = self.least(subject, false, &hi);
            if next == lo {
                return Solution { lo, hi };
            }
            lo = next;
        }
    }

    /// The least fixed point where a subtract holds just if it is in `assumed`.
    fn least(&self, subject: Subject, possible: bool, assumed: &[bool]) -> Vec<bool> {
        let mut holds = vec![false; self.goals.len()];
        loop {
            let mut grown = false;
            for goal in 0..self.goals.len() {
                if !holds[goal] && self.derives(subject, possible, assumed, &holds, goal) {
                    holds[goal] = true;
                    grown = true;
                }
            }
            if !grown {
                return holds;
            }
        }
    }

    fn derives(
        &self,
        subject: Subject,
        possible: bool,
        assumed: &[bool],
        holds: &[bool],
        goal: Goal,
    ) -> bool {
        let (object_type, id, node) = self.goals[goal];
        let counts = |worth: &Worth| match worth {
            Worth::Yes => true,
            Worth::No => false,
            Worth::Missing(_) | Worth::Error => possible,
        };
        match &self.nodes[node] {
            Node::Relation(name) => {
                subject == Subject::Userset(object_type, id, *name)
                    || self.relation[object_type][*name]
                        .is_some_and(|(_, expression)| holds[self.goal(id, expression)])
            }
            Node::This(name) => {
                self.facts(object_type, id, *name).iter().filter(|(_, worth)| counts(worth)).any(
                    |(fact, _)| {
                        Self::matches(subject, fact.subject)
                            || self.through(fact.subject).is_some_and(|goal| holds[goal])
                    },
                )
            }
            Node::Computed(name) => {
                self.relation[object_type][*name].is_some_and(|(node, _)| holds[self.goal(id, node)])
            }
            Node::From(tupleset, computed) => self
                .facts(object_type, id, *tupleset)
                .iter()
                .filter(|(_, worth)| counts(worth))
                .any(|(fact, _)| self.parent(fact.subject, *computed).is_some_and(|goal| holds[goal])),
            Node::Or(operands) => operands.iter().any(|operand| holds[self.goal(id, *operand)]),
            Node::And(operands) => operands.iter().all(|operand| holds[self.goal(id, *operand)]),
            Node::Not(base, subtract) => holds[self.goal(id, *base)] && !assumed[self.goal(id, *subtract)],
        }
    }

    /// Whether a tuple's subject is the subject asked about, or a wildcard that covers it.
    fn matches(asked: Subject, stored: Subject) -> bool {
        asked == stored
            || matches!((asked, stored), (Subject::Object(t, _), Subject::Wildcard(of)) if t == of)
    }

    fn through(&self, stored: Subject) -> Option<Goal> {
        match stored {
            Subject::Userset(object_type, id, name) => {
                self.relation[object_type][name].map(|(node, _)| self.goal(id, node))
            }
            Subject::Object(..) | Subject::Wildcard(_) => None,
        }
    }

    fn parent(&self, stored: Subject, computed: usize) -> Option<Goal> {
        match stored {
            Subject::Object(object_type, id) => {
                self.relation[object_type][computed].map(|(node, _)| self.goal(id, node))
            }
            Subject::Userset(..) | Subject::Wildcard(_) => None,
        }
    }

    /// The answer for `object#name`.
    pub fn answer(
        &self,
        solution: &Solution,
        subject: Subject,
        (object_type, id, name): (usize, usize, usize),
    ) -> Answer {
        let (node, _) = self.relation[object_type][name].expect("a relation of the world");
        let root = self.goal(id, node);
        if solution.lo[root] {
            return Answer::Allowed;
        }
        if !solution.hi[root] {
            return Answer::Denied;
        }
        // Why it is open: every uncertain tuple met on the way back through open goals.
        let open = |goal: Goal| solution.hi[goal] && !solution.lo[goal];
        let mut seen = BTreeSet::from([root]);
        let mut queue = vec![root];
        let (mut missing, mut error) = (BTreeSet::new(), false);
        while let Some(goal) = queue.pop() {
            let (object_type, id, node) = self.goals[goal];
            let mut next: Vec<Goal> = vec![];
            match &self.nodes[node] {
                Node::Relation(name) => {
                    next.extend(
                        self.relation[object_type][*name].map(|(_, expression)| self.goal(id, expression)),
                    );
                }
                Node::Computed(name) => {
                    next.extend(self.relation[object_type][*name].map(|(node, _)| self.goal(id, node)));
                }
                Node::Or(operands) | Node::And(operands) => {
                    next.extend(operands.iter().map(|operand| self.goal(id, *operand)));
                }
                Node::Not(base, subtract) => next.extend([self.goal(id, *base), self.goal(id, *subtract)]),
                Node::This(name) | Node::From(name, _) => {
                    for (fact, worth) in self.facts(object_type, id, *name) {
                        let (goal, direct) = match &self.nodes[node] {
                            Node::From(_, computed) => (self.parent(fact.subject, *computed), false),
                            Node::Relation(_)
                            | Node::This(_)
                            | Node::Computed(_)
                            | Node::Or(_)
                            | Node::And(_)
                            | Node::Not(..) => {
                                (self.through(fact.subject), Self::matches(subject, fact.subject))
                            }
                        };
                        if direct || goal.is_some_and(|goal| solution.hi[goal]) {
                            match worth {
                                Worth::Missing(names) => missing.extend(names.iter().copied()),
                                Worth::Error => error = true,
                                Worth::Yes | Worth::No => {}
                            }
                        }
                        if *worth != Worth::No {
                            next.extend(goal);
                        }
                    }
                }
            }
            for goal in next {
                if open(goal) && seen.insert(goal) {
                    queue.push(goal);
                }
            }
        }
        if error {
            Answer::Error
        } else if missing.is_empty() {
            Answer::Denied
        } else {
            Answer::Conditional(missing)
        }
    }
}

/// What is certain and what is possible, for every goal.
pub struct Solution {
    lo: Vec<bool>,
    hi: Vec<bool>,
}

/// Three-valued evaluation of a tuple's condition, the tuple's values before the request's.
fn worth(world: &World, fact: &Fact) -> Worth {
    let Some((condition, stored)) = &fact.condition else { return Worth::Yes };
    let value = |parameter: usize| stored.get(&parameter).or_else(|| world.context.get(&parameter)).copied();
    let formula = world.conditions[*condition];
    let known: BTreeMap<usize, i64> =
        parameters(formula).into_iter().filter_map(|p| value(p).map(|v| (p, v))).collect();
    let less = |p: usize, n: i64| known.get(&p).map(|value| *value < n);
    let verdict = match formula {
        Formula::Less(p, n) => less(p, n),
        Formula::Both(p, q) => match (less(p, 2), less(q, 1)) {
            (Some(false), _) | (_, Some(false)) => Some(false),
            (Some(true), Some(true)) => Some(true),
            (None, _) | (_, None) => None,
        },
        Formula::Either(p, q) => match (less(p, 1), less(q, 2)) {
            (Some(true), _) | (_, Some(true)) => Some(true),
            (Some(false), Some(false)) => Some(false),
            (None, _) | (_, None) => None,
        },
        Formula::Divide(p) => match known.get(&p) {
            Some(0) => return Worth::Error,
            Some(value) => Some(10 / value > 5),
            None => None,
        },
    };
    match verdict {
        Some(true) => Worth::Yes,
        Some(false) => Worth::No,
        None => Worth::Missing(parameters(formula).into_iter().filter(|p| !known.contains_key(p)).collect()),
    }
}

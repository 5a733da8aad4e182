//! Every goal a root depends on, as a finite program: what the searches work on that cannot
//! explore lazily.

use std::collections::VecDeque;
use std::ops::ControlFlow;

use hashbrown::HashMap;

use super::conditions::Conditions;
use super::goal::{Body, Facts, Goal, Scan, Step};
use super::limits::{Meter, Stop};
use super::scope::Scope;
use super::verdict::Truth;
use crate::graph::{SubjectNode, View};
use crate::schema::{Rule, SubjectKind};

/// How a node follows from the nodes that lead to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// From any of them.
    Any,
    /// From all of them: so many.
    All(u32),
    /// From the one base, unless the subtract holds; `None`: it cannot.
    Except(Option<u32>),
}

/// A goal of the program.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) goal: Goal,
    pub(super) kind: Kind,
    /// Nodes that follow from it; `Unknown`: by an uncertain edge. A subtract leads nowhere: it is
    /// named by the node that subtracts it.
    pub(super) leads_to: Vec<(u32, Truth)>,
    /// The fewest hops from the root.
    depth: u32,
    /// Whether its own dependencies are entered.
    opened: bool,
}

/// A subject of which a node holds by itself.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fact {
    pub(super) node: u32,
    pub(super) subject: SubjectNode,
    /// Never `No`.
    pub(super) truth: Truth,
}

/// The program of one root, node 0, while it is collected and after.
#[derive(Debug)]
pub(super) struct Program {
    pub(super) nodes: Vec<Node>,
    pub(super) facts: Vec<Fact>,
    /// Nodes with an edge that hops too far to be followed.
    pub(super) cut: Vec<u32>,
    asked: Facts,
    depth_limit: Option<u32>,
    numbers: HashMap<Goal, u32, foldhash::fast::FixedState>,
    edges: usize,
    /// Nodes to look at, fewest hops first.
    queue: VecDeque<u32>,
    /// The node whose alternatives are being entered, and how far.
    scan: Option<(u32, Scan)>,
}

#[expect(clippy::indexing_slicing, reason = "nodes are numbered by their place")]
impl Program {
    /// Bytes of a node with its place in the index and in the tables of those who solve it.
    const NODE_BYTES: usize = size_of::<Node>() + 2 * size_of::<(Goal, u32)>() + 32;

    /// `depth`: hops that led to the root already.
    pub(super) fn new(asked: Facts, root: Goal, depth: u32, depth_limit: Option<u32>) -> Self {
        let mut program = Self {
            nodes: Vec::new(),
            facts: Vec::new(),
            cut: Vec::new(),
            asked,
            depth_limit,
            numbers: HashMap::default(),
            edges: 0,
            queue: VecDeque::new(),
            scan: None,
        };
        program.visit(root, depth, false);
        program
    }

    /// Collects until nothing is missing.
    pub(super) fn run<V: View>(
        &mut self,
        scope: &Scope<'_, V>,
        conditions: &mut Conditions,
        meter: &mut Meter<'_>,
    ) -> Result<(), Stop> {
        loop {
            if let Some((number, mut scan)) = self.scan.take() {
                let outcome = self.alternatives(scope, conditions, meter, number, &mut scan);
                if matches!(outcome, Err(Stop::Suspended)) {
                    self.scan = Some((number, scan));
                }
                outcome?;
                continue;
            }
            let Some(number) = self.queue.front().copied() else { return Ok(()) };
            if !self.nodes[number as usize].opened {
                meter.goal()?;
                meter.hold(self.bytes())?;
            }
            self.queue.pop_front();
            self.open(scope, number);
        }
    }

    /// Whether any tuple of it is uncertain.
    pub(super) fn is_uncertain(&self) -> bool {
        let unknown = |truth: Truth| truth == Truth::Unknown;
        self.facts.iter().any(|fact| unknown(fact.truth))
            || self.nodes.iter().any(|node| node.leads_to.iter().any(|(_, truth)| unknown(*truth)))
    }

    fn bytes(&self) -> usize {
        self.nodes.len() * Self::NODE_BYTES
            + self.edges * 2 * size_of::<(u32, Truth)>()
            + self.facts.len() * 2 * size_of::<Fact>()
    }

    /// The number of a goal. Hops cost one and everything else nothing: a goal on the same object
    /// goes to the front of the queue, so that every goal is opened with the fewest hops there are.
    fn visit(&mut self, goal: Goal, depth: u32, by_hop: bool) -> u32 {
        let next = u32::try_from(self.nodes.len()).unwrap_or(u32::MAX);
        let number = *self.numbers.entry(goal).or_insert(next);
        if number == next {
            self.nodes.push(Node { goal, kind: Kind::Any, leads_to: Vec::new(), depth, opened: false });
        } else if depth >= self.nodes[number as usize].depth {
            return number;
        }
        self.nodes[number as usize].depth = depth;
        if by_hop {
            self.queue.push_back(number);
        } else {
            self.queue.push_front(number);
        }
        number
    }

    fn lead(&mut self, goal: Goal, depth: u32, by_hop: bool, to: u32, truth: Truth) {
        let from = self.visit(goal, depth, by_hop);
        self.nodes[from as usize].leads_to.push((to, truth));
        self.edges += 1;
    }

    /// Enters what a node depends on, or starts the scan that does.
    fn open<V: View>(&mut self, scope: &Scope<'_, V>, number: u32) {
        let rules = scope.rules;
        let node = &mut self.nodes[number as usize];
        if std::mem::replace(&mut node.opened, true) {
            return;
        }
        let (goal, depth) = (node.goal, node.depth);
        if let Rule::Relation(relation) = rules.rule(goal.rule) {
            let itself =
                SubjectNode { kind: rules.kind_id(SubjectKind::Userset(*relation)), node: goal.object };
            match self.asked {
                Facts::Subject(subject) if subject == itself => {
                    self.facts.push(Fact { node: number, subject, truth: Truth::Yes });
                    return;
                }
                Facts::Kind(kind) if kind == itself.kind => {
                    self.facts.push(Fact { node: number, subject: itself, truth: Truth::Yes });
                }
                Facts::Subject(_) | Facts::Kind(_) => {}
            }
        }
        match Body::of(rules, &goal.rule) {
            Body::Any(_) => self.scan = Some((number, Scan::default())),
            Body::All(operands) => {
                let count = u32::try_from(operands.len()).unwrap_or(u32::MAX);
                self.nodes[number as usize].kind = Kind::All(count);
                for operand in operands {
                    self.lead(goal.same(*operand), depth, false, number, Truth::Yes);
                }
            }
            Body::Except { base, subtract } => {
                self.lead(goal.same(base), depth, false, number, Truth::Yes);
                let subtract = rules
                    .can_reach(subtract, self.asked.kind())
                    .then(|| self.visit(goal.same(subtract), depth, false));
                self.nodes[number as usize].kind = Kind::Except(subtract);
            }
        }
    }

    /// Enters the alternatives of a node.
    fn alternatives<V: View>(
        &mut self,
        scope: &Scope<'_, V>,
        conditions: &mut Conditions,
        meter: &mut Meter<'_>,
        number: u32,
        scan: &mut Scan,
    ) -> Result<(), Stop> {
        let Node { goal, depth, .. } = self.nodes[number as usize];
        let _: ControlFlow<()> = scan.run(scope, self.asked, goal, meter, |step, meter| {
            match step {
                Step::Same(goal) => self.lead(goal, depth, false, number, Truth::Yes),
                Step::Fact(stored) => {
                    let truth = conditions.truth(scope, stored.attributes, meter);
                    if truth != Truth::No {
                        self.facts.push(Fact { node: number, subject: stored.subject, truth });
                    }
                }
                Step::Hop(stored, goal) => {
                    let truth = conditions.truth(scope, stored.attributes, meter);
                    if truth == Truth::No {
                    } else if self.depth_limit.is_some_and(|limit| depth + 1 >= limit) {
                        self.cut.push(number);
                    } else {
                        self.lead(goal, depth + 1, true, number, truth);
                    }
                }
            }
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(())
    }
}

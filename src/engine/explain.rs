//! Explain: the proof of an answer, or what was tried.
//!
//! Decides the question as Check does, then looks back at what was decided. *Allowed*: from the
//! root down to stored tuples, one reason per goal; a reason is always older than what it proves,
//! so that cycles do not prove themselves. *Denied*: for an `and` the first operand that fails,
//! for a `but not` its failing base or the proof of its subtract, otherwise every alternative.
//! *Conditional*: the uncertain tuples and the goals between them and the root.

use std::collections::VecDeque;

use hashbrown::HashMap;

use super::check::Inquiry;
use super::children::{Child, Children, Role};
use super::goal::{Body, Goal, Stored};
use super::limits::{Meter, Stop, Work, progress};
use super::memo::Memo;
use super::scope::Scope;
use super::solver::{Slice, Solver};
use super::verdict::{CheckAnswer, EngineError, Progress, Truth, Verdict};
use super::why::missing;
use crate::graph::{Ordinal, SubjectNode, View};
use crate::schema::{RelationId, Rule, RuleId, Rules};
use crate::tuple::Tuple;

/// A tree of the goals behind a verdict, parents before children; the root is the first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// The answer explained: what a Check says.
    pub answer: CheckAnswer,
    /// The tree.
    pub nodes: Vec<ExplanationNode>,
    /// Whether nodes were left out because there were too many.
    pub truncated: bool,
}

/// One goal, or one tuple, of an explanation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExplanationNode {
    /// Index of the parent; the root is its own parent.
    pub parent: u32,
    /// What became of it.
    pub finding: Finding,
    /// What this node asks, such as `doc:plan#viewer`.
    pub goal: String,
    /// Why, in words.
    pub reason: String,
    /// The stored or contextual tuple it rests on, if it rests on one.
    pub tuple: Option<Tuple>,
    /// Parameters that this tuple's condition lacks.
    pub missing: Vec<String>,
    /// The index of the node where the goal was explained before.
    pub same_as: Option<u32>,
}

/// A verdict on one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Finding {
    /// It holds.
    Allowed,
    /// It does not hold.
    Denied,
    /// It depends on missing parameters.
    Conditional,
}

/// One Explain, while it runs. It uses a memo of its own.
#[derive(Debug)]
pub struct Explain {
    object: Ordinal,
    relation: RelationId,
    subject: SubjectNode,
    max_nodes: usize,
    memo: Memo,
    stage: Stage,
    work: Work,
}

#[derive(Debug)]
enum Stage {
    Decide(Option<Box<Inquiry>>),
    LookBack(Box<LookBack>),
    Done,
}

impl Explain {
    /// Nodes of an explanation unless [`with_max_nodes`](Self::with_max_nodes) says otherwise.
    pub const MAX_NODES: usize = 1_000;

    /// Why has the subject the relation to the object, or why not?
    #[must_use]
    pub fn new(object: Ordinal, relation: RelationId, subject: SubjectNode) -> Self {
        Self {
            object,
            relation,
            subject,
            max_nodes: Self::MAX_NODES,
            memo: Memo::new(),
            stage: Stage::Decide(None),
            work: Work::default(),
        }
    }

    /// Cuts the explanation at so many nodes, at least one.
    #[must_use]
    pub fn with_max_nodes(self, max_nodes: usize) -> Self {
        Self { max_nodes: max_nodes.max(1), ..self }
    }

    /// Goes on for at most `fuel` units. Ends with an error where a Check does.
    pub fn run<V: View>(
        &mut self,
        scope: &Scope<'_, V>,
        fuel: &mut u64,
    ) -> Progress<Result<Explanation, EngineError>> {
        let mut work = self.work;
        let meter = Meter { limits: scope.limits, work: &mut work, slice: fuel };
        self.memo.bind(self.subject);
        let mut slice = Slice { scope, subject: self.subject, memo: &mut self.memo, meter };
        let root = Goal::relation(scope.rules, self.object, self.relation);
        let outcome = advance(&mut self.stage, &mut slice, root, self.max_nodes);
        self.work = work;
        progress(outcome.map(|mut explanation| {
            explanation.answer.work = work;
            explanation
        }))
    }
}

fn advance<V: View>(
    stage: &mut Stage,
    slice: &mut Slice<'_, '_, V>,
    root: Goal,
    max_nodes: usize,
) -> Result<Explanation, Stop> {
    loop {
        match stage {
            Stage::Decide(inquiry) => {
                let limit = slice.scope.limits.depth;
                let inquiry = inquiry.get_or_insert_with(|| Box::new(Inquiry::new(root, limit)));
                let verdict = inquiry.run(slice)?;
                let truth = inquiry.truth(slice)?;
                *stage = Stage::LookBack(Box::new(LookBack::new(slice, root, verdict, truth, max_nodes)));
            }
            Stage::LookBack(look_back) => {
                look_back.run(slice)?;
                let answer = CheckAnswer { verdict: look_back.verdict.clone(), work: Work::default() };
                let nodes = std::mem::take(&mut look_back.nodes);
                let truncated = look_back.truncated;
                *stage = Stage::Done;
                return Ok(Explanation { answer, nodes, truncated });
            }
            // Over and taken: start again, as nothing is left to give.
            Stage::Done => *stage = Stage::Decide(None),
        }
    }
}

/// A goal to explain, and the node it has.
#[derive(Debug, Clone, Copy)]
struct Open {
    node: u32,
    goal: Goal,
    depth: u32,
    truth: Truth,
}

#[derive(Debug)]
struct LookBack {
    verdict: Verdict,
    max_nodes: usize,
    nodes: Vec<ExplanationNode>,
    truncated: bool,
    /// Where a goal is explained.
    places: HashMap<Goal, u32, foldhash::fast::FixedState>,
    queue: VecDeque<Open>,
    at: Option<(Open, Children)>,
    pending: Option<Child>,
    /// Decides goals as the question asks.
    solver: Solver,
    /// Finds proofs. What is certain under a depth limit is certain without one, and only
    /// without one do goals keep the order in which they were proved.
    prover: Solver,
}

impl LookBack {
    fn new<V: View>(
        slice: &Slice<'_, '_, V>,
        root: Goal,
        verdict: Verdict,
        truth: Truth,
        max_nodes: usize,
    ) -> Self {
        let mut look_back = Self {
            verdict,
            max_nodes,
            nodes: Vec::new(),
            truncated: false,
            places: HashMap::default(),
            queue: VecDeque::new(),
            at: None,
            pending: None,
            solver: Solver::new(slice.scope.limits.depth),
            prover: Solver::new(None),
        };
        look_back.add(slice.scope, 0, "asked", None, (root, 0), truth);
        look_back
    }

    /// Whether what is neither true nor false lacks parameters; otherwise it is a paradox, and
    /// counts as denied.
    fn finding(&self, truth: Truth) -> Finding {
        match truth {
            Truth::Yes => Finding::Allowed,
            Truth::Unknown if matches!(self.verdict, Verdict::Conditional { .. }) => Finding::Conditional,
            Truth::Unknown | Truth::No => Finding::Denied,
        }
    }

    fn run<V: View>(&mut self, slice: &mut Slice<'_, '_, V>) -> Result<(), Stop> {
        loop {
            if self.nodes.len() >= self.max_nodes && (self.at.is_some() || !self.queue.is_empty()) {
                self.truncated = true;
                return Ok(());
            }
            if self.at.is_none() {
                let Some(open) = self.queue.front().copied() else { return Ok(()) };
                // Certain goals are proved again without a depth limit, for the order.
                if open.truth == Truth::Yes {
                    self.prover.truth(slice, open.goal, open.depth)?;
                } else {
                    slice.meter.step()?;
                }
                self.queue.pop_front();
                self.at = Some((open, Children::of(open.goal, open.depth)));
                if slice.is_reflexive(open.goal) {
                    self.remark(open, "a userset contains itself");
                    self.at = None;
                }
                continue;
            }
            self.child(slice)?;
        }
    }

    fn remark(&mut self, open: Open, reason: &str) {
        if let Some(node) = self.nodes.get_mut(open.node as usize) {
            node.reason =
                if node.reason.is_empty() { reason.to_owned() } else { format!("{}: {reason}", node.reason) };
        }
    }

    /// Looks at the next dependency of the goal at work.
    fn child<V: View>(&mut self, slice: &mut Slice<'_, '_, V>) -> Result<(), Stop> {
        let Some((open, children)) = &mut self.at else { return Ok(()) };
        let open = *open;
        if self.pending.is_none() {
            self.pending = children.next(slice)?;
        }
        let Some(child) = self.pending else {
            self.at = None;
            self.exhausted(slice.scope.rules, open);
            return Ok(());
        };
        let is_over = match open.truth {
            Truth::Yes => self.proof(slice, open, &child)?,
            Truth::No => self.failure(slice, open, &child)?,
            Truth::Unknown => self.doubt(slice, open, &child)?,
        };
        self.pending = None;
        if is_over {
            self.at = None;
        }
        Ok(())
    }

    /// A goal whose dependencies are all looked at.
    fn exhausted(&mut self, rules: &Rules, open: Open) {
        let has_child = self.nodes.iter().skip(1).any(|node| node.parent == open.node);
        if open.truth == Truth::No && !has_child && !Body::of(rules, &open.goal.rule).is_gate() {
            self.remark(open, "no tuple leads to the subject");
        }
        if open.truth == Truth::Unknown && self.finding(Truth::Unknown) == Finding::Denied {
            self.remark(open, "it depends on its own absence, which settles nothing");
        }
    }

    /// Whether the child proves the goal, or is part of what does. True if nothing more is needed.
    fn proof<V: View>(
        &mut self,
        slice: &mut Slice<'_, '_, V>,
        open: Open,
        child: &Child,
    ) -> Result<bool, Stop> {
        let scope = slice.scope;
        match child.role {
            Role::Operand | Role::Base => {
                self.add_goal(scope, open, role(child.role, Truth::Yes), child, Truth::Yes);
                Ok(false)
            }
            Role::Subtract => {
                if let Some((goal, _)) = child.goal {
                    self.leaf(
                        scope,
                        open,
                        "the subtract does not hold",
                        None,
                        Some(goal),
                        Truth::No,
                        Vec::new(),
                    );
                }
                Ok(true)
            }
            Role::Fact | Role::Hop | Role::Same => {
                if child.edge != Truth::Yes {
                    return Ok(false);
                }
                let rank = |goal: Goal| slice.memo.table.find(goal).map_or(0, |entry| entry.rank);
                let Some((goal, _)) = child.goal else {
                    self.fact(slice, open, child, "stored tuple", Truth::Yes)?;
                    return Ok(true);
                };
                let proves = (1..rank(open.goal)).contains(&rank(goal)) || slice.is_reflexive(goal);
                if proves {
                    self.add_goal(scope, open, role(child.role, Truth::Yes), child, Truth::Yes);
                }
                Ok(proves)
            }
        }
    }

    /// How the child fails.
    fn failure<V: View>(
        &mut self,
        slice: &mut Slice<'_, '_, V>,
        open: Open,
        child: &Child,
    ) -> Result<bool, Stop> {
        if child.edge == Truth::No {
            self.fact(slice, open, child, "the tuple's condition does not hold", Truth::No)?;
            return Ok(false);
        }
        let value = child.judge(slice, &mut self.solver)?;
        let (shown, is_over) = match (child.role, value) {
            (Role::Operand | Role::Base, Truth::No) | (Role::Subtract, Truth::Yes) => (true, true),
            (Role::Operand | Role::Base | Role::Subtract, _) => (false, false),
            (Role::Fact | Role::Hop | Role::Same, _) => (true, false),
        };
        if shown {
            self.add_goal(slice.scope, open, role(child.role, value), child, value);
        }
        Ok(is_over)
    }

    /// Whether the child is uncertain.
    fn doubt<V: View>(
        &mut self,
        slice: &mut Slice<'_, '_, V>,
        open: Open,
        child: &Child,
    ) -> Result<bool, Stop> {
        if child.edge == Truth::No {
            return Ok(false);
        }
        let value = child.judge(slice, &mut self.solver)?;
        if value == Truth::No || (value == Truth::Yes && child.edge == Truth::Yes) {
            return Ok(false);
        }
        if child.edge == Truth::Unknown {
            self.fact(slice, open, child, "the tuple's condition lacks parameters", Truth::Unknown)?;
        }
        if value == Truth::Unknown && !child.is_too_deep(&self.solver) {
            self.add_goal(slice.scope, open, role(child.role, Truth::Unknown), child, Truth::Unknown);
        }
        Ok(false)
    }

    /// A node for the child's tuple.
    fn fact<V: View>(
        &mut self,
        slice: &mut Slice<'_, '_, V>,
        open: Open,
        child: &Child,
        reason: &str,
        truth: Truth,
    ) -> Result<(), Stop> {
        let missing = match (truth, child.stored) {
            (Truth::Unknown, Some(stored)) => missing(slice, open.goal.object, stored)?,
            _ => Vec::new(),
        };
        self.leaf(slice.scope, open, reason, child.stored, None, truth, missing);
        Ok(())
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of a node")]
    fn leaf<V: View>(
        &mut self,
        scope: &Scope<'_, V>,
        open: Open,
        reason: &str,
        stored: Option<Stored>,
        goal: Option<Goal>,
        truth: Truth,
        missing: Vec<String>,
    ) {
        let tuple = stored.map(|stored| tuple(scope, open.goal.object, stored));
        let goal = match (&tuple, goal) {
            (Some(tuple), _) => tuple.key.to_string(),
            (None, goal) => describe(scope, goal.unwrap_or(open.goal)),
        };
        let node = ExplanationNode {
            parent: open.node,
            finding: self.finding(truth),
            goal,
            reason: reason.to_owned(),
            tuple,
            missing,
            same_as: None,
        };
        self.nodes.push(node);
    }

    /// A node for the child's goal, which is explained in its turn.
    fn add_goal<V: View>(
        &mut self,
        scope: &Scope<'_, V>,
        open: Open,
        reason: &str,
        child: &Child,
        truth: Truth,
    ) {
        if let Some(goal) = child.goal {
            let tuple = child.stored.map(|stored| tuple(scope, open.goal.object, stored));
            self.add(scope, open.node, reason, tuple, goal, truth);
        }
    }

    fn add<V: View>(
        &mut self,
        scope: &Scope<'_, V>,
        parent: u32,
        reason: &str,
        tuple: Option<Tuple>,
        (goal, depth): (Goal, u32),
        truth: Truth,
    ) {
        let node = u32::try_from(self.nodes.len()).unwrap_or(u32::MAX);
        let same_as = self.places.get(&goal).copied();
        if same_as.is_none() {
            self.places.insert(goal, node);
            self.queue.push_back(Open { node, goal, depth, truth });
        }
        self.nodes.push(ExplanationNode {
            parent,
            finding: self.finding(truth),
            goal: describe(scope, goal),
            reason: reason.to_owned(),
            tuple,
            missing: Vec::new(),
            same_as,
        });
    }
}

/// What part a dependency plays, in words.
fn role(role: Role, truth: Truth) -> &'static str {
    match (role, truth) {
        (Role::Fact, _) => "stored tuple",
        (Role::Hop, _) => "through a stored tuple",
        (Role::Same, Truth::Yes) => "by this alternative",
        (Role::Same, _) => "alternative",
        (Role::Operand, Truth::Yes) => "operand of `and`",
        (Role::Operand, Truth::Unknown) => "uncertain operand of `and`",
        (Role::Operand, Truth::No) => "first operand of `and` that fails",
        (Role::Base, Truth::No) => "base of `but not` fails",
        (Role::Base, _) => "base of `but not`",
        (Role::Subtract, Truth::Yes) => "excluded by `but not`",
        (Role::Subtract, _) => "subtract of `but not`",
    }
}

fn tuple<V: View>(scope: &Scope<'_, V>, object: Ordinal, stored: Stored) -> Tuple {
    scope.tuple(object, stored.relation, stored.subject, stored.attributes)
}

/// A goal in words: `doc:plan#viewer`, or for a part of a rule `doc:plan#(viewer and signed)`.
fn describe<V: View>(scope: &Scope<'_, V>, goal: Goal) -> String {
    let object = scope.view.object(goal.object);
    let rule = written(scope.rules, goal.rule, 0);
    match scope.rules.rule(goal.rule) {
        Rule::Relation(_) => format!("{object}#{rule}"),
        Rule::This(_) | Rule::TupleToUserset { .. } | Rule::Or(_) | Rule::And(_) | Rule::Not { .. } => {
            format!("{object}#({rule})")
        }
    }
}

/// A rule as the schema language writes it, but not at any length.
fn written(rules: &Rules, rule: RuleId, nesting: u32) -> String {
    const MAX_NESTING: u32 = 3;
    const MAX_OPERANDS: usize = 5;
    let name = |relation: RelationId| rules.relation(relation).name.to_string();
    let operand = |rule: &RuleId| match rules.rule(*rule) {
        Rule::Or(_) | Rule::And(_) | Rule::Not { .. } if nesting >= MAX_NESTING => "(…)".to_owned(),
        Rule::Or(_) | Rule::And(_) | Rule::Not { .. } => format!("({})", written(rules, *rule, nesting + 1)),
        Rule::Relation(_) | Rule::This(_) | Rule::TupleToUserset { .. } => written(rules, *rule, nesting + 1),
    };
    let join = |operands: &[RuleId], operator: &str| {
        let mut shown: Vec<String> = operands.iter().take(MAX_OPERANDS).map(operand).collect();
        if operands.len() > MAX_OPERANDS {
            shown.push("…".to_owned());
        }
        shown.join(operator)
    };
    match rules.rule(rule) {
        Rule::Relation(relation) => name(*relation),
        Rule::This(relation) => format!("direct {}", name(*relation)),
        Rule::TupleToUserset { tupleset, computed } => {
            let computed =
                computed.first().map_or_else(|| "nothing".to_owned(), |(_, relation)| name(*relation));
            format!("{computed} from {}", name(*tupleset))
        }
        Rule::Or(operands) => join(operands, " or "),
        Rule::And(operands) => join(operands, " and "),
        Rule::Not { base, subtract } => format!("{} but not {}", operand(base), operand(subtract)),
    }
}

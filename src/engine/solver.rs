//! Decides goals: the fast path, for everything but recursion through a `but not`.
//!
//! A *frame* decides one root goal in one bound. It explores goals from the root on, each once,
//! and lets truth travel back by events: a goal keeps the list of those that wait for it. Cycles
//! therefore need no marks, and a goal that no event ever reaches is false when the frame runs
//! dry. `and` waits for one operand at a time and `but not` for its base; only when the base
//! holds is the subtract decided, in a frame of its own in the other bound.
//!
//! *True* is a finished proof, final at once; *false* is final only when a frame ran dry, since
//! then everything the goal could follow from was explored. A subtract's frame can never reach a
//! goal in progress in the frame that asked, for then recursion would pass through a `but not`.
//!
//! **Hops.** With a depth limit, goals are explored by their number of hops from the root, and a
//! goal met again on a shorter way is explored again. What such a frame finds below its root is
//! not kept: it depends on where the count began.

use std::collections::VecDeque;
use std::ops::ControlFlow;

use hashbrown::HashMap;

use super::fixpoint::Fixpoint;
use super::goal::{Body, Facts, Goal, Scan, Step};
use super::limits::{Meter, Stop};
use super::memo::{Bound, Memo, NO_FRAME, State};
use super::scope::Scope;
use super::verdict::Truth;
use crate::graph::{SubjectNode, View};
use crate::schema::{Rule, RuleId, Rules, SubjectKind};

/// One slice of a search about one subject.
pub(super) struct Slice<'a, 'm, V> {
    pub(super) scope: &'a Scope<'a, V>,
    pub(super) subject: SubjectNode,
    pub(super) memo: &'m mut Memo,
    pub(super) meter: Meter<'m>,
}

impl<V: View> Slice<'_, '_, V> {
    /// Whether a userset is asked whether it contains itself, which needs no tuple.
    pub(super) fn is_reflexive(&self, goal: Goal) -> bool {
        is_reflexive(self.scope, self.subject, goal)
    }
}

pub(super) fn is_reflexive<V: View>(scope: &Scope<'_, V>, subject: SubjectNode, goal: Goal) -> bool {
    match scope.rules.rule(goal.rule) {
        Rule::Relation(relation) => {
            subject.node == goal.object
                && subject.kind == scope.rules.kind_id(SubjectKind::Userset(*relation))
        }
        Rule::This(_) | Rule::TupleToUserset { .. } | Rule::Or(_) | Rule::And(_) | Rule::Not { .. } => false,
    }
}

/// The frames of a search, the innermost last.
#[derive(Debug, Default)]
pub(super) struct Solver {
    /// Whether hops are counted, and to where.
    depth_limit: Option<u32>,
    frames: Vec<Frame>,
    /// Take the slow path for everything: only tests do, to hold the fast one against it.
    exhaustive: bool,
    /// The slow path, while it is at work.
    fixpoint: Option<Box<Fixpoint>>,
    /// Per rule: the work of frames that ended at once when their root was proved.
    cut_short: HashMap<RuleId, u64, foldhash::fast::FixedState>,
}

impl Solver {
    pub(super) fn new(depth_limit: Option<u32>) -> Self {
        Self { depth_limit, ..Self::default() }
    }

    /// One that takes the slow path for everything.
    #[cfg(test)]
    pub(super) fn exhaustive() -> Self {
        Self { exhaustive: true, ..Self::default() }
    }

    fn takes_slow_path(&self, rules: &Rules, rule: RuleId) -> bool {
        self.exhaustive || rules.negative_cycle(rule)
    }

    /// The limit on hops.
    pub(super) fn depth_limit(&self) -> Option<u32> {
        self.depth_limit
    }

    /// Decides a goal both ways. After a suspension it must be asked for the same goal again.
    /// `depth` is the number of hops that led to it.
    pub(super) fn truth<V: View>(
        &mut self,
        slice: &mut Slice<'_, '_, V>,
        goal: Goal,
        depth: u32,
    ) -> Result<Truth, Stop> {
        if !slice.scope.rules.can_reach(goal.rule, slice.subject.kind) {
            return Ok(Truth::No);
        }
        if self.holds(slice, goal, Bound::Lo, depth)? {
            Ok(Truth::Yes)
        } else if self.holds(slice, goal, Bound::Hi, depth)? {
            Ok(Truth::Unknown)
        } else {
            Ok(Truth::No)
        }
    }

    fn holds<V: View>(
        &mut self,
        slice: &mut Slice<'_, '_, V>,
        goal: Goal,
        bound: Bound,
        depth: u32,
    ) -> Result<bool, Stop> {
        let counted = self.depth_limit.map(|_| depth);
        loop {
            if let Some(value) = slice.memo.table.known(goal, counted).value(bound) {
                return Ok(value);
            }
            if self.takes_slow_path(slice.scope.rules, goal.rule) {
                let (limit, subject) = (self.depth_limit, slice.subject);
                let fixpoint =
                    self.fixpoint.get_or_insert_with(|| Box::new(Fixpoint::new(subject, goal, depth, limit)));
                fixpoint.run(slice)?;
                self.fixpoint = None;
            } else {
                if self.frames.is_empty() {
                    self.push(slice.memo, goal, bound, depth);
                }
                self.run(slice)?;
            }
        }
    }

    fn push(&mut self, memo: &mut Memo, goal: Goal, bound: Bound, depth: u32) {
        let counted = self.depth_limit.map(|_| depth);
        self.frames.push(Frame::new(memo, goal, bound, self.depth_limit, counted));
    }

    /// Runs until no frame is left.
    fn run<V: View>(&mut self, slice: &mut Slice<'_, '_, V>) -> Result<(), Stop> {
        loop {
            let is_root = self.frames.len() <= 1;
            let Some(frame) = self.frames.last_mut() else { return Ok(()) };
            let rule = slice.memo.table.entry(frame.root).goal.rule;
            let before = slice.meter.work.fuel;
            let credit = if is_root { 0 } else { self.cut_short.get(&rule).copied().unwrap_or(0) };
            let turn = frame.run(slice, credit);
            frame.work += slice.meter.work.fuel - before;
            match turn? {
                Turn::Subtract { goal, depth } => {
                    let bound = frame.bound.flip();
                    self.push(slice.memo, goal, bound, depth);
                }
                Turn::Proved => {
                    if !is_root {
                        *self.cut_short.entry(rule).or_default() += frame.work;
                    }
                    frame.leave(slice.memo);
                    self.frames.pop();
                }
                Turn::Dry => {
                    self.cut_short.remove(&rule);
                    frame.leave(slice.memo);
                    self.frames.pop();
                }
            }
        }
    }
}

/// Why a frame gives up its turn.
enum Turn {
    /// Its root holds.
    Proved,
    /// Everything was explored; what is not proved is false.
    Dry,
    /// A `but not` whose base holds needs to know its subtract.
    Subtract { goal: Goal, depth: u32 },
}

/// What a goal that is depended on is known to be.
enum Seen {
    True,
    False,
    /// The dependent waits to be notified.
    Pending,
}

/// Below this much work, frames that end early are not worth running on.
const CREDIT_FLOOR: u64 = 1_000;

/// The state that an outer frame had of an entry.
#[derive(Debug)]
struct Shelved {
    number: u32,
    state: State,
    frame: u32,
}

#[derive(Debug)]
struct Frame {
    bound: Bound,
    root: u32,
    /// Its number, by which entries know whose their state is.
    id: u32,
    depth_limit: Option<u32>,
    /// Hops to the root, if they are counted.
    depth: Option<u32>,
    /// Entries it works on.
    touched: Vec<u32>,
    /// What outer frames had of entries that this one works on too: a subtract may need a goal
    /// that its own `but not` does not depend on, but a sibling in the outer frame does.
    shelved: Vec<Shelved>,
    /// Entries to explore.
    queue: Queue,
    /// Entries something happened to: an `and` or `but not` looks again, any other is proved.
    agenda: Vec<u32>,
    /// The entry being explored, and how far.
    scan: Option<(u32, Scan)>,
    /// Nothing uncertain was met.
    exact: bool,
    /// Units of fuel it used, those of frames inside it not counted.
    work: u64,
    /// Units of fuel it used since its root was proved.
    beyond: Option<u64>,
}

impl Frame {
    fn new(memo: &mut Memo, goal: Goal, bound: Bound, depth_limit: Option<u32>, depth: Option<u32>) -> Self {
        let mut frame = Self {
            bound,
            root: memo.table.number(goal),
            id: memo.table.next_frame(),
            depth_limit,
            depth,
            touched: Vec::new(),
            shelved: Vec::new(),
            queue: Queue::new(depth_limit),
            agenda: Vec::new(),
            scan: None,
            exact: true,
            work: 0,
            beyond: None,
        };
        frame.enter(memo, frame.root, depth.unwrap_or(0));
        frame
    }

    /// Takes an entry over.
    fn enter(&mut self, memo: &mut Memo, number: u32, depth: u32) {
        let entry = memo.table.entry_mut(number);
        if entry.frame != NO_FRAME {
            self.shelved.push(Shelved {
                number,
                state: std::mem::take(&mut entry.state),
                frame: entry.frame,
            });
        }
        entry.frame = self.id;
        entry.state = State { depth, ..State::default() };
        self.touched.push(number);
        self.queue.push(number, depth);
    }

    /// Gives back the entries it took over.
    fn leave(&mut self, memo: &mut Memo) {
        for number in &self.touched {
            let entry = memo.table.entry_mut(*number);
            entry.frame = NO_FRAME;
            entry.state = State::default();
        }
        for Shelved { number, state, frame } in self.shelved.drain(..) {
            let entry = memo.table.entry_mut(number);
            entry.state = state;
            entry.frame = frame;
        }
    }

    /// Goes on until it ends or needs another frame. `credit`: how much more may be spent after
    /// the root is proved, so that what is false becomes final. Frames of one rule that end early
    /// again and again, each after exploring much the same, would cost far more in the end.
    fn run<V: View>(&mut self, slice: &mut Slice<'_, '_, V>, credit: u64) -> Result<Turn, Stop> {
        loop {
            if slice.memo.table.entry(self.root).state.proved {
                let since = *self.beyond.get_or_insert(slice.meter.work.fuel);
                if credit < CREDIT_FLOOR || slice.meter.work.fuel - since > credit {
                    self.finish_root(slice.memo, true);
                    return Ok(Turn::Proved);
                }
            }
            if let Some(number) = self.agenda.pop() {
                if let Some(subtract) = self.notified(slice, number)? {
                    return Ok(subtract);
                }
                continue;
            }
            if let Some((number, mut scan)) = self.scan.take() {
                let outcome = self.explore(slice, number, &mut scan);
                if matches!(outcome, Err(Stop::Suspended)) {
                    self.scan = Some((number, scan));
                }
                outcome?;
                continue;
            }
            let Some((number, depth)) = self.queue.peek() else {
                self.dry(slice.memo);
                return Ok(Turn::Dry);
            };
            let entry = slice.memo.table.entry(number);
            // Proved meanwhile, or met again on a shorter way and in the queue once more.
            if entry.state.proved || (self.depth.is_some() && entry.state.depth != depth) {
                self.queue.pop();
                continue;
            }
            let (goal, known) = (entry.goal, entry.known);
            slice.meter.goal()?;
            self.queue.pop();
            // A subtract's frame may have decided it since it was queued.
            if let (None, Some(value)) = (self.depth, known.value(self.bound)) {
                self.exact &= known.is_exact();
                if value {
                    self.prove(slice.memo, number);
                }
            } else if slice.is_reflexive(goal) {
                self.prove(slice.memo, number);
            } else if Body::of(slice.scope.rules, &goal.rule).is_gate() {
                self.agenda.push(number);
            } else {
                self.scan = Some((number, Scan::default()));
            }
        }
    }

    /// Enumerates the alternatives of an entry until one holds.
    fn explore<V: View>(
        &mut self,
        slice: &mut Slice<'_, '_, V>,
        number: u32,
        scan: &mut Scan,
    ) -> Result<(), Stop> {
        let entry = slice.memo.table.entry(number);
        if entry.state.proved {
            return Ok(());
        }
        let (goal, depth) = (entry.goal, entry.state.depth);
        let memo = &mut *slice.memo;
        let scope = slice.scope;
        let facts = Facts::Subject(slice.subject);
        let _: ControlFlow<()> = scan.run(scope, facts, goal, &mut slice.meter, |step, meter| {
            let (attributes, next) = match step {
                Step::Fact(stored) => (stored.attributes, None),
                Step::Hop(stored, goal) => (stored.attributes, Some((goal, depth + 1))),
                Step::Same(goal) => (None, Some((goal, depth))),
            };
            match memo.conditions.truth(scope, attributes, meter) {
                Truth::No => return Ok(ControlFlow::Continue(())),
                Truth::Unknown => {
                    self.exact = false;
                    if self.bound == Bound::Lo {
                        return Ok(ControlFlow::Continue(()));
                    }
                }
                Truth::Yes => {}
            }
            let seen = match next {
                None => Seen::True,
                Some((goal, depth)) => self.depend(memo, number, goal, depth, meter)?,
            };
            match seen {
                Seen::True => {
                    self.prove(memo, number);
                    Ok(ControlFlow::Break(()))
                }
                Seen::False | Seen::Pending => Ok(ControlFlow::Continue(())),
            }
        })?;
        Ok(())
    }

    /// What a goal is known to be; if nothing is, `waiter` will be notified and the goal explored.
    fn depend(
        &mut self,
        memo: &mut Memo,
        waiter: u32,
        goal: Goal,
        depth: u32,
        meter: &Meter<'_>,
    ) -> Result<Seen, Stop> {
        if self.depth_limit.is_some_and(|limit| depth >= limit) {
            self.exact = false;
            return Ok(if self.bound == Bound::Hi { Seen::True } else { Seen::False });
        }
        let number = memo.table.number(goal);
        let entry = memo.table.entry_mut(number);
        if self.depth_limit.is_none()
            && let Some(value) = entry.known.value(self.bound)
        {
            self.exact &= entry.known.is_exact();
            return Ok(if value { Seen::True } else { Seen::False });
        }
        if entry.frame != self.id {
            self.enter(memo, number, depth);
        } else if entry.state.proved {
            return Ok(Seen::True);
        } else if self.depth.is_some() && depth < entry.state.depth {
            entry.state.depth = depth;
            self.queue.push(number, depth);
        }
        memo.table.wait(number, waiter);
        meter.hold(memo.table.bytes())?;
        Ok(Seen::Pending)
    }

    fn prove(&mut self, memo: &mut Memo, number: u32) {
        let entry = memo.table.entry_mut(number);
        if entry.state.proved {
            return;
        }
        entry.state.proved = true;
        self.agenda.extend(entry.state.waiters.drain(..));
        if self.depth.is_none() {
            memo.table.learn(number, self.bound, true, self.exact);
        }
    }

    /// Something an entry waits for was proved, or is known by now.
    fn notified<V: View>(&mut self, slice: &mut Slice<'_, '_, V>, number: u32) -> Result<Option<Turn>, Stop> {
        let rules = slice.scope.rules;
        loop {
            let entry = slice.memo.table.entry(number);
            let (goal, depth, cursor) = (entry.goal, entry.state.depth, entry.state.cursor);
            if entry.state.proved {
                return Ok(None);
            }
            match Body::of(rules, &goal.rule) {
                Body::Any(_) => self.prove(slice.memo, number),
                Body::All(operands) => {
                    let Some(operand) = operands.get(cursor as usize) else {
                        self.prove(slice.memo, number);
                        return Ok(None);
                    };
                    match self.depend(slice.memo, number, goal.same(*operand), depth, &slice.meter)? {
                        Seen::True => slice.memo.table.entry_mut(number).state.cursor = cursor + 1,
                        Seen::False | Seen::Pending => return Ok(None),
                    }
                }
                Body::Except { base, subtract } => {
                    match self.depend(slice.memo, number, goal.same(base), depth, &slice.meter)? {
                        Seen::False | Seen::Pending => return Ok(None),
                        Seen::True => {}
                    }
                    let subtract = goal.same(subtract);
                    if rules.can_reach(subtract.rule, slice.subject.kind) {
                        let known = slice.memo.table.known(subtract, self.depth.map(|_| depth));
                        match known.value(self.bound.flip()) {
                            None => {
                                self.agenda.push(number);
                                return Ok(Some(Turn::Subtract { goal: subtract, depth }));
                            }
                            Some(true) => {
                                self.exact &= known.is_exact();
                                return Ok(None);
                            }
                            Some(false) => self.exact &= known.is_exact(),
                        }
                    }
                    self.prove(slice.memo, number);
                }
            }
        }
    }

    /// Everything was explored: what is not proved is false.
    fn dry(&mut self, memo: &mut Memo) {
        if self.depth.is_none() {
            for number in &self.touched {
                if !memo.table.entry(*number).state.proved {
                    memo.table.learn(*number, self.bound, false, self.exact);
                }
            }
        }
        let value = memo.table.entry(self.root).state.proved;
        self.finish_root(memo, value);
    }

    /// Frames that count hops leave only what their root came to.
    fn finish_root(&self, memo: &mut Memo, value: bool) {
        if let Some(depth) = self.depth {
            let goal = memo.table.entry(self.root).goal;
            memo.table.learn_at(goal, depth, self.bound, value, self.exact);
        }
    }
}

/// Entries to explore: first come, first served, or by their number of hops where hops count.
#[derive(Debug)]
enum Queue {
    Plain(VecDeque<u32>),
    /// One queue per number of hops; the first is the number to look at.
    ByDepth(usize, Vec<VecDeque<u32>>),
}

impl Queue {
    fn new(depth_limit: Option<u32>) -> Self {
        match depth_limit {
            None => Self::Plain(VecDeque::new()),
            Some(_) => Self::ByDepth(0, Vec::new()),
        }
    }

    fn push(&mut self, number: u32, depth: u32) {
        match self {
            Self::Plain(queue) => queue.push_back(number),
            Self::ByDepth(first, queues) => {
                let depth = depth as usize;
                if queues.len() <= depth {
                    queues.resize_with(depth + 1, VecDeque::new);
                }
                *first = depth.min(*first);
                if let Some(queue) = queues.get_mut(depth) {
                    queue.push_back(number);
                }
            }
        }
    }

    /// The next entry, and the number of hops it was pushed with.
    fn peek(&mut self) -> Option<(u32, u32)> {
        match self {
            Self::Plain(queue) => queue.front().map(|number| (*number, 0)),
            Self::ByDepth(first, queues) => loop {
                match queues.get(*first)?.front() {
                    Some(number) => return Some((*number, u32::try_from(*first).unwrap_or(u32::MAX))),
                    None => *first += 1,
                }
            },
        }
    }

    fn pop(&mut self) {
        match self {
            Self::Plain(queue) => queue.pop_front(),
            Self::ByDepth(first, queues) => queues.get_mut(*first).and_then(VecDeque::pop_front),
        };
    }
}

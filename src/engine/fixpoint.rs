//! Decides goals: the slow path, below rules whose recursion passes through a `but not`.
//!
//! There, "false because it cannot be proved" may depend on itself. The meaning is the
//! well-founded model: collect every goal the root depends on, in either polarity, as a finite
//! program; then alternate between a lower bound (what holds when every subtract that may hold
//! does) and an upper one (what holds when only those subtracts hold that must) until the lower
//! bound stays:
//!
//! ```text
//! lo₀ = ∅      hiₖ = Γ_Hi(not loₖ)      loₖ₊₁ = Γ_Lo(not hiₖ)
//! ```
//!
//! Γ is one pass of Horn propagation. Uncertain edges count in `Γ_Hi` only. What is in hi but not in
//! lo at the end is unknown: because of an uncertain edge, or because it is a paradox.

use super::goal::{Facts, Goal};
use super::limits::{Meter, Stop};
use super::memo::{Bound, Memo};
use super::program::{Kind, Program};
use super::solver::Slice;
use super::verdict::Truth;
use crate::graph::{SubjectNode, View};

/// The program of one root, and how far it is solved.
#[derive(Debug)]
pub(super) struct Fixpoint {
    program: Program,
    root: Goal,
    /// Hops that led to the root, if they are counted.
    depth: Option<u32>,
    /// The Γ at work; `None`: the program is still being collected.
    pass: Option<Pass>,
    lo: Vec<bool>,
    hi: Vec<bool>,
}

impl Fixpoint {
    pub(super) fn new(subject: SubjectNode, root: Goal, depth: u32, depth_limit: Option<u32>) -> Self {
        Self {
            program: Program::new(Facts::Subject(subject), root, depth, depth_limit),
            root,
            depth: depth_limit.map(|_| depth),
            pass: None,
            lo: Vec::new(),
            hi: Vec::new(),
        }
    }

    /// Solves the program and leaves what it found in the memo.
    pub(super) fn run<V: View>(&mut self, slice: &mut Slice<'_, '_, V>) -> Result<(), Stop> {
        loop {
            let Some(pass) = &mut self.pass else {
                self.program.run(slice.scope, &mut slice.memo.conditions, &mut slice.meter)?;
                self.lo = vec![false; self.program.nodes.len()];
                self.pass = Some(Pass::new(&self.program, Bound::Hi));
                continue;
            };
            let subtracted = match pass.bound {
                Bound::Lo => &self.hi,
                Bound::Hi => &self.lo,
            };
            pass.run(&self.program, subtracted, &mut slice.meter)?;
            let holds = std::mem::take(&mut pass.holds);
            let found = std::mem::take(&mut pass.found);
            match pass.bound {
                Bound::Hi => self.hi = holds,
                Bound::Lo if holds == self.lo => {
                    self.remember(slice.memo, &found);
                    return Ok(());
                }
                Bound::Lo => self.lo = holds,
            }
            let next = pass.bound.flip();
            self.pass = Some(Pass::new(&self.program, next));
        }
    }

    /// `found`: what holds for certain, in an order in which each follows from those before.
    fn remember(&self, memo: &mut Memo, found: &[u32]) {
        if let Some(depth) = self.depth {
            // INVARIANT: the root is node 0.
            let (lo, hi) = (self.lo.first() == Some(&true), self.hi.first() == Some(&true));
            memo.table.learn_at(self.root, depth, Bound::Lo, lo, false);
            memo.table.learn_at(self.root, depth, Bound::Hi, hi, false);
            return;
        }
        let goals = self.program.nodes.iter().map(|node| node.goal);
        for number in found {
            if let Some(node) = self.program.nodes.get(*number as usize) {
                let number = memo.table.number(node.goal);
                memo.table.learn(number, Bound::Lo, true, true);
            }
        }
        for ((goal, lo), hi) in goals.zip(&self.lo).zip(&self.hi) {
            if !lo {
                let number = memo.table.number(goal);
                memo.table.learn(number, Bound::Lo, false, false);
                memo.table.learn(number, Bound::Hi, *hi, false);
            }
        }
    }
}

/// One Γ.
#[derive(Debug)]
struct Pass {
    bound: Bound,
    holds: Vec<bool>,
    /// Operands an `and` still waits for.
    open: Vec<u32>,
    /// Nodes that hold, in the order found; those before `told` have told the others.
    found: Vec<u32>,
    told: usize,
}

#[expect(clippy::indexing_slicing, reason = "every table has a slot per node")]
impl Pass {
    fn new(program: &Program, bound: Bound) -> Self {
        let mut pass = Self {
            bound,
            holds: vec![false; program.nodes.len()],
            open: program
                .nodes
                .iter()
                .map(|node| match node.kind {
                    Kind::All(count) => count,
                    Kind::Any | Kind::Except(_) => 0,
                })
                .collect(),
            found: Vec::new(),
            told: 0,
        };
        for fact in &program.facts {
            pass.derive(fact.node, fact.truth);
        }
        for node in &program.cut {
            pass.derive(*node, Truth::Unknown);
        }
        pass
    }

    fn derive(&mut self, node: u32, truth: Truth) {
        let counts = truth == Truth::Yes || self.bound == Bound::Hi;
        if counts && !std::mem::replace(&mut self.holds[node as usize], true) {
            self.found.push(node);
        }
    }

    /// Goes on until nothing new follows; a node is absent iff `subtracted` lacks it.
    fn run(&mut self, program: &Program, subtracted: &[bool], meter: &mut Meter<'_>) -> Result<(), Stop> {
        while let Some(from) = self.found.get(self.told).copied() {
            meter.step()?;
            self.told += 1;
            for (to, truth) in &program.nodes[from as usize].leads_to {
                match program.nodes[*to as usize].kind {
                    Kind::Any => self.derive(*to, *truth),
                    Kind::All(_) => {
                        let open = &mut self.open[*to as usize];
                        *open = open.saturating_sub(1);
                        if *open == 0 {
                            self.derive(*to, *truth);
                        }
                    }
                    Kind::Except(subtract) => {
                        if subtract.is_none_or(|subtract| !subtracted[subtract as usize]) {
                            self.derive(*to, *truth);
                        }
                    }
                }
            }
        }
        Ok(())
    }
}

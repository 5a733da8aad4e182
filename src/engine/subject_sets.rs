//! Who satisfies each goal of a program, as sets: the program of a Check with sets in the place
//! of truth values, acting pointwise.
//!
//! Components of the program are solved one after the other, what they depend on first. Within
//! one, sets grow from nothing until they stay; a component that is held together by a subtract
//! alternates between the bounds, as the slow path of a Check does.

use std::collections::VecDeque;

use hashbrown::HashSet;

use super::goal::wildcard;
use super::limits::{Meter, Stop};
use super::memo::Bound;
use super::program::{Kind, Program};
use super::subject_set::SubjectSet;
use super::verdict::Truth;
use crate::schema::rules::Components;
use crate::schema::{KindId, Rules};

/// The sets of a program's nodes in both bounds, while they are found.
#[derive(Debug)]
pub(super) struct SubjectSets {
    nodes: Vec<Inputs>,
    components: Components,
    /// The component at work.
    component: usize,
    pass: Option<Pass>,
    lo: Vec<SubjectSet>,
    hi: Vec<SubjectSet>,
    /// Whether nothing uncertain is below a node, so that both bounds are the same.
    exact: Vec<bool>,
}

/// What the set of a node is made of.
#[derive(Debug)]
struct Inputs {
    kind: Kind,
    from: Vec<(u32, Truth)>,
    leads_to: Vec<u32>,
    /// Subjects that tuples name: for certain, and in any case.
    certain: SubjectSet,
    possible: SubjectSet,
}

/// One pass over a component: sets grow until they stay.
#[derive(Debug)]
struct Pass {
    bound: Bound,
    /// Nodes to evaluate, and which are among them.
    queue: VecDeque<u32>,
    queued: HashSet<u32, foldhash::fast::FixedState>,
    /// The lower bound of the alternation before.
    before: Vec<SubjectSet>,
}

#[expect(
    clippy::indexing_slicing,
    reason = "nodes are numbered by their place, and all tables have one slot per node"
)]
impl SubjectSets {
    /// Starts from a collected program that was asked about a kind.
    pub(super) fn new(program: &Program, rules: &Rules, kind: KindId) -> Self {
        let count = program.nodes.len();
        let mut nodes = named(program, rules, kind);
        for (from, node) in (0..).zip(&program.nodes) {
            for (to, truth) in &node.leads_to {
                nodes[*to as usize].from.push((from, *truth));
                nodes[from as usize].leads_to.push(*to);
            }
        }
        let components = Components::new(count, |node, i| {
            let inputs = &nodes[node as usize];
            let (from, _) = inputs.from.get(i).copied().unzip();
            from.or_else(|| inputs.kind.subtract().filter(|_| i == inputs.from.len()))
        });
        Self {
            nodes,
            components,
            component: 0,
            pass: None,
            lo: vec![SubjectSet::default(); count],
            hi: vec![SubjectSet::default(); count],
            exact: vec![false; count],
        }
    }

    /// The subjects of the root: for certain, and in any case.
    pub(super) fn root(&self) -> (&SubjectSet, &SubjectSet) {
        // INVARIANT: a program has a root, its node 0.
        (&self.lo[0], &self.hi[0])
    }

    /// Goes on until the sets of all nodes are found.
    pub(super) fn run(&mut self, meter: &mut Meter<'_>) -> Result<(), Stop> {
        while self.component < self.components.len() {
            if self.pass.is_none() {
                let first = if self.alternates() { Bound::Hi } else { Bound::Lo };
                self.start(first, meter);
            }
            self.grow(meter)?;
            let Some(Pass { bound, before, .. }) = self.pass.take() else { continue };
            match (bound, self.alternates()) {
                (Bound::Lo, false) if self.settle_exact() => self.component += 1,
                (Bound::Lo, true) if self.lower() == before => self.component += 1,
                (Bound::Hi, false) => self.component += 1,
                (Bound::Lo, _) => self.start(Bound::Hi, meter),
                (Bound::Hi, true) => self.start(Bound::Lo, meter),
            }
        }
        Ok(())
    }

    fn members(&self) -> &[u32] {
        self.components.nodes(self.component)
    }

    fn is_inside(&self, node: u32) -> bool {
        self.components.of(node) as usize == self.component
    }

    /// Whether the component is held together by a subtract.
    fn alternates(&self) -> bool {
        self.members().iter().any(|node| {
            self.nodes[*node as usize].kind.subtract().is_some_and(|subtract| self.is_inside(subtract))
        })
    }

    fn lower(&self) -> Vec<SubjectSet> {
        self.members().iter().map(|node| self.lo[*node as usize].clone()).collect()
    }

    /// Where nothing is uncertain the upper bound is the lower one.
    fn settle_exact(&mut self) -> bool {
        let is_exact = self.members().iter().all(|node| {
            let inputs = &self.nodes[*node as usize];
            let settled = |from: u32| self.is_inside(from) || self.exact[from as usize];
            inputs.certain == inputs.possible
                && inputs.from.iter().all(|(from, truth)| *truth == Truth::Yes && settled(*from))
                && inputs.kind.subtract().is_none_or(settled)
        });
        if is_exact {
            for node in self.components.nodes(self.component) {
                self.hi[*node as usize] = self.lo[*node as usize].clone();
                self.exact[*node as usize] = true;
            }
        }
        is_exact
    }

    fn start(&mut self, bound: Bound, meter: &mut Meter<'_>) {
        let members = self.members().to_vec();
        let before = if bound == Bound::Lo { self.lower() } else { Vec::new() };
        let mut pass = Pass { bound, queue: VecDeque::new(), queued: HashSet::default(), before };
        let common = self.common(&members, bound, meter);
        for node in members {
            let set = common.clone().unwrap_or_default();
            self.sets(bound)[node as usize] = set;
            if common.is_none() {
                pass.queue.push_back(node);
                pass.queued.insert(node);
            }
        }
        self.pass = Some(pass);
    }

    /// The one set of all members, if they are alternatives tied by edges that count: each then
    /// comes to whatever any of them has from outside.
    fn common(&self, members: &[u32], bound: Bound, meter: &mut Meter<'_>) -> Option<SubjectSet> {
        let counts = |truth: Truth| truth == Truth::Yes || bound == Bound::Hi;
        let is_common = members.len() > 1
            && members.iter().all(|node| {
                let inputs = &self.nodes[*node as usize];
                let mut inner = inputs.from.iter().filter(|(from, _)| self.is_inside(*from));
                inputs.kind == Kind::Any && inner.all(|(_, truth)| counts(*truth))
            });
        is_common.then(|| {
            let sets: Vec<SubjectSet> = members
                .iter()
                .flat_map(|node| {
                    self.alternatives(*node, bound)
                        .filter(|(from, _)| from.is_none_or(|from| !self.is_inside(from)))
                })
                .map(|(_, set)| set.clone())
                .collect();
            charge(meter, &sets);
            SubjectSet::union(&sets)
        })
    }

    fn sets(&mut self, bound: Bound) -> &mut Vec<SubjectSet> {
        match bound {
            Bound::Lo => &mut self.lo,
            Bound::Hi => &mut self.hi,
        }
    }

    fn set(&self, node: u32, bound: Bound) -> &SubjectSet {
        match bound {
            Bound::Lo => &self.lo[node as usize],
            Bound::Hi => &self.hi[node as usize],
        }
    }

    fn grow(&mut self, meter: &mut Meter<'_>) -> Result<(), Stop> {
        while let Some(pass) = &mut self.pass
            && let Some(node) = pass.queue.front().copied()
        {
            meter.step()?;
            pass.queue.pop_front();
            pass.queued.remove(&node);
            let bound = pass.bound;
            let set = self.evaluate(node, bound, meter);
            if set == *self.set(node, bound) {
                continue;
            }
            self.sets(bound)[node as usize] = set;
            let Some(pass) = &mut self.pass else { continue };
            for to in &self.nodes[node as usize].leads_to {
                if self.components.of(*to) as usize == self.component && pass.queued.insert(*to) {
                    pass.queue.push_back(*to);
                }
            }
        }
        Ok(())
    }

    /// What tuples name, and the inputs that count, each with the node it comes from.
    fn alternatives(&self, node: u32, bound: Bound) -> impl Iterator<Item = (Option<u32>, &SubjectSet)> {
        let inputs = &self.nodes[node as usize];
        let own = match bound {
            Bound::Lo => &inputs.certain,
            Bound::Hi => &inputs.possible,
        };
        let counting =
            inputs.from.iter().filter(move |(_, truth)| *truth == Truth::Yes || bound == Bound::Hi);
        std::iter::once((None, own))
            .chain(counting.map(move |(from, _)| (Some(*from), self.set(*from, bound))))
    }

    fn evaluate(&self, node: u32, bound: Bound, meter: &mut Meter<'_>) -> SubjectSet {
        let sets: Vec<SubjectSet> = self.alternatives(node, bound).map(|(_, set)| set.clone()).collect();
        charge(meter, &sets);
        let mut sets = sets.into_iter();
        // A userset of the kind asked about contains itself, whatever its rule.
        let own = sets.next().unwrap_or_default();
        let derived = match self.nodes[node as usize].kind {
            Kind::Any => {
                let alternatives: Vec<SubjectSet> = std::iter::once(own).chain(sets).collect();
                return SubjectSet::union(&alternatives);
            }
            Kind::All(_) => sets.reduce(|left, right| left.intersection(&right)).unwrap_or_default(),
            Kind::Except(subtract) => {
                let base = sets.next().unwrap_or_default();
                match subtract {
                    None => base,
                    Some(subtract) => base.difference(self.set(subtract, bound.flip())),
                }
            }
        };
        SubjectSet::union(&[own, derived])
    }
}

impl Kind {
    fn subtract(self) -> Option<u32> {
        match self {
            Self::Except(subtract) => subtract,
            Self::Any | Self::All(_) => None,
        }
    }
}

/// Set operations are cheap per name, and are paid for after the fact.
fn charge(meter: &mut Meter<'_>, sets: &[SubjectSet]) {
    const NAMES_PER_UNIT: usize = 16;
    let names: usize = sets.iter().map(SubjectSet::len).sum();
    meter.spent((sets.len() + names / NAMES_PER_UNIT) as u64);
}

/// The nodes with the subjects that tuples name on them.
#[expect(clippy::indexing_slicing, reason = "facts are of the program's own nodes")]
fn named(program: &Program, rules: &Rules, kind: KindId) -> Vec<Inputs> {
    let count = program.nodes.len();
    let wildcard = wildcard(rules, kind).map(|subject| subject.kind);
    let mut certain: Vec<Vec<u32>> = vec![Vec::new(); count];
    let mut possible: Vec<Vec<u32>> = vec![Vec::new(); count];
    let mut public: Vec<Truth> = vec![Truth::No; count];
    for fact in &program.facts {
        let node = fact.node as usize;
        if Some(fact.subject.kind) == wildcard {
            public[node] = fact.truth.max(public[node]);
        } else if fact.truth == Truth::Yes {
            certain[node].push(fact.subject.node.0);
        } else {
            possible[node].push(fact.subject.node.0);
        }
    }
    program
        .nodes
        .iter()
        .zip(certain.into_iter().zip(possible))
        .zip(public)
        .map(|((node, (certain, possible)), public)| {
            let mut certain = SubjectSet::of(certain);
            if public == Truth::Yes {
                certain = SubjectSet::everyone();
            }
            let mut also = vec![certain.clone()];
            if public == Truth::Unknown {
                also.push(SubjectSet::everyone());
            }
            if !possible.is_empty() {
                also.push(SubjectSet::of(possible));
            }
            let possible = SubjectSet::union(&also);
            Inputs { kind: node.kind, from: Vec::new(), leads_to: Vec::new(), certain, possible }
        })
        .collect()
}

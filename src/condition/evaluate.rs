//! A checked expression and two contexts → a value, or why there is none.
//!
//! Three things can stand in for a value: parameters that are missing, a fault, and the end of
//! the fuel. They travel through the expression by two rules. Where every operand is needed, a
//! fault is certain whatever the missing parameters would be, so it wins over them. Where one
//! operand can decide alone (`&&`, `||`, `all`, `exists`), a decision wins over both, and short of
//! one the missing parameters win over faults, since they might still decide. What is missing is
//! thus always what could change the outcome, and supplying it never uncovers more.

use smallvec::SmallVec;

use super::convert::{Refusal, convert};
use super::fuel::{Exhausted, Fuel};
use super::functions::{self, Failure};
use super::outcome::ErrorCause;
use super::syntax::Span;
use super::tree::{Comprehension, ComprehensionKind, Node};
use super::types::ParameterType;
use super::value::{Text, Value, compare_keys, is_key, look_up};
use crate::context::Context;

/// A set of parameters, by slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slots(u64);

impl Slots {
    pub(super) const NONE: Self = Self(0);

    pub(super) fn with(self, slot: usize) -> Self {
        Self(self.0 | 1 << slot)
    }

    fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(super) fn has(self, slot: usize) -> bool {
        self.0 >> slot & 1 == 1
    }
}

/// Why there is no value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Stop {
    /// It depends on these; never empty.
    Missing(Slots),
    /// It cannot be computed.
    Fault(Box<Fault>),
    /// There was not enough fuel to tell.
    Exhausted,
}

/// What cannot be computed, and where in the expression.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Fault {
    pub(super) cause: ErrorCause,
    pub(super) span: Span,
    pub(super) reason: String,
}

impl From<Exhausted> for Stop {
    fn from(_: Exhausted) -> Self {
        Self::Exhausted
    }
}

impl Stop {
    /// Places a function's failure.
    fn at(failure: Failure, span: Span) -> Self {
        match failure {
            Failure::Reason(reason) => {
                Self::Fault(Box::new(Fault { cause: ErrorCause::Expression, span, reason }))
            }
            Failure::Exhausted => Self::Exhausted,
        }
    }
}

type Given<'e> = Result<Value<'e>, Stop>;

/// The item a comprehension is at.
#[derive(Debug)]
enum Local<'e> {
    Item(Value<'e>),
    /// The range depends on missing parameters, and so does every item.
    Unknown(Slots),
}

/// One evaluation: each parameter is looked up and converted at most once.
#[derive(Debug)]
pub(super) struct Evaluation<'e> {
    parameters: &'e [(String, ParameterType)],
    /// In order of precedence.
    contexts: [&'e Context; 2],
    loaded: SmallVec<[Option<Given<'e>>; 4]>,
    locals: SmallVec<[Local<'e>; 2]>,
    fuel: Fuel<'e>,
}

impl<'e> Evaluation<'e> {
    pub(super) fn new(
        parameters: &'e [(String, ParameterType)],
        contexts: [&'e Context; 2],
        fuel: Fuel<'e>,
    ) -> Self {
        let loaded = parameters.iter().map(|_| None).collect();
        Self { parameters, contexts, loaded, locals: SmallVec::new(), fuel }
    }

    /// The value of a part of the expression. Recurses as deep as the tree, which is bounded.
    pub(super) fn evaluate(&mut self, node: &'e Node) -> Given<'e> {
        self.fuel.spend(1)?;
        match node {
            Node::Constant(value) => Ok(value.borrowed()),
            Node::Parameter(slot) => self.parameter(*slot),
            Node::Local(index) => match self.locals.get(*index) {
                Some(Local::Item(item)) => Ok(item.clone()),
                Some(Local::Unknown(slots)) => Err(Stop::Missing(*slots)),
                // INVARIANT: the checker counts comprehensions as they nest here.
                None => Ok(Value::Null),
            },
            Node::And(parts, span) => self.junction(parts, false, *span),
            Node::Or(parts, span) => self.junction(parts, true, *span),
            Node::Choose { branches, otherwise, span } => self.choose(branches, otherwise, *span),
            Node::List(items) => {
                let items = self.every(items.iter())?;
                Ok(Value::List(items.into()))
            }
            Node::Map(entries, span) => self.map(entries, *span),
            Node::Has { operand, key, span } => {
                let operand = self.evaluate(operand)?;
                let Value::Map(entries) = &operand else { return not_taken("has", &operand, *span) };
                let key = Value::String(Text::Borrowed(key));
                Ok(Value::Bool(look_up(entries, &key).is_some()))
            }
            Node::Unary { function, operand, span } => {
                let operand = self.evaluate(operand)?;
                functions::unary(*function, &operand, &mut self.fuel).map_err(|f| Stop::at(f, *span))
            }
            Node::Binary { function, operands, span } => {
                let [left, right] = &**operands;
                let left = self.evaluate(left);
                let (left, right) = match left {
                    Ok(left) => (left, self.evaluate(right)?),
                    Err(Stop::Missing(slots)) => return Err(self.also_missing(slots, right)),
                    Err(stop) => return Err(stop),
                };
                functions::binary(*function, &left, &right, &mut self.fuel).map_err(|f| Stop::at(f, *span))
            }
            Node::Comprehension(comprehension) => self.comprehension(comprehension),
            Node::Matches { text, pattern, span } => {
                let text = self.evaluate(text)?;
                let Value::String(text) = &text else { return not_taken("matches", &text, *span) };
                let found = functions::found(pattern, text, &mut self.fuel);
                found.map(Value::Bool).map_err(|f| Stop::at(f, *span))
            }
            Node::InNetwork { address, network, span } => {
                let address = self.evaluate(address)?;
                let Value::IpAddress(ip) = &address else { return not_taken("in_cidr", &address, *span) };
                Ok(Value::Bool(functions::in_network(*ip, network)))
            }
            Node::PartAt { moment, part, offset, span } => {
                let moment = self.evaluate(moment)?;
                let Value::Timestamp(at) = &moment else { return not_taken(part.function(), &moment, *span) };
                functions::part_at(*at, *part, *offset).map_err(|f| Stop::at(f, *span))
            }
        }
    }

    /// Looks a parameter up, and converts it to its declared type.
    pub(super) fn parameter(&mut self, slot: usize) -> Given<'e> {
        if let Some(Some(loaded)) = self.loaded.get(slot) {
            return loaded.clone();
        }
        let loaded = self.load(slot);
        if let Some(place) = self.loaded.get_mut(slot) {
            *place = Some(loaded.clone());
        }
        loaded
    }

    fn load(&mut self, slot: usize) -> Given<'e> {
        let missing = Err(Stop::Missing(Slots::NONE.with(slot)));
        let Some((name, declared)) = self.parameters.get(slot) else { return missing };
        let Some(given) = self.contexts.iter().find_map(|context| context.value(name)) else {
            return missing;
        };
        convert(given, declared, &mut self.fuel).map_err(|refusal| match refusal {
            Refusal::Exhausted => Stop::Exhausted,
            Refusal::Mismatch(mismatch) => Stop::Fault(Box::new(Fault {
                cause: ErrorCause::Context,
                span: Span::NONE,
                reason: mismatch.describe(name),
            })),
        })
    }

    /// `&&`, which `false` decides, or `||`, which `true` does.
    fn junction(&mut self, parts: &'e [Node], decisive: bool, span: Span) -> Given<'e> {
        let mut undecided = Ok(Value::Bool(!decisive));
        for part in parts {
            match self.truth(part, if decisive { "||" } else { "&&" }, span) {
                Ok(value) if value == decisive => return Ok(Value::Bool(decisive)),
                Ok(_) => {}
                Err(stop) => undecided = Err(unless_decided(undecided, stop)?),
            }
        }
        undecided
    }

    /// `a ? b : c ? d : e`.
    fn choose(&mut self, branches: &'e [(Node, Node)], otherwise: &'e Node, span: Span) -> Given<'e> {
        let mut reachable = Reachable { missing: Slots::NONE, only_faults: None };
        for (when, then) in branches {
            match self.truth(when, "?:", span) {
                Ok(false) => {}
                Ok(true) => {
                    let chosen = self.evaluate(then);
                    return reachable.last(chosen);
                }
                // Either branch may be taken once the parameters are known, so what both
                // would need is missing too.
                Err(Stop::Missing(slots)) => {
                    let possible = self.evaluate(then);
                    reachable.branch(slots, possible)?;
                }
                Err(stop) => return reachable.last(Err(stop)),
            }
        }
        let chosen = self.evaluate(otherwise);
        reachable.last(chosen)
    }

    fn map(&mut self, entries: &'e [(Node, Node)], span: Span) -> Given<'e> {
        let fault = |reason| Err(Stop::at(Failure::Reason(reason), span));
        let keys = self.every(entries.iter().map(|(key, _)| key));
        let values = self.every(entries.iter().map(|(_, value)| value));
        let (keys, values) = match (keys, values) {
            (Ok(keys), Ok(values)) => (keys, values),
            (Err(left), Err(right)) => return Err(both_needed(left, right)),
            (Err(stop), Ok(_)) | (Ok(_), Err(stop)) => return Err(stop),
        };
        if let Some(key) = keys.iter().find(|key| !is_key(key)) {
            return fault(format!("a key may be bool, int, uint or string, not {}", key.type_name()));
        }
        let mut entries: Vec<_> = keys.into_iter().zip(values).collect();
        entries.sort_by(|(left, _), (right, _)| compare_keys(left, right));
        let twice = entries.array_windows().find(|[(left, _), (right, _)]| compare_keys(left, right).is_eq());
        if let Some([(key, _), _]) = twice {
            return fault(format!("the map has the key {} twice", functions::key_text(key)));
        }
        Ok(Value::Map(entries.into()))
    }

    fn comprehension(&mut self, comprehension: &'e Comprehension) -> Given<'e> {
        let items: SmallVec<[Value<'e>; 8]> = match self.evaluate(&comprehension.range) {
            Ok(Value::List(items)) => return self.over(comprehension, &items),
            Ok(Value::Map(entries)) => entries.iter().map(|(key, _)| key.clone()).collect(),
            Ok(other) => {
                let failure = functions::no_function(comprehension.kind.name(), &[&other]);
                return Err(Stop::at(failure, comprehension.span));
            }
            Err(Stop::Missing(slots)) => return Err(self.over_unknown(comprehension, slots)),
            Err(stop) => return Err(stop),
        };
        self.fuel.spend_on_items(items.len())?;
        self.over(comprehension, &items)
    }

    fn over(&mut self, comprehension: &'e Comprehension, items: &[Value<'e>]) -> Given<'e> {
        let name = comprehension.kind.name();
        let span = comprehension.span;
        let body = &comprehension.body;
        match comprehension.kind {
            ComprehensionKind::All | ComprehensionKind::Exists => {
                let decisive = comprehension.kind == ComprehensionKind::Exists;
                let mut undecided = Ok(Value::Bool(!decisive));
                for item in items {
                    match self.with(item, |this| this.truth(body, name, span)) {
                        Ok(value) if value == decisive => return Ok(Value::Bool(decisive)),
                        Ok(_) => {}
                        Err(stop) => undecided = Err(unless_decided(undecided, stop)?),
                    }
                }
                undecided
            }
            ComprehensionKind::ExistsOne => {
                let holding = self.each(items, |this, _| this.truth(body, name, span))?;
                Ok(Value::Bool(holding.into_iter().filter(|holds| *holds).count() == 1))
            }
            ComprehensionKind::Filter => {
                let kept =
                    self.each(items, |this, item| Ok(this.truth(body, name, span)?.then(|| item.clone())))?;
                Ok(Value::List(kept.into_iter().flatten().collect()))
            }
            ComprehensionKind::Map => {
                let mapped = self.each(items, |this, _| {
                    match comprehension.filter.as_ref().map(|filter| this.truth(filter, name, span)) {
                        Some(Ok(false)) => Ok(None),
                        // The filter might skip the item, so a fault of the body is not certain.
                        Some(Err(Stop::Missing(slots))) => match this.evaluate(body) {
                            Err(Stop::Missing(more)) => Err(Stop::Missing(slots.and(more))),
                            Err(Stop::Exhausted) => Err(Stop::Exhausted),
                            Ok(_) | Err(Stop::Fault(_)) => Err(Stop::Missing(slots)),
                        },
                        Some(Err(stop)) => Err(stop),
                        Some(Ok(true)) | None => this.evaluate(body).map(Some),
                    }
                })?;
                Ok(Value::List(mapped.into_iter().flatten().collect()))
            }
        }
    }

    /// A comprehension whose range is missing is missing that, and what its body would be.
    fn over_unknown(&mut self, comprehension: &'e Comprehension, slots: Slots) -> Stop {
        self.locals.push(Local::Unknown(slots));
        let mut missing = Stop::Missing(slots);
        for part in comprehension.filter.iter().chain([&comprehension.body]) {
            missing = match (self.evaluate(part), missing) {
                // Whatever the items are, the three-argument `map` would skip them.
                (Ok(Value::Bool(false)), missing) if comprehension.filter.is_some() => {
                    self.locals.pop();
                    return missing;
                }
                (Err(Stop::Missing(more)), Stop::Missing(slots)) => Stop::Missing(slots.and(more)),
                (Err(Stop::Exhausted), _) => Stop::Exhausted,
                // Without items it would not be evaluated, so a fault of the body is not certain.
                (_, missing) => missing,
            };
        }
        self.locals.pop();
        missing
    }

    /// What `visit` gives for each item; all are needed.
    fn each<T>(
        &mut self,
        items: &[Value<'e>],
        mut visit: impl FnMut(&mut Self, &Value<'e>) -> Result<T, Stop>,
    ) -> Result<Vec<T>, Stop> {
        let mut results = Ok(Vec::new());
        for item in items {
            results = needed(results, self.with(item, |this| visit(this, item)))?;
        }
        results
    }

    /// Runs with an item in scope, for a unit of fuel.
    fn with<T>(
        &mut self,
        item: &Value<'e>,
        run: impl FnOnce(&mut Self) -> Result<T, Stop>,
    ) -> Result<T, Stop> {
        self.fuel.spend(1)?;
        self.locals.push(Local::Item(item.clone()));
        let result = run(self);
        self.locals.pop();
        result
    }

    /// The values of all nodes, which are all needed.
    fn every(&mut self, nodes: impl Iterator<Item = &'e Node>) -> Result<Vec<Value<'e>>, Stop> {
        let mut results = Ok(Vec::new());
        for node in nodes {
            results = needed(results, self.evaluate(node))?;
        }
        results
    }

    /// The outcome where something is missing and `node` is needed as well.
    fn also_missing(&mut self, slots: Slots, node: &'e Node) -> Stop {
        match self.evaluate(node) {
            Ok(_) => Stop::Missing(slots),
            Err(stop) => both_needed(Stop::Missing(slots), stop),
        }
    }

    fn truth(&mut self, node: &'e Node, asked_by: &str, span: Span) -> Result<bool, Stop> {
        let value = self.evaluate(node)?;
        let Value::Bool(truth) = value else { return not_taken(asked_by, &value, span) };
        Ok(truth)
    }
}

/// The fault of a value that only an `any` can bring where another type is needed.
fn not_taken<T>(function: &str, value: &Value<'_>, span: Span) -> Result<T, Stop> {
    Err(Stop::at(functions::no_function(function, &[value]), span))
}

/// What the branches that might be taken have come to.
struct Reachable {
    missing: Slots,
    /// The first fault, as long as every branch has been one; `None` before any branch.
    only_faults: Option<Result<(), Box<Fault>>>,
}

impl Reachable {
    /// A branch that is taken or not depending on `slots`.
    fn branch(&mut self, slots: Slots, possible: Given<'_>) -> Result<(), Stop> {
        self.missing = self.missing.and(slots);
        let faulty = match possible {
            Ok(_) => Ok(()),
            Err(Stop::Missing(more)) => {
                self.missing = self.missing.and(more);
                Ok(())
            }
            Err(Stop::Fault(fault)) => Err(fault),
            Err(Stop::Exhausted) => return Err(Stop::Exhausted),
        };
        self.only_faults = match (self.only_faults.take(), faulty) {
            (None, first) => Some(first),
            (Some(Err(earlier)), Err(_)) => Some(Err(earlier)),
            (Some(_), _) => Some(Ok(())),
        };
        Ok(())
    }

    /// The branch that is taken if none before it is.
    fn last(mut self, chosen: Given<'_>) -> Given<'_> {
        if self.missing.is_empty() {
            return chosen;
        }
        self.branch(Slots::NONE, chosen)?;
        match self.only_faults {
            Some(Err(fault)) => Err(Stop::Fault(fault)),
            Some(Ok(())) | None => Err(Stop::Missing(self.missing)),
        }
    }
}

/// Adds one of several results that are all needed. A fault ends it: nothing can mend that.
fn needed<T>(results: Result<Vec<T>, Stop>, next: Result<T, Stop>) -> Result<Result<Vec<T>, Stop>, Stop> {
    match (results, next) {
        (Ok(mut results), Ok(next)) => {
            results.push(next);
            Ok(Ok(results))
        }
        (Err(earlier), Ok(_)) => Ok(Err(earlier)),
        (Ok(_), Err(Stop::Missing(slots))) => Ok(Err(Stop::Missing(slots))),
        (Err(Stop::Missing(slots)), Err(Stop::Missing(more))) => Ok(Err(Stop::Missing(slots.and(more)))),
        (_, Err(stop)) => Err(stop),
    }
}

/// Two operands without value where both are needed.
fn both_needed(left: Stop, right: Stop) -> Stop {
    match (left, right) {
        (Stop::Exhausted, _) | (_, Stop::Exhausted) => Stop::Exhausted,
        (Stop::Fault(fault), _) | (_, Stop::Fault(fault)) => Stop::Fault(fault),
        (Stop::Missing(left), Stop::Missing(right)) => Stop::Missing(left.and(right)),
    }
}

/// What a junction comes to unless an operand decides it: missing parameters, which might, before
/// faults, which cannot. The end of the fuel ends it.
fn unless_decided(so_far: Given<'_>, stop: Stop) -> Result<Stop, Stop> {
    match (so_far.err(), stop) {
        (_, Stop::Exhausted) => Err(Stop::Exhausted),
        (Some(Stop::Missing(slots)), Stop::Missing(more)) => Ok(Stop::Missing(slots.and(more))),
        (Some(Stop::Missing(slots)), Stop::Fault(_)) => Ok(Stop::Missing(slots)),
        (Some(earlier), Stop::Fault(_)) => Ok(earlier),
        (_, stop) => Ok(stop),
    }
}

//! What an expression says of itself is worked out once, when it is compiled: constants are
//! joined, patterns and networks compiled. A literal that can never be read is a mistake then.

use super::convert::excerpt;
use super::evaluate::{Evaluation, Stop};
use super::fuel::Fuel;
use super::functions::{NETWORK, ZONE, network};
use super::moment::parse_offset;
use super::outcome::ConditionError;
use super::pattern;
use super::syntax::Span;
use super::tree::{Binary, Comprehension, Node, Unary};
use super::value::Value;
use crate::context::Context;

/// What joining one constant may cost; a dearer one is left for evaluation.
const FOLDING_FUEL: u64 = 10_000;

/// Folds a part and all below it. Recurses as deep as the tree, which is bounded.
pub(super) fn fold(node: Node, errors: &mut Vec<ConditionError>) -> Node {
    match node {
        Node::Constant(_)
        | Node::Parameter(_)
        | Node::Local(_)
        | Node::Matches { .. }
        | Node::InNetwork { .. }
        | Node::PartAt { .. } => node,
        Node::And(parts, span) => constant(Node::And(fold_all(parts, errors), span)),
        Node::Or(parts, span) => constant(Node::Or(fold_all(parts, errors), span)),
        Node::List(items) => constant(Node::List(fold_all(items, errors))),
        Node::Map(entries, span) => constant(Node::Map(fold_pairs(entries, errors), span)),
        Node::Choose { branches, otherwise, span } => {
            let branches = fold_pairs(branches, errors);
            constant(Node::Choose { branches, otherwise: fold_box(otherwise, errors), span })
        }
        Node::Has { operand, key, span } => {
            constant(Node::Has { operand: fold_box(operand, errors), key, span })
        }
        Node::Unary { function, operand, span } => {
            let folded = Node::Unary { function, operand: fold_box(operand, errors), span };
            if is_reading(function)
                && let Err(reason) = evaluated(&folded)
            {
                errors.push(ConditionError { span: span.range(), message: reason, hint: None });
            }
            constant(folded)
        }
        Node::Binary { function, operands, span } => {
            let [left, right] = *operands;
            binary(function, fold(left, errors), fold(right, errors), span, errors)
        }
        Node::Comprehension(comprehension) => {
            let Comprehension { kind, range, filter, body, span } = *comprehension;
            Node::Comprehension(Box::new(Comprehension {
                kind,
                range: fold(range, errors),
                filter: filter.map(|filter| fold(filter, errors)),
                body: fold(body, errors),
                span,
            }))
        }
    }
}

fn fold_all(nodes: Box<[Node]>, errors: &mut Vec<ConditionError>) -> Box<[Node]> {
    nodes.into_iter().map(|node| fold(node, errors)).collect()
}

fn fold_pairs(pairs: Box<[(Node, Node)]>, errors: &mut Vec<ConditionError>) -> Box<[(Node, Node)]> {
    pairs.into_iter().map(|(left, right)| (fold(left, errors), fold(right, errors))).collect()
}

fn fold_box(mut node: Box<Node>, errors: &mut Vec<ConditionError>) -> Box<Node> {
    *node = fold(std::mem::replace(&mut *node, Node::Constant(Value::Null)), errors);
    node
}

/// A function of two operands, specialised if the second says enough.
fn binary(function: Binary, left: Node, right: Node, span: Span, errors: &mut Vec<ConditionError>) -> Node {
    let mut mistake = |message: String| {
        errors.push(ConditionError { span: span.range(), message, hint: None });
        Node::Constant(Value::Null)
    };
    match (function, right) {
        (Binary::Matches, Node::Constant(Value::String(text))) => match pattern::compile(&text) {
            Ok(pattern) => constant(Node::Matches { text: Box::new(left), pattern: Box::new(pattern), span }),
            Err(reason) => mistake(format!("{:?} is not a pattern: {reason}", excerpt(&text))),
        },
        (Binary::InCidr, Node::Constant(Value::String(text))) => match network(&text) {
            Some(network) => constant(Node::InNetwork { address: Box::new(left), network, span }),
            None => mistake(format!("{:?} is not {NETWORK}", excerpt(&text))),
        },
        (Binary::PartIn(part), Node::Constant(Value::String(text))) => match parse_offset(&text) {
            Some(offset) => constant(Node::PartAt { moment: Box::new(left), part, offset, span }),
            None => mistake(format!("{:?} is not {ZONE}", excerpt(&text))),
        },
        (function, right) => constant(Node::Binary { function, operands: Box::new([left, right]), span }),
    }
}

/// Whether a function does nothing but read a text, so that failing on a constant is a mistake.
const fn is_reading(function: Unary) -> bool {
    match function {
        Unary::ToBool
        | Unary::ToInt
        | Unary::ToUint
        | Unary::ToDouble
        | Unary::ToString
        | Unary::ToDuration
        | Unary::ToTimestamp
        | Unary::ToIpAddress => true,
        Unary::Not | Unary::Negate | Unary::Size | Unary::Part(_) => false,
    }
}

/// A part as its value if all directly below it are constants and it has one.
fn constant(node: Node) -> Node {
    match evaluated(&node) {
        Ok(Some(value)) => Node::Constant(value),
        Ok(None) | Err(_) => node,
    }
}

/// The value of a part of constants; an error if it has none; `None` if that is not known yet.
fn evaluated(node: &Node) -> Result<Option<Value<'static>>, String> {
    if !of_constants(node) {
        return Ok(None);
    }
    let nothing = Context::default();
    let mut units = FOLDING_FUEL;
    let mut evaluation = Evaluation::new(&[], [&nothing, &nothing], Fuel(&mut units));
    match evaluation.evaluate(node) {
        Ok(value) => Ok(Some(value.into_owned())),
        Err(Stop::Fault(fault)) => Err(fault.reason),
        Err(Stop::Missing(_) | Stop::Exhausted) => Ok(None),
    }
}

fn of_constants(node: &Node) -> bool {
    let is_constant = |node: &Node| matches!(node, Node::Constant(_));
    match node {
        Node::Constant(_) => true,
        Node::Parameter(_) | Node::Local(_) | Node::Comprehension(_) => false,
        Node::And(parts, _) | Node::Or(parts, _) | Node::List(parts) => parts.iter().all(is_constant),
        Node::Map(entries, _) => entries.iter().all(|(key, value)| is_constant(key) && is_constant(value)),
        Node::Choose { branches, otherwise, .. } => {
            is_constant(otherwise)
                && branches.iter().all(|(when, then)| is_constant(when) && is_constant(then))
        }
        Node::Has { operand, .. } | Node::Unary { operand, .. } => is_constant(operand),
        Node::Binary { operands, .. } => operands.iter().all(is_constant),
        Node::Matches { text, .. } => is_constant(text),
        Node::InNetwork { address, .. } => is_constant(address),
        Node::PartAt { moment, .. } => is_constant(moment),
    }
}

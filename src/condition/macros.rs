//! CEL's macros: `has`, and the comprehensions over lists and the keys of maps.

use super::check::{Checker, Typed, field};
use super::syntax::{Expression, Kind, Span};
use super::tree::{Comprehension, ComprehensionKind, Node};
use super::types::Type;

/// Every macro's name.
pub(super) const NAMES: [&str; 6] = ["has", "all", "exists", "exists_one", "filter", "map"];

/// Checks a call if it is a macro's.
pub(super) fn expand(
    checker: &mut Checker<'_>,
    name: &str,
    receiver: Option<&Expression>,
    arguments: &[Expression],
    span: Span,
) -> Option<Typed> {
    let kind = match name {
        "has" if receiver.is_none() => return Some(has(checker, arguments, span)),
        "all" => ComprehensionKind::All,
        "exists" => ComprehensionKind::Exists,
        "exists_one" | "existsOne" => ComprehensionKind::ExistsOne,
        "filter" => ComprehensionKind::Filter,
        "map" => ComprehensionKind::Map,
        _ => return None,
    };
    let usage = match kind {
        ComprehensionKind::Map => "write `list.map(item, value)` or `list.map(item, condition, value)`",
        ComprehensionKind::All
        | ComprehensionKind::Exists
        | ComprehensionKind::ExistsOne
        | ComprehensionKind::Filter => "write it as in `list.all(item, item > 0)`",
    };
    let (range, item, filter, body) = match (receiver, kind, arguments) {
        (Some(range), ComprehensionKind::Map, [item, filter, body]) => (range, item, Some(filter), body),
        (Some(range), _, [item, body]) => (range, item, None, body),
        _ => return Some(checker.mistake(span, format!("`{name}` is not called so"), Some(usage))),
    };
    let Kind::Name(item) = &item.kind else {
        let message = format!("the first argument of `{name}` names the item");
        return Some(checker.mistake(item.span, message, Some(usage)));
    };
    Some(comprehension(checker, kind, range, item, filter, body, span))
}

/// `has(map.key)`
fn has(checker: &mut Checker<'_>, arguments: &[Expression], span: Span) -> Typed {
    let [Expression { kind: Kind::Field { operand, name }, .. }] = arguments else {
        return checker.mistake(span, "`has` takes a field", Some("write `has(x.name)`"));
    };
    let inner = checker.expression(operand);
    if field(&inner.of).is_none() {
        return checker.no_field(&inner.of, name, span);
    }
    let node = Node::Has { operand: Box::new(inner.node), key: name.as_str().into(), span };
    Typed { node, of: Type::Bool }
}

fn comprehension(
    checker: &mut Checker<'_>,
    kind: ComprehensionKind,
    range: &Expression,
    item: &str,
    filter: Option<&Expression>,
    body: &Expression,
    span: Span,
) -> Typed {
    let over = checker.expression(range);
    let item_type = match &over.of {
        Type::List(items) => (**items).clone(),
        Type::Map(keys, _) => (**keys).clone(),
        Type::Dynamic => Type::Dynamic,
        Type::Null
        | Type::Bool
        | Type::Int
        | Type::Uint
        | Type::Double
        | Type::String
        | Type::Duration
        | Type::Timestamp
        | Type::IpAddress => {
            let message = format!("`{}` needs a list or a map, and this is `{}`", kind.name(), over.of);
            checker.error(range.span, message, None);
            Type::Dynamic
        }
    };
    checker.locals.push((item.to_owned(), item_type.clone()));
    let filter = filter.map(|filter| checker.bool(filter, kind.name()));
    let (body, of) = match kind {
        ComprehensionKind::Map => {
            let body = checker.expression(body);
            (body.node, Type::List(Box::new(body.of)))
        }
        ComprehensionKind::Filter => (checker.bool(body, kind.name()), Type::List(Box::new(item_type))),
        ComprehensionKind::All | ComprehensionKind::Exists | ComprehensionKind::ExistsOne => {
            (checker.bool(body, kind.name()), Type::Bool)
        }
    };
    checker.locals.pop();
    let comprehension = Comprehension { kind, range: over.node, filter, body, span };
    Typed { node: Node::Comprehension(Box::new(comprehension)), of }
}

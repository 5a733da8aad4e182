//! As written → checked: names become slots, functions are resolved, types must fit. The mistakes
//! are reported together, not only the first.

use super::macros;
use super::outcome::ConditionError;
use super::signatures::{Form, Function, SIGNATURES, Signature, nearest};
use super::syntax::{Expression, Kind, Literal, Operator, Span};
use super::tree::{Binary, Node, Unary};
use super::types::{ParameterType, Type};
use super::value::Value;

/// Mistakes reported of one expression; what comes after is most likely more of the same.
const MAX_MISTAKES: usize = 50;

/// A checked part and its type.
pub(super) struct Typed {
    pub(super) node: Node,
    pub(super) of: Type,
}

/// Checks a whole condition, which must come to a bool.
pub(super) fn check(
    parameters: &[(String, ParameterType)],
    expression: &Expression,
) -> Result<Node, Vec<ConditionError>> {
    let mut checker = Checker { parameters, locals: Vec::new(), errors: Vec::new() };
    let root = checker.expression(expression);
    if checker.errors.is_empty() && root.of != Type::Bool {
        let hint = if root.of == Type::Dynamic {
            "convert it, as in `bool(x)`, or compare it, as in `x == true`"
        } else {
            "compare it with something, as in `x == 1`"
        };
        let message = format!("a condition must come to `bool`, and this comes to `{}`", root.of);
        checker.error(expression.span, message, Some(hint));
    }
    if checker.errors.is_empty() { Ok(root.node) } else { Err(checker.errors) }
}

/// The state of a check. Recursion is as deep as the parser allows.
pub(super) struct Checker<'p> {
    parameters: &'p [(String, ParameterType)],
    /// Items of the comprehensions around, outermost first.
    pub(super) locals: Vec<(String, Type)>,
    errors: Vec<ConditionError>,
}

impl Checker<'_> {
    pub(super) fn error(&mut self, span: Span, message: impl Into<String>, hint: Option<&str>) {
        if self.errors.len() >= MAX_MISTAKES {
            return;
        }
        self.errors.push(ConditionError {
            span: span.range(),
            message: message.into(),
            hint: hint.map(str::to_owned),
        });
    }

    /// Reports a mistake; what stands for the part then fits everywhere, so that one mistake is
    /// reported once.
    pub(super) fn mistake(&mut self, span: Span, message: impl Into<String>, hint: Option<&str>) -> Typed {
        self.error(span, message, hint);
        Typed { node: Node::Constant(Value::Null), of: Type::Dynamic }
    }

    pub(super) fn expression(&mut self, expression: &Expression) -> Typed {
        let span = expression.span;
        match &expression.kind {
            Kind::Literal(value) => literal(value),
            Kind::Name(name) => self.name(name, span),
            Kind::Not(operand) => {
                let operand = self.bool(operand, "!");
                Typed { node: unary(Unary::Not, operand, span), of: Type::Bool }
            }
            Kind::Negate(operand) => self.negate(operand, span),
            Kind::Binary(operator, operands) => {
                let [left, right] = &**operands;
                let (left, right) = (self.expression(left), self.expression(right));
                self.operator(*operator, left, right, span)
            }
            Kind::And(parts) => {
                let parts = parts.iter().map(|part| self.bool(part, "&&")).collect();
                Typed { node: Node::And(parts, span), of: Type::Bool }
            }
            Kind::Or(parts) => {
                let parts = parts.iter().map(|part| self.bool(part, "||")).collect();
                Typed { node: Node::Or(parts, span), of: Type::Bool }
            }
            Kind::Choose { branches, otherwise } => self.choose(branches, otherwise, span),
            Kind::List(items) => {
                let mut of = None;
                let items = items.iter().map(|item| self.joined(item, &mut of)).collect();
                let of = Type::List(Box::new(of.unwrap_or(Type::Dynamic)));
                Typed { node: Node::List(items), of }
            }
            Kind::Map(entries) => self.map(entries, span),
            Kind::Field { operand, name } => {
                let operand = self.expression(operand);
                match field(&operand.of) {
                    Some(of) => Typed { node: index(operand.node, text(name), span), of },
                    None => self.no_field(&operand.of, name, span),
                }
            }
            Kind::Index(operands) => {
                let [container, key] = &**operands;
                let (container, key) = (self.expression(container), self.expression(key));
                self.index(container, key, span)
            }
            Kind::Call { name, name_span, receiver, arguments } => {
                if let Some(done) = macros::expand(self, name, receiver.as_deref(), arguments, span) {
                    return done;
                }
                self.call(name, *name_span, receiver.as_deref(), arguments, span)
            }
        }
    }

    fn name(&mut self, name: &str, span: Span) -> Typed {
        let local = self.locals.iter().rposition(|(local, _)| local == name);
        if let Some((index, (_, of))) = local.and_then(|index| Some((index, self.locals.get(index)?))) {
            return Typed { node: Node::Local(index), of: of.clone() };
        }
        let slot = self.parameters.iter().position(|(parameter, _)| parameter == name);
        if let Some((slot, (_, declared))) = slot.and_then(|slot| Some((slot, self.parameters.get(slot)?))) {
            return Typed { node: Node::Parameter(slot), of: Type::from(declared) };
        }
        if self.errors.len() >= MAX_MISTAKES {
            return Typed { node: Node::Constant(Value::Null), of: Type::Dynamic };
        }
        let known = self.parameters.iter().map(|(parameter, _)| parameter.as_str());
        let hint = match nearest(name, known.chain(["true", "false", "null"])) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None if SIGNATURES.iter().any(|signature| signature.name == name) => {
                format!("`{name}` is a function: call it")
            }
            None => "declare it between the condition's parentheses".to_owned(),
        };
        self.mistake(span, format!("`{name}` is not a parameter of this condition"), Some(&hint))
    }

    /// A part that must be a bool, for `asked_by`.
    pub(super) fn bool(&mut self, expression: &Expression, asked_by: &str) -> Node {
        let checked = self.expression(expression);
        if !matches!(checked.of, Type::Bool | Type::Dynamic) {
            let hint = checked.of.is_number().then_some("compare it, as in `x != 0`");
            let message = format!("`{asked_by}` takes `bool`, and this is `{}`", checked.of);
            self.error(expression.span, message, hint);
        }
        checked.node
    }

    fn negate(&mut self, operand: &Expression, span: Span) -> Typed {
        let checked = self.expression(operand);
        if matches!(checked.of, Type::Int | Type::Double | Type::Dynamic) {
            return Typed { node: unary(Unary::Negate, checked.node, span), of: checked.of };
        }
        let message = format!("`-` takes `int` or `double`, and this is `{}`", checked.of);
        self.mistake(operand.span, message, None)
    }

    fn choose(&mut self, branches: &[(Expression, Expression)], otherwise: &Expression, span: Span) -> Typed {
        let checked: Vec<_> = branches
            .iter()
            .map(|(when, then)| (self.bool(when, "? :"), self.expression(then), then.span))
            .collect();
        let last = self.expression(otherwise);
        let mut of = last.of;
        let mut resolved = Vec::with_capacity(checked.len());
        for (when, then, then_span) in checked {
            let fits = then.of == of || then.of == Type::Dynamic || of == Type::Dynamic;
            if !fits {
                let message = format!("one branch is `{}` and the other is `{of}`", then.of);
                self.error(then_span, message, Some("both branches of `? :` need one type"));
            }
            of = of.join(&then.of);
            resolved.push((when, then.node));
        }
        let otherwise = Box::new(last.node);
        Typed { node: Node::Choose { branches: resolved.into(), otherwise, span }, of }
    }

    /// An item among others, whose types come together in `of`.
    fn joined(&mut self, item: &Expression, of: &mut Option<Type>) -> Node {
        let checked = self.expression(item);
        *of = Some(match of.take() {
            None => checked.of,
            Some(before) => before.join(&checked.of),
        });
        checked.node
    }

    fn map(&mut self, entries: &[(Expression, Expression)], span: Span) -> Typed {
        let (mut keys, mut values) = (None, None);
        let mut checked = Vec::with_capacity(entries.len());
        for (key, value) in entries {
            let mut of = None;
            let key_node = self.joined(key, &mut of);
            let of = of.unwrap_or(Type::Dynamic);
            if !matches!(of, Type::Bool | Type::Int | Type::Uint | Type::String | Type::Dynamic) {
                let message = format!("a key may be `bool`, `int`, `uint` or `string`, not `{of}`");
                self.error(key.span, message, None);
            }
            keys = Some(keys.map_or(of.clone(), |before: Type| before.join(&of)));
            checked.push((key_node, self.joined(value, &mut values)));
        }
        let (keys, values) = (keys.unwrap_or(Type::Dynamic), values.unwrap_or(Type::Dynamic));
        let of = Type::Map(Box::new(keys), Box::new(values));
        Typed { node: Node::Map(checked.into(), span), of }
    }

    pub(super) fn no_field(&mut self, of: &Type, name: &str, span: Span) -> Typed {
        let method = SIGNATURES.iter().any(|signature| signature.name == name);
        let hint = method.then(|| format!("`{name}` is a function: call it, as in `x.{name}(…)`"));
        self.mistake(span, format!("`{of}` has no field `{name}`"), hint.as_deref())
    }

    fn index(&mut self, container: Typed, key: Typed, span: Span) -> Typed {
        let of = match &container.of {
            Type::Dynamic => Type::Dynamic,
            Type::List(items) if matches!(key.of, Type::Int | Type::Dynamic) => (**items).clone(),
            Type::Map(keys, values) if keys.agrees(&key.of) => (**values).clone(),
            Type::List(_) => {
                let message = format!("a list is indexed by `int`, not by `{}`", key.of);
                return self.mistake(span, message, None);
            }
            Type::Map(keys, _) => {
                let message = format!("the keys are `{keys}`, and this is `{}`", key.of);
                return self.mistake(span, message, None);
            }
            Type::Null
            | Type::Bool
            | Type::Int
            | Type::Uint
            | Type::Double
            | Type::String
            | Type::Duration
            | Type::Timestamp
            | Type::IpAddress => {
                return self.mistake(span, format!("`{}` has no items", container.of), None);
            }
        };
        Typed { node: index(container.node, key.node, span), of }
    }

    fn operator(&mut self, operator: Operator, left: Typed, right: Typed, span: Span) -> Typed {
        let (function, of) = match operator {
            Operator::Equal => (Binary::Equal, comparable(&left.of, &right.of)),
            Operator::NotEqual => (Binary::NotEqual, comparable(&left.of, &right.of)),
            Operator::Less => (Binary::Less, ordered(&left.of, &right.of)),
            Operator::LessOrEqual => (Binary::LessOrEqual, ordered(&left.of, &right.of)),
            Operator::Greater => (Binary::Greater, ordered(&left.of, &right.of)),
            Operator::GreaterOrEqual => (Binary::GreaterOrEqual, ordered(&left.of, &right.of)),
            Operator::In => (Binary::In, contained(&left.of, &right.of)),
            Operator::Add => (Binary::Add, sum(&left.of, &right.of)),
            Operator::Subtract => (Binary::Subtract, difference(&left.of, &right.of)),
            Operator::Multiply => (Binary::Multiply, product(&left.of, &right.of)),
            Operator::Divide => (Binary::Divide, product(&left.of, &right.of)),
            Operator::Remainder => {
                let of = product(&left.of, &right.of).filter(|of| *of != Type::Double);
                (Binary::Remainder, of)
            }
        };
        if let Some(of) = of {
            let operands = Box::new([left.node, right.node]);
            return Typed { node: Node::Binary { function, operands, span }, of };
        }
        let hint = if left.of == right.of {
            None
        } else if left.of.is_number() && right.of.is_number() {
            Some(format!(
                "convert one, as in `{}(x)`",
                if left.of == Type::Double { &left.of } else { &right.of }
            ))
        } else if left.of == Type::String || right.of == Type::String {
            let other = if left.of == Type::String { &right.of } else { &left.of };
            let convertible = SIGNATURES.iter().any(|signature| signature.name == other.to_string());
            convertible.then(|| format!("a text becomes one by `{other}(\"…\")`"))
        } else {
            None
        };
        let message = format!("`{}` does not take `{}` and `{}`", operator.as_str(), left.of, right.of);
        self.mistake(span, message, hint.as_deref())
    }

    fn call(
        &mut self,
        name: &str,
        name_span: Span,
        receiver: Option<&Expression>,
        arguments: &[Expression],
        span: Span,
    ) -> Typed {
        let checked: Vec<Typed> =
            receiver.into_iter().chain(arguments).map(|operand| self.expression(operand)).collect();
        if let ("dyn", None, [_]) = (name, receiver, arguments) {
            let node = checked.into_iter().next().map(|operand| operand.node);
            return Typed { node: node.unwrap_or(Node::Constant(Value::Null)), of: Type::Dynamic };
        }
        let named = || SIGNATURES.iter().filter(|signature| signature.name == name);
        let fits = |signature: &&Signature| {
            let form = match signature.form {
                Form::Global => receiver.is_none(),
                Form::Method => receiver.is_some(),
                Form::Either => true,
            };
            form && signature.takes.len() == checked.len()
                && signature
                    .takes
                    .iter()
                    .zip(&checked)
                    .all(|(shapes, operand)| shapes.iter().any(|shape| shape.accepts(&operand.of)))
        };
        if let Some(signature) = named().find(fits) {
            let mut nodes = checked.into_iter().map(|operand| operand.node);
            let node = match (signature.function, nodes.next(), nodes.next()) {
                (Function::Unary(function), Some(operand), None) => unary(function, operand, span),
                (Function::Binary(function), Some(left), Some(right)) => {
                    Node::Binary { function, operands: Box::new([left, right]), span }
                }
                // INVARIANT: a signature takes as many operands as its function.
                _ => Node::Constant(Value::Null),
            };
            return Typed { node, of: signature.gives.to_type() };
        }
        if named().next().is_none() {
            let known = SIGNATURES.iter().map(|signature| signature.name).chain(macros::NAMES);
            let hint = nearest(name, known).map(|meant| format!("did you mean `{meant}`?"));
            return self.mistake(name_span, format!("`{name}` is not a function"), hint.as_deref());
        }
        let types: Vec<_> = checked.iter().map(|operand| operand.of.to_string()).collect();
        let call = match (receiver.is_some(), types.split_first()) {
            (true, Some((receiver, rest))) => format!("{receiver}.{name}({})", rest.join(", ")),
            _ => format!("{name}({})", types.join(", ")),
        };
        let usages: Vec<_> = named().map(|signature| format!("`{}`", signature.usage())).collect();
        let hint = format!("there is {}", usages.join(" and "));
        self.mistake(span, format!("there is no `{call}`"), Some(&hint))
    }
}

fn literal(value: &Literal) -> Typed {
    let (value, of) = match value {
        Literal::Null => (Value::Null, Type::Null),
        Literal::Bool(value) => (Value::Bool(*value), Type::Bool),
        Literal::Int(value) => (Value::Int(*value), Type::Int),
        Literal::Uint(value) => (Value::Uint(*value), Type::Uint),
        Literal::Double(value) => (Value::Double(*value), Type::Double),
        Literal::String(text) => (Value::made(text), Type::String),
    };
    Typed { node: Node::Constant(value), of }
}

fn text(text: &str) -> Node {
    Node::Constant(Value::made(text))
}

fn unary(function: Unary, operand: Node, span: Span) -> Node {
    Node::Unary { function, operand: Box::new(operand), span }
}

fn index(container: Node, key: Node, span: Span) -> Node {
    Node::Binary { function: Binary::Index, operands: Box::new([container, key]), span }
}

/// The type of `operand.name`.
pub(super) fn field(operand: &Type) -> Option<Type> {
    match operand {
        Type::Dynamic => Some(Type::Dynamic),
        Type::Map(key, value) if key.agrees(&Type::String) => Some((**value).clone()),
        Type::Map(..)
        | Type::Null
        | Type::Bool
        | Type::Int
        | Type::Uint
        | Type::Double
        | Type::String
        | Type::Duration
        | Type::Timestamp
        | Type::IpAddress
        | Type::List(_) => None,
    }
}

/// `==` and `!=`: of one type, of any numbers, or with `null` what could be null elsewhere.
fn comparable(left: &Type, right: &Type) -> Option<Type> {
    let with_null =
        (*left == Type::Null && right.is_nullable()) || (*right == Type::Null && left.is_nullable());
    (left.agrees(right) || with_null).then_some(Type::Bool)
}

/// `<` and its like: of one ordered type, or of any numbers.
fn ordered(left: &Type, right: &Type) -> Option<Type> {
    let has_order = |of: &Type| {
        of.is_number()
            || matches!(of, Type::Bool | Type::String | Type::Duration | Type::Timestamp | Type::Dynamic)
    };
    (has_order(left) && has_order(right) && left.agrees(right)).then_some(Type::Bool)
}

/// `in`: an item of a list or a key of a map.
fn contained(item: &Type, container: &Type) -> Option<Type> {
    let fits = match container {
        Type::Dynamic => true,
        Type::List(of) | Type::Map(of, _) => of.agrees(item),
        Type::Null
        | Type::Bool
        | Type::Int
        | Type::Uint
        | Type::Double
        | Type::String
        | Type::Duration
        | Type::Timestamp
        | Type::IpAddress => false,
    };
    fits.then_some(Type::Bool)
}

fn sum(left: &Type, right: &Type) -> Option<Type> {
    match (left, right) {
        (Type::String, Type::String | Type::Dynamic) | (Type::Dynamic, Type::String) => Some(Type::String),
        (Type::Duration, Type::Duration) => Some(Type::Duration),
        (Type::Timestamp, Type::Duration) | (Type::Duration, Type::Timestamp) => Some(Type::Timestamp),
        (Type::List(left), Type::List(right)) => Some(Type::List(Box::new((**left).clone().join(right)))),
        (Type::List(_) | Type::Duration | Type::Timestamp, Type::Dynamic)
        | (Type::Dynamic, Type::List(_) | Type::Duration | Type::Timestamp) => Some(Type::Dynamic),
        _ => product(left, right),
    }
}

fn difference(left: &Type, right: &Type) -> Option<Type> {
    match (left, right) {
        (Type::Duration, Type::Duration) | (Type::Timestamp, Type::Timestamp) => Some(Type::Duration),
        (Type::Timestamp, Type::Duration) => Some(Type::Timestamp),
        (Type::Timestamp | Type::Duration, Type::Dynamic)
        | (Type::Dynamic, Type::Timestamp | Type::Duration) => Some(Type::Dynamic),
        _ => product(left, right),
    }
}

/// `*` and `/`, and the numbers of `+` and `-`: both of one type, nothing is converted.
fn product(left: &Type, right: &Type) -> Option<Type> {
    match (left, right) {
        (Type::Dynamic, Type::Dynamic) => Some(Type::Dynamic),
        (Type::Int | Type::Uint | Type::Double, Type::Dynamic) => Some(left.clone()),
        (Type::Dynamic, Type::Int | Type::Uint | Type::Double) => Some(right.clone()),
        (Type::Int, Type::Int) | (Type::Uint, Type::Uint) | (Type::Double, Type::Double) => {
            Some(left.clone())
        }
        _ => None,
    }
}

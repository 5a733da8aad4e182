//! A condition of a schema: compiled once, evaluated for every tuple that carries it.

use super::check::check;
use super::convert::{Refusal, convert, excerpt};
use super::evaluate::{Evaluation, Slots, Stop};
use super::fold::fold;
use super::fuel::Fuel;
use super::outcome::{ConditionError, ContextMismatch, ErrorCause, EvaluationError, Outcome, Required};
use super::parse::parse;
use super::tree::Node;
use super::types::ParameterType;
use super::value::Value;
use crate::context::Context;
use crate::tuple::ConditionName;

/// Most parameters of one condition (OpenFGA allows 25). A set of them is one 64-bit word.
pub const MAX_PARAMETERS: usize = 64;
/// Largest context a tuple may carry, in bytes of a protobuf `Struct`, as OpenFGA counts it.
pub const MAX_TUPLE_CONTEXT_BYTES: usize = 32 * 1024;

/// A compiled condition of a schema.
#[derive(Debug)]
pub struct Condition {
    name: ConditionName,
    /// A parameter's place here is its slot in the tree.
    parameters: Vec<(String, ParameterType)>,
    expression: String,
    root: Node,
}

impl Condition {
    /// Parses and checks an expression against its parameters. Spans count the bytes of
    /// `expression`; of wrong types every mistake is reported, of wrong syntax the first.
    pub fn compile(
        name: ConditionName,
        parameters: Vec<(String, ParameterType)>,
        expression: &str,
    ) -> Result<Self, Vec<ConditionError>> {
        if parameters.len() > MAX_PARAMETERS {
            return Err(vec![ConditionError {
                span: 0..0,
                message: format!(
                    "the condition has {} parameters, more than {MAX_PARAMETERS}",
                    parameters.len()
                ),
                hint: Some("pass several values as one map or list".to_owned()),
            }]);
        }
        let mut errors = check_parameters(&parameters);
        let checked = parse(expression).and_then(|parsed| check(&parameters, &parsed));
        match checked.map(|node| fold(node, &mut errors)) {
            Ok(root) if errors.is_empty() => {
                Ok(Self { name, parameters, expression: expression.to_owned(), root })
            }
            Ok(_) => Err(errors),
            Err(more) => {
                errors.extend(more);
                Err(errors)
            }
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &ConditionName {
        &self.name
    }

    /// Its parameters in the order of declaration.
    #[must_use]
    pub fn parameters(&self) -> &[(String, ParameterType)] {
        &self.parameters
    }

    /// Its expression as written.
    #[must_use]
    pub fn expression(&self) -> &str {
        &self.expression
    }

    /// Evaluates it for a tuple's context over a request's; the tuple's values win.
    ///
    /// `fuel` is counted down by the work done and never below zero: a unit for each part of the
    /// expression, each step of a comprehension, each supplied value read and each 32 bytes of
    /// text. Names in the contexts that the condition does not declare are ignored.
    #[must_use]
    pub fn evaluate(
        &self,
        tuple: &Context,
        request: &Context,
        required: Required,
        fuel: &mut u64,
    ) -> Outcome {
        if required == Required::All {
            let absent = |name: &str| tuple.value(name).is_none() && request.value(name).is_none();
            let absent = self.parameters.iter().enumerate().filter(|(_, (name, _))| absent(name));
            let absent = absent.fold(Slots::NONE, |slots, (slot, _)| slots.with(slot));
            if !absent.is_empty() {
                return self.missing(absent);
            }
        }
        let mut evaluation = Evaluation::new(&self.parameters, [tuple, request], Fuel(fuel));
        if required == Required::All {
            for slot in 0..self.parameters.len() {
                if let Err(stop) = evaluation.parameter(slot) {
                    return self.without_value(stop);
                }
            }
        }
        match evaluation.evaluate(&self.root) {
            Ok(Value::Bool(true)) => Outcome::True,
            Ok(Value::Bool(false)) => Outcome::False,
            Ok(other) => {
                // INVARIANT: the checker lets only bools through.
                let reason = format!("the condition came to {}", other.type_name());
                self.failed(ErrorCause::Expression, reason)
            }
            Err(stop) => self.without_value(stop),
        }
    }

    /// Whether a tuple may carry this context: declared names, values of their types, no control
    /// characters, at most [`MAX_TUPLE_CONTEXT_BYTES`].
    pub fn validate_tuple_context(&self, context: &Context) -> Result<(), ContextMismatch> {
        let condition = || self.name.clone();
        let bytes = context.encoded_len();
        if bytes > MAX_TUPLE_CONTEXT_BYTES {
            let limit = MAX_TUPLE_CONTEXT_BYTES;
            return Err(ContextMismatch::TooLarge { condition: condition(), bytes, limit });
        }
        for (name, value) in &context.0 {
            let Some((_, declared)) = self.parameters.iter().find(|(parameter, _)| parameter == name) else {
                let declared: Vec<_> =
                    self.parameters.iter().map(|(parameter, _)| format!("`{parameter}`")).collect();
                return Err(ContextMismatch::UnknownParameter {
                    condition: condition(),
                    parameter: excerpt(name),
                    declared: declared.join(", "),
                });
            };
            if let Some(character) = value.control_character() {
                return Err(ContextMismatch::ControlCharacter {
                    condition: condition(),
                    parameter: name.clone(),
                    character,
                });
            }
            let mut units = u64::MAX;
            if let Err(Refusal::Mismatch(mismatch)) = convert(value, declared, &mut Fuel(&mut units)) {
                return Err(ContextMismatch::WrongValue {
                    condition: condition(),
                    parameter: name.clone(),
                    reason: mismatch.describe(name),
                });
            }
        }
        Ok(())
    }

    fn without_value(&self, stop: Stop) -> Outcome {
        match stop {
            Stop::Missing(slots) => self.missing(slots),
            Stop::Exhausted => self.failed(ErrorCause::Fuel, "it needs more work than is allowed".to_owned()),
            Stop::Fault(fault) => {
                let source = self.expression.get(fault.span.range()).unwrap_or_default();
                let reason = if source.is_empty() {
                    fault.reason
                } else {
                    format!("{} in `{}`", fault.reason, excerpt(source))
                };
                self.failed(fault.cause, reason)
            }
        }
    }

    fn missing(&self, slots: Slots) -> Outcome {
        let parameters = self.parameters.iter().enumerate();
        let missing = parameters.filter(|(slot, _)| slots.has(*slot));
        let mut names: Vec<_> = missing.map(|(_, (name, _))| name.clone()).collect();
        names.sort();
        Outcome::Missing(names)
    }

    fn failed(&self, cause: ErrorCause, reason: String) -> Outcome {
        Outcome::Error(EvaluationError { condition: self.name.clone(), cause, reason })
    }
}

/// Mistakes in the declarations of parameters, as far as an expression can tell them.
fn check_parameters(parameters: &[(String, ParameterType)]) -> Vec<ConditionError> {
    let mut errors = Vec::new();
    let mut error = |message, hint: Option<&str>| {
        errors.push(ConditionError { span: 0..0, message, hint: hint.map(str::to_owned) });
    };
    for (at, (name, _)) in parameters.iter().enumerate() {
        let mut characters = name.chars();
        let plain = characters.next().is_some_and(|first| first.is_ascii_alphabetic() || first == '_')
            && characters.all(|rest| rest.is_ascii_alphanumeric() || rest == '_');
        if !plain {
            error(
                format!("an expression cannot read a parameter called `{}`", excerpt(name)),
                Some("use letters, digits and `_`, not beginning with a digit"),
            );
        } else if matches!(name.as_str(), "in" | "true" | "false" | "null") {
            error(format!("`{name}` is a word of the language, not a name"), None);
        }
        if parameters.iter().take(at).any(|(earlier, _)| earlier == name) {
            error(format!("parameter `{}` is declared twice", excerpt(name)), None);
        }
    }
    errors
}

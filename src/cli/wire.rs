//! Domain values to and from the messages of the API, as far as a client needs them.

use serde_json::{Value as Json, json};

use super::exit::{Exit, Failure};
use crate::context::{Context, Value};
use crate::proto;
use crate::time::Timestamp;
use crate::tuple::Tuple;

/// A tuple as the API takes it.
#[must_use]
pub fn tuple(tuple: &Tuple) -> proto::Tuple {
    proto::Tuple {
        object: tuple.key.object.to_string(),
        relation: tuple.key.relation.to_string(),
        subject: tuple.key.subject.to_string(),
        condition: tuple.attributes.condition.as_ref().map(|condition| proto::TupleCondition {
            name: condition.name.to_string(),
            context: Some(context(&condition.context)),
        }),
        expires_at: tuple.attributes.expires_at.map(timestamp),
    }
}

/// A context as the API takes it.
#[must_use]
pub fn context(context: &Context) -> prost_types::Struct {
    prost_types::Struct { fields: context.0.iter().map(|(name, item)| (name.clone(), value(item))).collect() }
}

fn value(value: &Value) -> prost_types::Value {
    use prost_types::value::Kind;
    /// Integers up to here are exact as doubles.
    const EXACT: u64 = 1 << 53;
    #[expect(clippy::cast_precision_loss, reason = "only integers that a double holds exactly are cast")]
    let kind = match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(flag) => Kind::BoolValue(*flag),
        Value::Int(number) if number.unsigned_abs() <= EXACT => Kind::NumberValue(*number as f64),
        Value::Int(number) => Kind::StringValue(number.to_string()),
        Value::Uint(number) => Kind::StringValue(number.to_string()),
        Value::Double(number) => Kind::NumberValue(*number),
        Value::String(text) => Kind::StringValue(text.clone()),
        Value::List(items) => {
            Kind::ListValue(prost_types::ListValue { values: items.iter().map(self::value).collect() })
        }
        Value::Map(entries) => Kind::StructValue(prost_types::Struct {
            fields: entries.iter().map(|(name, item)| (name.clone(), self::value(item))).collect(),
        }),
    };
    prost_types::Value { kind: Some(kind) }
}

/// A moment as the API takes it.
#[must_use]
pub fn timestamp(moment: Timestamp) -> prost_types::Timestamp {
    let micros = moment.as_micros();
    prost_types::Timestamp {
        seconds: micros.div_euclid(1_000_000),
        // INVARIANT: below 10^9, which fits.
        nanos: i32::try_from(micros.rem_euclid(1_000_000) * 1_000).unwrap_or(0),
    }
}

/// A moment of an answer, in RFC 3339.
#[must_use]
pub fn moment(timestamp: &prost_types::Timestamp) -> String {
    let micros =
        timestamp.seconds.saturating_mul(1_000_000).saturating_add(i64::from(timestamp.nanos) / 1_000);
    Timestamp::from_micros(micros).to_string()
}

/// `object#relation@subject` of an answer.
#[must_use]
pub fn key_text(tuple: &proto::Tuple) -> String {
    format!("{}#{}@{}", tuple.object, tuple.relation, tuple.subject)
}

/// A tuple of an answer on one line, attributes included, as `tuple write -` reads it.
#[must_use]
pub fn tuple_text(tuple: &proto::Tuple) -> String {
    let mut text = key_text(tuple);
    let condition = condition_text(tuple);
    if !condition.is_empty() {
        text.push_str(" with ");
        text.push_str(&condition);
    }
    if let Some(expires_at) = &tuple.expires_at {
        text.push_str(" until ");
        text.push_str(&moment(expires_at));
    }
    text
}

/// The condition of a tuple with its context; empty if it has none.
#[must_use]
pub fn condition_text(tuple: &proto::Tuple) -> String {
    match &tuple.condition {
        None => String::new(),
        Some(condition) => match &condition.context {
            Some(context) if !context.fields.is_empty() => {
                format!("{} {}", condition.name, struct_json(context))
            }
            _ => condition.name.clone(),
        },
    }
}

/// A tuple of an answer as JSON, with the fields that `tuple write` reads.
#[must_use]
pub fn tuple_json(tuple: &proto::Tuple) -> Json {
    let mut json = json!({
        "object": tuple.object,
        "relation": tuple.relation,
        "subject": tuple.subject,
    });
    if let Json::Object(fields) = &mut json {
        if let Some(condition) = &tuple.condition {
            let context = condition.context.as_ref().map_or_else(|| json!({}), struct_json);
            fields.insert("condition".to_owned(), json!({ "name": condition.name, "context": context }));
        }
        if let Some(expires_at) = &tuple.expires_at {
            fields.insert("expires_at".to_owned(), moment(expires_at).into());
        }
    }
    json
}

/// A context of an answer as JSON.
#[must_use]
pub fn struct_json(context: &prost_types::Struct) -> Json {
    Json::Object(context.fields.iter().map(|(name, item)| (name.clone(), value_json(item))).collect())
}

fn value_json(value: &prost_types::Value) -> Json {
    use prost_types::value::Kind;
    match &value.kind {
        None | Some(Kind::NullValue(_)) => Json::Null,
        Some(Kind::BoolValue(flag)) => Json::Bool(*flag),
        Some(Kind::NumberValue(number)) => number_json(*number),
        Some(Kind::StringValue(text)) => Json::String(text.clone()),
        Some(Kind::ListValue(list)) => list.values.iter().map(value_json).collect(),
        Some(Kind::StructValue(context)) => struct_json(context),
    }
}

/// A whole number reads as one: the API carries every number as a double.
fn number_json(number: f64) -> Json {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    #[expect(clippy::cast_possible_truncation, reason = "whole numbers within 2^53 only")]
    if number.fract() == 0.0 && number.abs() <= EXACT {
        Json::from(number as i64)
    } else {
        serde_json::Number::from_f64(number).map_or_else(|| Json::String(number.to_string()), Json::Number)
    }
}

/// What an answer must hold and a server of another make might not send.
pub fn required<T>(field: Option<T>, name: &str) -> Result<T, Failure> {
    field.ok_or_else(|| lacking(name))
}

/// An answer without something it must hold.
pub fn lacking(name: &str) -> Failure {
    Failure::new(Exit::Internal, format!("the server's answer lacks `{name}`"))
        .advise("compare `relata version` with the server's")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store_file::tuple_text as text_form;

    #[test]
    fn a_tuple_prints_as_it_was_written() {
        for line in [
            "doc:1#viewer@user:ann",
            "doc:1#viewer@user:ann with in_office",
            r#"doc:1#viewer@group:eng#member with c {"f":1.5,"list":[1,true,null],"n":-3} until 2027-01-31T12:00:00.25Z"#,
            "doc:1#viewer@user:ann until 1969-12-31T23:59:59.5Z",
        ] {
            let sent = tuple(&text_form::parse(line).expect(line));
            assert_eq!(tuple_text(&sent), line);
            let json = tuple_json(&sent).to_string();
            let input: Box<dyn std::io::BufRead + Send> = Box::new(std::io::Cursor::new(json.into_bytes()));
            let mut entries = crate::store_file::tuple_file::entries(
                crate::store_file::tuple_file::TupleFormat::JsonLines,
                input,
            )
            .expect("entries");
            let entry = entries.next().expect("one").expect("readable");
            assert_eq!(text_form::print(&entry.tuple.expect("a tuple")), line);
        }
    }

    #[test]
    fn integers_that_a_double_cannot_hold_travel_as_text() {
        let sent =
            context(&r#"{"big":9007199254740993,"small":-9007199254740992}"#.parse().expect("a context"));
        assert_eq!(
            struct_json(&sent),
            json!({"big": "9007199254740993", "small": -9_007_199_254_740_992_i64})
        );
    }
}

//! Wire ↔ domain. Text becomes an [`Object`] or a [`Subject`] here and nowhere further in, and
//! every refusal names the field at fault, such as `updates[3].tuple.object`.

use std::collections::BTreeMap;
use std::sync::Arc;

use prost::Message as _;
use prost_types::value::Kind;

use super::status::{At as _, Error, Reason};
use crate::config::RequestLimits;
use crate::context::{Context, Value};
use crate::datastore::{Expectation, Precondition, SchemaId, Store, StoredSchema, TupleFilter, Update};
use crate::proto;
use crate::revision::Zookie;
use crate::time::Timestamp;
use crate::tuple::{
    Attributes, ConditionName, Object, ObjectId, RelationName, Subject, Tuple, TupleCondition, TupleKey,
    TypeName,
};

/// Largest integer up to which every integer is a double: beyond it a double no longer says
/// which integer was meant, so it stays a double and is judged by the parameter's type.
const MAX_EXACT: f64 = 9_007_199_254_740_992.0;

/// `object` of a question.
pub fn object(text: &str) -> Result<Object, Error> {
    text.parse::<Object>().at("object")
}

/// `subject` of a question.
pub fn subject(text: &str) -> Result<Subject, Error> {
    text.parse::<Subject>().at("subject")
}

/// `relation` of a question.
pub fn relation(text: &str) -> Result<RelationName, Error> {
    RelationName::new(text).at("relation")
}

/// An optional schema id.
pub fn schema_id(field: &'static str, text: &str) -> Result<Option<SchemaId>, Error> {
    if text.is_empty() {
        return Ok(None);
    }
    let id = ulid::Ulid::from_string(text).map_err(|_| {
        Error::field(field, Reason::InvalidField, format!("`{}` is not a schema id", clip(text)))
    })?;
    Ok(Some(SchemaId(id)))
}

/// A zookie the request must carry.
pub fn zookie(field: &'static str, text: &str) -> Result<Zookie, Error> {
    text.parse::<Zookie>().map_err(|source| Error::Zookie { field, source })
}

/// A tuple to be stored or to count for one question.
pub fn tuple(tuple: proto::Tuple, limits: &RequestLimits) -> Result<Tuple, Error> {
    let key = TupleKey {
        object: object(&tuple.object)?,
        relation: relation(&tuple.relation)?,
        subject: subject(&tuple.subject)?,
    };
    let condition = match tuple.condition {
        None => None,
        Some(condition) => Some(TupleCondition {
            name: ConditionName::new(&condition.name).at("condition.name")?,
            context: Arc::new(
                context(condition.context, limits)
                    .map_err(|error| error.within(format_args!("condition")))?,
            ),
        }),
    };
    let expires_at = tuple.expires_at.as_ref().map(|moment| timestamp("expires_at", moment)).transpose()?;
    Ok(Tuple { key, attributes: Attributes { condition, expires_at } })
}

/// The contextual tuples of a question.
pub fn contextual_tuples(tuples: Vec<proto::Tuple>, limits: &RequestLimits) -> Result<Vec<Tuple>, Error> {
    at_most("contextual_tuples", tuples.len(), limits.contextual_tuples, "tuples")?;
    let mut converted = Vec::with_capacity(tuples.len());
    for (index, wire) in tuples.into_iter().enumerate() {
        converted.push(
            tuple(wire, limits).map_err(|error| error.within(format_args!("contextual_tuples[{index}]")))?,
        );
    }
    Ok(converted)
}

/// One update of a Write.
pub fn update(update: proto::Update, limits: &RequestLimits) -> Result<Update, Error> {
    use proto::update::Operation;
    let operation = update.operation();
    let wire =
        update.tuple.ok_or_else(|| Error::field("tuple", Reason::InvalidField, "a tuple is needed"))?;
    let carries = wire.condition.is_some() || wire.expires_at.is_some();
    let tuple = tuple(wire, limits).map_err(|error| error.within(format_args!("tuple")))?;
    if update.must_exist && operation != Operation::Delete {
        return Err(Error::field(
            "must_exist",
            Reason::InvalidField,
            "only a DELETE may insist that the tuple exists",
        ));
    }
    match operation {
        Operation::Touch => Ok(Update::Touch(tuple)),
        Operation::Create => Ok(Update::Create(tuple)),
        Operation::Delete if carries => Err(Error::field(
            "tuple",
            Reason::InvalidField,
            "a DELETE names the tuple only: leave out condition and expiry, whatever the stored one carries",
        )),
        Operation::Delete => Ok(Update::Delete { key: tuple.key, must_exist: update.must_exist }),
        Operation::Unspecified => {
            Err(Error::field("operation", Reason::InvalidField, "say TOUCH, CREATE or DELETE"))
        }
    }
}

/// One precondition of a Write.
pub fn precondition(precondition: proto::Precondition) -> Result<Precondition, Error> {
    use proto::precondition::Operation;
    let expectation = match precondition.operation() {
        Operation::MustMatch => Expectation::Match,
        Operation::MustNotMatch => Expectation::NoMatch,
        Operation::Unspecified => {
            return Err(Error::field("operation", Reason::InvalidField, "say MUST_MATCH or MUST_NOT_MATCH"));
        }
    };
    let filter = precondition.filter.ok_or_else(|| {
        Error::field("filter", Reason::InvalidField, "a filter is needed; an empty one matches all")
    })?;
    let filter = self::filter(&filter).map_err(|error| error.within(format_args!("filter")))?;
    Ok(Precondition { filter, expectation })
}

/// A filter. A relation is only meaningful of a type, on both sides.
pub fn filter(filter: &proto::TupleFilter) -> Result<TupleFilter, Error> {
    fn part<T>(text: &str, parse: impl FnOnce(&str) -> Result<T, Error>) -> Result<Option<T>, Error> {
        if text.is_empty() { Ok(None) } else { parse(text).map(Some) }
    }
    let needs_type =
        |field| Error::field(field, Reason::InvalidField, "a relation needs its type: name it too");
    if filter.object_type.is_empty() && !filter.relation.is_empty() {
        return Err(needs_type("object_type"));
    }
    if filter.subject_type.is_empty()
        && filter.subject_relation.as_ref().is_some_and(|relation| !relation.is_empty())
    {
        return Err(needs_type("subject_type"));
    }
    Ok(TupleFilter {
        object_type: part(&filter.object_type, |text| TypeName::new(text).at("object_type"))?,
        object_id: part(&filter.object_id, |text| {
            ObjectId::new(text).at("object_id").map(|id| Arc::from(id.as_str()))
        })?,
        relation: part(&filter.relation, |text| RelationName::new(text).at("relation"))?,
        subject_type: part(&filter.subject_type, |text| TypeName::new(text).at("subject_type"))?,
        subject_id: part(&filter.subject_id, |text| {
            ObjectId::new(text).at("subject_id").map(|id| Arc::from(id.as_str()))
        })?,
        subject_relation: match &filter.subject_relation {
            None => None,
            Some(text) => Some(part(text, |text| RelationName::new(text).at("subject_relation"))?),
        },
    })
}

/// The values given for condition parameters.
pub fn context(context: Option<prost_types::Struct>, limits: &RequestLimits) -> Result<Context, Error> {
    let Some(context) = context else { return Ok(Context::default()) };
    if context.fields.is_empty() {
        return Ok(Context::default());
    }
    at_most("context", context.encoded_len(), limits.context_bytes, "bytes")?;
    let context = Context(values(context));
    // What is stored must fit every database, and a question may hold no more than a tuple may.
    if let Some(character) = context.control_character() {
        let message = format!("holds the control character {}", character.escape_unicode());
        return Err(Error::field("context", Reason::InvalidField, message));
    }
    Ok(context)
}

/// INVARIANT: prost refuses messages nested deeper than 100, so this recursion is bounded.
fn values(fields: prost_types::Struct) -> BTreeMap<String, Value> {
    fields.fields.into_iter().map(|(name, value)| (name, self::value(value))).collect()
}

#[expect(clippy::cast_possible_truncation, reason = "an integral double of at most 2^53 is an i64")]
fn value(value: prost_types::Value) -> Value {
    match value.kind {
        None | Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::BoolValue(value)) => Value::Bool(value),
        Some(Kind::NumberValue(number)) if number.fract() == 0.0 && number.abs() <= MAX_EXACT => {
            Value::Int(number as i64)
        }
        Some(Kind::NumberValue(number)) => Value::Double(number),
        Some(Kind::StringValue(text)) => Value::String(text),
        Some(Kind::ListValue(list)) => Value::List(list.values.into_iter().map(self::value).collect()),
        Some(Kind::StructValue(fields)) => Value::Map(values(fields)),
    }
}

/// A moment of the request. Relata keeps microseconds; what is finer is dropped.
pub fn timestamp(field: &'static str, timestamp: &prost_types::Timestamp) -> Result<Timestamp, Error> {
    /// 0001-01-01T00:00:00Z and 9999-12-31T23:59:59Z, what the wire type allows.
    const RANGE: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;
    if !RANGE.contains(&timestamp.seconds) || !(0..1_000_000_000).contains(&timestamp.nanos) {
        return Err(Error::field(field, Reason::InvalidField, "not a time between the years 1 and 9999"));
    }
    Ok(Timestamp::from_micros(timestamp.seconds * 1_000_000 + i64::from(timestamp.nanos) / 1_000))
}

/// Refuses a list or text that is too long.
pub fn at_most(field: &'static str, actual: usize, limit: usize, unit: &'static str) -> Result<(), Error> {
    if actual > limit { Err(Error::TooMuch { field: field.to_owned(), actual, limit, unit }) } else { Ok(()) }
}

/// The page size asked for; `None` if none was.
pub fn page_size(asked: u32, limit: u32) -> Result<Option<u32>, Error> {
    let count = |size: u32| usize::try_from(size).unwrap_or(usize::MAX);
    at_most("page_size", count(asked), count(limit), "results")?;
    Ok((asked > 0).then_some(asked))
}

/// Error texts quote what was typed, but never at any length.
pub fn clip(text: &str) -> String {
    const SHOWN: usize = 80;
    let mut shown: String = text.chars().take(SHOWN).flat_map(char::escape_debug).collect();
    if text.chars().nth(SHOWN).is_some() {
        shown.push('…');
    }
    shown
}

/// A URL as it may be shown, however broken it is: without what stands before an `@`, which may be a
/// password.
pub fn without_userinfo(url: &str) -> String {
    match url.rsplit_once('@') {
        Some((_, rest)) => clip(&format!("…@{rest}")),
        None => clip(url),
    }
}

/// A tuple as the wire has it.
pub fn wire_tuple(tuple: &Tuple) -> proto::Tuple {
    wire_parts(&tuple.key, &tuple.attributes)
}

/// A tuple's key and what it carries, as the wire has them.
pub fn wire_parts(key: &TupleKey, attributes: &Attributes) -> proto::Tuple {
    proto::Tuple {
        object: key.object.to_string(),
        relation: key.relation.to_string(),
        subject: key.subject.to_string(),
        condition: attributes.condition.as_ref().map(|condition| proto::TupleCondition {
            name: condition.name.to_string(),
            context: (!condition.context.is_empty()).then(|| wire_context(&condition.context)),
        }),
        expires_at: attributes.expires_at.map(wire_timestamp),
    }
}

fn wire_context(context: &Context) -> prost_types::Struct {
    prost_types::Struct {
        fields: context.0.iter().map(|(name, value)| (name.clone(), wire_value(value))).collect(),
    }
}

/// An integer that no double holds travels as text, as it must when it is written.
#[expect(clippy::cast_precision_loss, reason = "checked to be exact before it is used")]
fn wire_value(value: &Value) -> prost_types::Value {
    const EXACT: u64 = 1 << 53;
    let kind = match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(value) => Kind::BoolValue(*value),
        Value::Int(int) if int.unsigned_abs() <= EXACT => Kind::NumberValue(*int as f64),
        Value::Int(int) => Kind::StringValue(int.to_string()),
        Value::Uint(uint) if *uint <= EXACT => Kind::NumberValue(*uint as f64),
        Value::Uint(uint) => Kind::StringValue(uint.to_string()),
        Value::Double(double) => Kind::NumberValue(*double),
        Value::String(text) => Kind::StringValue(text.clone()),
        Value::List(items) => {
            Kind::ListValue(prost_types::ListValue { values: items.iter().map(wire_value).collect() })
        }
        Value::Map(fields) => Kind::StructValue(prost_types::Struct {
            fields: fields.iter().map(|(name, value)| (name.clone(), wire_value(value))).collect(),
        }),
    };
    prost_types::Value { kind: Some(kind) }
}

/// A moment as the wire has it.
pub fn wire_timestamp(timestamp: Timestamp) -> prost_types::Timestamp {
    let micros = timestamp.as_micros();
    let nanos = i32::try_from(micros.rem_euclid(1_000_000) * 1_000).unwrap_or(0);
    prost_types::Timestamp { seconds: micros.div_euclid(1_000_000), nanos }
}

/// A schema version as the wire has it.
pub fn wire_schema(stored: &StoredSchema) -> proto::Schema {
    proto::Schema {
        id: stored.id.0.to_string(),
        text: stored.text.to_string(),
        json: stored.json.to_string(),
        written_at: Some(wire_timestamp(stored.written_at)),
        revision: stored.revision.0,
    }
}

/// A store as the wire has it.
pub fn wire_store(store: &Store) -> proto::Store {
    proto::Store {
        id: store.id.to_string(),
        name: store.name.clone(),
        created_at: Some(wire_timestamp(store.created_at)),
        schema_id: store.schema.map(|id| id.0.to_string()).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> RequestLimits {
        RequestLimits::default()
    }

    fn wire() -> proto::Tuple {
        let number = |number| prost_types::Value { kind: Some(Kind::NumberValue(number)) };
        let text = |text: &str| prost_types::Value { kind: Some(Kind::StringValue(text.into())) };
        let fields = [
            ("whole".to_owned(), number(7.0)),
            ("half".to_owned(), number(0.5)),
            ("infinite".to_owned(), number(f64::NEG_INFINITY)),
            ("large".to_owned(), text("9007199254740993")),
        ];
        proto::Tuple {
            object: "doc:plan".into(),
            relation: "viewer".into(),
            subject: "group:eng#member".into(),
            condition: Some(proto::TupleCondition {
                name: "office".into(),
                context: Some(prost_types::Struct { fields: fields.into() }),
            }),
            expires_at: Some(prost_types::Timestamp { seconds: -1, nanos: 999_999_000 }),
        }
    }

    fn field_of(error: &Error) -> String {
        error.row().violations.first().map(|violation| violation.field.clone()).unwrap_or_default()
    }

    #[test]
    fn a_tuple_round_trips_through_the_wire() {
        let domain = tuple(wire(), &limits()).expect("a tuple");
        assert_eq!(domain.attributes.expires_at, Some(Timestamp::from_micros(-1)));
        let condition = domain.attributes.condition.as_ref().expect("a condition");
        assert_eq!(condition.context.value("whole"), Some(&Value::Int(7)));
        assert_eq!(condition.context.value("half"), Some(&Value::Double(0.5)));
        assert_eq!(condition.context.value("infinite"), Some(&Value::Double(f64::NEG_INFINITY)));
        assert_eq!(wire_tuple(&domain), wire());
    }

    #[test]
    fn no_context_holds_a_control_character() {
        let text = |text: &str| prost_types::Value { kind: Some(Kind::StringValue(text.into())) };
        let list = prost_types::ListValue { values: vec![text("fine"), text("a\u{0}b")] };
        let nested = prost_types::Value { kind: Some(Kind::ListValue(list)) };
        for (name, value) in [("nul", text("a\u{0}b")), ("tab\t", text("fine")), ("nested", nested)] {
            let context = prost_types::Struct { fields: [(name.to_owned(), value)].into() };
            let refusal = super::context(Some(context), &limits()).expect_err(name);
            assert_eq!(field_of(&refusal), "context");
        }
    }

    #[test]
    fn doubles_that_name_no_single_integer_stay_doubles() {
        let number = |number| value(prost_types::Value { kind: Some(Kind::NumberValue(number)) });
        assert_eq!(number(9_007_199_254_740_992.0), Value::Int(1 << 53));
        assert_eq!(number(9_007_199_254_740_994.0), Value::Double(9_007_199_254_740_994.0));
        assert_eq!(number(-0.0), Value::Int(0));
        assert!(matches!(number(f64::NAN), Value::Double(nan) if nan.is_nan()));
        assert_eq!(wire_value(&Value::Int(i64::MIN)).kind, Some(Kind::StringValue(i64::MIN.to_string())));
        assert_eq!(wire_value(&Value::Uint(u64::MAX)).kind, Some(Kind::StringValue(u64::MAX.to_string())));
    }

    #[test]
    fn each_refusal_names_its_field() {
        let check = |change: fn(&mut proto::Tuple), expected: &str| {
            let mut wire = wire();
            change(&mut wire);
            let update = proto::Update { operation: 1, tuple: Some(wire), must_exist: false };
            let error =
                super::update(update, &limits()).expect_err("refused").within(format_args!("updates[3]"));
            assert_eq!(field_of(&error), expected);
        };
        check(|wire| wire.object = "doc".into(), "updates[3].tuple.object");
        check(|wire| wire.relation = String::new(), "updates[3].tuple.relation");
        check(|wire| wire.subject = "user:*#member".into(), "updates[3].tuple.subject");
        check(|wire| wire.condition.as_mut().unwrap().name = "a b".into(), "updates[3].tuple.condition.name");
        check(|wire| wire.expires_at.as_mut().unwrap().nanos = -1, "updates[3].tuple.expires_at");
        check(|wire| wire.expires_at.as_mut().unwrap().seconds = i64::MAX, "updates[3].tuple.expires_at");
        check(
            |wire| {
                let long = Kind::StringValue("x".repeat(40_000));
                let fields = wire.condition.as_mut().unwrap().context.as_mut().unwrap();
                fields.fields.insert("long".into(), prost_types::Value { kind: Some(long) });
            },
            "updates[3].tuple.condition.context",
        );
    }

    #[test]
    fn an_update_says_what_it_does() {
        let check = |operation: i32, must_exist: bool, expected: &str| {
            let update = proto::Update { operation, tuple: Some(wire()), must_exist };
            assert_eq!(field_of(&super::update(update, &limits()).expect_err("refused")), expected);
        };
        check(0, false, "operation");
        check(99, false, "operation");
        check(1, true, "must_exist");
        check(3, false, "tuple");
        assert_eq!(field_of(&update(proto::Update::default(), &limits()).expect_err("refused")), "tuple");
    }

    #[test]
    fn a_filter_names_types_beside_relations() {
        let field = |filter| field_of(&super::filter(&filter).expect_err("refused"));
        let relation = |text: &str| proto::TupleFilter { relation: text.into(), ..Default::default() };
        assert_eq!(field(relation("viewer")), "object_type");
        let subject = proto::TupleFilter { subject_relation: Some("member".into()), ..Default::default() };
        assert_eq!(field(subject), "subject_type");
        let plain = proto::TupleFilter { subject_relation: Some(String::new()), ..Default::default() };
        assert_eq!(super::filter(&plain).expect("a filter").subject_relation, Some(None));
        let control = proto::TupleFilter { object_id: "a\u{0}b".into(), ..Default::default() };
        assert_eq!(field(control), "object_id");
        let wildcard = proto::TupleFilter { subject_id: "*".into(), ..Default::default() };
        assert_eq!(super::filter(&wildcard).expect("a filter").subject_id.as_deref(), Some("*"));
    }
}

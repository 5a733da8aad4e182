//! Random worlds of the oracle on a real server: their schema and tuples written, their questions
//! put on the wire, answers read back in the model's words.

use std::collections::BTreeSet;

use relata::context::Value;
use relata::proto;
use relata::proto::update::Operation;
use relata::schema::print;
use relata::tuple::{Attributes, Tuple};
use tonic::Status;

use crate::grpc::{Running, number, reason};
use crate::oracle::model::Answer;
use crate::oracle::world::{Fact, NOW, Subject, World};

/// A moment that no test sees, in microseconds.
const FAR: i64 = 4_000_000_000_000_000;

/// The world of a seed, if the schema language has words for it. What a server would refuse to
/// store is left out, and what is to be live lives until after the test.
pub fn world(seed: u64) -> Option<(World, String)> {
    let mut world = World::random(seed);
    let schema = print(&world.schema()).ok()?;
    let refused: Vec<bool> = world
        .facts
        .iter()
        .map(|fact| says_nothing(fact) || (!fact.contextual && !world.allowed(fact)))
        .collect();
    let mut refused = refused.into_iter();
    world.facts.retain(|_| refused.next() == Some(false));
    for fact in &mut world.facts {
        fact.expires_at = fact.expires_at.map(|moment| if moment <= NOW { moment } else { FAR });
    }
    Some((world, schema))
}

/// Whether a fact says that a userset has what it is.
fn says_nothing(Fact { object, relation, subject, .. }: &Fact) -> bool {
    *subject == Subject::Userset(object.0, object.1, *relation)
}

/// Makes the world's store; `None`: the server finds a mistake in its schema.
pub async fn make(server: &Running, world: &World, schema: &str) -> Option<String> {
    let store = format!("world-{}", world.seed);
    let request = proto::CreateStoreRequest { name: store.clone() };
    server.stores().create_store(request).await.expect("a store");
    let request =
        proto::WriteSchemaRequest { store: store.clone(), text: schema.to_owned(), ..Default::default() };
    server.schemas().write_schema(request).await.ok()?;
    let updates = tuples(world, false).into_iter().map(|tuple| proto::Update {
        operation: Operation::Touch.into(),
        tuple: Some(tuple),
        must_exist: false,
    });
    let updates: Vec<_> = updates.collect();
    if !updates.is_empty() {
        let request = proto::WriteRequest { store: store.clone(), updates, ..Default::default() };
        server
            .tuples()
            .write(request)
            .await
            .unwrap_or_else(|status| panic!("{status:?}\n{}", world.describe()));
    }
    Some(store)
}

/// The world's tuples on the wire, stored or contextual.
pub fn tuples(world: &World, contextual: bool) -> Vec<proto::Tuple> {
    world.tuples(contextual).into_iter().map(wire).collect()
}

fn wire(Tuple { key, attributes }: Tuple) -> proto::Tuple {
    let Attributes { condition, expires_at } = attributes;
    proto::Tuple {
        condition: condition.map(|condition| proto::TupleCondition {
            name: condition.name.to_string(),
            context: Some(values(condition.context.0.iter().map(|(name, value)| (name.clone(), value)))),
        }),
        expires_at: expires_at.map(|moment| prost_types::Timestamp {
            seconds: moment.as_micros().div_euclid(1_000_000),
            nanos: i32::try_from(moment.as_micros().rem_euclid(1_000_000) * 1_000).expect("nanoseconds"),
        }),
        ..crate::grpc::tuple(&key.to_string())
    }
}

#[allow(clippy::wildcard_enum_match_arm, reason = "the worlds' only kind of value")]
fn values<'a>(values: impl Iterator<Item = (String, &'a Value)>) -> prost_types::Struct {
    let fields = values.map(|(name, value)| match value {
        Value::Int(value) => (name, number(f64::from(i32::try_from(*value).expect("a small number")))),
        other => panic!("no world has {other:?}"),
    });
    prost_types::Struct { fields: fields.collect() }
}

/// What the world's questions are asked with.
pub fn context(world: &World) -> prost_types::Struct {
    let context = world.request_context();
    values(context.0.iter().map(|(name, value)| (name.clone(), value)))
}

/// A verdict in the words of the model.
pub fn answer(verdict: proto::Verdict, missing: &[String]) -> Answer {
    match verdict {
        proto::Verdict::Allowed => Answer::Allowed,
        proto::Verdict::Denied => Answer::Denied,
        proto::Verdict::Conditional => {
            let numbers: BTreeSet<usize> = missing
                .iter()
                .map(|name| name.trim_start_matches('p').parse().expect("a parameter"))
                .collect();
            Answer::Conditional(numbers)
        }
        proto::Verdict::Unspecified => panic!("no verdict"),
    }
}

/// A refusal in the words of the model: a condition that fails is the only one there may be.
pub fn error(status: &Status) -> Answer {
    assert_eq!(reason(status), "CONDITION_FAILED", "{status:?}");
    Answer::Error
}

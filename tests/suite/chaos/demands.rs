//! Writes on the wire.

use relata::proto;
use relata::proto::{precondition, update};

use super::questions;
use crate::history::journal::note;
use crate::history::lineage::schema_digest;
use crate::history::model::Viewing;
use crate::history::operation::{Condition, Demand, Operation, Update};

/// The request of a write of tuples. Its note tells it from all others in the log.
pub fn write_request(number: u32, demand: &Demand, keyed: bool) -> proto::WriteRequest {
    let note = note(number);
    let idempotency_key = if keyed { format!("key-{note}") } else { String::new() };
    let (updates, preconditions) = match demand {
        Demand::Tuples { updates, conditions } => (
            updates.iter().map(wire_update).collect(),
            conditions.iter().copied().map(wire_condition).collect(),
        ),
        Demand::Schema { .. } => panic!("a schema is not written with tuples"),
    };
    proto::WriteRequest { updates, preconditions, idempotency_key, note, ..Default::default() }
}

fn wire_update(update: &Update) -> proto::Update {
    let (operation, must_exist) = match update.operation {
        Operation::Touch => (update::Operation::Touch, false),
        Operation::Create => (update::Operation::Create, false),
        Operation::Delete => (update::Operation::Delete, false),
        Operation::Remove => (update::Operation::Delete, true),
    };
    let fact = update.fact;
    let tuple = proto::Tuple {
        object: fact.relation.object(fact.object),
        relation: fact.relation.name().to_owned(),
        subject: fact.subject.to_string(),
        ..Default::default()
    };
    proto::Update { operation: operation.into(), tuple: Some(tuple), must_exist }
}

fn wire_condition(condition: Condition) -> proto::Precondition {
    let operation = if condition.somebody {
        precondition::Operation::MustMatch
    } else {
        precondition::Operation::MustNotMatch
    };
    let filter = questions::condition(condition.relation, condition.object);
    proto::Precondition { operation: operation.into(), filter: Some(filter) }
}

/// What a write of a schema asks for.
pub fn schema(viewing: Viewing, replacing: Option<&str>) -> Demand {
    Demand::Schema { viewing, replacing: replacing.map(schema_digest) }
}

pub fn schema_request(number: u32, viewing: Viewing, replacing: Option<&str>) -> proto::WriteSchemaRequest {
    proto::WriteSchemaRequest {
        text: viewing.schema(),
        expected_schema_id: replacing.unwrap_or_default().to_owned(),
        note: note(number),
        ..Default::default()
    }
}

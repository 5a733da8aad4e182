//! `Write`: applies updates atomically.
//!
//! Tuples are validated against the schema this node holds; the committer, under the store's
//! lock, says whether that is the one in force. If it is not, the write is validated anew.

use std::sync::Arc;

use crate::datastore::{Action, Committed, Idempotency, SchemaId, Update, Write, WriteError};
use crate::feed::FeedError;
use crate::feed::{Replica, SchemaVersion};
use crate::proto;
use crate::revision::{WriteId, Zookie};
use crate::server::call::Call;
use crate::server::consistency;
use crate::server::convert::{self, at_most};
use crate::server::cursor::RequestDigest;
use crate::server::node::Node;
use crate::server::status::{Error, Reason, refuse_duplicates};

/// How often a write is validated anew because the schema changed under it. A schema is written
/// by people; more changes than this while one write waits is somebody's loop.
const ATTEMPTS: usize = 4;

pub(super) async fn write(
    node: &Node,
    call: &Call,
    mut request: proto::WriteRequest,
) -> Result<proto::WriteResponse, Error> {
    let limits = node.config().limits;
    at_most("updates", request.updates.len(), limits.updates, "updates")?;
    at_most("preconditions", request.preconditions.len(), limits.preconditions, "preconditions")?;
    if request.updates.is_empty() && request.preconditions.is_empty() {
        return Err(Error::field("updates", Reason::InvalidField, "nothing to write"));
    }
    let remark = note(&request.note, limits.note_chars)?;
    let key = idempotency_key(&request.idempotency_key, limits.idempotency_key_bytes)?;
    let named = convert::schema_id("schema_id", &request.schema_id)?;
    let replica = node.replica(call).await?;

    let idempotency = key.map(|key| {
        request.store.clear();
        request.idempotency_key.clear();
        let request = RequestDigest::of(call.method, Some(replica.store()), &request).into_bytes();
        Idempotency { key, request }
    });

    let mut updates = Vec::with_capacity(request.updates.len());
    for (index, wire) in request.updates.into_iter().enumerate() {
        updates.push(
            convert::update(wire, &limits).map_err(|error| error.within(format_args!("updates[{index}]")))?,
        );
    }
    refuse_duplicates("updates", updates.iter().map(Update::key))?;
    let mut preconditions = Vec::with_capacity(request.preconditions.len());
    for (index, wire) in request.preconditions.into_iter().enumerate() {
        preconditions.push(
            convert::precondition(wire)
                .map_err(|error| error.within(format_args!("preconditions[{index}]")))?,
        );
    }

    let mut schema = schema_to_write_with(node, call, &replica, named).await?;
    for _ in 0..ATTEMPTS {
        let validated_against = validate(node, call, &replica, &mut schema, named, &updates).await?;
        let write = Write {
            write_id: WriteId::fresh(),
            principal: Arc::clone(&call.principal),
            note: Arc::clone(&remark),
            idempotency: idempotency.clone(),
            action: Action::Tuples {
                updates: updates.clone(),
                preconditions: preconditions.clone(),
                validated_against,
            },
        };
        match node.commit(call, &replica, write).await {
            Ok(committed) => return Ok(answer(node, &replica, committed)),
            Err(Error::Write(WriteError::SchemaChanged { in_force: Some(in_force) })) if named.is_none() => {
                schema = match node.schema_version(&replica, in_force).await {
                    // The primary that said so has been replaced since, by one without that schema.
                    Err(Error::SchemaNotFound { .. }) => newest_schema(node, call, &replica).await?,
                    found => Some(found?),
                };
            }
            Err(error) => return Err(error),
        }
    }
    Err(Error::Write(WriteError::SchemaChanged { in_force: None }))
}

fn answer(node: &Node, replica: &Replica, committed: Committed) -> proto::WriteResponse {
    let zookie = Zookie::new(node.database(), replica.store(), committed.revision, committed.write_id);
    proto::WriteResponse { zookie: zookie.to_string(), replayed: committed.replayed }
}

/// Kept in the changelog for people: line breaks and tabs are fine, other controls are not.
pub(in crate::server) fn note(text: &str, limit: usize) -> Result<Arc<str>, Error> {
    at_most("note", text.chars().count(), limit, "characters")?;
    if text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\t')) {
        return Err(Error::field("note", Reason::InvalidField, "the note holds a control character"));
    }
    Ok(Arc::from(text))
}

fn idempotency_key(text: &str, limit: usize) -> Result<Option<Arc<str>>, Error> {
    at_most("idempotency_key", text.len(), limit, "bytes")?;
    if text.chars().any(char::is_control) {
        return Err(Error::field(
            "idempotency_key",
            Reason::InvalidField,
            "the key holds a control character",
        ));
    }
    Ok((!text.is_empty()).then(|| Arc::from(text)))
}

/// The schema the request names, else the one this node believes to be in force.
async fn schema_to_write_with(
    node: &Node,
    call: &Call,
    replica: &Arc<Replica>,
    named: Option<SchemaId>,
) -> Result<Option<Arc<SchemaVersion>>, Error> {
    match named {
        Some(id) => Ok(Some(node.schema_version(replica, id).await?)),
        None => match replica.published() {
            Ok(published) if published.schema.is_some() => Ok(published.schema.clone()),
            Ok(_) | Err(FeedError::Evicted) => newest_schema(node, call, replica).await,
            Err(error) => Err(error.into()),
        },
    }
}

/// The schema in force as the database has it now.
async fn newest_schema(
    node: &Node,
    call: &Call,
    replica: &Arc<Replica>,
) -> Result<Option<Arc<SchemaVersion>>, Error> {
    Ok(consistency::newest(node, call, replica).await?.schema)
}

/// Validates every tuple to be stored. A refusal by a schema that may no longer be in force is
/// checked against the newest one before it is believed. Deletions need no schema: a tuple that
/// is no longer allowed must be removable.
async fn validate(
    node: &Node,
    call: &Call,
    replica: &Arc<Replica>,
    schema: &mut Option<Arc<SchemaVersion>>,
    named: Option<SchemaId>,
    updates: &[Update],
) -> Result<Option<SchemaId>, Error> {
    let stores = updates.iter().any(|update| matches!(update, Update::Touch(_) | Update::Create(_)));
    if !stores {
        return Ok(named);
    }
    match all_allowed(schema.as_deref(), updates) {
        Err(refusal) if named.is_none() => {
            let newest = newest_schema(node, call, replica).await?;
            if newest.as_ref().map(|newest| newest.id) == schema.as_ref().map(|schema| schema.id) {
                return Err(refusal);
            }
            *schema = newest;
            all_allowed(schema.as_deref(), updates)?;
        }
        outcome => outcome?,
    }
    Ok(schema.as_ref().map(|schema| schema.id))
}

fn all_allowed(schema: Option<&SchemaVersion>, updates: &[Update]) -> Result<(), Error> {
    let schema = schema.ok_or(Error::NoSchema)?;
    for (index, update) in updates.iter().enumerate() {
        match update {
            Update::Touch(tuple) | Update::Create(tuple) => {
                schema.rules.validate(tuple).map_err(|source| Error::Tuple {
                    field: format!("updates[{index}].tuple"),
                    source: Box::new(source),
                })?;
            }
            Update::Delete { .. } | Update::Expire(_) => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_mention_of_a_tuple_is_at_fault() {
        let delete = |text: &str| Update::Delete { key: text.parse().expect("a tuple"), must_exist: false };
        let touch =
            |text: &str| Update::Touch(text.parse::<crate::tuple::TupleKey>().expect("a tuple").into());
        let updates =
            [delete("doc:1#viewer@user:a"), touch("doc:2#viewer@user:a"), touch("doc:1#viewer@user:a")];
        let error = refuse_duplicates("updates", updates.iter().map(Update::key)).expect_err("refused");
        assert!(matches!(&error, Error::DuplicateTuple { first: 0, second: 2, .. }), "{error}");
        assert_eq!(error.row().violations[0].field, "updates[2]");
        assert!(refuse_duplicates("updates", updates[..2].iter().map(Update::key)).is_ok());
    }

    #[test]
    fn texts_that_are_kept_hold_no_controls() {
        assert!(note("two\nlines\tand a tab", 100).is_ok());
        assert!(note("nul \0", 100).is_err());
        assert!(note(&"ä".repeat(101), 100).is_err());
        assert_eq!(idempotency_key("", 8).expect("none"), None);
        assert!(idempotency_key("a\nb", 8).is_err());
        assert!(idempotency_key("123456789", 8).is_err());
    }
}

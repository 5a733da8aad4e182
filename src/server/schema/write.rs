//! `WriteSchema`: puts a new schema version in force.

use std::sync::Arc;

use super::{orphans, text};
use crate::datastore::{Action, Committed, Judge, Judged, Write, WriteError};
use crate::feed::{At, Replica};
use crate::proto;
use crate::revision::{WriteId, Zookie};
use crate::schema::Rules;
use crate::server::call::Call;
use crate::server::node::Node;
use crate::server::status::Error;
use crate::server::{consistency, convert, tuple};

/// Orphans of one kind that a refusal shows.
const SAMPLE: usize = 3;

/// How often it is tried while others write. The first attempt looks at all that is stored, the
/// next ones only at what was written since the one before.
const ATTEMPTS: usize = 8;

pub(super) async fn write_schema(
    node: &Node,
    call: &Call,
    request: proto::WriteSchemaRequest,
) -> Result<proto::WriteSchemaResponse, Error> {
    let expected = convert::schema_id("expected_schema_id", &request.expected_schema_id)?;
    let remark = tuple::note(&request.note, node.config().limits.note_chars)?;
    let compiled = text::compile(node, call, &request.text).await?.map_err(Error::SchemaInvalid)?;
    let replica = node.replica(call).await?;
    let write = |judged| Write {
        write_id: WriteId::fresh(),
        principal: Arc::clone(&call.principal),
        note: Arc::clone(&remark),
        idempotency: None,
        action: Action::Schema {
            text: request.text.as_str().into(),
            json: Arc::clone(&compiled.json),
            expected,
            judged,
        },
    };
    let mut seen = None;
    for _ in 0..ATTEMPTS {
        let judged = if request.allow_orphans {
            None
        } else {
            Some(judge(node, call, &replica, &compiled.rules, &mut seen).await?)
        };
        match node.commit(call, &replica, write(judged)).await {
            Err(Error::Write(WriteError::TuplesChanged)) => {}
            Ok(committed) => return Ok(answer(node, &replica, committed)),
            Err(error) => return Err(error),
        }
    }
    Err(Error::Write(WriteError::TuplesChanged))
}

/// Holds every stored tuple against the schema, unless all but the last were seen to be allowed.
/// What is written meanwhile is held against it under the lock.
async fn judge(
    node: &Node,
    call: &Call,
    replica: &Arc<Replica>,
    rules: &Arc<Rules>,
    seen: &mut Option<At>,
) -> Result<Judged, Error> {
    let at = consistency::newest(node, call, replica).await?;
    let now = consistency::now(replica);
    let known = match seen {
        Some(earlier) => orphans::none_since(node, earlier, &at, Arc::clone(rules), now).await?,
        None => false,
    };
    if !known {
        let snapshot = at.published().snapshot.clone();
        let found = orphans::find(node, snapshot, Arc::clone(rules), now, SAMPLE).await?;
        if !found.is_empty() {
            return Err(Error::Orphans(orphans::wire(found)));
        }
    }
    let allowing = Arc::clone(rules);
    let judge = Judge::new(move |tuple| allowing.validate(tuple).is_ok());
    let judged = Judged { revision: at.revision, tag: at.write_tag, judge };
    *seen = Some(at);
    Ok(judged)
}

fn answer(node: &Node, replica: &Replica, committed: Committed) -> proto::WriteSchemaResponse {
    let zookie = Zookie::new(node.database(), replica.store(), committed.revision, committed.write_id);
    proto::WriteSchemaResponse {
        schema_id: committed.schema.map(|id| id.0.to_string()).unwrap_or_default(),
        zookie: zookie.to_string(),
    }
}

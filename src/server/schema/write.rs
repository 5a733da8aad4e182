//! `WriteSchema`: puts a new schema version in force.

use std::sync::Arc;

use super::{orphans, text};
use crate::datastore::{Action, Write};
use crate::proto;
use crate::revision::{WriteId, Zookie};
use crate::server::call::Call;
use crate::server::node::Node;
use crate::server::status::Error;
use crate::server::{consistency, convert, tuple};

/// Orphans of one kind that a refusal shows.
const SAMPLE: usize = 3;

pub(super) async fn write_schema(
    node: &Node,
    call: &Call,
    request: proto::WriteSchemaRequest,
) -> Result<proto::WriteSchemaResponse, Error> {
    let expected = convert::schema_id("expected_schema_id", &request.expected_schema_id)?;
    let remark = tuple::note(&request.note, node.config().limits.note_chars)?;
    let compiled = text::compile(node, &request.text).await?.map_err(Error::SchemaInvalid)?;
    let replica = node.replica(call).await?;
    if !request.allow_orphans {
        // A tuple written while this looks may slip through; it is ignored from then on, as any
        // tuple that the schema does not allow, and the plan lists it.
        let at = consistency::newest(node, call, &replica).await?;
        let (snapshot, now) = (at.published().snapshot.clone(), consistency::now(&replica));
        let found = orphans::find(node, snapshot, compiled.rules, now, SAMPLE).await?;
        if !found.is_empty() {
            return Err(Error::Orphans(orphans::wire(found)));
        }
    }
    let write = Write {
        write_id: WriteId::fresh(),
        principal: Arc::clone(&call.principal),
        note: remark,
        idempotency: None,
        action: Action::Schema { text: request.text.into(), json: compiled.json, expected },
    };
    let committed = node.commit(call, &replica, write).await?;
    let zookie = Zookie::new(node.database(), replica.store(), committed.revision, committed.write_id);
    Ok(proto::WriteSchemaResponse {
        schema_id: committed.schema.map(|id| id.0.to_string()).unwrap_or_default(),
        zookie: zookie.to_string(),
    })
}

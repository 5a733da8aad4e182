//! `ListSchemas`.

use crate::datastore::SchemaId;
use crate::proto;
use crate::server::call::Call;
use crate::server::convert;
use crate::server::cursor::{Cursor, CursorError, Pin, RequestDigest};
use crate::server::node::Node;
use crate::server::status::Error;

const MAX_PAGE: u32 = 100;

pub(super) async fn list_schemas(
    node: &Node,
    call: &Call,
    request: proto::ListSchemasRequest,
) -> Result<proto::ListSchemasResponse, Error> {
    let size = convert::page_size(request.page_size, MAX_PAGE)?.unwrap_or(MAX_PAGE);
    let store = node.store(call).await?.id;
    let digest = RequestDigest::of(call.method, Some(store), &proto::ListSchemasRequest::default());
    let before = match request.cursor.as_str() {
        "" => None,
        text => {
            let after = node.cursors().open(digest, text)?.after;
            Some(SchemaId(ulid::Ulid::from_string(&after).map_err(|_| CursorError::Invalid)?))
        }
    };
    // One more than asked for tells whether anything follows.
    let mut schemas =
        node.ask(move |record| async move { record.schemas(store, before, size + 1).await }).await?;
    let wanted = usize::try_from(size).unwrap_or(usize::MAX);
    let more = schemas.len() > wanted;
    schemas.truncate(wanted);
    let cursor = match schemas.last() {
        Some(last) if more => {
            node.cursors().seal(digest, &Cursor { pin: Pin::NONE, after: last.id.0.to_string() })
        }
        _ => String::new(),
    };
    let schemas = schemas.iter().map(|stored| proto::Schema {
        text: String::new(),
        json: String::new(),
        id: stored.id.0.to_string(),
        written_at: Some(convert::wire_timestamp(stored.written_at)),
        revision: stored.revision.0,
    });
    Ok(proto::ListSchemasResponse { schemas: schemas.collect(), cursor })
}

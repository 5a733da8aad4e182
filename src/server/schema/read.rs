//! `ReadSchema`.

use crate::proto;
use crate::revision::Zookie;
use crate::server::call::Call;
use crate::server::convert;
use crate::server::node::Node;
use crate::server::status::Error;

/// Reads from the record and not from the graph, so that it shows what any node just wrote.
pub(super) async fn read_schema(
    node: &Node,
    call: &Call,
    request: proto::ReadSchemaRequest,
) -> Result<proto::ReadSchemaResponse, Error> {
    let asked = convert::schema_id("schema_id", &request.schema_id)?;
    let store = node.store(call).await?.id;
    let heads = node.ask(move |record| async move { record.heads(&[store]).await }).await?;
    let (_, head) = heads.first().ok_or(Error::StoreNotFound { store: request.store })?;
    let id = asked.or(head.schema).ok_or(Error::NoSchema)?;
    let stored = node.ask(move |record| async move { record.schema(store, id).await }).await?;
    let stored = stored.ok_or(Error::SchemaNotFound { id })?;
    let zookie = Zookie::new(node.database(), store, head.revision, head.write_id);
    Ok(proto::ReadSchemaResponse { schema: Some(convert::wire_schema(&stored)), zookie: zookie.to_string() })
}

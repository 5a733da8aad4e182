//! `GetStore`.

use crate::proto;
use crate::revision::Zookie;
use crate::server::call::Call;
use crate::server::convert;
use crate::server::node::Node;
use crate::server::status::Error;

pub(super) async fn get_store(
    node: &Node,
    call: &Call,
    request: proto::GetStoreRequest,
) -> Result<proto::GetStoreResponse, Error> {
    let store = node.store(call).await?;
    let id = store.id;
    let heads = node.ask(move |record| async move { record.heads(&[id]).await }).await?;
    let (_, head) = heads.first().ok_or(Error::StoreNotFound { store: request.store })?;
    let zookie = Zookie::new(node.database(), id, head.revision, head.write_id);
    Ok(proto::GetStoreResponse { store: Some(convert::wire_store(&store)), zookie: zookie.to_string() })
}

//! `DeleteStore`.

use super::DEFAULT;
use crate::proto;
use crate::revision::Zookie;
use crate::server::call::Call;
use crate::server::node::Node;
use crate::server::status::{Error, Reason};

pub(super) async fn delete_store(
    node: &Node,
    call: &Call,
    request: proto::DeleteStoreRequest,
) -> Result<proto::DeleteStoreResponse, Error> {
    // Not even by omission: an empty field elsewhere means the default store.
    if request.store.is_empty() {
        return Err(Error::field("store", Reason::InvalidField, "name the store to delete"));
    }
    let store = node.store(call).await?;
    if store.name == DEFAULT {
        return Err(Error::field(
            "store",
            Reason::InvalidField,
            "the store `default` always exists and cannot be deleted",
        ));
    }
    let id = store.id;
    let heads = node.ask(move |record| async move { record.heads(&[id]).await }).await?;
    let (_, head) = heads.first().ok_or(Error::StoreNotFound { store: request.store })?;
    let zookie = Zookie::new(node.database(), id, head.revision, head.write_id);
    node.ask(move |record| async move { record.delete_store(id).await }).await?;
    let principal = &*call.principal;
    tracing::info!(principal, store = %id, name = store.name, "deleted a store");
    node.forget_store(id);
    Ok(proto::DeleteStoreResponse { zookie: zookie.to_string() })
}

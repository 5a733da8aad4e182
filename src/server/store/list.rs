//! `ListStores`: those on which the caller has any right.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::datastore::{Datastore, DatastoreError, Store};
use crate::proto;
use crate::server::access::{Rights, StoreName};
use crate::server::call::Call;
use crate::server::convert;
use crate::server::cursor::{Cursor, Pin, RequestDigest};
use crate::server::node::Node;
use crate::server::status::Error;

const DEFAULT_PAGE: u32 = 100;
const MAX_PAGE: u32 = 1_000;

pub(super) async fn list_stores(
    node: &Node,
    call: &Call,
    request: proto::ListStoresRequest,
) -> Result<proto::ListStoresResponse, Error> {
    let digest = RequestDigest::of("ListStores", None, &proto::ListStoresRequest::default());
    let after = match request.cursor.as_str() {
        "" => None,
        text => Some(node.cursors().open(digest, text)?.after),
    };
    let size = convert::page_size(request.page_size, MAX_PAGE)?.unwrap_or(DEFAULT_PAGE);
    // One more than asked for tells whether anything follows.
    let mut stores = if call.caller.grants().on_all(Rights::ALL) {
        node.ask(move |record| async move { record.stores(after.as_deref(), size + 1).await }).await?
    } else {
        let granted = call.caller.grants().stores(Rights::ALL).cloned().collect();
        node.ask(move |record| all_of(record, granted, after)).await?
    };
    let wanted = usize::try_from(size).unwrap_or(usize::MAX);
    let more = stores.len() > wanted;
    stores.truncate(wanted);
    let cursor = match stores.last() {
        Some(last) if more => {
            node.cursors().seal(digest, &Cursor { pin: Pin::NONE, after: last.name.clone() })
        }
        _ => String::new(),
    };
    Ok(proto::ListStoresResponse { stores: stores.iter().map(convert::wire_store).collect(), cursor })
}

/// The stores that grants name, by name, after one. There are few grants, and may be very many
/// stores.
async fn all_of(
    record: Arc<dyn Datastore>,
    granted: Vec<StoreName>,
    after: Option<String>,
) -> Result<Vec<Store>, DatastoreError> {
    let mut stores = BTreeMap::new();
    for name in granted {
        let store = match name {
            StoreName::Id(id) => record.store(id).await?,
            StoreName::Name(name) => record.store_named(&name).await?,
        };
        if let Some(store) = store
            && after.as_ref().is_none_or(|after| store.name > *after)
        {
            stores.insert(store.name.clone(), store);
        }
    }
    Ok(stores.into_values().collect())
}

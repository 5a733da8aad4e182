//! `ListStores`.

use crate::proto;
use crate::server::convert;
use crate::server::cursor::{Cursor, Pin, RequestDigest};
use crate::server::node::Node;
use crate::server::status::Error;

const DEFAULT_PAGE: u32 = 100;
const MAX_PAGE: u32 = 1_000;

pub(super) async fn list_stores(
    node: &Node,
    request: proto::ListStoresRequest,
) -> Result<proto::ListStoresResponse, Error> {
    let digest = RequestDigest::of("ListStores", None, &proto::ListStoresRequest::default());
    let after = match request.cursor.as_str() {
        "" => None,
        text => Some(node.cursors().open(digest, text)?.after),
    };
    let size = convert::page_size(request.page_size, MAX_PAGE)?.unwrap_or(DEFAULT_PAGE);
    // One more than asked for tells whether anything follows.
    let mut stores =
        node.ask(move |record| async move { record.stores(after.as_deref(), size + 1).await }).await?;
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

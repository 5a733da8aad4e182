//! `ListKeys`.

use std::sync::Arc;

use super::wire;
use crate::datastore::{KeyFilter, KeyId};
use crate::proto;
use crate::server::call::Call;
use crate::server::convert;
use crate::server::cursor::{Cursor, CursorError, Pin, RequestDigest};
use crate::server::node::Node;
use crate::server::status::Error;

const DEFAULT_PAGE: u32 = 100;
const MAX_PAGE: u32 = 1_000;

pub(super) async fn list_keys(
    node: &Node,
    call: &Call,
    mut request: proto::ListKeysRequest,
) -> Result<proto::ListKeysResponse, Error> {
    let size = convert::page_size(request.page_size, MAX_PAGE)?.unwrap_or(DEFAULT_PAGE);
    let cursor = std::mem::take(&mut request.cursor);
    request.page_size = 0;
    let digest = RequestDigest::of(call.method, None, &request);
    let after = match cursor.as_str() {
        "" => None,
        text => Some(place(&node.cursors().open(digest, text)?.after)?),
    };
    let filter = KeyFilter { revoked: request.include_revoked, ..KeyFilter::default() };
    // One more than asked for tells whether anything follows.
    let mut keys =
        node.ask(move |record| async move { record.keys(&filter, after.as_ref(), size + 1).await }).await?;
    let wanted = usize::try_from(size).unwrap_or(usize::MAX);
    let more = keys.len() > wanted;
    keys.truncate(wanted);
    let cursor = match keys.last() {
        Some(last) if more => {
            let after = format!("{} {}", last.name, last.id);
            node.cursors().seal(digest, &Cursor { pin: Pin::NONE, after })
        }
        _ => String::new(),
    };
    Ok(proto::ListKeysResponse { keys: keys.iter().map(wire::key).collect(), cursor })
}

/// The name and id that a cursor holds; neither has a space.
fn place(after: &str) -> Result<(Arc<str>, KeyId), CursorError> {
    let (name, id) = after.split_once(' ').ok_or(CursorError::Invalid)?;
    Ok((name.into(), KeyId(id.into())))
}

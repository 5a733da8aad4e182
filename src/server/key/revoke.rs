//! `RevokeKey`.

use super::wire;
use crate::proto;
use crate::server::access::revoke_keys;
use crate::server::call::Call;
use crate::server::node::Node;
use crate::server::status::{Error, Reason};

pub(super) async fn revoke_key(
    node: &Node,
    call: &Call,
    request: proto::RevokeKeyRequest,
) -> Result<proto::RevokeKeyResponse, Error> {
    if request.key.is_empty() {
        return Err(Error::field("key", Reason::InvalidField, "name the key to revoke"));
    }
    let (record, by) = (node.datastore().clone(), call.principal.clone());
    let revoked = node.in_background(revoke_keys(record, request.key, request.all, by)).await?;
    // Even if only some were revoked.
    node.keys_changed().await;
    Ok(proto::RevokeKeyResponse { keys: revoked?.iter().map(wire::key).collect() })
}

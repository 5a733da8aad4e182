//! `KeyService` on a node: takes each call apart and hands it to its file.

use std::sync::Arc;

use tonic::{Request, Response, Status, async_trait};

use super::{create, list, revoke};
use crate::proto;
use crate::proto::key_service_server::KeyService;
use crate::server::node::Node;

/// `KeyService` on a node.
#[derive(Debug, Clone)]
pub struct Keys(pub Arc<Node>);

#[async_trait]
impl KeyService for Keys {
    async fn create_key(
        &self,
        request: Request<proto::CreateKeyRequest>,
    ) -> Result<Response<proto::CreateKeyResponse>, Status> {
        let (call, request) = self.0.unary("CreateKey", request).await?;
        call.answer(create::create_key(&self.0, &call, request)).await
    }

    async fn list_keys(
        &self,
        request: Request<proto::ListKeysRequest>,
    ) -> Result<Response<proto::ListKeysResponse>, Status> {
        let (call, request) = self.0.unary("ListKeys", request).await?;
        call.answer(list::list_keys(&self.0, &call, request)).await
    }

    async fn revoke_key(
        &self,
        request: Request<proto::RevokeKeyRequest>,
    ) -> Result<Response<proto::RevokeKeyResponse>, Status> {
        let (call, request) = self.0.unary("RevokeKey", request).await?;
        call.answer(revoke::revoke_key(&self.0, &call, request)).await
    }
}

//! `StoreService` on a node: takes each call apart and hands it to its file.

use std::sync::Arc;

use tonic::{Request, Response, Status, async_trait};

use super::{create, delete, get, list};
use crate::proto;
use crate::proto::store_service_server::StoreService;
use crate::server::node::Node;

/// `StoreService` on a node.
#[derive(Debug, Clone)]
pub struct Stores(pub Arc<Node>);

#[async_trait]
impl StoreService for Stores {
    async fn create_store(
        &self,
        request: Request<proto::CreateStoreRequest>,
    ) -> Result<Response<proto::CreateStoreResponse>, Status> {
        let (call, request) = self.0.unary("CreateStore", request).await?;
        call.answer(create::create_store(&self.0, &call, request)).await
    }

    async fn get_store(
        &self,
        request: Request<proto::GetStoreRequest>,
    ) -> Result<Response<proto::GetStoreResponse>, Status> {
        let (call, request) = self.0.unary("GetStore", request).await?;
        call.answer(get::get_store(&self.0, &call, request)).await
    }

    async fn list_stores(
        &self,
        request: Request<proto::ListStoresRequest>,
    ) -> Result<Response<proto::ListStoresResponse>, Status> {
        let (call, request) = self.0.unary("ListStores", request).await?;
        call.answer(list::list_stores(&self.0, &call, request)).await
    }

    async fn delete_store(
        &self,
        request: Request<proto::DeleteStoreRequest>,
    ) -> Result<Response<proto::DeleteStoreResponse>, Status> {
        let (call, request) = self.0.unary("DeleteStore", request).await?;
        call.answer(delete::delete_store(&self.0, &call, request)).await
    }
}

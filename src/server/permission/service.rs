//! `PermissionService` on a node: takes each call apart and hands it to its file.

use std::sync::Arc;

use tonic::{Request, Response, Status, async_trait};

use super::{batch_check, check, expand, list_objects, list_relations, list_subjects};
use crate::proto;
use crate::proto::permission_service_server::PermissionService;
use crate::server::call::Answers;
use crate::server::node::Node;

/// `PermissionService` on a node.
#[derive(Debug, Clone)]
pub struct Permissions(pub Arc<Node>);

#[async_trait]
impl PermissionService for Permissions {
    async fn check(
        &self,
        request: Request<proto::CheckRequest>,
    ) -> Result<Response<proto::CheckResponse>, Status> {
        let (call, request) = self.0.unary("Check", request).await?;
        call.answer(check::check(&self.0, &call, request)).await
    }

    async fn batch_check(
        &self,
        request: Request<proto::BatchCheckRequest>,
    ) -> Result<Response<proto::BatchCheckResponse>, Status> {
        let (call, request) = self.0.unary("BatchCheck", request).await?;
        call.answer(batch_check::batch_check(&self.0, &call, request)).await
    }

    async fn expand(
        &self,
        request: Request<proto::ExpandRequest>,
    ) -> Result<Response<proto::ExpandResponse>, Status> {
        let (call, request) = self.0.unary("Expand", request).await?;
        call.answer(expand::expand(&self.0, &call, request)).await
    }

    type ListObjectsStream = Answers<proto::ListObjectsResponse>;

    async fn list_objects(
        &self,
        request: Request<proto::ListObjectsRequest>,
    ) -> Result<Response<Self::ListObjectsStream>, Status> {
        let (call, request) = self.0.listing("ListObjects", request).await?;
        call.stream(Box::pin(list_objects::list_objects(Arc::clone(&self.0), call.clone(), request))).await
    }

    type ListSubjectsStream = Answers<proto::ListSubjectsResponse>;

    async fn list_subjects(
        &self,
        request: Request<proto::ListSubjectsRequest>,
    ) -> Result<Response<Self::ListSubjectsStream>, Status> {
        let (call, request) = self.0.listing("ListSubjects", request).await?;
        call.stream(Box::pin(list_subjects::list_subjects(Arc::clone(&self.0), call.clone(), request))).await
    }

    async fn list_relations(
        &self,
        request: Request<proto::ListRelationsRequest>,
    ) -> Result<Response<proto::ListRelationsResponse>, Status> {
        let (call, request) = self.0.unary("ListRelations", request).await?;
        call.answer(list_relations::list_relations(&self.0, &call, request)).await
    }
}

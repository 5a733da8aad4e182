//! `TupleService` on a node: takes each call apart and hands it to its file.

use std::sync::Arc;

use tonic::{Request, Response, Status, async_trait};

use super::{delete, log, read, watch, write};
use crate::proto;
use crate::proto::tuple_service_server::TupleService;
use crate::server::call::Answers;
use crate::server::node::Node;

/// `TupleService` on a node.
#[derive(Debug, Clone)]
pub struct Tuples(pub Arc<Node>);

#[async_trait]
impl TupleService for Tuples {
    async fn write(
        &self,
        request: Request<proto::WriteRequest>,
    ) -> Result<Response<proto::WriteResponse>, Status> {
        let (call, request) = self.0.unary("Write", request).await?;
        call.answer(write::write(&self.0, &call, request)).await
    }

    type DeleteTuplesStream = Answers<proto::DeleteTuplesResponse>;

    async fn delete_tuples(
        &self,
        request: Request<proto::DeleteTuplesRequest>,
    ) -> Result<Response<Self::DeleteTuplesStream>, Status> {
        let (call, request) = self.0.listing("DeleteTuples", request).await?;
        call.stream(delete::delete_tuples(Arc::clone(&self.0), call.clone(), request)).await
    }

    type DeleteObjectStream = Answers<proto::DeleteObjectResponse>;

    async fn delete_object(
        &self,
        request: Request<proto::DeleteObjectRequest>,
    ) -> Result<Response<Self::DeleteObjectStream>, Status> {
        let (call, request) = self.0.listing("DeleteObject", request).await?;
        call.stream(delete::delete_object(Arc::clone(&self.0), call.clone(), request)).await
    }

    type ReadStream = Answers<proto::ReadResponse>;

    async fn read(&self, request: Request<proto::ReadRequest>) -> Result<Response<Self::ReadStream>, Status> {
        let (call, request) = self.0.listing("Read", request).await?;
        call.stream(read::read(Arc::clone(&self.0), call.clone(), request)).await
    }

    type WatchStream = Answers<proto::WatchResponse>;

    async fn watch(
        &self,
        request: Request<proto::WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let (call, request) = self.0.following("Watch", request).await?;
        call.stream(watch::watch(Arc::clone(&self.0), call.clone(), request)).await
    }

    type ReadLogStream = Answers<proto::ReadLogResponse>;

    async fn read_log(
        &self,
        request: Request<proto::ReadLogRequest>,
    ) -> Result<Response<Self::ReadLogStream>, Status> {
        let (call, request) = self.0.listing("ReadLog", request).await?;
        call.stream(log::read_log(Arc::clone(&self.0), call.clone(), request)).await
    }
}

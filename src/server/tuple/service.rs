//! `TupleService` on a node: takes each call apart and hands it to its file.

use std::sync::Arc;

use tonic::{Request, Response, Status, async_trait};

use super::{read, watch, write};
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
}

//! `SchemaService` on a node: takes each call apart and hands it to its file.

use std::sync::Arc;

use tonic::{Request, Response, Status, async_trait};

use super::{list, plan, read, write};
use crate::proto;
use crate::proto::schema_service_server::SchemaService;
use crate::server::node::Node;

/// `SchemaService` on a node.
#[derive(Debug, Clone)]
pub struct Schemas(pub Arc<Node>);

#[async_trait]
impl SchemaService for Schemas {
    async fn write_schema(
        &self,
        request: Request<proto::WriteSchemaRequest>,
    ) -> Result<Response<proto::WriteSchemaResponse>, Status> {
        let (call, request) = self.0.unary("WriteSchema", request).await?;
        call.answer(write::write_schema(&self.0, &call, request)).await
    }

    async fn read_schema(
        &self,
        request: Request<proto::ReadSchemaRequest>,
    ) -> Result<Response<proto::ReadSchemaResponse>, Status> {
        let (call, request) = self.0.unary("ReadSchema", request).await?;
        call.answer(read::read_schema(&self.0, &call, request)).await
    }

    async fn list_schemas(
        &self,
        request: Request<proto::ListSchemasRequest>,
    ) -> Result<Response<proto::ListSchemasResponse>, Status> {
        let (call, request) = self.0.unary("ListSchemas", request).await?;
        call.answer(list::list_schemas(&self.0, &call, request)).await
    }

    async fn plan_schema(
        &self,
        request: Request<proto::PlanSchemaRequest>,
    ) -> Result<Response<proto::PlanSchemaResponse>, Status> {
        let (call, request) = self.0.unary("PlanSchema", request).await?;
        call.answer(plan::plan_schema(&self.0, &call, request)).await
    }
}

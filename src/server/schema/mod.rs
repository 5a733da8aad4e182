//! `SchemaService`: versions of the schema.

mod list;
mod orphans;
mod plan;
mod read;
mod service;
mod text;
mod write;

pub use service::Schemas;

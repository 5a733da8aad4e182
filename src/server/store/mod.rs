//! `StoreService`: independent sets of tuples with their schemas.

mod create;
mod delete;
mod get;
mod list;
mod service;

pub use service::Stores;

/// The store that a request without one means.
pub const DEFAULT: &str = "default";

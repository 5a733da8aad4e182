//! `PermissionService`: who may do what.

mod batch_check;
mod check;
mod expand;
mod list_objects;
mod list_relations;
mod list_subjects;
mod listing;
mod question;
mod replay;
mod service;
mod witness;

pub use service::Permissions;

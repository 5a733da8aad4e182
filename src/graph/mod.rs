//! The in-memory index of a store's live tuples: dense ids, both directions, published as
//! immutable snapshots.

pub mod view;

pub use view::{AttributesId, Edge, Ordinal, SubjectNode, View};

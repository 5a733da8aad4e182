//! The in-memory index of a store's live tuples: dense ids, both directions, published as
//! immutable snapshots.
//!
//! ```text
//!   changelog ──apply──▶ Index ──snapshot──▶ Snapshot ──QuestionView::new──▶ QuestionView
//!                      (one writer)       (any number, frozen)          (one per question)
//!
//!   revision      41            42            43
//!   Index      ───●─────────────●─────────────●───▶          the writer's own root moves on
//!                 │             │             │
//!   Snapshot     s41           s42           s43             each keeps the nodes it needs,
//!                 ▲             ▲             ▲              and shares the rest with its
//!                 │             │             │              neighbours
//!            a long list   a Check at     a Check at the
//!            still going   revision 42    newest revision
//! ```
//!
//! **Sharing.** All that a snapshot can reach (adjacency in both directions, the dictionary of
//! objects, symbols, attributes) is persistent: the writer copies the few nodes on the path it
//! changes and leaves the old ones to whoever still holds them. There is therefore no lock in
//! this folder at all. A reader owns a [`Snapshot`] by reference count; it never waits for the
//! writer, and the writer never waits for it. What only the writer needs (reference counts, free
//! lists) lives in [`Index`] and is never shared.
//!
//! **Numbers.** An [`Ordinal`] means something only together with the snapshot it came from:
//! each snapshot carries its own dictionary, so the writer gives the ordinal of a vanished object
//! to the next newcomer at once, without waiting for older snapshots to go.
//! Ids enter the dictionary from tuples, never from questions: an id in a question that no tuple
//! names gets an ordinal local to the question, counted down from the top.
//!
//! **Bytes.** [`Index::bytes`] says what a store takes, kept up to date change by change. Freed
//! ordinals, attributes and names are used again, so a store whose tuples come and go takes no more
//! than it ever held at once. A graph that nobody needs any more is handed to its [`Keeper`], since
//! freeing a large one takes seconds.
//!
//! **Order of work.** This is the simple structure that is correct from the first day. A packed
//! one can take its place behind [`View`]; this one then stays as the model it is tested against.

mod attributes;
mod binding;
mod dictionary;
mod index;
mod overlay;
mod question;
mod snapshot;
mod symbols;
pub mod view;

#[cfg(test)]
mod properties;

pub use binding::Binding;
pub use index::{Ids, Index, IndexFull};
pub use question::QuestionView;
pub use snapshot::{Keeper, Remains, Snapshot};
pub use view::{AttributesId, Edge, Met, Ordinal, SubjectNode, View};

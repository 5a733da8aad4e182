//! Follows the changelog into the graph: the only place that joins the two.
//!
//! ```text
//!   database ──heads──▶ poll ──follow──▶ Follower ──publish──▶ Replica ──▶ requests
//!      │                                    ▲                    │
//!      ├──────────────log───────────────────┘                    ├ published   newest
//!      └──────tuples, then log──▶ load ─────┘                    ├ at_least    wait for it
//!                                                                └ at          undo back to it
//! ```
//!
//! How a write becomes visible: the committer calls [`Feed::hint`] (another node gets the hint
//! through [`Datastore::hints`](crate::datastore::Datastore::hints), and if that is lost, the poll
//! sees the head); one task per store reads the log from the revision it holds, itself included,
//! checks that this is still the same write and that the rest follows without a gap, applies it to
//! its private index, and publishes tuples, schema and recent past as one [`Published`] value.
//! Whoever waits in [`Replica::at_least`] wakes up.
//!
//! What is never done: answering from a history that the database does not have, skipping a
//! revision, publishing half a revision, holding up one store for another.

mod budget;
mod catch_up;
mod clock;
mod error;
mod eviction;
mod follower;
mod load;
mod lost;
mod poll;
mod published;
mod ranges;
mod reaper;
mod replica;
mod residence;
mod rewind;
mod ring;
mod schemas;
mod service;
mod settings;
mod shared;
mod source;
mod wall_clock;

pub use clock::Skew;
pub use error::FeedError;
pub use lost::LostRevision;
pub use published::{At, Published};
pub use replica::Replica;
pub use schemas::SchemaVersion;
pub use service::{Feed, Health};
pub use settings::FeedSettings;
pub use wall_clock::WallClock;

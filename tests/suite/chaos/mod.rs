//! Chaos: whole servers under load while everything that can break does, judged afterwards by the
//! history checker.
//!
//! ```text
//!              writers, readers, watchers           each writes down what it is told
//!                │  (some through a proxy)
//!     node 0 ─ node 1 ─ node 2                      killed, stopped for seconds, restarted
//!        │        │        │  a proxy each          cut, slow, parted, refused, broken at COMMIT
//!        └─── primary ─────┘ ···▶ replica           restarted; replaced by its replica, which may
//!                                                   lack the last commits
//! ```
//!
//! On SQLite one server is killed again and again, and its file is set back to earlier copies.
//!
//! What happens is drawn from a seed. In the short form it takes seconds; `scripts/chaos` runs the
//! long one and prints what it checked.

mod client;
mod demands;
mod director;
mod node;
mod plan;
mod postgres;
mod questions;
mod reader;
mod rows;
mod sqlite;
mod summary;
mod watcher;
mod writer;

use std::time::Duration;

use crate::postgres_server;

/// How a run is to be.
#[derive(Debug, Clone)]
struct Settings {
    seed: u64,
    /// How long faults go on, on PostgreSQL.
    writing: Duration,
    /// How often the server on SQLite is killed.
    kills: u32,
    writers: usize,
    readers: usize,
    /// What a writer and a reader wait between two calls, at most.
    pace: (Duration, Duration),
    /// Whether each kind of fault comes once and soon.
    short: bool,
}

impl Settings {
    fn of_environment() -> Self {
        let number = |name: &str| {
            let text = std::env::var(name).ok()?;
            Some(text.parse::<u64>().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
        };
        let seconds = number("RELATA_CHAOS_SECONDS");
        let kills = number("RELATA_CHAOS_KILLS").unwrap_or(6);
        Self {
            seed: number("RELATA_CHAOS_SEED").unwrap_or(1),
            writing: Duration::from_secs(seconds.unwrap_or(20)),
            kills: u32::try_from(kills).expect("not that many kills"),
            writers: 6,
            readers: 10,
            pace: (Duration::from_millis(60), Duration::from_millis(8)),
            short: seconds.is_none(),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_on_postgres() {
    if postgres_server::enabled() {
        director::run("three nodes on PostgreSQL", Settings::of_environment(), postgres::World::start).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_node_on_sqlite() {
    director::run("one node on SQLite", Settings::of_environment(), sqlite::World::start).await;
}

//! What can be set about following the changelog.

use std::time::Duration;

use super::wall_clock::WallClock;

/// Settings of a [`Feed`](super::Feed).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeedSettings {
    /// How long a write of another node may go unnoticed when its hint is lost. Default 250 ms; a
    /// tenth costs ten times the head queries and gains little, as hints usually arrive.
    pub poll_interval: Duration,
    /// The same while hints do not arrive, as through a pooler that swallows them: the poll is then
    /// all there is. Default 150 ms.
    pub deaf_poll_interval: Duration,
    /// How old the proof that a replica is current may be before the node is called unhealthy.
    /// Default 10 s. Longer means that revoked rights may go on for longer while the database
    /// cannot be reached.
    pub max_staleness: Duration,
    /// How far this node's clock may be from the database's before the node is called unhealthy:
    /// it would judge expiries wrongly by as much. Default 1 s. A measurement that took long counts
    /// with its least.
    pub max_clock_skew: Duration,
    /// How long a query of the feed may take before it counts as failed. Default 5 s.
    pub query_timeout: Duration,
    /// The longest pause between attempts to reach a database that does not answer, or to load a
    /// store that cannot be loaded. Default 2 s.
    pub max_backoff: Duration,
    /// Stores fetched from the database at the same time, so that one store's import does not
    /// delay another's revocations. Default 4; each takes a connection.
    pub workers: usize,
    /// Stores loaded from nothing at the same time. Default 2; each may take a core and a
    /// connection for as long as it lasts.
    pub loads: usize,
    /// Tuples per page while loading. Default 2,000.
    pub page: u32,
    /// Changes fetched at once while following. Default 5,000; a revision is never split.
    pub batch: u32,
    /// Changes held in memory per store for earlier revisions, cursors and Watch. Default 100,000,
    /// some tens of megabytes when full.
    pub ring_changes: usize,
    /// Bytes that these may take per store, as far as the contexts of conditions make them larger
    /// than usual. Default 64 MiB. Nodes that share clients need the same value.
    pub ring_bytes: usize,
    /// Revisions per store whose write id is held to recognise zookies of a lost history. Default
    /// 100,000, eight bytes each. Older ones cost a query.
    pub ring_revisions: usize,
    /// An earlier revision can be asked about while at most this many changes lie between. Default
    /// 10,000. Nodes that share clients need the same value.
    pub reach_changes: usize,
    /// An earlier revision can be asked about while it was the newest within this time, as far as
    /// `ring_changes` and `ring_bytes` go. Default 15 minutes. Nodes that share clients need the same value.
    pub reach_time: Duration,
    /// Key ranges of one store read at the same time while it is loaded. Default 3; each takes a
    /// connection, and applying what they read takes the time of about as many.
    pub load_ranges: usize,
    /// Bytes that all stores in memory may take together; `None`: without bound, until the machine
    /// has no more. Default none; the server sets a share of the machine's.
    pub memory_budget: Option<usize>,
    /// Compiled schema versions kept over all stores. Default 256.
    pub schemas: usize,
    /// The node's clock. Default the machine's.
    pub clock: WallClock,
}

impl Default for FeedSettings {
    fn default() -> Self {
        Self {
            poll_interval: Duration::from_millis(250),
            deaf_poll_interval: Duration::from_millis(150),
            max_staleness: Duration::from_secs(10),
            max_clock_skew: Duration::from_secs(1),
            query_timeout: Duration::from_secs(5),
            max_backoff: Duration::from_secs(2),
            workers: 4,
            loads: 2,
            load_ranges: 3,
            memory_budget: None,
            page: 2_000,
            batch: 5_000,
            ring_changes: 100_000,
            ring_bytes: 64 << 20,
            ring_revisions: 100_000,
            reach_changes: 10_000,
            reach_time: Duration::from_mins(15),
            schemas: 256,
            clock: WallClock::system(),
        }
    }
}

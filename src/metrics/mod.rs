//! What the server tells of itself in numbers, for Prometheus.
//!
//! ```text
//! requests   calls by method, code and reason          recorded by server/
//! searches   fuel, slices, the pool                    server/
//! record     writes, groups, the committers' queues    datastore/
//! database   connections and round trips               datastore/
//! feed       following the changelog, heads, forks     feed/
//! memory     loads, evictions, bytes, ids              feed/
//! upkeep     sweeping, trimming, purging               whoever does it
//! access     who was let in; certificates and keys     server/
//! traces     spans on their way to a collector         trace, server/
//! admission  what is let in at once, and what is not   server/
//! journal    slow questions and the decision log       server/
//! process    memory, files, processor time             read at each scrape
//! ```
//!
//! Each family is declared once, in the file of its area: the field's comment is its help text, the
//! field's name the end of its name, and the name's end its unit. [`Metrics`] is handed down from
//! whoever starts the parts; there is no global one, so a test makes its own and reads it.
//!
//! **Labels never grow.** A label's values are those of an enum ([`Label`]), or of a list given at
//! the start (the methods of the API, the reasons of its errors). There is no way to make a label
//! out of a store, an id, or anything else a caller sends.
//!
//! **Recording costs nanoseconds.** Every series exists from the start and is reached by an index;
//! nothing is looked up by its labels, and nothing takes a lock.

mod access;
mod admission;
mod cells;
mod database;
mod declare;
mod feed;
mod histogram;
mod journal;
mod label;
mod memory;
mod process;
mod record;
mod requests;
mod searches;
mod traces;
mod upkeep;

use std::sync::{Arc, PoisonError, RwLock};

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

pub use access::{Access, Credential};
pub use admission::{Admission, Resource};
pub use database::{Database, Lane};
pub use declare::{Counter, Gauge, Reading};
pub use feed::{Divergence, Feed, HintSource};
pub use histogram::{Durations, Sizes};
pub use journal::Journal;
pub use label::{By, Label, Outcome};
pub use memory::{IdState, LoadOutcome, Memory, MemoryClass, Stay};
pub use record::{GroupOutcome, InDoubt, Record, WriteOutcome};
pub use requests::{Code, MethodKind, Recorder, Requests, Running, Vocabulary};
pub use searches::{Refusal, Search, Searches};
pub use traces::Traces;
pub use upkeep::{Task, Upkeep};

/// The content type of what [`Metrics::encode`] makes.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Everything a server counts and measures.
#[derive(Debug)]
pub struct Metrics {
    /// Calls.
    pub requests: Requests,
    /// Searches of the graph.
    pub searches: Searches,
    /// Writes and their transactions.
    pub record: Record,
    /// Connections to the database.
    pub database: Database,
    /// Following the changelog.
    pub feed: Feed,
    /// Stores in memory.
    pub memory: Memory,
    /// Work nobody asked for.
    pub upkeep: Upkeep,
    /// Who was let in.
    pub access: Access,
    /// Spans on their way to a collector.
    pub traces: Traces,
    /// What is let in at once.
    pub admission: Admission,
    /// What is told of single questions.
    pub journal: Journal,
    /// Read by scrapes, written only while this is made.
    registry: RwLock<Registry>,
}

impl Metrics {
    /// Metrics that know no methods: for a part that is used without a server.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Self::of(&Vocabulary::default())
    }

    /// Metrics of a server with these methods and reasons.
    #[must_use]
    pub fn of(vocabulary: &Vocabulary) -> Arc<Self> {
        let mut registry = Registry::default();
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("relata_build", "The version of Relata that runs", build);
        let metrics = Self {
            requests: Requests::register(&mut registry, vocabulary),
            searches: Searches::register(&mut registry),
            record: Record::register(&mut registry),
            database: Database::register(&mut registry),
            feed: Feed::register(&mut registry),
            memory: Memory::register(&mut registry),
            upkeep: Upkeep::register(&mut registry),
            access: Access::register(&mut registry),
            traces: Traces::register(&mut registry),
            admission: Admission::register(&mut registry),
            journal: Journal::register(&mut registry),
            registry: RwLock::default(),
        };
        process::register(&mut registry);
        *metrics.registry.write().unwrap_or_else(PoisonError::into_inner) = registry;
        Arc::new(metrics)
    }

    /// All of it as text in the `OpenMetrics` format.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut text = String::with_capacity(64 << 10);
        let registry = self.registry.read().unwrap_or_else(PoisonError::into_inner);
        // Writing to a string does not fail.
        let _ = encode(&mut text, &registry);
        text
    }
}

//! Flags for how much a server does at once.

use std::time::Duration;

use clap::Args;

use crate::config::Config;

/// How much a server does at once. The defaults suit most machines; more than that is refused at
/// once, with `OVERLOADED` or `QUEUE_FULL`, and callers are told when to try again.
#[derive(Debug, Args)]
pub(super) struct Capacity {
    /// Long searches under way while others wait for them to end [default: 4 for each thread].
    #[arg(long, env = "RELATA_SEARCHES", value_name = "N")]
    searches: Option<usize>,
    /// Work that one question may cost, in goals and tuples looked at; what costs more fails with
    /// `LIMIT_EXCEEDED`.
    #[arg(long, env = "RELATA_SEARCH_FUEL", value_name = "N", default_value_t = 20_000_000)]
    search_fuel: u64,
    /// Long searches that may wait to begin, over all stores; one store gets a quarter of them.
    #[arg(long, env = "RELATA_SEARCH_QUEUE", value_name = "N", default_value_t = 1_024)]
    search_queue: usize,
    /// Calls with one answer under way at once; one caller gets four fifths of them.
    #[arg(long, env = "RELATA_MAX_CALLS", value_name = "N", default_value_t = 4_096)]
    max_calls: usize,
    /// Calls with a stream of answers open at once, watches among them; one caller gets four fifths.
    #[arg(long, env = "RELATA_MAX_STREAMS", value_name = "N", default_value_t = 10_000)]
    max_streams: usize,
    /// Mebibytes of requests under way and of answers that readers have not taken; one caller gets
    /// four fifths.
    #[arg(long, env = "RELATA_MAX_CALL_MEMORY", value_name = "MIB", default_value_t = 256)]
    max_call_memory: usize,
    /// How long a reader may take nothing from a stream before the stream is ended, in seconds.
    #[arg(long, env = "RELATA_READER_PATIENCE", value_name = "SECONDS", default_value_t = 60)]
    reader_patience: u64,
}

impl Capacity {
    pub(super) fn apply(&self, config: &mut Config) {
        config.usual_searches = self.searches.unwrap_or(4 * config.search_threads.get());
        config.max_searches = config.max_searches.max(config.usual_searches);
        config.search.fuel = self.search_fuel;
        config.search_queue = self.search_queue;
        config.search_queue_of_store = self.search_queue.div_ceil(4);
        config.admission.calls = self.max_calls;
        config.admission.streams = self.max_streams;
        config.admission.bytes = self.max_call_memory.saturating_mul(1 << 20);
        config.admission.reader_patience = Duration::from_secs(self.reader_patience);
    }
}

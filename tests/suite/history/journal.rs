//! Writing down what clients are told. Each client has a journal of its own; all of them read one
//! clock.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use super::operation::{Asked, Moment, Stream, Write};

/// The clock of a run, and the numbers of its writes.
#[derive(Debug, Clone)]
pub struct Clock {
    begun: Instant,
    writes: Arc<AtomicU32>,
}

impl Clock {
    pub fn start() -> Self {
        Self { begun: Instant::now(), writes: Arc::new(AtomicU32::new(1)) }
    }

    pub fn now(&self) -> Moment {
        Moment(u64::try_from(self.begun.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    /// A number that no other write has.
    pub fn number(&self) -> u32 {
        self.writes.fetch_add(1, Ordering::Relaxed)
    }
}

/// The note that a write of this number carries into the log.
pub fn note(number: u32) -> String {
    format!("w{number}")
}

/// The number of the write that a note of the log names.
pub fn numbered(note: &str) -> Option<u32> {
    note.strip_prefix('w')?.parse().ok()
}

/// All that clients were told.
#[derive(Debug, Default)]
pub struct History {
    pub asked: Vec<Asked>,
    pub writes: Vec<Write>,
    pub streams: Vec<Stream>,
    /// Calls that were told nothing, by the reason given.
    pub unanswered: BTreeMap<String, u64>,
    /// Answers that no server should ever give.
    pub defects: Vec<String>,
}

impl History {
    pub fn add(&mut self, part: Self) {
        self.asked.extend(part.asked);
        self.writes.extend(part.writes);
        self.streams.extend(part.streams);
        for (reason, count) in part.unanswered {
            *self.unanswered.entry(reason).or_default() += count;
        }
        self.defects.extend(part.defects);
    }

    /// Counts a call that was told nothing.
    pub fn told_nothing(&mut self, reason: &str) {
        match self.unanswered.get_mut(reason) {
            Some(count) => *count += 1,
            None => drop(self.unanswered.insert(reason.to_owned(), 1)),
        }
    }
}

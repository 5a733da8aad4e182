//! The log as people ask for it: who changed what, the newest first.

use std::sync::Arc;

use super::{LogEntry, TupleFilter};
use crate::revision::Revision;

/// Which way to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Backwards.
    NewestFirst,
    /// Forwards.
    OldestFirst,
}

/// Which entries of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryQuery {
    /// The lowest revision that is looked at.
    pub from: Revision,
    /// The highest, itself included. All between are looked at if few of them match.
    pub to: Revision,
    /// From which end.
    pub order: Order,
    /// Only those of this principal.
    pub principal: Option<Arc<str>>,
    /// Only those that changed a tuple which matches.
    pub filter: Option<TupleFilter>,
    /// At most so many.
    pub limit: u32,
    /// No further one after about so many changes.
    pub changes: u32,
}

/// Entries that match, with all their changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History {
    /// In the order asked for.
    pub entries: Vec<LogEntry>,
    /// Whether the range holds more that match than these: go on beyond the last.
    pub cut: bool,
}

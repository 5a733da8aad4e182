//! An end to statements that take too long.

use std::time::Instant;

use rusqlite::Connection;

use super::DatastoreError;
use super::rows::failed;

/// Instructions of SQLite's between two looks at the clock: well under a millisecond.
const INSTRUCTIONS: i32 = 10_000;

/// For as long as it lives, statements of a connection end at a moment, as interrupted.
pub(super) struct TimeLimit<'c> {
    connection: &'c Connection,
    end: Instant,
}

impl<'c> TimeLimit<'c> {
    /// Ends what a connection does at `end`.
    pub(super) fn on(connection: &'c Connection, end: Instant) -> Result<Self, DatastoreError> {
        Self::set(connection, end)?;
        Ok(Self { connection, end })
    }

    /// The same until another limit is set.
    pub(super) fn set(connection: &Connection, end: Instant) -> Result<(), DatastoreError> {
        connection.progress_handler(INSTRUCTIONS, Some(move || Instant::now() >= end)).map_err(failed)
    }

    /// Whether the moment has come.
    pub(super) fn is_over(&self) -> bool {
        Instant::now() >= self.end
    }
}

impl Drop for TimeLimit<'_> {
    fn drop(&mut self) {
        // It fails only on connections that are not ours, on which there is no limit either.
        let _ = self.connection.progress_handler(0, None::<fn() -> bool>);
    }
}

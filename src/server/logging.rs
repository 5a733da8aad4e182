//! What the server says of itself: text on a terminal, one JSON object per line otherwise.

use std::io::IsTerminal as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tonic::Code;
use tracing_subscriber::EnvFilter;

use super::status::Error;
use crate::trace;

/// Starts logging to standard error. `filter` is what `RELATA_LOG` holds, such as `debug` or
/// `relata=debug,sqlx=warn`; what cannot be read counts as `info`. A second call does nothing.
pub fn start(filter: Option<&str>) {
    let filter =
        EnvFilter::try_new(filter.unwrap_or("info,sqlx=warn")).unwrap_or_else(|_| EnvFilter::new("info"));
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    // A second start fails, and the first one stands.
    let _ = if std::io::stderr().is_terminal() {
        builder.try_init()
    } else {
        builder.json().flatten_event(true).try_init()
    };
}

/// One line for a failed call, with its cause, which the client does not see. What the server or
/// the database did is a warning; what the caller did is not. A call that is recorded names its trace.
pub fn failed(method: &'static str, principal: &str, error: &Error) {
    if matches!(error, Error::Overloaded { .. } | Error::QueueFull { .. }) {
        return refused(method, error);
    }
    let row = error.row();
    let (reason, message) = (row.reason.as_str(), error.to_string());
    let cause = cause(error);
    let trace = trace::current().map(|span| span.place().trace.to_string());
    match row.code {
        Code::Internal | Code::Unknown | Code::DataLoss => {
            tracing::error!(method, principal, reason, cause, trace, "{message}");
        }
        Code::Unavailable | Code::ResourceExhausted | Code::DeadlineExceeded => {
            tracing::warn!(method, principal, reason, cause, trace, "{message}");
        }
        Code::Ok
        | Code::Cancelled
        | Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::Unauthenticated => tracing::info!(method, principal, reason, cause, trace, "{message}"),
    }
}

/// An error with what caused it, on one line.
pub fn with_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let cause = cause(error);
    if cause.is_empty() { error.to_string() } else { format!("{error}: {cause}") }
}

/// A call that was refused before it began. Of thousands in a second each is the same, so few are in
/// the usual log; the metrics count them all.
pub fn refused(path: &'static str, error: &Error) {
    static REFUSED: AtomicU64 = AtomicU64::new(0);
    const ONE_IN: u64 = 10_000;
    let refused = REFUSED.fetch_add(1, Ordering::Relaxed);
    if refused.is_multiple_of(ONE_IN) {
        tracing::warn!(path, refused = refused + 1, "refusing calls: {error}");
    } else {
        tracing::debug!(path, "{error}");
    }
}

/// A call that was turned away before it began, for want of a credential or a right. Strangers can
/// make any number of them, so few are in the usual log; the metrics count them all.
pub fn turned_away(method: &str, error: &Error) {
    static PACE: Pace = Pace::new();
    let reason = error.row().reason.as_str();
    if let Some(passed_over) = PACE.admit(Instant::now()) {
        tracing::info!(method, reason, passed_over, "{error}");
    } else {
        tracing::debug!(method, reason, "{error}");
    }
}

/// Lets one line a second into the usual log, and counts those between.
#[derive(Debug, Default)]
pub struct Pace(Mutex<(Option<Instant>, u64)>);

impl Pace {
    /// Lets the next line in.
    #[must_use]
    pub const fn new() -> Self {
        Self(Mutex::new((None, 0)))
    }

    /// Whether a line may be written now, and then how many were passed over since the last one.
    pub fn admit(&self, now: Instant) -> Option<u64> {
        const PAUSE: Duration = Duration::from_secs(1);
        // A lock poisoned by a panic still guards two numbers.
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (last, passed_over) = &mut *state;
        if last.is_some_and(|last| now.saturating_duration_since(last) < PAUSE) {
            *passed_over += 1;
            return None;
        }
        *last = Some(now);
        Some(std::mem::take(passed_over))
    }
}

/// The chain of causes below an error, outermost first; empty if there is none.
pub fn cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut causes = Vec::new();
    let mut next = error.source();
    while let Some(source) = next {
        causes.push(source.to_string());
        next = source.source();
    }
    causes.join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datastore::DatastoreError;

    #[test]
    fn one_line_a_second_says_how_many_there_were() {
        let (pace, begun) = (Pace::new(), Instant::now());
        let admitted: Vec<_> =
            (0..2_500).filter_map(|ms| pace.admit(begun + Duration::from_millis(ms))).collect();
        assert_eq!(admitted, [0, 999, 999]);
    }

    #[test]
    fn the_cause_is_for_the_log_only() {
        let source = anyhow::anyhow!("connection refused").context("cannot connect to `db`");
        let error = Error::Record(DatastoreError::Unavailable(source));
        assert_eq!(
            cause(&error),
            "the database is not available: cannot connect to `db`: connection refused"
        );
        let status = error.into_status();
        assert!(!format!("{status:?}").contains("refused"), "{status:?}");
    }
}

//! What went wrong in a conversation with PostgreSQL, told apart by what can be done about it.

use std::borrow::Cow;
use std::time::Duration;

use sqlx::error::DatabaseError;
use sqlx::postgres::{PgDatabaseError, PgSeverity};

use crate::datastore::{DatastoreError, Outcome};

/// Why a statement gave no usable answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// The connection broke, or could not be made.
    #[error("the connection to the database failed")]
    Connection(#[source] sqlx::Error),
    /// A round trip took too long; whether the server did what was asked is unknown.
    #[error("the database did not answer within {0:?}")]
    TimedOut(Duration),
    /// All connections are busy.
    #[error("no connection became free within {0:?}")]
    Busy(Duration),
    /// The datastore was closed.
    #[error("the datastore is closed")]
    Closed,
    /// The server is a standby, or has become one.
    #[error("the database server is read-only: it is a standby, or the primary moved elsewhere")]
    ReadOnly,
    /// The server is there and says: not now (lock timeout, shutting down, out of resources).
    #[error("the database could not do it now")]
    Transient(#[source] sqlx::Error),
    /// A table or column is missing.
    #[error("the tables are missing or of another version")]
    Tables(#[source] sqlx::Error),
    /// The name of a prepared statement is taken, or unknown.
    #[error(
        "a prepared statement is not where it was made: a pooler in transaction mode stands before the \
         database; start with `--statement-cache 0`"
    )]
    Prepared(#[source] sqlx::Error),
    /// A statement failed otherwise: a defect, or data that PostgreSQL refuses.
    #[error("a statement failed")]
    Statement(#[source] sqlx::Error),
    /// The connection failed when COMMIT had been sent. The outcomes are those of a group of
    /// writes that turns out to be committed.
    #[error("the commit was not answered")]
    InDoubt(Vec<Outcome>, #[source] anyhow::Error),
    /// Our own judgement of what was read.
    #[error(transparent)]
    Judged(#[from] DatastoreError),
}

impl Failure {
    /// Whether the connection itself failed, so that another one may serve.
    pub(super) fn is_of_connection(&self) -> bool {
        matches!(self, Self::Connection(_) | Self::TimedOut(_) | Self::ReadOnly)
    }
}

impl Failure {
    /// Whether the server itself says of a statement that it failed. Whatever else went wrong, the
    /// statement may have taken effect.
    pub(super) fn is_verdict(&self) -> bool {
        match self {
            Self::Transient(error) | Self::Tables(error) | Self::Prepared(error) | Self::Statement(error) => {
                matches!(error, sqlx::Error::Database(_))
            }
            Self::Connection(_)
            | Self::TimedOut(_)
            | Self::ReadOnly
            | Self::Busy(_)
            | Self::Closed
            | Self::InDoubt(..)
            | Self::Judged(_) => false,
        }
    }

    /// Whether the server gave a statement up because it took too long.
    pub(super) fn is_of_time(&self) -> bool {
        let Self::Transient(error) = self else { return false };
        error.as_database_error().and_then(DatabaseError::code).as_deref() == Some("57014")
    }

    /// What it means that COMMIT failed so.
    pub(super) fn of_commit(self) -> Self {
        if self.is_verdict() { self } else { DatastoreError::OutcomeUnknown(self.into()).into() }
    }

    /// A connection that cannot be opened: whatever the server's reason, nothing was asked yet.
    pub(super) fn from_connecting(error: sqlx::Error) -> Self {
        Self::Connection(error)
    }
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        // Whatever the reason, the server ends the connection, and perhaps itself. A COMMIT it
        // says this of may have reached the disk.
        let fatal = error.as_database_error().and_then(|error| error.try_downcast_ref::<PgDatabaseError>());
        if fatal.is_some_and(|error| matches!(error.severity(), PgSeverity::Fatal | PgSeverity::Panic)) {
            return Self::Connection(error);
        }
        let Some(code) = error.as_database_error().and_then(DatabaseError::code).map(Cow::into_owned) else {
            let broken = matches!(error, sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_));
            return if broken { Self::Connection(error) } else { Self::Statement(error) };
        };
        // https://www.postgresql.org/docs/current/errcodes-appendix.html
        match code.as_str() {
            "25006" => Self::ReadOnly,
            "42P01" | "42703" | "3F000" => Self::Tables(error),
            "26000" | "42P05" => Self::Prepared(error),
            "57P01" | "57P02" | "57P03" | "57P05" | "25P03" | "25P04" => Self::Connection(error),
            "40001" | "40P01" | "55P03" | "57014" | "55006" => Self::Transient(error),
            _ => match code.get(..2) {
                Some("08" | "28") => Self::Connection(error),
                Some("53" | "58") => Self::Transient(error),
                _ => Self::Statement(error),
            },
        }
    }
}

impl From<Failure> for DatastoreError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Judged(error) => error,
            Failure::InDoubt(_, cause) => Self::OutcomeUnknown(cause),
            Failure::Statement(_) | Failure::Tables(_) | Failure::Prepared(_) => Self::Other(failure.into()),
            Failure::Connection(_)
            | Failure::TimedOut(_)
            | Failure::Busy(_)
            | Failure::Closed
            | Failure::ReadOnly
            | Failure::Transient(_) => Self::Unavailable(failure.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("a constraint is violated")]
    struct Refused;

    impl DatabaseError for Refused {
        fn message(&self) -> &'static str {
            "a constraint is violated"
        }

        fn as_error(&self) -> &(dyn std::error::Error + Send + Sync + 'static) {
            self
        }

        fn as_error_mut(&mut self) -> &mut (dyn std::error::Error + Send + Sync + 'static) {
            self
        }

        fn into_error(self: Box<Self>) -> Box<dyn std::error::Error + Send + Sync + 'static> {
            self
        }

        fn kind(&self) -> sqlx::error::ErrorKind {
            sqlx::error::ErrorKind::Other
        }
    }

    /// A commit that was not refused by the server may have happened, and is not to be made again.
    #[test]
    fn a_commit_is_in_doubt_unless_the_server_refused_it() {
        let in_doubt = |failure: Failure| {
            matches!(failure.of_commit(), Failure::Judged(DatastoreError::OutcomeUnknown(_)))
        };
        let io = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
        for error in [
            sqlx::Error::Io(io),
            sqlx::Error::Protocol("torn".to_owned()),
            sqlx::Error::WorkerCrashed,
            sqlx::Error::RowNotFound,
            sqlx::Error::Decode("an answer of another kind".into()),
        ] {
            let told = error.to_string();
            assert!(in_doubt(error.into()), "{told}");
        }
        assert!(in_doubt(Failure::TimedOut(Duration::from_secs(1))));
        let refused = sqlx::Error::Database(Box::new(Refused));
        assert!(!in_doubt(refused.into()));
    }
}

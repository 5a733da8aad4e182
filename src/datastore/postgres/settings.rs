//! How to reach the database: URLs that do not print their password, pool sizes, time limits.

use std::error::Error as _;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use sqlx::ConnectOptions as _;
use sqlx::postgres::PgConnectOptions;

/// A PostgreSQL URL, `postgres://user:password@host:port/database?sslmode=…`, or with a socket
/// directory, `postgres:///database?host=/run/postgresql`. It prints as host, port and database
/// only, so that no password reaches a log.
#[derive(Clone)]
pub struct DatabaseUrl(PgConnectOptions);

/// Why a text is not a PostgreSQL URL. It does not quote the text, which may hold a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DatabaseUrlError {
    /// It does not begin as it should.
    #[error("the database URL must begin with `postgres://` or `postgresql://`")]
    Scheme,
    /// A part of it cannot be understood.
    #[error("the database URL is malformed: {0}")]
    Malformed(String),
}

impl FromStr for DatabaseUrl {
    type Err = DatabaseUrlError;

    fn from_str(text: &str) -> Result<Self, DatabaseUrlError> {
        if !text.starts_with("postgres://") && !text.starts_with("postgresql://") {
            return Err(DatabaseUrlError::Scheme);
        }
        // The driver says what is wrong, such as an invalid port, without repeating the URL.
        let options = PgConnectOptions::from_str(text).map_err(|error| {
            DatabaseUrlError::Malformed(error.source().map_or_else(|| error.to_string(), ToString::to_string))
        })?;
        let options = match options.get_application_name() {
            Some(_) => options,
            None => options.application_name("relata"),
        };
        // Statements are traced by their callers; the driver would format each one's text.
        Ok(Self(options.disable_statement_logging()))
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let options = &self.0;
        let database = options.get_database().unwrap_or_else(|| options.get_username());
        match options.get_socket() {
            Some(directory) => write!(f, "postgres:///{database}?host={}", directory.display()),
            None => write!(f, "postgres://{}:{}/{database}", options.get_host(), options.get_port()),
        }
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{self}`")
    }
}

/// Connections of the upkeep: one duty that waits for a lock does not keep the others waiting.
pub(super) const UPKEEP_CONNECTIONS: u32 = 2;

/// Connections that nobody chooses: those of the upkeep, one that notifies, one that listens.
const OTHER_CONNECTIONS: u32 = UPKEEP_CONNECTIONS + 2;

/// Everything the PostgreSQL datastore can be told.
#[derive(Debug, Clone)]
pub struct PostgresSettings {
    /// Where the record is.
    pub url: DatabaseUrl,
    /// Where to `LISTEN` and to migrate, if `url` leads to a pooler in transaction mode, which
    /// breaks both. Default: `url`.
    pub direct_url: Option<DatabaseUrl>,
    /// Prepared statements kept per connection. Default: 100, and none if a pooler in transaction
    /// mode is noticed, where each statement is prepared anew in a transaction of its own, three
    /// round trips more. Zero says that there is such a pooler; more, that it follows prepared
    /// statements, as `PgBouncer` from 1.21 on does with `max_prepared_statements`.
    pub statement_cache_capacity: Option<usize>,
    /// Connections for commits, default 8: as many stores can commit at the same moment.
    pub commit_connections: u32,
    /// Connections for the feed, default 6: as many as it reads changelogs at once, and two for
    /// heads, which must not wait for a changelog.
    pub feed_connections: u32,
    /// Connections for everything else: reads of tuples and schemas, store administration,
    /// default 8.
    pub read_connections: u32,
    /// The longest one round trip may take before its connection is given up, default 5 s. A
    /// cut network shows no other sign, because nothing keeps the connection alive.
    pub round_trip: Duration,
}

impl PostgresSettings {
    /// The defaults for a URL.
    #[must_use]
    pub fn new(url: DatabaseUrl) -> Self {
        Self {
            url,
            direct_url: None,
            statement_cache_capacity: None,
            commit_connections: 8,
            feed_connections: 6,
            read_connections: 8,
            round_trip: Duration::from_secs(5),
        }
    }

    /// The most connections that one server opens.
    #[must_use]
    pub fn connections(&self) -> u32 {
        self.commit_connections + self.feed_connections + self.read_connections + OTHER_CONNECTIONS
    }

    /// How to connect for ordinary statements.
    pub(super) fn options(&self) -> PgConnectOptions {
        connecting(&self.url)
    }

    /// How to connect for what needs a session of its own.
    pub(super) fn direct_options(&self) -> PgConnectOptions {
        connecting(self.direct_url.as_ref().unwrap_or(&self.url))
    }
}

/// Without a wish about floating-point numbers, of which there are none: `PgBouncer` refuses
/// whoever has one.
fn connecting(url: &DatabaseUrl) -> PgConnectOptions {
    url.0.clone().extra_float_digits(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_never_prints_its_password() {
        let url: DatabaseUrl = "postgres://ann:s3cret@db.example:6432/main".parse().expect("a URL");
        let settings = PostgresSettings::new(url.clone());
        assert_eq!(url.to_string(), "postgres://db.example:6432/main");
        assert!(!format!("{url:?} {settings:?}").contains("s3cret"));
        let socket: DatabaseUrl =
            "postgres:///main?host=/run/pg&user=ann&password=s3cret".parse().expect("a URL");
        assert_eq!(socket.to_string(), "postgres:///main?host=/run/pg");
    }

    #[test]
    fn a_url_that_cannot_be_one_is_refused_without_repeating_it() {
        assert_eq!("mysql://ann:s3cret@x/y".parse::<DatabaseUrl>().err(), Some(DatabaseUrlError::Scheme));
        for text in ["postgres://ann:s3cret@host:port/x", "postgres://ann:s3cret@h/x?sslmode=maybe"] {
            let error = text.parse::<DatabaseUrl>().expect_err("malformed").to_string();
            assert!(
                error.starts_with("the database URL is malformed") && !error.contains("s3cret"),
                "{error}"
            );
        }
    }
}

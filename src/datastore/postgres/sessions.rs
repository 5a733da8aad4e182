//! Whether a session of the server belongs to its connection, or a pooler shares sessions out.
//!
//! In transaction mode each transaction of a connection may meet another session, and what one
//! leaves behind, the next client finds. Worst of all are prepared statements: a name that one
//! connection gave leads to whatever another one prepared under it, and that is executed with the
//! wrong parameters. So a node finds out before it prepares anything.

use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection as _, PgConnection, Row as _};
use tokio::time::timeout;

use super::failure::Failure;

/// What may be left in a session between two transactions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sessions {
    /// Settings and prepared statements: the session is the connection's own.
    Own,
    /// Nothing. A statement is prepared and executed within one transaction, settings end with it.
    Shared,
    /// Prepared statements, because the pooler follows them, but no settings.
    SharedAndPrepared,
}

impl Sessions {
    /// Whether a pooler shares them out.
    pub(super) fn are_shared(self) -> bool {
        match self {
            Self::Own => false,
            Self::Shared | Self::SharedAndPrepared => true,
        }
    }

    /// What is so behind the address of `options`, if the setting is `capacity`.
    pub(super) async fn find_out(
        options: &PgConnectOptions,
        capacity: Option<usize>,
        limit: Duration,
    ) -> Result<Self, Failure> {
        if capacity == Some(0) {
            return Ok(Self::Shared);
        }
        let shared = match timeout(limit, are_shared(options)).await {
            Ok(shared) => shared?,
            Err(_elapsed) => return Err(Failure::TimedOut(limit)),
        };
        Ok(match (shared, capacity) {
            (false, _) => Self::Own,
            (true, None) => Self::Shared,
            (true, Some(_)) => Self::SharedAndPrepared,
        })
    }
}

/// How often two connections are asked in turn. A pooler that keeps its sessions in order shows
/// itself at once; one whose other clients are busy, soon.
const ROUNDS: usize = 5;

/// Whether, of two open connections, one meets the session of the other, or not always the same.
async fn are_shared(options: &PgConnectOptions) -> Result<bool, Failure> {
    let mut first = PgConnection::connect_with(options).await.map_err(Failure::from_connecting)?;
    let mut second = PgConnection::connect_with(options).await.map_err(Failure::from_connecting)?;
    let met = (session(&mut first).await?, session(&mut second).await?);
    let mut shared = met.0 == met.1;
    for _ in 1..ROUNDS {
        if shared {
            break;
        }
        shared = (session(&mut first).await?, session(&mut second).await?) != met;
    }
    // What is known is known, however they end.
    let _ = (first.close().await, second.close().await);
    Ok(shared)
}

/// The process that serves the present transaction, asked without preparing anything.
async fn session(connection: &mut PgConnection) -> Result<i32, Failure> {
    let row = sqlx::raw_sql("SELECT pg_backend_pid()").fetch_one(connection).await?;
    Ok(row.try_get(0)?)
}

//! A database that drops its clients.

use std::time::{Duration, Instant};

use sqlx::{Connection as _, PgConnection};

/// Ends every session on the database but its own, again and again until the deadline: in the
/// middle of commits, of loads of the log and of questions for the newest revision. Returns how
/// many sessions were ended.
pub async fn end_sessions(url: String, every: Duration, deadline: Instant) -> i64 {
    let mut own = PgConnection::connect(&url).await.expect("a connection");
    let mut ended = 0;
    while Instant::now() + every < deadline {
        tokio::time::sleep(every).await;
        let others: i64 = sqlx::query_scalar(
            "select count(*) filter (where pg_terminate_backend(pid)) from pg_stat_activity
             where datname = current_database() and pid <> pg_backend_pid()",
        )
        .fetch_one(&mut own)
        .await
        .expect("to end sessions");
        ended += others;
    }
    own.close().await.expect("an open connection");
    ended
}

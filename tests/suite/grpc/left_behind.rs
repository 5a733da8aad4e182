//! A node that a failover has left behind: it still has the old history, and no way to the database.

use relata::proto;
use relata::proto::Verdict;
use relata::proto::consistency::Requirement;
use sqlx::{Connection as _, PgConnection};
use tonic::{Code, Status};

use super::{Running, consistency, question, refused};
use crate::faults::{Cut, Gate, Proxy};
use crate::postgres_server;

const TEXT: &str = "doc:1#owner@user:ann";

async fn ask(server: &Running, requirement: Requirement) -> Result<proto::CheckResponse, Status> {
    server.check(proto::CheckRequest { consistency: consistency(requirement), ..question(TEXT) }).await
}

/// A write made since, on another node, has a number that this node has given to a lost one. It
/// must not be called lost: its client would undo what is in force.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_written_since_is_not_called_lost() {
    let url = tokio::task::spawn_blocking(postgres_server::fresh_database).await.expect("a cluster");
    let Some(url) = url else { return };
    let (way, through) = Proxy::before_database(&url);
    let behind = Running::on_url(&through, |_| {}).await;
    behind.with_schema().await;
    let lost = behind.touch(&[TEXT]).await;

    way.gate(Gate::Refuse);
    way.cut_all(Cut::Reset);
    // As a replica that lacked the write would have it, once something else has been written.
    let mut database = PgConnection::connect(&url).await.expect("the database");
    let another = "update relata.revision set write_id = gen_random_uuid() where revision = 2";
    let changed = sqlx::raw_sql(another).execute(&mut database).await.expect("another write");
    assert_eq!(changed.rows_affected(), 1);
    let ahead = Running::on_url(&url, |_| {}).await;
    let since = ask(&ahead, Requirement::Full(())).await.expect("an answer").zookie;
    assert_ne!(since, lost);

    // It cannot know which of the two counts.
    for wish in [Requirement::AtLeast(since.clone()), Requirement::Exact(since.clone())] {
        refused(ask(&behind, wish).await, Code::Unavailable, "DATABASE_UNAVAILABLE", "");
    }
    way.gate(Gate::Open);
    for wish in [Requirement::AtLeast(since.clone()), Requirement::Exact(since.clone())] {
        let answer = ask(&behind, wish).await.expect("an answer");
        assert_eq!((answer.verdict(), &answer.zookie), (Verdict::Allowed, &since));
    }
    for node in [&behind, &ahead] {
        for wish in [Requirement::AtLeast(lost.clone()), Requirement::Exact(lost.clone())] {
            refused(ask(node, wish).await, Code::FailedPrecondition, "ZOOKIE_HISTORY_LOST", "");
        }
    }
    behind.stop().await;
    ahead.stop().await;
}

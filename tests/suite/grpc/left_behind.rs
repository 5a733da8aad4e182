//! A node that a failover has left behind: it still has the old history, and no way to the database.

use std::time::Duration;

use relata::proto;
use relata::proto::Verdict;
use relata::proto::consistency::Requirement;
use relata::revision::{Revision, Zookie};
use sqlx::{Connection as _, PgConnection};
use tonic::{Code, Request, Status};

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

    // Nor whether anybody has written so much.
    let mut ahead_of_all: Zookie = since.parse().expect("a zookie");
    ahead_of_all.revision = Revision(1_000);
    let mut request = Request::new(proto::CheckRequest {
        consistency: consistency(Requirement::AtLeast(ahead_of_all.to_string())),
        ..question(TEXT)
    });
    request.set_timeout(Duration::from_millis(400));
    refused(behind.permissions().check(request).await, Code::Unavailable, "ZOOKIE_AHEAD", "");
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

/// A node that will not look at the database by itself, and the schema's zookie.
async fn heedless(url: &str) -> (Running, String) {
    let node = Running::on_url(url, |config| config.feed.poll_interval = Duration::from_hours(1)).await;
    let zookie = node.write_schema(super::SCHEMA).await.expect("a schema").zookie;
    (node, zookie)
}

/// The database is replaced by one that has another write at revision 2 and nothing after it.
async fn replace(url: &str) {
    let mut database = PgConnection::connect(url).await.expect("the database");
    let other = "update relata.revision set write_id = gen_random_uuid() where revision = 2;
                 delete from relata.change where revision > 2;
                 delete from relata.tuple where revision > 2;
                 delete from relata.revision where revision > 2";
    sqlx::raw_sql(other).execute(&mut database).await.expect("another history");
}

/// Read takes the revision from memory and the tuples from the database, which has another history
/// meanwhile. Neither may be mixed, nor may the zookie of what both have be called lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tuples_are_read_from_the_history_they_are_said_to_be_of() {
    let url = tokio::task::spawn_blocking(postgres_server::fresh_database).await.expect("a cluster");
    let Some(url) = url else { return };
    let (behind, schema) = heedless(&url).await;
    for tuple in ["doc:1#owner@user:ann", "doc:2#owner@user:ann", "doc:3#owner@user:ann"] {
        behind.touch(&[tuple]).await;
    }
    replace(&url).await;
    let request = proto::ReadRequest { at_least: schema, ..Default::default() };
    let mut answers = behind.tuples().read(request).await.expect("an answer").into_inner();
    let mut read = Vec::new();
    let mut zookie = String::new();
    while let Some(answer) = answers.message().await.expect("an answer") {
        read.extend(answer.tuples.iter().map(super::text));
        zookie = answer.zookie;
    }
    assert_eq!(read, ["doc:1#owner@user:ann"]);
    let newest = ask(&behind, Requirement::Full(())).await.expect("an answer").zookie;
    assert_eq!(zookie, newest);
    behind.stop().await;
}

/// Whoever has written and asks the same node sees the write, although the node held a history that
/// went further, and had not noticed that it is gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_written_here_is_seen_here() {
    let url = tokio::task::spawn_blocking(postgres_server::fresh_database).await.expect("a cluster");
    let Some(url) = url else { return };
    let (behind, _) = heedless(&url).await;
    for tuple in ["doc:1#owner@user:ann", "doc:2#owner@user:ann", "doc:3#owner@user:ann"] {
        behind.touch(&[tuple]).await;
    }
    replace(&url).await;
    let written = behind.touch(&["doc:4#owner@user:ann"]).await;
    let answer = behind.check(question("doc:4#owner@user:ann")).await.expect("an answer");
    assert_eq!((answer.verdict(), answer.zookie), (Verdict::Allowed, written));
    let answer = behind.check(question("doc:3#owner@user:ann")).await.expect("an answer");
    assert_eq!(answer.verdict(), Verdict::Denied);
    behind.stop().await;
}

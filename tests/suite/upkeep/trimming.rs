//! The changelog is trimmed where that is asked for, and whoever still needs what is gone is told.

use std::time::Duration;

use futures::TryStreamExt as _;
use relata::proto;
use relata::proto::Verdict;
use relata::proto::consistency::Requirement;
use tonic::Code;

use super::node::serve_with;
use super::until;
use crate::datastore::fixture::{Place, on_each_place};
use crate::grpc::{Running, consistency, question, refused};

on_each_place!(who_needs_what_was_trimmed_is_told);

async fn watch(server: &Running, after: &str) -> Result<Vec<String>, tonic::Status> {
    let request = proto::WatchRequest { after: after.to_owned(), ..Default::default() };
    let mut stream = server.tuples().watch(request).await?.into_inner();
    let mut notes = Vec::new();
    loop {
        let message = tokio::time::timeout(Duration::from_secs(20), stream.message()).await;
        let message = message.expect("in time")?.expect("the stream goes on");
        notes.extend((!message.note.is_empty()).then_some(message.note.clone()));
        if notes.last().is_some_and(|note| note == "last") {
            return Ok(notes);
        }
    }
}

async fn write(server: &Running, tuple: &str, note: &str) -> String {
    let updates = vec![crate::grpc::update(proto::update::Operation::Touch, tuple)];
    let request = proto::WriteRequest { updates, note: note.to_owned(), ..Default::default() };
    server.tuples().write(request).await.expect("written").into_inner().zookie
}

async fn log(server: &Running, after: &str) -> Result<(Vec<u64>, bool), tonic::Status> {
    let request = proto::ReadLogRequest { after: after.to_owned(), ..Default::default() };
    let stream = server.tuples().read_log(request).await?.into_inner();
    let messages: Vec<proto::ReadLogResponse> = stream.try_collect().await?;
    let trimmed = messages.last().expect("a last message").trimmed;
    Ok((
        messages.into_iter().filter_map(|message| message.entry).map(|entry| entry.revision).collect(),
        trimmed,
    ))
}

async fn who_needs_what_was_trimmed_is_told(place: Place) {
    let keep =
        |config: &mut relata::config::Config| config.upkeep.log_retention = Some(Duration::from_hours(1));
    let server = serve_with(&place, keep).await;
    server.with_schema().await;
    let old = write(&server, "doc:1#owner@user:ann", "first").await;
    write(&server, "doc:2#owner@user:ann", "second").await;
    let edge = write(&server, "doc:3#owner@user:ann", "third").await;
    write(&server, "doc:4#owner@user:ann", "fourth").await;
    write(&server, "doc:5#owner@user:ann", "last").await;
    assert_eq!(log(&server, "").await.expect("the log"), (vec![6, 5, 4, 3, 2, 1], false));

    // Revisions 1 to 4 are made two hours old; the upkeep removes them by itself.
    place.execute("UPDATE {revision} SET committed_at = committed_at - 7200000000 WHERE revision < 5").await;
    until(&place, "SELECT count(*) FROM {revision}", 2).await;
    until(&place, "SELECT floor FROM {store} WHERE name = 'default'", 5).await;
    assert_eq!(place.number("SELECT count(*) FROM {change} WHERE revision < 5").await, 0);

    // The audit log says that it is no longer all, and refuses to begin where nothing is left.
    assert_eq!(log(&server, "").await.expect("the log"), (vec![6, 5], true));
    refused(log(&server, &old).await, Code::OutOfRange, "LOG_TRIMMED", "");
    assert_eq!(log(&server, &edge).await.expect("the log"), (vec![6, 5], false), "nothing after it is gone");

    // Facts do not age. This server still has the past in memory; another one does not, and neither
    // shows a reader of Watch a part of what it missed as if that were all.
    match watch(&server, &old).await {
        Ok(notes) => assert_eq!(notes, ["second", "third", "fourth", "last"]),
        Err(status) => drop(refused(Err::<(), _>(status), Code::OutOfRange, "LOG_TRIMMED", "")),
    }
    server.stop().await;
    let server = serve_with(&place, keep).await;
    for number in 1..=5 {
        assert_eq!(server.verdict(&format!("doc:{number}#owner@user:ann")).await, Verdict::Allowed);
    }
    refused(watch(&server, &old).await, Code::OutOfRange, "LOG_TRIMMED", "");
    assert_eq!(watch(&server, &edge).await.expect("the rest"), ["fourth", "last"]);
    let ask = |requirement| proto::CheckRequest {
        consistency: consistency(requirement),
        ..question("doc:5#owner@user:ann")
    };
    let exact = server.check(ask(Requirement::Exact(old.clone()))).await;
    refused(exact, Code::OutOfRange, "REVISION_OUT_OF_RANGE", "");
    // A newer answer is as good as that one, which is taken on trust.
    let newer = server.check(ask(Requirement::AtLeast(old))).await.expect("an answer");
    assert_eq!(newer.verdict(), Verdict::Allowed);
    server.stop().await;
}

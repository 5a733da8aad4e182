//! What is let in at once: calls, streams and bytes, of one caller and of all; and what is let go.

use std::time::Duration;

use relata::proto;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Response, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use super::{Running, question, reason, refused};
use crate::observed::scrape_until;

async fn health(server: &Running) {
    let mut client = HealthClient::new(server.channel.clone());
    client.check(HealthCheckRequest::default()).await.expect("health is always answered");
}

fn overloaded(status: &Status, of: &str) {
    assert_eq!(
        (status.code(), reason(status).as_str()),
        (Code::ResourceExhausted, "OVERLOADED"),
        "{status:?}"
    );
    assert!(status.message().contains(of), "{status:?}");
}

/// Writes that wait for a database somebody else has locked take up places; when they end there is
/// room again. Health is asked all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_under_way_are_bounded() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("relata.db");
    let server = Running::on_file(path.clone(), |config| config.admission.calls = 10).await;
    server.with_schema().await;
    let text = "doc:1#owner@user:ann";
    server.touch(&[text]).await;
    let foreign = rusqlite::Connection::open(path).expect("a connection");
    foreign.busy_timeout(Duration::from_secs(30)).expect("patience");
    foreign.execute_batch("BEGIN IMMEDIATE").expect("the lock");
    let waiting: Vec<_> = (0..8)
        .map(|_| {
            let mut client = server.tuples();
            let updates = vec![super::update(proto::update::Operation::Touch, text)];
            let request = proto::WriteRequest { updates, ..Default::default() };
            tokio::spawn(async move { client.write(request).await })
        })
        .collect();
    let held = |exposition: &_| held(exposition, "calls") >= 8.0;
    scrape_until(server.operations, "eight calls under way", held).await;
    // Four fifths are one caller's, and this is one.
    overloaded(&server.check(question(text)).await.expect_err("full"), "calls");
    health(&server).await;
    for call in waiting {
        call.abort();
    }
    scrape_until(server.operations, "no call under way", |exposition| self::held(exposition, "calls") == 0.0)
        .await;
    foreign.execute_batch("ROLLBACK").expect("given back");
    server.verdict(text).await;
    server.stop().await;
}

fn held(exposition: &crate::observed::exposition::Exposition, resource: &str) -> f64 {
    exposition.value("relata_admission_held", &[("resource", resource)])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn open_streams_are_bounded() {
    let server = Running::sqlite(|config| config.admission.streams = 5).await;
    server.with_schema().await;
    let mut open = Vec::new();
    for _ in 0..4 {
        open.push(server.tuples().watch(proto::WatchRequest::default()).await.expect("a stream"));
    }
    overloaded(&server.tuples().watch(proto::WatchRequest::default()).await.expect_err("full"), "streams");
    server.verdict("doc:1#owner@user:ann").await;
    open.clear();
    scrape_until(server.operations, "no stream open", |exposition| held(exposition, "streams") == 0.0).await;
    server.tuples().watch(proto::WatchRequest::default()).await.expect("a stream");
    server.stop().await;
}

/// A request is refused while it comes in, not when it is there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_of_requests_are_bounded() {
    let server = Running::sqlite(|config| config.admission.bytes = 100_000).await;
    server.with_schema().await;
    let request = proto::WriteSchemaRequest { text: "#".repeat(90_000), ..Default::default() };
    overloaded(&server.schemas().write_schema(request).await.expect_err("too much"), "bytes");
    let request = proto::WriteSchemaRequest { text: "#".repeat(60_000), ..Default::default() };
    refused(
        server.schemas().write_schema(request).await,
        Code::InvalidArgument,
        "SCHEMA_INVALID",
        "text:1:1",
    );
    let all = |exposition: &_| held(exposition, "bytes") == 0.0;
    scrape_until(server.operations, "all bytes given back", all).await;
    server.stop().await;
}

/// A reader who keeps up is never let go, however long the stream lasts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_waits_for_news_has_not_stalled() {
    let server = Running::sqlite(|config| {
        config.admission.reader_patience = Duration::from_millis(200);
        config.watch_checkpoint = Duration::from_hours(1);
    })
    .await;
    server.with_schema().await;
    let mut watch =
        server.tuples().watch(proto::WatchRequest::default()).await.expect("a stream").into_inner();
    watch.message().await.expect("a message").expect("where it begins");
    tokio::time::sleep(Duration::from_millis(800)).await;
    server.touch(&["doc:1#owner@user:ann"]).await;
    watch.message().await.expect("not ended").expect("a change");
    server.stop().await;
}

/// Whoever shows no credential holds few streams on one connection and not many on all of them.
/// Others have theirs all the same, and a single question about health is always answered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_of_strangers_have_a_bound_of_their_own() {
    let server = Running::sqlite(|config| config.admission.anonymous_streams = 20).await;
    server.with_schema().await;
    let watch = async |channel: &Channel| {
        HealthClient::new(channel.clone())
            .watch(HealthCheckRequest::default())
            .await
            .map(Response::into_inner)
    };
    let mut open = Vec::new();
    for _ in 0..16 {
        open.push(watch(&server.channel).await.expect("a stream"));
    }
    overloaded(&watch(&server.channel).await.expect_err("enough for one"), "anonymous_streams");
    let endpoint = Endpoint::from_shared(format!("http://{}", server.address)).expect("an address");
    let other = endpoint.connect().await.expect("a connection");
    for _ in 0..4 {
        open.push(watch(&other).await.expect("a stream"));
    }
    overloaded(&watch(&other).await.expect_err("enough for all"), "anonymous_streams");
    health(&server).await;
    server.tuples().watch(proto::WatchRequest::default()).await.expect("streams of callers are others");
    open.clear();
    let none = |exposition: &_| held(exposition, "anonymous_streams") == 0.0;
    scrape_until(server.operations, "no stream open", none).await;
    watch(&server.channel).await.expect("a stream");
    server.stop().await;
}

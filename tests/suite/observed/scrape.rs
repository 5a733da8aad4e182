//! What is scraped after some traffic is what happened.

use relata::proto;
use tonic::Code;

use super::{Exposition, scrape, scrape_until};
use crate::grpc::{Running, on_both, question, refused};

const CHECK: &str = "relata.v1.PermissionService/Check";
const WRITE: &str = "relata.v1.TupleService/Write";
const WATCH: &str = "relata.v1.TupleService/Watch";
const LIST: &str = "relata.v1.PermissionService/ListObjects";

#[allow(clippy::float_cmp, reason = "counts are whole numbers")]
#[track_caller]
fn counts(exposition: &Exposition, name: &str, labels: &[(&str, &str)], expected: f64) {
    let found = exposition.value(name, labels);
    assert_eq!(found, expected, "{name}{labels:?}");
}

on_both! {
    async fn calls_are_counted_by_method_code_and_reason(server) {
        server.with_schema().await;
        server.touch(&["doc:1#owner@user:ann", "doc:1#granted@user:ben"]).await;
        for _ in 0..5 {
            server.verdict("doc:1#viewer@user:ann").await;
        }
        let unknown = server.check(question("nothing:1#viewer@user:ann")).await;
        refused(unknown, Code::InvalidArgument, "UNKNOWN_TYPE", "object");
        let request = proto::ListObjectsRequest {
            object_type: "doc".to_owned(),
            relation: "viewer".to_owned(),
            subject: "user:ann".to_owned(),
            ..Default::default()
        };
        let mut list = server.permissions().list_objects(request).await.expect("a list").into_inner();
        while list.message().await.expect("a message").is_some() {}

        let exposition = scrape(server.operations).await;
        let total = |rpc, code, expected| {
            counts(&exposition, "relata_requests_total", &[("rpc", rpc), ("code", code)], expected);
        };
        total(CHECK, "OK", 5.0);
        total(CHECK, "INVALID_ARGUMENT", 1.0);
        total(WRITE, "OK", 1.0);
        total(LIST, "OK", 1.0);
        total("unknown", "OK", 0.0);
        counts(&exposition, "relata_request_seconds_count", &[("rpc", CHECK)], 6.0);
        counts(&exposition, "relata_requests_in_flight", &[("rpc", CHECK)], 0.0);
        counts(&exposition, "relata_streams_open", &[("rpc", LIST)], 0.0);
        counts(&exposition, "relata_request_failures_total", &[("reason", "UNKNOWN_TYPE")], 1.0);
        counts(&exposition, "relata_request_failures_total", &[("reason", "QUEUE_FULL")], 0.0);
        counts(&exposition, "relata_search_fuel_count", &[("search", "check")], 5.0);
        assert!(exposition.value("relata_search_fuel_sum", &[("search", "check")]) >= 5.0);
        counts(&exposition, "relata_search_fuel_count", &[("search", "list_objects")], 1.0);
        counts(&exposition, "relata_writes_total", &[("outcome", "committed")], 2.0);
        counts(&exposition, "relata_commit_seconds_count", &[], 2.0);
        counts(&exposition, "relata_feed_revisions_published_total", &[], 2.0);
        counts(&exposition, "relata_feed_changes_applied_total", &[], 2.0);
        counts(&exposition, "relata_feed_publish_delay_seconds_count", &[], 2.0);
        let delay = exposition.value("relata_feed_publish_delay_seconds_sum", &[]);
        assert!((0.0..60.0).contains(&delay), "{delay}");
        assert!(exposition.value("relata_feed_hints_total", &[("source", "here")]) >= 2.0);
        assert!(exposition.value("relata_database_round_trip_seconds_count", &[("lane", "commit")]) >= 2.0);
    }

    async fn a_stream_is_open_until_it_is_given_up(server) {
        let mut watched =
            server.tuples().watch(proto::WatchRequest::default()).await.expect("a stream").into_inner();
        watched.message().await.expect("a message");
        let exposition = scrape(server.operations).await;
        counts(&exposition, "relata_streams_open", &[("rpc", WATCH)], 1.0);
        drop(watched);
        let ended = |exposition: &Exposition| {
            exposition.find("relata_requests_total", &[("rpc", WATCH), ("code", "CANCELLED")]) == Some(1.0)
        };
        let exposition = scrape_until(server.operations, "the end of the stream", ended).await;
        counts(&exposition, "relata_streams_open", &[("rpc", WATCH)], 0.0);
    }

    async fn memory_and_freshness_are_measured_while_nothing_happens(server) {
        let loaded = |exposition: &Exposition| {
            exposition.find("relata_memory_stores_resident", &[]) == Some(1.0)
        };
        let exposition = scrape_until(server.operations, "the default store", loaded).await;
        let staleness = exposition.value("relata_feed_staleness_seconds", &[]);
        assert!((0.0..60.0).contains(&staleness), "{staleness}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_in_front_of_all_methods_is_counted_too() {
    let server = Running::sqlite(|config| config.limits.message_bytes = 10_000).await;
    let mut large = question("doc:1#viewer@user:ann");
    large.store = "x".repeat(20_000);
    refused(server.check(large).await, Code::ResourceExhausted, "LIMIT_EXCEEDED", "");
    let exposition = scrape(server.operations).await;
    counts(&exposition, "relata_request_failures_total", &[("reason", "LIMIT_EXCEEDED")], 1.0);
    let labels = [("rpc", CHECK), ("code", "RESOURCE_EXHAUSTED")];
    counts(&exposition, "relata_requests_total", &labels, 1.0);
    server.stop().await;
}

//! Bounds on one call: lists, texts, messages, time, work.

use std::time::Duration;

use relata::proto;
use relata::proto::update::Operation;
use tonic::{Code, Request};

use super::{Running, on_both, question, reason, refused, tuple, update};

on_both! {
    async fn lists_and_texts_are_bounded(server) {
        server.with_schema().await;
        let updates = |count: usize| proto::WriteRequest {
            updates: (0..count).map(|index| update(Operation::Touch, &format!("doc:{index}#owner@user:ann"))).collect(),
            ..Default::default()
        };
        let nothing = proto::TupleFilter { object_type: "doc".into(), object_id: "none".into(), ..Default::default() };
        let precondition = proto::Precondition { operation: 2, filter: Some(nothing) };
        let largest = proto::WriteRequest { preconditions: vec![precondition.clone(); 100], ..updates(1_000) };
        server.tuples().write(largest).await.expect("a thousand updates and a hundred preconditions");
        refused(server.tuples().write(updates(1_001)).await, Code::InvalidArgument, "LIMIT_EXCEEDED", "updates");
        let request = proto::WriteRequest { preconditions: vec![precondition; 101], ..updates(1) };
        refused(server.tuples().write(request).await, Code::InvalidArgument, "LIMIT_EXCEEDED", "preconditions");
        let request = proto::WriteRequest { idempotency_key: "k".repeat(129), ..updates(1) };
        refused(server.tuples().write(request).await, Code::InvalidArgument, "LIMIT_EXCEEDED", "idempotency_key");
        let request = proto::WriteRequest { note: "ä".repeat(1_001), ..updates(1) };
        refused(server.tuples().write(request).await, Code::InvalidArgument, "LIMIT_EXCEEDED", "note");
        let request = proto::WriteRequest { note: "nul \0".into(), ..updates(1) };
        refused(server.tuples().write(request).await, Code::InvalidArgument, "INVALID_FIELD", "note");

        let many = |count: usize| proto::CheckRequest {
            contextual_tuples: (0..count).map(|index| tuple(&format!("doc:{index}#owner@user:ann"))).collect(),
            ..question("doc:1#owner@user:ann")
        };
        server.check(many(1_000)).await.expect("a thousand");
        refused(server.check(many(1_001)).await, Code::InvalidArgument, "LIMIT_EXCEEDED", "contextual_tuples");
        let text = prost_types::Value { kind: Some(prost_types::value::Kind::StringValue("x".repeat(40_000))) };
        let request = proto::CheckRequest { context: crate::grpc::context("x", text), ..question("doc:1#owner@user:ann") };
        refused(server.check(request).await, Code::InvalidArgument, "LIMIT_EXCEEDED", "context");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_over_the_limit_is_refused_with_a_reason() {
    let server = Running::sqlite(|_| {}).await;
    server.with_schema().await;
    let request = proto::WriteSchemaRequest { text: "x".repeat(5 << 20), ..Default::default() };
    let status = server.schemas().write_schema(request).await.expect_err("refused");
    assert_eq!(
        (status.code(), reason(&status).as_str()),
        (Code::ResourceExhausted, "LIMIT_EXCEEDED"),
        "{status:?}"
    );
    assert!(status.message().contains("too large"), "{status}");
    // The connection goes on.
    server.touch(&["doc:1#owner@user:ann"]).await;
    server.stop().await;
}

/// The fields of a Check that matter here, with its context as bytes that no client would send.
#[derive(Clone, PartialEq, prost::Message)]
struct RawCheck {
    #[prost(string, tag = "2")]
    object: String,
    #[prost(bytes = "vec", tag = "6")]
    context: Vec<u8>,
}

/// One field of a message, of the wire type that has a length.
fn field(tag: u8, inside: &[u8]) -> Vec<u8> {
    let mut bytes = vec![tag << 3 | 2];
    prost::encoding::encode_varint(inside.len() as u64, &mut bytes);
    bytes.extend_from_slice(inside);
    bytes
}

/// Values nested deeper than the wire format allows cannot be decoded, and take nothing down.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deeply_nested_context_is_refused() {
    let server = Running::sqlite(|_| {}).await;
    server.with_schema().await;
    // A value that is a list of a value that is a list …
    let mut value = Vec::new();
    for _ in 0..5_000 {
        value = field(6, &field(1, &value));
    }
    let entry = [field(1, b"x"), field(2, &value)].concat();
    let request = RawCheck { object: "doc:1".into(), context: field(1, &entry) };
    let mut client = tonic::client::Grpc::new(server.channel.clone());
    client.ready().await.expect("connected");
    let path = http::uri::PathAndQuery::from_static("/relata.v1.PermissionService/Check");
    let codec = tonic_prost::ProstCodec::<RawCheck, proto::CheckResponse>::default();
    let outcome = client.unary(Request::new(request), path, codec).await;
    refused(outcome, Code::InvalidArgument, "MALFORMED_MESSAGE", "");
    server.touch(&["doc:1#owner@user:ann"]).await;
    server.stop().await;
}

/// A chain of nested groups longer than the work allowed ends with the limit's name; a call that
/// runs out of time says so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_and_time_are_bounded() {
    let server = Running::sqlite(|config| {
        config.search.goals = 20_000;
        config.slice = 100;
    })
    .await;
    server.with_schema().await;
    let chain: Vec<String> =
        (0..30_000).map(|index| format!("group:g{index}#member@group:g{}#member", index + 1)).collect();
    for chunk in chain.chunks(1_000) {
        server.touch(&chunk.iter().map(String::as_str).collect::<Vec<_>>()).await;
    }
    // Well within the limit, and far beyond one slice.
    let near = server.check(question("group:g29000#member@user:nobody")).await.expect("an answer");
    assert_eq!(near.verdict(), proto::Verdict::Denied);
    let far = server.check(question("group:g0#member@user:nobody")).await;
    let status = refused(far, Code::ResourceExhausted, "LIMIT_EXCEEDED", "");
    assert!(status.message().contains("20000 goals"), "{status}");

    let mut request = Request::new(question("group:g20000#member@user:nobody"));
    request.set_timeout(Duration::from_millis(1));
    let late = server.permissions().check(request).await.expect_err("too late");
    assert!(matches!(late.code(), Code::DeadlineExceeded | Code::Cancelled), "{late:?}");
    server.stop().await;
}

/// More searches than places are refused at once, not queued behind each other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_pool_refuses_more_searches() {
    let server = Running::sqlite(|config| {
        config.max_searches = 0;
        config.slice = 10;
    })
    .await;
    // The text of a schema is read on the pool as well.
    let status = server.write_schema(crate::grpc::SCHEMA).await.expect_err("no place");
    assert_eq!(
        (status.code(), reason(&status).as_str()),
        (Code::ResourceExhausted, "QUEUE_FULL"),
        "{status:?}"
    );
    server.stop().await;
}

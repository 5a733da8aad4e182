//! What the collector is told of a call, and of which calls.

use std::collections::{BTreeMap, BTreeSet};

use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use relata::config::{Config, DatastoreConfig, Migration};
use relata::proto;
use tonic::Request;

use super::collector::{Collector, Mood, attributes};
use super::{CALLER, followed, trace_id, traced};
use crate::grpc::{Running, question, update};
use crate::postgres_server;

/// The spans of one trace, each below what it is a part of.
struct Tree(Vec<Span>);

impl Tree {
    fn of(spans: &[Span], number: u8) -> Self {
        Self(spans.iter().filter(|span| span.trace_id == trace_id(number)).cloned().collect())
    }

    #[track_caller]
    fn one(&self, name: &str) -> &Span {
        let named: Vec<_> = self.0.iter().filter(|span| span.name == name).collect();
        assert_eq!(named.len(), 1, "`{name}` in {:?}", self.names());
        named[0]
    }

    fn names(&self) -> Vec<&str> {
        self.0.iter().map(|span| &*span.name).collect()
    }

    /// The names of the parts of a span, and that each lies within it.
    #[track_caller]
    fn parts(&self, whole: &Span) -> BTreeSet<&str> {
        let parts = self.0.iter().filter(|span| span.parent_span_id == whole.span_id);
        parts
            .map(|part| {
                // Wall clocks are read where a span begins, so they may differ by a little.
                let slack = 50_000_000;
                assert!(part.start_time_unix_nano + slack >= whole.start_time_unix_nano, "{}", part.name);
                assert!(part.end_time_unix_nano <= whole.end_time_unix_nano + slack, "{}", part.name);
                assert!(part.end_time_unix_nano >= part.start_time_unix_nano, "{}", part.name);
                &*part.name
            })
            .collect()
    }
}

/// Writes and reads for callers that record, on a record of one kind, and looks at their spans.
async fn whole(mut config: Config, system: &str) {
    let collector = Collector::start(Mood::Good).await;
    traced(&mut config, &collector.url(), "0");
    let server = Running::start(config).await;
    server.with_schema().await;
    let secret = "doc:secret-plan#owner@user:secret-ann";
    let write = proto::WriteRequest {
        updates: vec![update(proto::update::Operation::Touch, secret)],
        note: "secret-note".into(),
        ..Default::default()
    };
    server.tuples().write(followed(write, 1, "01")).await.expect("written");
    let mut read = server
        .tuples()
        .read(followed(proto::ReadRequest::default(), 2, "01"))
        .await
        .expect("a stream")
        .into_inner();
    while read.message().await.expect("a message").is_some() {}
    let full = proto::CheckRequest {
        consistency: crate::grpc::consistency(proto::consistency::Requirement::Full(())),
        ..question("doc:secret-plan#owner@user:secret-ann")
    };
    server.permissions().check(followed(full, 3, "01")).await.expect("an answer");
    server.stop().await;

    let spans = collector.spans();
    let ids: BTreeSet<_> = spans.iter().map(|span| &span.span_id).collect();
    assert_eq!(ids.len(), spans.len(), "each span has an id of its own");
    assert!(spans.iter().all(|span| span.span_id.len() == 8 && span.flags & 1 == 1));
    assert!(!format!("{:?}", collector.requests()).contains("secret"), "nothing of what was sent is told");

    let tree = Tree::of(&spans, 1);
    let call = tree.one("relata.v1.TupleService/Write");
    assert_eq!(call.parent_span_id, CALLER);
    assert_eq!(call.kind(), SpanKind::Server);
    let said = attributes(&call.attributes);
    assert_eq!(said["rpc.system.name"], "grpc");
    assert_eq!(said["rpc.method"], "relata.v1.TupleService/Write");
    assert_eq!(said["rpc.response.status_code"], "OK");
    assert!(tree.parts(call).is_superset(&["commit.queue", "commit"].into()), "{:?}", tree.names());
    let commit = tree.one("commit");
    assert_eq!(attributes(&commit.attributes)["relata.group.writes"], "1");
    assert_eq!(tree.parts(commit), ["db.commit"].into());
    let asked = tree.one("db.commit");
    assert_eq!(asked.kind(), SpanKind::Client);
    assert_eq!(attributes(&asked.attributes)["db.system.name"], system);
    let steps = ["db.commit.lock", "db.commit.read", "db.commit.apply", "db.transaction.commit"];
    if system == "postgresql" {
        assert!(tree.parts(asked).is_superset(&steps.into()), "{:?}", tree.names());
    }

    let tree = Tree::of(&spans, 2);
    let call = tree.one("relata.v1.TupleService/Read");
    assert_eq!(call.parent_span_id, CALLER);
    assert!(tree.parts(call).contains("db.tuple.read"), "{:?}", tree.names());
    if system == "postgresql" {
        let read = tree.0.iter().find(|span| span.name == "db.tuple.read").expect("found above");
        assert!(tree.parts(read).contains("db.round_trip"), "{:?}", tree.names());
    }

    let tree = Tree::of(&spans, 3);
    let call = tree.one("relata.v1.PermissionService/Check");
    assert!(tree.parts(call).is_superset(&["consistency", "search"].into()), "{:?}", tree.names());
    let said = attributes(&tree.one("search").attributes);
    assert_eq!(said["relata.search"], "check");
    assert!(said["relata.fuel"].parse::<u64>().expect("a number") > 0);

    // Nobody else was recorded, and every part is a part of something that was.
    assert!(spans.iter().all(|span| (1..=3).any(|number| span.trace_id == trace_id(number))));
    for span in spans.iter().filter(|span| span.parent_span_id != CALLER) {
        assert!(ids.contains(&span.parent_span_id), "`{}` is a part of nothing", span.name);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_is_told_of_with_all_its_parts_on_sqlite() {
    let folder = tempfile::tempdir().expect("a folder");
    whole(Config::new(DatastoreConfig::Sqlite(folder.path().join("relata.db"))), "sqlite").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_is_told_of_with_all_its_parts_on_postgresql() {
    let fresh = tokio::task::spawn_blocking(postgres_server::fresh_database).await.expect("a cluster");
    let Some(url) = fresh else { return };
    let mut config = Config::new(url.parse().expect("a URL"));
    config.migration = Migration::AtStart;
    whole(config, "postgresql").await;
}

/// The caller's decision counts, and the ratio where it has made none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_records_is_not_sent() {
    let collector = Collector::start(Mood::Good).await;
    let server = Running::sqlite(|config| traced(config, &collector.url(), "0")).await;
    server.with_schema().await;
    server.touch(&["doc:1#owner@user:ann"]).await;
    let ask = async |request: Request<proto::CheckRequest>| {
        server.permissions().check(request).await.expect("an answer");
    };
    ask(followed(question("doc:1#owner@user:ann"), 1, "00")).await;
    ask(Request::new(question("doc:1#owner@user:ann"))).await;
    ask(followed(question("doc:1#owner@user:ann"), 2, "zz")).await;
    server.stop().await;
    assert_eq!(collector.spans(), []);

    let server = Running::sqlite(|config| traced(config, &collector.url(), "1")).await;
    server.with_schema().await;
    let ask = async |request: Request<proto::CheckRequest>| {
        server.permissions().check(request).await.expect("an answer");
    };
    ask(followed(question("doc:1#owner@user:ann"), 1, "00")).await;
    // A header that cannot be read counts as absent.
    ask(followed(question("doc:1#owner@user:ann"), 2, "zz")).await;
    server.stop().await;
    let spans = collector.spans();
    let checks: Vec<_> = spans.iter().filter(|span| span.name.ends_with("/Check")).collect();
    assert_eq!(checks.len(), 1);
    assert!(checks[0].parent_span_id.is_empty() && checks[0].trace_id.len() == 16);
    assert!(spans.iter().all(|span| span.trace_id != trace_id(1) && span.trace_id != trace_id(2)));
}

/// A failed call says why, and is marked failed where the server is at fault.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_call_says_why() {
    let collector = Collector::start(Mood::Good).await;
    let server = Running::sqlite(|config| traced(config, &collector.url(), "0")).await;
    let missing = proto::CheckRequest { store: "missing".into(), ..question("doc:1#owner@user:ann") };
    server.permissions().check(followed(missing, 1, "01")).await.expect_err("no such store");
    let path = tonic::codegen::http::uri::PathAndQuery::from_static("/relata.v1.Made/Up");
    let mut client = tonic::client::Grpc::new(server.channel.clone());
    client.ready().await.expect("connected");
    let codec = tonic_prost::ProstCodec::<proto::CheckRequest, proto::CheckResponse>::default();
    let unknown = client.unary(followed(proto::CheckRequest::default(), 2, "01"), path, codec).await;
    unknown.expect_err("no such method");
    server.stop().await;

    let spans = collector.spans();
    let tree = Tree::of(&spans, 1);
    let call = tree.one("relata.v1.PermissionService/Check");
    let said = attributes(&call.attributes);
    assert_eq!(said["rpc.response.status_code"], "NOT_FOUND");
    assert_eq!(said["error.type"], "STORE_NOT_FOUND");
    assert!(call.status.is_none(), "the caller is at fault");
    assert!(tree.0.iter().any(|span| span.name == "db.store.find"), "{:?}", tree.names());
    // A path that a caller makes up is no name of a span.
    let tree = Tree::of(&spans, 2);
    let call = tree.one("unknown");
    assert_eq!(attributes(&call.attributes)["rpc.response.status_code"], "UNIMPLEMENTED");
    assert_eq!(call.status.as_ref().expect("a status").code(), StatusCode::Error);
}

/// Writes that are committed together point to the one under which the commit is told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_of_one_group_point_to_one_another() {
    const WRITES: u8 = 200;
    let collector = Collector::start(Mood::Good).await;
    let server = Running::sqlite(|config| traced(config, &collector.url(), "0")).await;
    server.with_schema().await;
    let writes = (0..WRITES).map(|number| {
        let write = proto::WriteRequest {
            updates: vec![update(proto::update::Operation::Touch, &format!("doc:{number}#owner@user:ann"))],
            ..Default::default()
        };
        let mut tuples = server.tuples();
        async move { tuples.write(followed(write, number, "01")).await.expect("written") }
    });
    futures::future::join_all(writes).await;
    server.stop().await;

    let spans = collector.spans();
    let commits: BTreeMap<_, _> =
        spans.iter().filter(|span| span.name == "commit").map(|span| (&span.span_id, span)).collect();
    assert_eq!(commits.len(), usize::from(WRITES));
    let mut groups: BTreeMap<_, usize> = BTreeMap::new();
    for span in commits.values() {
        let size = attributes(&span.attributes)["relata.group.writes"].parse::<usize>().expect("a number");
        let first: &Span = match &span.links[..] {
            [] => {
                let told = spans.iter().filter(|part| part.parent_span_id == span.span_id).count();
                assert_eq!(told, 1, "what the database was asked is told below the first");
                span
            }
            [link] => {
                let first = commits[&link.span_id];
                assert_eq!(first.trace_id, link.trace_id);
                assert!(first.links.is_empty());
                first
            }
            more => panic!("{} links", more.len()),
        };
        assert_eq!(attributes(&first.attributes)["relata.group.writes"], size.to_string());
        *groups.entry((&first.span_id, size)).or_default() += 1;
    }
    for ((_, size), members) in &groups {
        assert_eq!(size, members, "every write of a group is told of");
    }
    assert!(groups.keys().any(|(_, size)| *size > 1), "{WRITES} writes at once share transactions");
}

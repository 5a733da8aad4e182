//! Watch: every revision, in order, resumable.

use std::time::Duration;

use relata::proto;
use relata::proto::tuple_change::Operation;
use relata::revision::Zookie;
use sqlx::Connection as _;
use tonic::{Code, Request, Status, Streaming};
use tonic_types::StatusExt as _;

use super::{Running, SCHEMA, on_both, refused, text};

struct Watched(Streaming<proto::WatchResponse>);

impl Watched {
    async fn start(server: &Running, request: proto::WatchRequest) -> Result<Self, Status> {
        Ok(Self(server.tuples().watch(request).await?.into_inner()))
    }

    async fn message(&mut self) -> Result<proto::WatchResponse, Status> {
        let message = tokio::time::timeout(Duration::from_secs(10), self.0.message()).await;
        message.expect("a message in time").map(|message| message.expect("the stream goes on"))
    }

    /// The next message with changes, past checkpoints.
    async fn changes(&mut self) -> proto::WatchResponse {
        loop {
            let message = self.message().await.expect("a message");
            if !message.changes.is_empty() {
                return message;
            }
            assert!(message.checkpoint, "{message:?}");
        }
    }
}

fn shown(message: &proto::WatchResponse) -> Vec<String> {
    let sign = |change: &proto::TupleChange| if change.operation() == Operation::Written { '+' } else { '-' };
    message
        .changes
        .iter()
        .map(|change| format!("{}{}", sign(change), change.tuple.as_ref().map(text).unwrap_or_default()))
        .collect()
}

fn revision(message: &proto::WatchResponse) -> u64 {
    message.zookie.parse::<Zookie>().expect("a zookie").revision.0
}

on_both! {
    async fn a_stream_from_now_shows_what_follows(server) {
        server.with_schema().await;
        server.touch(&["doc:0#owner@user:ann"]).await;
        let mut watched = Watched::start(server, proto::WatchRequest::default()).await.expect("a stream");
        let begin = watched.message().await.expect("a message");
        assert!(begin.checkpoint && !begin.zookie.is_empty());
        let request = proto::WriteRequest {
            updates: vec![
                crate::grpc::update(proto::update::Operation::Touch, "doc:1#owner@user:ann"),
                crate::grpc::update(proto::update::Operation::Delete, "doc:0#owner@user:ann"),
            ],
            note: "moved".into(),
            ..Default::default()
        };
        let zookie = server.tuples().write(request).await.expect("written").into_inner().zookie;
        let message = watched.changes().await;
        let mut changes = shown(&message);
        changes.sort();
        assert_eq!(changes, ["+doc:1#owner@user:ann", "-doc:0#owner@user:ann"]);
        assert_eq!((message.zookie, message.note.as_str()), (zookie, "moved"));
        assert!(message.committed_at.is_some() && message.principal.is_empty());
    }

    async fn a_stream_resumes_without_missing_or_repeating(server) {
        server.with_schema().await;
        let start = server.touch(&["doc:start#owner@user:ann"]).await;
        for index in 0..50 {
            server.touch(&[&format!("doc:{index}#owner@user:ann")]).await;
        }
        let (mut after, mut seen) = (start, Vec::new());
        // Ten revisions at a time, each time on a new stream.
        for _ in 0..5 {
            let request = proto::WatchRequest { after: after.clone(), ..Default::default() };
            let mut watched = Watched::start(server, request).await.expect("a stream");
            for _ in 0..10 {
                let message = watched.changes().await;
                seen.push((revision(&message), shown(&message).concat()));
                after = message.zookie;
            }
        }
        let expected: Vec<String> = (0..50).map(|index| format!("+doc:{index}#owner@user:ann")).collect();
        assert_eq!(seen.iter().map(|(_, change)| change.clone()).collect::<Vec<_>>(), expected);
        assert!(seen.windows(2).all(|pair| pair[1].0 == pair[0].0 + 1), "{seen:?}");
    }

    async fn filters_pass_over_other_types_and_schemas_are_shown_if_asked(server) {
        server.with_schema().await;
        let request = proto::WatchRequest {
            object_types: vec!["group".into()],
            include_schema_changes: true,
            ..Default::default()
        };
        let mut watched = Watched::start(server, request).await.expect("a stream");
        server.touch(&["doc:1#owner@user:ann"]).await;
        server.touch(&["doc:2#owner@user:ann", "group:eng#member@user:ann"]).await;
        assert_eq!(shown(&watched.changes().await), ["+group:eng#member@user:ann"]);
        let schema_id = server.write_schema(&format!("{SCHEMA}\n# again\n")).await.expect("a schema").schema_id;
        let schema = loop {
            let message = watched.message().await.expect("a message");
            if !message.schema_id.is_empty() {
                break message;
            }
        };
        assert_eq!((schema.schema_id, schema.changes.len()), (schema_id, 0));
        let bad = proto::WatchRequest { object_types: vec!["a b".into()], ..Default::default() };
        refused(Watched::start(server, bad).await.map(|_| ()), Code::InvalidArgument, "INVALID_FIELD", "object_types");
        let many = proto::WatchRequest { object_types: vec!["doc".into(); 101], ..Default::default() };
        refused(Watched::start(server, many).await.map(|_| ()), Code::InvalidArgument, "LIMIT_EXCEEDED", "object_types");
    }

    async fn a_stream_ends_at_the_deadline_it_was_given(server) {
        server.with_schema().await;
        let mut request = Request::new(proto::WatchRequest::default());
        request.set_timeout(Duration::from_millis(300));
        let mut stream = server.tuples().watch(request).await.expect("a stream").into_inner();
        let ended = loop {
            match stream.message().await {
                Ok(message) => assert!(message.is_some_and(|message| message.checkpoint)),
                Err(status) => break status,
            }
        };
        refused::<()>(Err(ended), Code::DeadlineExceeded, "DEADLINE_EXCEEDED", "");
    }

    async fn a_start_that_is_not_ours_is_refused(server) {
        server.with_schema().await;
        let zookie = server.touch(&["doc:1#owner@user:ann"]).await;
        let start = |after: &str| Watched::start(server, proto::WatchRequest { after: after.into(), ..Default::default() });
        refused(start("soon").await.map(|_| ()), Code::InvalidArgument, "ZOOKIE_MALFORMED", "after");
        let mut forged: Zookie = zookie.parse().expect("a zookie");
        forged.write = [9; 8];
        let forged = forged.to_string();
        refused(start(&forged).await.map(|_| ()), Code::FailedPrecondition, "ZOOKIE_HISTORY_LOST", "");
    }
}

/// The database is restored to an earlier state and goes on from there: another write has the
/// number of one that was shown. The stream ends with the last revision that still counts, and
/// nothing answers for the ones that do not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_ends_where_the_history_forks() {
    let url = tokio::task::spawn_blocking(crate::postgres_server::fresh_database).await.expect("a cluster");
    let Some(url) = url else { return };
    let server = Running::on_url(&url, |_| {}).await;
    server.with_schema().await;
    let start = server.touch(&["doc:0#owner@user:ann"]).await;
    let mut watched = Watched::start(&server, proto::WatchRequest { after: start, ..Default::default() })
        .await
        .expect("a stream");
    let mut zookies = Vec::new();
    for index in 1..=5 {
        server.touch(&[&format!("doc:{index}#owner@user:ann")]).await;
        zookies.push(watched.changes().await.zookie);
    }
    let mut connection = sqlx::PgConnection::connect(&url).await.expect("a connection");
    sqlx::raw_sql("UPDATE relata.revision SET write_id = gen_random_uuid() WHERE revision >= 6")
        .execute(&mut connection)
        .await
        .expect("rewritten");
    let ended = loop {
        match watched.message().await {
            Ok(message) => assert!(message.checkpoint, "{message:?}"),
            Err(status) => break status,
        }
    };
    let status = refused::<()>(Err(ended), Code::DataLoss, "HISTORY_DIVERGED", "");
    let details = status.get_error_details();
    let fork = details.error_info().and_then(|info| info.metadata.get("zookie")).expect("the fork").clone();
    // Revision 1 is the schema, 2 the first tuple: the third change is revision 5.
    assert_eq!(fork, zookies[2]);

    let at_least = |zookie: &str| proto::CheckRequest {
        consistency: crate::grpc::consistency(proto::consistency::Requirement::AtLeast(zookie.to_owned())),
        ..crate::grpc::question("doc:1#owner@user:ann")
    };
    refused(server.check(at_least(&zookies[4])).await, Code::FailedPrecondition, "ZOOKIE_HISTORY_LOST", "");
    assert!(server.check(at_least(&fork)).await.is_ok());
    Watched::start(&server, proto::WatchRequest { after: fork, ..Default::default() })
        .await
        .expect("goes on");
    server.stop().await;
}

/// What has been trimmed cannot be watched, and what is kept can.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_before_the_kept_log_is_out_of_range() {
    let url = tokio::task::spawn_blocking(crate::postgres_server::fresh_database).await.expect("a cluster");
    let Some(url) = url else { return };
    let server = Running::on_url(&url, |_| {}).await;
    server.with_schema().await;
    let mut zookies = Vec::new();
    for index in 0..6 {
        zookies.push(server.touch(&[&format!("doc:{index}#owner@user:ann")]).await);
    }
    server.stop().await;
    // Revision 1 is the schema, so these are the revisions before the fourth tuple.
    let mut connection = sqlx::PgConnection::connect(&url).await.expect("a connection");
    sqlx::raw_sql("DELETE FROM relata.change WHERE revision < 5; DELETE FROM relata.revision WHERE revision < 5; UPDATE relata.store SET floor = 5")
        .execute(&mut connection)
        .await
        .expect("trimmed");
    let server = Running::on_url(&url, |_| {}).await;
    let start = |after: &String| {
        Watched::start(&server, proto::WatchRequest { after: after.clone(), ..Default::default() })
    };
    let mut early = start(&zookies[1]).await.expect("a stream");
    assert!(early.message().await.expect("where it starts").checkpoint);
    refused(early.message().await, Code::OutOfRange, "LOG_TRIMMED", "");
    let mut kept = start(&zookies[3]).await.expect("a stream");
    assert_eq!(shown(&kept.changes().await), ["+doc:4#owner@user:ann"]);
    assert_eq!(shown(&kept.changes().await), ["+doc:5#owner@user:ann"]);
    drop((early, kept));
    server.stop().await;
}

/// A reader that never reads holds up nobody, and finds everything when it does read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reader_holds_up_nobody() {
    let server = Running::sqlite(|_| {}).await;
    server.with_schema().await;
    let mut slow = Watched::start(&server, proto::WatchRequest::default()).await.expect("a stream");
    let writes = 300;
    for index in 0..writes {
        server.touch(&[&format!("doc:{index}#owner@user:{}", "x".repeat(200))]).await;
    }
    let mut seen = 0;
    while seen < writes {
        seen += shown(&slow.changes().await).len();
    }
    assert_eq!(seen, writes);
    drop(slow);
    server.stop().await;
}

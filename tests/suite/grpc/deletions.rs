//! Long removals: `DeleteTuples`, `DeleteObject`, and what becomes of a deleted store.

use std::time::{Duration, Instant};

use futures::TryStreamExt as _;
use relata::proto;
use relata::proto::Verdict;
use relata::proto::consistency::Requirement;
use tonic::{Code, Status};

use super::{Running, consistency, on_both, question, refused, text};

async fn delete(
    server: &Running,
    request: proto::DeleteTuplesRequest,
) -> Result<Vec<proto::DeleteTuplesResponse>, Status> {
    server.tuples().delete_tuples(request).await?.into_inner().try_collect().await
}

async fn delete_object(
    server: &Running,
    request: proto::DeleteObjectRequest,
) -> Result<Vec<proto::DeleteObjectResponse>, Status> {
    server.tuples().delete_object(request).await?.into_inner().try_collect().await
}

/// Every stored tuple.
async fn stored(server: &Running) -> Vec<String> {
    let stream = server.tuples().read(proto::ReadRequest::default()).await.expect("tuples").into_inner();
    let messages: Vec<proto::ReadResponse> = stream.try_collect().await.expect("tuples");
    messages.iter().flat_map(|message| &message.tuples).map(text).collect()
}

#[allow(clippy::unnecessary_wraps, reason = "as requests hold it")]
fn filter(object_type: &str, relation: &str, subject_id: &str) -> Option<proto::TupleFilter> {
    Some(proto::TupleFilter {
        object_type: object_type.into(),
        relation: relation.into(),
        subject_id: subject_id.into(),
        ..Default::default()
    })
}

/// `doc:0` to `doc:N`, each owned by Ann.
async fn fill(server: &Running, count: usize) {
    let tuples: Vec<String> = (0..count).map(|number| format!("doc:{number:05}#owner@user:ann")).collect();
    for some in tuples.chunks(1_000) {
        server.touch(&some.iter().map(String::as_str).collect::<Vec<_>>()).await;
    }
}

on_both! {
    async fn what_matches_goes_in_steps_and_the_rest_stays(server) {
        server.with_schema().await;
        fill(server, 2_500).await;
        let kept = ["doc:00001#blocked@user:ann", "doc:00001#owner@user:bob", "group:g#member@user:ann"];
        server.touch(&kept).await;
        let request = proto::DeleteTuplesRequest {
            filter: filter("doc", "owner", "ann"),
            note: "she left".into(),
            ..Default::default()
        };
        let counted = delete(server, proto::DeleteTuplesRequest { dry_run: true, ..request.clone() }).await;
        assert_eq!(counted.expect("a count").last().expect("a message").deleted, 2_500);
        assert_eq!(stored(server).await.len(), 2_503, "nothing is gone yet");

        let steps = delete(server, request.clone()).await.expect("deleted");
        let progress: Vec<_> = steps.iter().map(|step| (step.deleted, step.cursor.is_empty())).collect();
        assert_eq!(progress, [(1_000, false), (2_000, false), (2_500, true)]);
        let mut expected = kept;
        expected.sort_unstable();
        assert_eq!(stored(server).await, expected);
        let check = proto::CheckRequest {
            consistency: consistency(Requirement::AtLeast(steps[2].zookie.clone())),
            ..question("doc:00001#owner@user:ann")
        };
        assert_eq!(server.check(check).await.expect("an answer").verdict(), Verdict::Denied);
        // Doing it again finds nothing, and changes nothing.
        let again = delete(server, request).await.expect("nothing");
        assert_eq!(again.len(), 1);
        assert_eq!((again[0].deleted, &again[0].zookie, again[0].cursor.as_str()), (0, &steps[2].zookie, ""));

        let log = proto::ReadLogRequest { filter: filter("doc", "owner", "ann"), page_size: 3, ..Default::default() };
        let log: Vec<proto::ReadLogResponse> =
            server.tuples().read_log(log).await.expect("the log").into_inner().try_collect().await.expect("the log");
        let told: Vec<_> = log.iter().filter_map(|message| message.entry.as_ref()).collect();
        assert_eq!(told.iter().map(|entry| entry.total_changes).collect::<Vec<_>>(), [500, 1_000, 1_000]);
        assert!(told.iter().all(|entry| entry.note == "she left"));
    }

    async fn a_limit_ends_with_a_cursor_that_goes_on(server) {
        server.with_schema().await;
        fill(server, 1_300).await;
        let mut request = proto::DeleteTuplesRequest { all: true, limit: 1_100, ..Default::default() };
        let steps = delete(server, request.clone()).await.expect("deleted");
        assert_eq!(steps.iter().map(|step| step.deleted).collect::<Vec<_>>(), [1_000, 1_100]);
        assert_eq!(stored(server).await.len(), 200);
        request.cursor = steps[1].cursor.clone();
        let other = proto::DeleteTuplesRequest { filter: filter("doc", "owner", ""), all: false, ..request.clone() };
        refused(delete(server, other).await, Code::InvalidArgument, "CURSOR_INVALID", "cursor");
        let forged = proto::DeleteTuplesRequest { cursor: "forged".into(), ..request.clone() };
        refused(delete(server, forged).await, Code::InvalidArgument, "CURSOR_INVALID", "cursor");

        request.limit = 0;
        let steps = delete(server, request).await.expect("deleted");
        assert_eq!(steps.last().map(|step| (step.deleted, step.cursor.as_str())), Some((200, "")));
        assert!(stored(server).await.is_empty());
    }

    async fn everything_is_deleted_only_if_that_is_said(server) {
        server.with_schema().await;
        server.touch(&["doc:1#owner@user:ann"]).await;
        let nothing = proto::DeleteTuplesRequest::default();
        refused(delete(server, nothing.clone()).await, Code::InvalidArgument, "INVALID_FIELD", "filter");
        let empty = proto::DeleteTuplesRequest { filter: Some(proto::TupleFilter::default()), ..nothing.clone() };
        refused(delete(server, empty).await, Code::InvalidArgument, "INVALID_FIELD", "filter");
        let both = proto::DeleteTuplesRequest { filter: filter("doc", "", ""), all: true, ..nothing.clone() };
        refused(delete(server, both).await, Code::InvalidArgument, "INVALID_FIELD", "all");
        let bad = proto::DeleteTuplesRequest { filter: filter("", "owner", ""), ..nothing.clone() };
        refused(delete(server, bad).await, Code::InvalidArgument, "INVALID_FIELD", "filter.object_type");
        let nowhere = proto::DeleteTuplesRequest { store: "nowhere".into(), all: true, ..nothing };
        refused(delete(server, nowhere).await, Code::NotFound, "STORE_NOT_FOUND", "store");
        assert_eq!(stored(server).await, ["doc:1#owner@user:ann"]);
    }

    async fn an_object_goes_on_both_sides(server) {
        server.with_schema().await;
        let gone = [
            "doc:1#granted@group:eng#member",
            "doc:2#granted@group:eng#member",
            "group:all#member@group:eng#member",
            "group:eng#member@user:ann",
            "group:eng#member@user:bob",
        ];
        let kept = ["doc:1#granted@group:engine#member", "doc:1#owner@user:ann", "group:all#member@user:bob"];
        server.touch(&[gone.as_slice(), &kept].concat()).await;
        let request = |dry_run| proto::DeleteObjectRequest { object: "group:eng".into(), dry_run, ..Default::default() };
        let counted = delete_object(server, request(true)).await.expect("a count");
        assert_eq!(counted.last().map(|step| step.deleted), Some(5));
        let steps = delete_object(server, request(false)).await.expect("deleted");
        let progress: Vec<_> = steps.iter().map(|step| (step.deleted, step.cursor.is_empty())).collect();
        assert_eq!(progress, [(2, false), (5, true)], "first what is about it, then what is granted to it");
        assert_eq!(stored(server).await, kept);

        // In the smallest steps, each begun anew where the last one ended.
        server.touch(&gone).await;
        let (mut cursor, mut calls, mut deleted) = (String::new(), 0, 0);
        loop {
            let step = proto::DeleteObjectRequest { limit: 1, cursor: cursor.clone(), ..request(false) };
            let steps = delete_object(server, step).await.expect("deleted");
            let last = steps.last().expect("a message");
            deleted += last.deleted;
            calls += 1;
            cursor.clone_from(&last.cursor);
            if cursor.is_empty() {
                break;
            }
        }
        assert_eq!((deleted, stored(server).await), (5, kept.map(str::to_owned).to_vec()));
        assert!(calls >= 5, "{calls}");
        let wrong = proto::DeleteObjectRequest { object: "group".into(), ..Default::default() };
        refused(delete_object(server, wrong).await, Code::InvalidArgument, "INVALID_FIELD", "object");
    }

    /// Whoever writes meanwhile is served between two steps, and what the removal has passed stays.
    async fn others_write_while_a_removal_goes_on(server) {
        server.with_schema().await;
        fill(server, 3_000).await;
        let request = proto::DeleteTuplesRequest { filter: filter("doc", "owner", "ann"), ..Default::default() };
        let mut steps = server.tuples().delete_tuples(request).await.expect("a stream").into_inner();
        let first = steps.message().await.expect("a step").expect("a step");
        assert_eq!(first.deleted, 1_000);
        server.touch(&["doc:00000#owner@user:ann", "doc:02999#owner@user:bob"]).await;
        let rest: Vec<proto::DeleteTuplesResponse> = steps.try_collect().await.expect("deleted");
        assert_eq!(rest.last().map(|step| (step.deleted, step.cursor.as_str())), Some((3_000, "")));
        assert_eq!(stored(server).await, ["doc:00000#owner@user:ann", "doc:02999#owner@user:bob"]);
    }
}

/// A caller who goes away stops the removal after a step, and a deadline ends it with a cursor.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removal_ends_where_its_caller_does() {
    let server = Running::sqlite(|_| {}).await;
    server.with_schema().await;
    fill(&server, 20_000).await;
    let request = proto::DeleteTuplesRequest { all: true, ..Default::default() };
    let mut steps = server.tuples().delete_tuples(request.clone()).await.expect("a stream").into_inner();
    steps.message().await.expect("a step").expect("a step");
    drop(steps);
    let left = settled(&server).await;
    assert!(left > 0 && left < 20_000 && left % 1_000 == 0, "{left}");

    // Short calls, until nothing is left. One that did not get through its first step is made again.
    let begun = Instant::now();
    let mut message = request;
    loop {
        let mut request = tonic::Request::new(message.clone());
        request.set_timeout(Duration::from_millis(500));
        let ended = match server.tuples().delete_tuples(request).await {
            Ok(steps) => follow(steps.into_inner(), &mut message.cursor).await,
            Err(status) => Err(status),
        };
        match ended {
            Ok(()) if message.cursor.is_empty() => break,
            Ok(()) => {}
            Err(status) => assert_eq!(status.code(), Code::DeadlineExceeded, "{status}"),
        }
        assert!(begun.elapsed() < Duration::from_mins(2), "no end");
    }
    assert!(stored(&server).await.is_empty());
    server.stop().await;
}

/// Reads a removal to its end, and keeps where it stands.
async fn follow(
    mut steps: tonic::Streaming<proto::DeleteTuplesResponse>,
    cursor: &mut String,
) -> Result<(), Status> {
    while let Some(step) = steps.message().await? {
        *cursor = step.cursor;
    }
    Ok(())
}

/// How many tuples there are once that no longer changes.
async fn settled(server: &Running) -> usize {
    let mut before = usize::MAX;
    loop {
        let now = stored(server).await.len();
        if now == before {
            return now;
        }
        before = now;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

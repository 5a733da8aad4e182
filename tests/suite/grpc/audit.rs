//! `ReadLog`: who changed what, when, and why.

use futures::TryStreamExt as _;
use relata::proto;
use relata::proto::read_log_request::Order;
use relata::proto::update::Operation;
use relata::revision::Zookie;
use tonic::{Code, Status};

use super::{Running, on_both, refused, text, update};

/// Entries, the cursor and whether the log had been trimmed.
async fn read(
    server: &Running,
    request: proto::ReadLogRequest,
) -> Result<(Vec<proto::LogEntry>, String, bool), Status> {
    let stream = server.tuples().read_log(request).await?.into_inner();
    let mut messages: Vec<proto::ReadLogResponse> = stream.try_collect().await?;
    let last = messages.pop().expect("a last message");
    assert!(last.entry.is_none(), "which has no entry");
    let entries = messages.into_iter().map(|message| {
        assert!(message.cursor.is_empty());
        message.entry.expect("an entry")
    });
    Ok((entries.collect(), last.cursor, last.trimmed))
}

async fn write(server: &Running, note: &str, updates: &[(Operation, &str)]) -> String {
    let updates = updates.iter().map(|(operation, text)| update(*operation, text)).collect();
    let request = proto::WriteRequest { updates, note: note.into(), ..Default::default() };
    server.tuples().write(request).await.expect("written").into_inner().zookie
}

fn told(entries: &[proto::LogEntry]) -> Vec<String> {
    let change = |change: &proto::LogChange| {
        let sign = |sign, tuple: &Option<proto::Tuple>| {
            tuple.as_ref().map(|tuple| format!("{sign}{}", text(tuple))).unwrap_or_default()
        };
        sign('-', &change.before) + &sign('+', &change.after)
    };
    let entry = |entry: &proto::LogEntry| {
        let changes: Vec<_> = entry.changes.iter().map(change).collect();
        format!("{} {} [{}] of {}", entry.revision, entry.note, changes.join(" "), entry.total_changes)
    };
    entries.iter().map(entry).collect()
}

on_both! {
    async fn the_log_tells_who_what_when_and_why(server) {
        let schema = server.with_schema().await;
        let second = write(server, "grant", &[(Operation::Touch, "doc:1#owner@user:ann"), (Operation::Touch, "doc:2#owner@user:ann")]).await;
        let third = write(server, "revoke", &[(Operation::Delete, "doc:1#owner@user:ann")]).await;
        let request = proto::ReadLogRequest::default();
        let (entries, cursor, trimmed) = read(server, request.clone()).await.expect("the log");
        assert_eq!(
            told(&entries),
            [
                "3 revoke [-doc:1#owner@user:ann] of 1",
                "2 grant [+doc:1#owner@user:ann +doc:2#owner@user:ann] of 2",
                "1  [] of 0",
            ]
        );
        assert_eq!((cursor.as_str(), trimmed), ("", false));
        assert_eq!(entries[2].schema_id, schema);
        assert_eq!((&entries[0].zookie, &entries[1].zookie), (&third, &second));
        let moments: Vec<_> = entries.iter().map(|entry| entry.committed_at.expect("a moment")).collect();
        assert!(moments.is_sorted_by(|a, b| (a.seconds, a.nanos) > (b.seconds, b.nanos)));

        // By what was changed: other changes of the revision are counted, not shown.
        let filter = proto::TupleFilter { object_type: "doc".into(), object_id: "1".into(), ..Default::default() };
        let about = proto::ReadLogRequest { filter: Some(filter), ..request.clone() };
        let (entries, ..) = read(server, about).await.expect("the log");
        assert_eq!(told(&entries), ["3 revoke [-doc:1#owner@user:ann] of 1", "2 grant [+doc:1#owner@user:ann] of 2"]);

        // By who: nobody is authenticated here.
        let by = |principal: &str| proto::ReadLogRequest { principal: Some(principal.into()), ..request.clone() };
        assert_eq!(read(server, by("")).await.expect("the log").0.len(), 3);
        assert!(read(server, by("key:ci")).await.expect("the log").0.is_empty());

        // By when: the moments themselves are the bounds, the first included and the last not.
        let between = |since: usize, until: usize| proto::ReadLogRequest {
            since: Some(moments[since]),
            until: Some(moments[until]),
            ..request.clone()
        };
        assert_eq!(told(&read(server, between(2, 0)).await.expect("the log").0).len(), 2);
        assert_eq!(read(server, between(1, 0)).await.expect("the log").0[0].revision, 2);
        assert!(read(server, between(0, 2)).await.expect("the log").0.is_empty());
        let since = proto::ReadLogRequest { since: Some(moments[0]), ..request.clone() };
        assert_eq!(read(server, since).await.expect("the log").0[0].revision, 3);

        // After a zookie, oldest first.
        let after = proto::ReadLogRequest {
            after: second.clone(),
            order: Order::OldestFirst.into(),
            ..request.clone()
        };
        assert_eq!(told(&read(server, after).await.expect("the log").0), ["3 revoke [-doc:1#owner@user:ann] of 1"]);
    }

    async fn pages_of_the_log_are_complete_while_others_write(server) {
        server.with_schema().await;
        for number in 0..12 {
            let note = if number % 3 == 0 { "third" } else { "" };
            write(server, note, &[(Operation::Touch, &format!("doc:{number}#owner@user:ann"))]).await;
        }
        for order in [Order::NewestFirst, Order::OldestFirst] {
            let filter = proto::TupleFilter { object_type: "doc".into(), ..Default::default() };
            let mut request = proto::ReadLogRequest {
                filter: Some(filter),
                order: order.into(),
                page_size: 5,
                ..Default::default()
            };
            let mut revisions = Vec::new();
            for page in 0.. {
                let (entries, cursor, _) = read(server, request.clone()).await.expect("a page");
                assert!(entries.len() <= 5);
                revisions.extend(entries.iter().map(|entry| entry.revision));
                if cursor.is_empty() {
                    break;
                }
                if page == 0 && order == Order::NewestFirst {
                    write(server, "", &[(Operation::Touch, "doc:later#owner@user:ann")]).await;
                }
                request.cursor = cursor;
            }
            let expected: Vec<u64> = match order {
                Order::NewestFirst => (2..=13).rev().collect(),
                Order::OldestFirst | Order::Unspecified => (2..=14).collect(),
            };
            assert_eq!(revisions, expected);
            let other = proto::ReadLogRequest { principal: Some("x".into()), ..request.clone() };
            refused(read(server, other).await, Code::InvalidArgument, "CURSOR_INVALID", "cursor");
        }
    }

    async fn what_cannot_be_asked_is_refused(server) {
        server.with_schema().await;
        let zookie = server.touch(&["doc:1#owner@user:ann"]).await;
        let ask = |request: proto::ReadLogRequest| async move { read(server, request).await };
        let request = proto::ReadLogRequest::default();
        refused(ask(proto::ReadLogRequest { page_size: 1_001, ..request.clone() }).await, Code::InvalidArgument, "LIMIT_EXCEEDED", "page_size");
        refused(ask(proto::ReadLogRequest { after: "x".into(), ..request.clone() }).await, Code::InvalidArgument, "ZOOKIE_MALFORMED", "after");
        let year = Some(prost_types::Timestamp { seconds: i64::MAX, nanos: 0 });
        refused(ask(proto::ReadLogRequest { since: year, ..request.clone() }).await, Code::InvalidArgument, "INVALID_FIELD", "since");
        let mut ahead: Zookie = zookie.parse().expect("a zookie");
        ahead.revision.0 += 5;
        refused(ask(proto::ReadLogRequest { after: ahead.to_string(), ..request.clone() }).await, Code::FailedPrecondition, "ZOOKIE_HISTORY_LOST", "");
        let mut lost: Zookie = zookie.parse().expect("a zookie");
        lost.write[0] ^= 1;
        refused(ask(proto::ReadLogRequest { after: lost.to_string(), ..request.clone() }).await, Code::FailedPrecondition, "ZOOKIE_HISTORY_LOST", "");
        refused(ask(proto::ReadLogRequest { store: "nowhere".into(), ..request }).await, Code::NotFound, "STORE_NOT_FOUND", "store");
    }

    /// A revision too large for one message comes in several, which together are all of it.
    async fn a_large_revision_comes_in_parts(server) {
        server.with_schema().await;
        let id = "x".repeat(240);
        let tuples: Vec<String> = (0..1_000).map(|number| format!("doc:{id}#granted@group:{id}{number}#member")).collect();
        for _ in 0..2 {
            server.touch(&tuples.iter().map(String::as_str).collect::<Vec<_>>()).await;
            server.delete(&tuples.iter().map(String::as_str).collect::<Vec<_>>()).await;
        }
        let (entries, ..) = read(server, proto::ReadLogRequest::default()).await.expect("the log");
        let parts: Vec<_> = entries.iter().filter(|entry| entry.revision == 2).collect();
        let shown: usize = parts.iter().map(|part| part.changes.len()).sum();
        assert_eq!(shown, 1_000);
        assert!(parts.iter().all(|part| part.total_changes == 1_000));
        let continued: Vec<_> = parts.iter().map(|part| part.continued).collect();
        assert!(!continued[continued.len() - 1] && continued[..continued.len() - 1].iter().all(|more| *more));
    }
}

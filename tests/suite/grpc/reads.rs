//! Read: filters, pages, revisions.

use futures::TryStreamExt as _;
use relata::proto;
use tonic::{Code, Status};

use super::{Running, on_both, refused, text};

async fn read(server: &Running, request: proto::ReadRequest) -> Result<Vec<proto::ReadResponse>, Status> {
    server.tuples().read(request).await?.into_inner().try_collect().await
}

fn texts(messages: &[proto::ReadResponse]) -> Vec<String> {
    messages.iter().flat_map(|message| &message.tuples).map(text).collect()
}

fn filter(filter: proto::TupleFilter) -> proto::ReadRequest {
    proto::ReadRequest { filter: Some(filter), ..Default::default() }
}

on_both! {
    async fn filters_select_by_every_part(server) {
        server.with_schema().await;
        let all = [
            "doc:1#granted@group:eng#member",
            "doc:1#granted@user:*",
            "doc:1#granted@user:ann",
            "doc:1#owner@user:ann",
            "doc:2#owner@user:bob",
            "group:eng#member@user:ann",
        ];
        server.touch(&all).await;
        let found = |request| async move { texts(&read(server, request).await.expect("tuples")) };
        assert_eq!(found(proto::ReadRequest::default()).await, all);
        let by = proto::TupleFilter::default();
        let case = |changed: proto::TupleFilter, expected: Vec<&'static str>| async move {
            assert_eq!(found(filter(changed.clone())).await, expected, "{changed:?}");
        };
        case(proto::TupleFilter { object_type: "group".into(), ..by.clone() }, all[5..].to_vec()).await;
        case(proto::TupleFilter { object_type: "doc".into(), object_id: "2".into(), ..by.clone() }, all[4..5].to_vec()).await;
        case(proto::TupleFilter { object_type: "doc".into(), relation: "owner".into(), ..by.clone() }, all[3..5].to_vec()).await;
        case(proto::TupleFilter { subject_id: "*".into(), ..by.clone() }, all[1..2].to_vec()).await;
        case(
            proto::TupleFilter { subject_type: "user".into(), subject_id: "ann".into(), ..by.clone() },
            vec![all[2], all[3], all[5]],
        )
        .await;
        case(
            proto::TupleFilter { subject_type: "group".into(), subject_relation: Some("member".into()), ..by.clone() },
            all[..1].to_vec(),
        )
        .await;
        case(proto::TupleFilter { subject_id: "nobody".into(), ..by.clone() }, Vec::new()).await;

        let lonely = proto::TupleFilter { relation: "owner".into(), ..by.clone() };
        refused(read(server, filter(lonely)).await, Code::InvalidArgument, "INVALID_FIELD", "filter.object_type");
        let malformed = proto::TupleFilter { object_id: "a b".into(), ..by };
        refused(read(server, filter(malformed)).await, Code::InvalidArgument, "INVALID_FIELD", "filter.object_id");
    }

    async fn pages_show_one_revision_while_others_write(server) {
        server.with_schema().await;
        let all: Vec<String> = (0..25).map(|index| format!("doc:d{index:02}#owner@user:ann")).collect();
        let zookie = server.touch(&all.iter().map(String::as_str).collect::<Vec<_>>()).await;
        let (mut found, mut cursor, mut pages) = (Vec::new(), String::new(), 0);
        loop {
            let request = proto::ReadRequest { page_size: 10, cursor, ..Default::default() };
            let messages = read(server, request).await.expect("a page");
            assert!(messages.iter().all(|message| message.zookie == zookie));
            found.extend(texts(&messages));
            pages += 1;
            cursor = messages.last().expect("a message").cursor.clone();
            if cursor.is_empty() {
                break;
            }
            server.touch(&["doc:d99#owner@user:ann", &format!("doc:d00{pages}#owner@user:ann")]).await;
            server.delete(&["doc:d20#owner@user:ann"]).await;
        }
        assert_eq!((pages, found), (3, all));
    }

    async fn a_page_that_just_fits_ends_the_list(server) {
        server.with_schema().await;
        server.touch(&["doc:1#owner@user:ann", "doc:2#owner@user:ann"]).await;
        let request = proto::ReadRequest { page_size: 2, ..Default::default() };
        let messages = read(server, request).await.expect("a page");
        assert_eq!(texts(&messages).len(), 2);
        assert_eq!(messages.last().map(|message| message.cursor.as_str()), Some(""));
    }

    async fn what_a_tuple_carries_is_shown(server) {
        server.with_schema().await;
        let wire = proto::Tuple {
            condition: Some(proto::TupleCondition { name: "small".into(), context: crate::grpc::context("amount", crate::grpc::number(7.0)) }),
            expires_at: Some(prost_types::Timestamp { seconds: 4_000_000_000, nanos: 5_000 }),
            ..crate::grpc::tuple("doc:1#granted@user:ann")
        };
        let touch = proto::update::Operation::Touch;
        let expired = proto::Tuple { expires_at: Some(prost_types::Timestamp { seconds: 7, nanos: 0 }), ..crate::grpc::tuple("doc:2#owner@user:ann") };
        let update = |tuple: &proto::Tuple| proto::Update { operation: touch.into(), tuple: Some(tuple.clone()), must_exist: false };
        server.write(vec![update(&wire), update(&expired)]).await.expect("written");
        let messages = read(server, proto::ReadRequest::default()).await.expect("tuples");
        assert_eq!(messages[0].tuples, [wire]);
    }

    async fn cursors_and_zookies_are_checked(server) {
        server.with_schema().await;
        server.touch(&["doc:1#owner@user:ann", "doc:2#owner@user:ann"]).await;
        let first = read(server, proto::ReadRequest { page_size: 1, ..Default::default() }).await.expect("a page");
        let cursor = first[0].cursor.clone();
        assert!(!cursor.is_empty());
        let foreign = proto::ReadRequest {
            cursor: cursor.clone(),
            page_size: 1,
            ..filter(proto::TupleFilter { object_type: "doc".into(), ..Default::default() })
        };
        refused(read(server, foreign).await, Code::InvalidArgument, "CURSOR_INVALID", "cursor");
        let forged = proto::ReadRequest { cursor: cursor[1..].to_owned(), page_size: 1, ..Default::default() };
        refused(read(server, forged).await, Code::InvalidArgument, "CURSOR_INVALID", "cursor");
        let malformed = proto::ReadRequest { at_least: "soon".into(), ..Default::default() };
        refused(read(server, malformed).await, Code::InvalidArgument, "ZOOKIE_MALFORMED", "at_least");
        let rest = proto::ReadRequest { cursor, page_size: 1, ..Default::default() };
        assert_eq!(texts(&read(server, rest).await.expect("a page")), ["doc:2#owner@user:ann"]);
    }
}

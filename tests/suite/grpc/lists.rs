//! `ListObjects`, `ListSubjects`, `ListRelations` and `Expand`.

use futures::TryStreamExt as _;
use relata::proto;
use relata::proto::Verdict;
use relata::proto::userset_tree::Node;
use tonic::{Code, Response, Status};

use super::{Running, on_both, refused, tuple};

fn objects_of(subject: &str) -> proto::ListObjectsRequest {
    proto::ListObjectsRequest {
        subject: subject.into(),
        relation: "viewer".into(),
        object_type: "doc".into(),
        ..Default::default()
    }
}

fn subjects_of(object: &str) -> proto::ListSubjectsRequest {
    proto::ListSubjectsRequest {
        object: object.into(),
        relation: "viewer".into(),
        subject_type: "user".into(),
        ..Default::default()
    }
}

async fn objects(
    server: &Running,
    request: proto::ListObjectsRequest,
) -> Result<Vec<proto::ListObjectsResponse>, Status> {
    server.permissions().list_objects(request).await?.into_inner().try_collect().await
}

async fn subjects(
    server: &Running,
    request: proto::ListSubjectsRequest,
) -> Result<Vec<proto::ListSubjectsResponse>, Status> {
    server.permissions().list_subjects(request).await?.into_inner().try_collect().await
}

/// The ids of one answer, in the order they came.
fn names(messages: &[proto::ListObjectsResponse]) -> Vec<String> {
    messages.iter().flat_map(|message| &message.objects).map(|listed| listed.object.clone()).collect()
}

/// Documents `d0000` to `d…` that Ann may view through a group.
async fn many(server: &Running, count: usize) -> Vec<String> {
    server.with_schema().await;
    server.touch(&["group:eng#member@user:ann"]).await;
    let names: Vec<String> = (0..count).map(|index| format!("doc:d{index:04}")).collect();
    let tuples: Vec<String> = names.iter().map(|name| format!("{name}#granted@group:eng#member")).collect();
    for chunk in tuples.chunks(1_000) {
        server.touch(&chunk.iter().map(String::as_str).collect::<Vec<_>>()).await;
    }
    names
}

on_both! {
    async fn a_stream_is_complete(server) {
        let expected = many(server, 1_200).await;
        let messages = objects(server, objects_of("user:ann")).await.expect("a list");
        assert!(messages.len() > 1, "it comes in several messages");
        assert!(messages.iter().all(|message| message.cursor.is_empty() && !message.zookie.is_empty()));
        let mut found = names(&messages);
        found.sort();
        assert_eq!(found, expected);
        // Nothing found is an answer, and it says of which revision.
        let nothing = objects(server, objects_of("user:nobody")).await.expect("a list");
        assert_eq!(names(&nothing).len(), 0);
        assert!(nothing.last().is_some_and(|message| !message.zookie.is_empty()));
    }

    async fn pages_are_of_one_revision(server) {
        let expected = many(server, 25).await;
        let (mut found, mut cursor, mut pages) = (Vec::new(), String::new(), 0);
        loop {
            let request = proto::ListObjectsRequest { page_size: 10, cursor, ..objects_of("user:ann") };
            let messages = objects(server, request).await.expect("a page");
            found.extend(names(&messages));
            pages += 1;
            cursor = messages.into_iter().last().expect("a message").cursor;
            if cursor.is_empty() {
                break;
            }
            // What is written between two pages is not in the list.
            server.touch(&["doc:d9999#granted@group:eng#member", "doc:d0000x#granted@group:eng#member"]).await;
            server.delete(&["doc:d0024#granted@group:eng#member"]).await;
        }
        assert_eq!((pages, found), (3, expected));
    }

    async fn subjects_come_with_the_wildcard_and_its_exceptions(server) {
        server.with_schema().await;
        server.touch(&["doc:1#granted@user:*", "doc:1#blocked@user:bob", "doc:1#owner@user:ann"]).await;
        let all = |messages: Vec<proto::ListSubjectsResponse>| {
            let mut listed: Vec<_> = messages
                .iter()
                .flat_map(|message| &message.subjects)
                .map(|listed| (listed.subject.clone(), listed.verdict()))
                .collect();
            listed.sort_by(|a, b| a.0.cmp(&b.0));
            listed
        };
        let expected = vec![
            ("user:*".to_owned(), Verdict::Allowed),
            ("user:ann".to_owned(), Verdict::Allowed),
            ("user:bob".to_owned(), Verdict::Denied),
        ];
        assert_eq!(all(subjects(server, subjects_of("doc:1")).await.expect("a list")), expected);
        let (mut paged, mut cursor) = (Vec::new(), String::new());
        loop {
            let request = proto::ListSubjectsRequest { page_size: 1, cursor, ..subjects_of("doc:1") };
            let messages = subjects(server, request).await.expect("a page");
            paged.extend(all(messages.clone()));
            cursor = messages.into_iter().last().expect("a message").cursor;
            if cursor.is_empty() {
                break;
            }
        }
        assert_eq!(paged, expected);

        server.touch(&["doc:2#granted@group:eng#member", "group:eng#member@group:sub#member"]).await;
        let usersets = proto::ListSubjectsRequest {
            subject_type: "group".into(),
            subject_relation: "member".into(),
            ..subjects_of("doc:2")
        };
        let found: Vec<_> = all(subjects(server, usersets).await.expect("a list")).into_iter().map(|(name, _)| name).collect();
        assert_eq!(found, ["group:eng#member", "group:sub#member"]);
    }

    async fn relations_come_in_the_order_of_the_schema(server) {
        server.with_schema().await;
        server.touch(&["doc:1#owner@user:ann", "doc:1#granted@user:ann"]).await;
        let request = proto::ListRelationsRequest { object: "doc:1".into(), subject: "user:ann".into(), ..Default::default() };
        let answer = server.permissions().list_relations(request.clone()).await.expect("a list").into_inner();
        let names: Vec<_> = answer.relations.iter().map(|listed| listed.relation.as_str()).collect();
        assert_eq!(names, ["owner", "granted", "viewer", "approver"]);
        assert!(!answer.zookie.is_empty());
        let unknown = proto::ListRelationsRequest { object: "file:1".into(), ..request };
        let outcome = server.permissions().list_relations(unknown).await;
        refused(outcome, Code::InvalidArgument, "UNKNOWN_TYPE", "object");
    }

    async fn expand_shows_one_level(server) {
        server.with_schema().await;
        server.touch(&["doc:1#granted@group:eng#member", "doc:1#granted@user:*"]).await;
        let expand = |relation: &str| proto::ExpandRequest {
            object: "doc:1".into(),
            relation: relation.into(),
            ..Default::default()
        };
        let answer = server.permissions().expand(expand("granted")).await.map(Response::into_inner).expect("a tree");
        let tree = answer.tree.expect("a tree");
        assert_eq!(tree.userset, "doc:1#granted");
        let Some(Node::Leaf(leaf)) = tree.node else { panic!("{tree:?}") };
        let mut found: Vec<_> = leaf.tuples.iter().map(crate::grpc::text).collect();
        found.sort();
        assert_eq!(found, ["doc:1#granted@group:eng#member", "doc:1#granted@user:*"]);

        let answer = server.permissions().expand(expand("viewer")).await.map(Response::into_inner).expect("a tree");
        let tree = answer.tree.expect("a tree");
        let Some(Node::Difference(difference)) = tree.node else { panic!("{tree:?}") };
        let base = difference.base.expect("a base");
        let Some(Node::Union(union)) = base.node else { panic!("{base:?}") };
        let operands: Vec<_> = union.operands.into_iter().map(|operand| operand.node).collect();
        assert_eq!(
            operands,
            [Some(Node::Computed("doc:1#granted".into())), Some(Node::Computed("doc:1#owner".into()))]
        );
        assert!(!answer.zookie.is_empty());

        let contextual = proto::ExpandRequest { contextual_tuples: vec![tuple("doc:1#owner@user:eve")], ..expand("owner") };
        let tree = server.permissions().expand(contextual).await.expect("a tree").into_inner().tree.expect("a tree");
        let Some(Node::Leaf(leaf)) = tree.node else { panic!("{tree:?}") };
        assert_eq!(leaf.tuples.iter().map(crate::grpc::text).collect::<Vec<_>>(), ["doc:1#owner@user:eve"]);
        refused(server.permissions().expand(expand("reader")).await, Code::InvalidArgument, "UNKNOWN_RELATION", "relation");
    }

    async fn forged_and_foreign_cursors_are_refused(server) {
        many(server, 5).await;
        let page = |cursor: &str, subject: &str| proto::ListObjectsRequest {
            page_size: 2,
            cursor: cursor.into(),
            ..objects_of(subject)
        };
        let first = objects(server, page("", "user:ann")).await.expect("a page");
        let cursor = first.last().expect("a message").cursor.clone();
        assert!(!cursor.is_empty());
        // Page size and consistency may change, nothing else.
        let larger = proto::ListObjectsRequest {
            page_size: 3,
            consistency: crate::grpc::consistency(proto::consistency::Requirement::Full(())),
            ..page(&cursor, "user:ann")
        };
        assert_eq!(names(&objects(server, larger).await.expect("a page")), ["doc:d0002", "doc:d0003", "doc:d0004"]);
        let foreign = objects(server, page(&cursor, "user:eve")).await;
        refused(foreign, Code::InvalidArgument, "CURSOR_INVALID", "cursor");
        let middle = cursor.len() / 2;
        let other = if cursor.as_bytes()[middle] == b'A' { "B" } else { "A" };
        let forged = format!("{}{other}{}", &cursor[..middle], &cursor[middle + 1..]);
        for text in [forged.as_str(), "x", "not a cursor"] {
            refused(objects(server, page(text, "user:ann")).await, Code::InvalidArgument, "CURSOR_INVALID", "cursor");
        }
        let request = proto::ListSubjectsRequest { page_size: 1, cursor, ..subjects_of("doc:d0000") };
        refused(subjects(server, request).await, Code::InvalidArgument, "CURSOR_INVALID", "cursor");
    }

    async fn bad_lists_name_their_field(server) {
        server.with_schema().await;
        let unknown = proto::ListObjectsRequest { object_type: "file".into(), ..objects_of("user:ann") };
        refused(objects(server, unknown).await, Code::InvalidArgument, "UNKNOWN_TYPE", "object_type");
        let unknown = proto::ListObjectsRequest { relation: "reader".into(), ..objects_of("user:ann") };
        refused(objects(server, unknown).await, Code::InvalidArgument, "UNKNOWN_RELATION", "relation");
        let large = proto::ListObjectsRequest { page_size: 10_001, ..objects_of("user:ann") };
        refused(objects(server, large).await, Code::InvalidArgument, "LIMIT_EXCEEDED", "page_size");
        let unknown = proto::ListSubjectsRequest { subject_relation: "boss".into(), ..subjects_of("doc:1") };
        refused(subjects(server, unknown).await, Code::InvalidArgument, "UNKNOWN_RELATION", "subject_relation");
    }
}

/// A cursor of one node is good on another, which answers at the same revision and moment.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_go_on_at_another_node() {
    let url = tokio::task::spawn_blocking(crate::postgres_server::fresh_database).await.expect("a cluster");
    let Some(url) = url else { return };
    let nodes = [Running::on_url(&url, |_| {}).await, Running::on_url(&url, |_| {}).await];
    let expected = many(&nodes[0], 25).await;
    let (mut found, mut read, mut cursor, mut read_cursor) =
        (Vec::new(), Vec::new(), String::new(), String::new());
    for page in 0.. {
        let node = &nodes[page % 2];
        let request = proto::ListObjectsRequest { page_size: 10, cursor, ..objects_of("user:ann") };
        let messages = objects(node, request).await.expect("a page");
        found.extend(names(&messages));
        cursor = messages.into_iter().last().expect("a message").cursor;
        let filter = Some(proto::TupleFilter { object_type: "doc".into(), ..Default::default() });
        let request = proto::ReadRequest { filter, page_size: 10, cursor: read_cursor, ..Default::default() };
        let stream = node.tuples().read(request).await.expect("a page").into_inner();
        let messages: Vec<proto::ReadResponse> = stream.try_collect().await.expect("a page");
        read.extend(messages.iter().flat_map(|message| &message.tuples).map(|tuple| tuple.object.clone()));
        read_cursor = messages.into_iter().last().expect("a message").cursor;
        assert_eq!(cursor.is_empty(), read_cursor.is_empty());
        if cursor.is_empty() {
            break;
        }
        node.touch(&[&format!("doc:d0000{page}#granted@group:eng#member")]).await;
        node.delete(&["doc:d0024#granted@group:eng#member"]).await;
    }
    assert_eq!((&found, &read), (&expected, &expected));
    for node in nodes {
        node.stop().await;
    }
}

/// A reader who goes away, or stays and does not read, keeps no place that others need: with two
/// places for long searches, twenty such readers leave both free.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_who_leaves_holds_nothing() {
    let server = Running::sqlite(|config| {
        config.max_searches = 2;
        config.slice = 10;
    })
    .await;
    let mut stalled = Vec::new();
    // The texts of schemas are read on the pool as well, one at a time.
    let expected = many(&server, 1_200).await;
    for round in 0..20 {
        let list = loop {
            match server.permissions().list_objects(objects_of("user:ann")).await {
                Ok(list) => break list,
                // Those before are still on their way out of the pool.
                Err(status) => assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}"),
            }
        };
        let mut list = list.into_inner();
        list.message().await.expect("a message").expect("not over");
        if round % 2 == 0 {
            stalled.push(list);
        }
    }
    let found = loop {
        match objects(&server, objects_of("user:ann")).await {
            Ok(messages) => break names(&messages),
            Err(status) => assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}"),
        }
    };
    assert_eq!(found.len(), expected.len());
    drop(stalled);
    server.stop().await;
}

//! Stores: created, found by name and id, listed, deleted, and apart from each other.

use relata::proto;
use relata::proto::Verdict;
use relata::proto::update::Operation;
use tonic::{Code, Response, Status};

use super::{Running, SCHEMA, on_both, question, refused, update};

async fn create(server: &Running, name: &str) -> Result<proto::Store, Status> {
    let request = proto::CreateStoreRequest { name: name.into() };
    let answer = server.stores().create_store(request).await?.into_inner();
    assert!(!answer.zookie.is_empty());
    Ok(answer.store.expect("a store"))
}

async fn get(server: &Running, store: &str) -> Result<proto::GetStoreResponse, Status> {
    let request = proto::GetStoreRequest { store: store.into() };
    server.stores().get_store(request).await.map(Response::into_inner)
}

on_both! {
    async fn the_default_store_always_exists(server) {
        let store = get(server, "").await.expect("a store").store.expect("a store");
        assert_eq!(store.name, "default");
        assert_eq!(get(server, "default").await.expect("a store").store, Some(store.clone()));
        assert_eq!(get(server, &store.id).await.expect("a store").store, Some(store));
        let request = proto::DeleteStoreRequest { store: "default".into() };
        refused(server.stores().delete_store(request).await, Code::InvalidArgument, "INVALID_FIELD", "store");
        let request = proto::DeleteStoreRequest::default();
        refused(server.stores().delete_store(request).await, Code::InvalidArgument, "INVALID_FIELD", "store");
    }

    async fn a_name_is_given_once(server) {
        let store = create(server, "tenant-7").await.expect("a store");
        assert!(store.created_at.is_some() && store.schema_id.is_empty());
        refused(create(server, "tenant-7").await, Code::AlreadyExists, "STORE_EXISTS", "");
        for name in ["", "a b", "a/b", "67e55044-10b1-426f-9247-bb680e5fe0c8", &"x".repeat(65)] {
            refused(create(server, name).await, Code::InvalidArgument, "INVALID_FIELD", "name");
        }
        refused(get(server, "nowhere").await, Code::NotFound, "STORE_NOT_FOUND", "store");
        let id = "67e55044-10b1-426f-9247-bb680e5fe0c8";
        refused(get(server, id).await, Code::NotFound, "STORE_NOT_FOUND", "store");
    }

    async fn stores_are_listed_by_name_in_pages(server) {
        for name in ["c", "a", "b"] {
            create(server, name).await.expect("a store");
        }
        let (mut names, mut cursor) = (Vec::new(), String::new());
        loop {
            let request = proto::ListStoresRequest { page_size: 3, cursor };
            let page = server.stores().list_stores(request).await.expect("a page").into_inner();
            names.extend(page.stores.into_iter().map(|store| store.name));
            cursor = page.cursor;
            if cursor.is_empty() {
                break;
            }
        }
        assert_eq!(names, ["a", "b", "c", "default"]);
        let request = proto::ListStoresRequest { page_size: 0, cursor: "forged".into() };
        refused(server.stores().list_stores(request).await, Code::InvalidArgument, "CURSOR_INVALID", "cursor");
        let request = proto::ListStoresRequest { page_size: 1_001, cursor: String::new() };
        refused(server.stores().list_stores(request).await, Code::InvalidArgument, "LIMIT_EXCEEDED", "page_size");
    }

    async fn stores_are_apart(server) {
        let other = create(server, "other").await.expect("a store");
        server.with_schema().await;
        let request = proto::WriteSchemaRequest { store: "other".into(), text: SCHEMA.into(), ..Default::default() };
        server.schemas().write_schema(request).await.expect("a schema");
        let text = "doc:1#owner@user:ann";
        let request = proto::WriteRequest {
            store: other.id.clone(),
            updates: vec![update(Operation::Touch, text)],
            ..Default::default()
        };
        server.tuples().write(request).await.expect("written");
        assert_eq!(server.verdict(text).await, Verdict::Denied);
        for store in ["other", &other.id, &other.id.to_uppercase()] {
            let request = proto::CheckRequest { store: store.into(), ..question(text) };
            assert_eq!(server.check(request).await.expect("an answer").verdict(), Verdict::Allowed, "{store}");
        }
    }

    async fn a_deleted_store_is_gone_and_its_name_free(server) {
        create(server, "short").await.expect("a store");
        let request = proto::WriteSchemaRequest { store: "short".into(), text: SCHEMA.into(), ..Default::default() };
        server.schemas().write_schema(request).await.expect("a schema");
        let ask = proto::CheckRequest { store: "short".into(), ..question("doc:1#owner@user:ann") };
        server.check(ask.clone()).await.expect("an answer");
        let request = proto::DeleteStoreRequest { store: "short".into() };
        let answer = server.stores().delete_store(request.clone()).await.expect("deleted").into_inner();
        assert!(!answer.zookie.is_empty());
        refused(server.check(ask.clone()).await, Code::NotFound, "STORE_NOT_FOUND", "store");
        refused(server.stores().delete_store(request).await, Code::NotFound, "STORE_NOT_FOUND", "store");
        create(server, "short").await.expect("a new store of the name");
        refused(server.check(ask).await, Code::FailedPrecondition, "NO_SCHEMA", "");
    }
}

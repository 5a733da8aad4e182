//! Which store a grant is for: by name, by id, and what a caller learns of the others.

use relata::proto;
use tonic::{Code, Response};

use super::{Guarded, ROOT, denied, on_both_guarded};
use crate::grpc::refused;

async fn listed(guarded: &Guarded, credential: &str, page_size: u32) -> Vec<String> {
    let (mut names, mut cursor) = (Vec::new(), String::new());
    loop {
        let request = proto::ListStoresRequest { page_size, cursor };
        let page = guarded.stores(credential).list_stores(request).await.expect("a page").into_inner();
        names.extend(page.stores.into_iter().map(|store| store.name));
        cursor = page.cursor;
        if cursor.is_empty() {
            return names;
        }
    }
}

on_both_guarded! {
    async fn a_store_is_reached_by_name_and_by_id_however_it_was_granted(guarded) {
        let store = guarded.create_store("tenant").await;
        let (_, by_name) = guarded.key("by-name", "tenant:read").await;
        let (_, by_id) = guarded.key("by-id", &format!("{}:read", store.id)).await;
        for credential in [&by_name, &by_id] {
            // Twice: what was found out is remembered.
            for _ in 0..2 {
                for text in ["tenant", &store.id, &store.id.to_uppercase()] {
                    let found = guarded.get_store(credential, text).await.expect("a store").store;
                    assert_eq!(found.as_ref(), Some(&store), "{text}");
                }
            }
            denied(guarded.get_store(credential, "").await);
        }
    }

    async fn a_grant_by_id_does_not_pass_to_the_next_store_of_the_name(guarded) {
        let old = guarded.create_store("tenant").await;
        let (_, by_name) = guarded.key("by-name", "tenant:read").await;
        let (_, by_id) = guarded.key("by-id", &format!("{}:read", old.id)).await;
        guarded.get_store(&by_id, "tenant").await.expect("its store");
        let request = proto::DeleteStoreRequest { store: "tenant".into() };
        guarded.stores(ROOT).delete_store(request).await.expect("deleted");
        let new = guarded.create_store("tenant").await;
        assert_ne!(old.id, new.id);

        assert_eq!(guarded.get_store(&by_name, "tenant").await.expect("a store").store, Some(new.clone()));
        assert_eq!(guarded.get_store(&by_name, &new.id).await.expect("a store").store, Some(new.clone()));
        denied(guarded.get_store(&by_name, &old.id).await);
        denied(guarded.get_store(&by_id, &new.id).await);
        // The name is not granted; the store that is granted is gone.
        denied(guarded.get_store(&by_id, "tenant").await);
        refused(guarded.get_store(&by_id, &old.id).await, Code::NotFound, "STORE_NOT_FOUND", "store");
    }

    /// A caller must not learn which stores there are.
    async fn a_store_without_rights_looks_like_one_that_does_not_exist(guarded) {
        let hidden = guarded.create_store("hidden").await;
        let nowhere = "67e55044-10b1-426f-9247-bb680e5fe0c8";
        let long = "x".repeat(10_000);
        guarded.create_store("mine").await;
        let mine = guarded.create_store("mine-too").await;
        let (_, key) = guarded.key("app", &format!("mine:read {}:read", mine.id)).await;
        let mut answers = Vec::new();
        for text in ["hidden", "nowhere", &hidden.id, nowhere, &long, "a b", "*", "ä"] {
            let status = denied(guarded.get_store(&key, text).await);
            let shown = if text.len() > 80 { format!("{}…", &text[..80]) } else { text.to_owned() };
            assert!(status.message().contains(&shown), "{status}");
            answers.push(status.message().replace(&shown, "STORE"));
        }
        answers.dedup();
        assert_eq!(answers.len(), 1, "{answers:?}");
    }

    async fn stores_are_listed_to_those_who_have_a_right_there(guarded) {
        let mut ids = std::collections::BTreeMap::new();
        for name in ["a", "b", "c", "d"] {
            ids.insert(name, guarded.create_store(name).await.id);
        }
        let check = async |grants: &str, expected: &[&str]| {
            let (_, key) = guarded.key("lister", grants).await;
            for page_size in [0, 1, 2] {
                assert_eq!(listed(guarded, &key, page_size).await, expected, "{grants}");
            }
        };
        check("*:write", &["a", "b", "c", "d", "default"]).await;
        check("d:schema b:write nowhere:admin", &["b", "d"]).await;
        check(&format!("b:read {}:write {}:read", ids["b"], ids["a"]), &["a", "b"]).await;
        check("nowhere:admin", &[]).await;
    }

    async fn admin_of_a_store_may_delete_it_and_no_other(guarded) {
        guarded.create_store("mine").await;
        guarded.create_store("yours").await;
        let (_, key) = guarded.key("owner", "mine:admin").await;
        let delete = async |store: &str| {
            let request = proto::DeleteStoreRequest { store: store.into() };
            guarded.stores(&key).delete_store(request).await.map(Response::into_inner)
        };
        denied(delete("yours").await);
        denied(delete("").await);
        delete("mine").await.expect("deleted");
        refused(delete("mine").await, Code::NotFound, "STORE_NOT_FOUND", "store");
        let request = proto::CreateStoreRequest { name: "mine".into() };
        denied(guarded.stores(&key).create_store(request).await);
    }
}

//! What a token lets its bearer do.

use relata::config::{Access, Credentials};
use relata::proto;
use serde_json::json;
use tonic::Code;

use super::issuer::{AUDIENCE, Issuer, Key, now};
use super::{Bearer, Guarded};
use crate::grpc::access::walk::{Stranger, nothing_is_granted};
use crate::grpc::{Running, SCHEMA, refused, update};

fn rules(issuer: &Issuer, rules: &str) -> String {
    format!("issuers:\n  - issuer: {}\n    audience: {AUDIENCE}\n    rules:\n{rules}", issuer.url)
}

const RULES: &str = "
      - { claim: groups, contains: ops, grants: ['*:admin'] }
      - { claim: groups, contains: writers, grants: ['default:read,write'] }
      - { claim: [realm_access, roles], contains: docs, grants: ['docs:read'] }
      - { claim: scope, has_word: relata.schema, grants: ['default:schema'] }
";

/// Claims become rights on stores, and nobody gets more than that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claims_become_rights() {
    let issuer = Issuer::start(Key::ed25519()).await;
    let guarded = Guarded::start(&rules(&issuer, RULES)).await;
    let token = |subject: &str, claims: serde_json::Value| {
        let mut all = issuer.claims(subject);
        for (name, value) in claims.as_object().expect("an object") {
            all[name] = value.clone();
        }
        issuer.key.token(&issuer.header(), &all)
    };
    let ops = token("ops", json!({"groups": ["x", "ops"]}));
    let writer = token("writer", json!({"groups": ["writers"]}));
    let reader = token("reader", json!({"groups": [], "realm_access": {"roles": ["docs"]}}));
    let schemer = token("schemer", json!({"groups": [], "scope": "openid relata.schema"}));
    let nobody = token("nobody", json!({"groups": ["readers", "opsx"], "scope": "relata.schemas"}));

    let create = proto::CreateStoreRequest { name: "docs".into() };
    for token in [&writer, &reader, &schemer, &nobody] {
        let outcome = guarded.stores(token).create_store(create.clone()).await;
        refused(outcome, Code::PermissionDenied, "PERMISSION_DENIED", "");
    }
    guarded.stores(&ops).create_store(create).await.expect("an administrator");
    let schema = |store: &str| proto::WriteSchemaRequest {
        store: store.into(),
        text: SCHEMA.into(),
        ..Default::default()
    };
    for token in [&writer, &reader, &nobody] {
        let outcome = guarded.schemas(token).write_schema(schema("")).await;
        refused(outcome, Code::PermissionDenied, "PERMISSION_DENIED", "");
    }
    guarded.schemas(&schemer).write_schema(schema("")).await.expect("who may write schemas");
    refused(
        guarded.schemas(&schemer).write_schema(schema("docs")).await,
        Code::PermissionDenied,
        "PERMISSION_DENIED",
        "",
    );

    let write = |store: &str| proto::WriteRequest {
        store: store.into(),
        updates: vec![update(proto::update::Operation::Touch, "doc:1#owner@user:ann")],
        ..Default::default()
    };
    guarded.tuples(&writer).write(write("")).await.expect("who may write");
    for (token, store) in [(&writer, "docs"), (&reader, ""), (&reader, "docs"), (&schemer, ""), (&nobody, "")]
    {
        let outcome = guarded.tuples(token).write(write(store)).await;
        refused(outcome, Code::PermissionDenied, "PERMISSION_DENIED", "");
    }
    let get = |store: &str| proto::GetStoreRequest { store: store.into() };
    guarded.stores(&reader).get_store(get("docs")).await.expect("who may read it");
    refused(
        guarded.stores(&reader).get_store(get("")).await,
        Code::PermissionDenied,
        "PERMISSION_DENIED",
        "",
    );
    refused(
        guarded.stores(&writer).get_store(get("docs")).await,
        Code::PermissionDenied,
        "PERMISSION_DENIED",
        "",
    );

    // The log of changes says who it was, and by whose word.
    let mut watched =
        guarded.tuples(&writer).watch(proto::WatchRequest::default()).await.expect("a stream").into_inner();
    guarded
        .tuples(&writer)
        .write(proto::WriteRequest {
            updates: vec![update(proto::update::Operation::Touch, "doc:2#owner@user:ann")],
            ..Default::default()
        })
        .await
        .expect("written");
    let principal = loop {
        let message = watched.message().await.expect("a message").expect("more");
        if !message.changes.is_empty() {
            break message.principal;
        }
    };
    assert_eq!(principal, format!("oidc:{}|writer", issuer.url));
    drop(watched);
    guarded.stop().await;
}

/// Credentials of two kinds do not stand in each other's way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn issuers_and_a_token_file_are_taken_side_by_side() {
    let issuer = Issuer::start(Key::ed25519()).await;
    let folder = tempfile::tempdir().expect("a folder");
    let (tokens, oidc) = (folder.path().join("tokens"), folder.path().join("oidc.yaml"));
    std::fs::write(&tokens, "first-token-0123456789 deployer\n").expect("a file");
    std::fs::write(&oidc, rules(&issuer, "      - grants: ['default:read']")).expect("a file");
    let credentials =
        Credentials { token_file: Some(tokens), oidc_config: Some(oidc), ..Credentials::default() };
    let server = Running::sqlite(|config| config.access = Access::Guarded(credentials)).await;
    let ask = async |token: &str| {
        let mut stores = proto::store_service_client::StoreServiceClient::with_interceptor(
            server.channel.clone(),
            Bearer(token.to_owned()),
        );
        stores.get_store(proto::GetStoreRequest::default()).await.map(drop)
    };
    ask("first-token-0123456789").await.expect("a token of the file");
    ask(&issuer.token("ann")).await.expect("a token of the issuer");
    for wrong in ["third-token-0123456789", "eyJ.eyJ.x", "a.b.c"] {
        refused(ask(wrong).await, Code::Unauthenticated, "UNAUTHENTICATED", "");
    }
    server.stop().await;
}

/// Known to the server, and nothing more: no method of any service does anything for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_without_grants_opens_nothing() {
    let issuer = Issuer::start(Key::ed25519()).await;
    let guarded = Guarded::start(&rules(&issuer, RULES)).await;
    let nobody = issuer.token_with(|claims| claims["groups"] = json!(["readers", "opsx"]));
    nothing_is_granted(&guarded.server.channel, Some(&nobody), Stranger::Known).await;
    let expired = issuer.token_with(|claims| {
        claims["groups"] = json!(["ops"]);
        claims["exp"] = json!(now() - 3_600);
    });
    nothing_is_granted(&guarded.server.channel, Some(&expired), Stranger::Unknown).await;
    guarded.stop().await;
}

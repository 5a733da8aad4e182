//! API keys from making to revoking, and what becomes of who held one.

use std::time::Duration;

use relata::proto;
use relata::proto::create_key_request::Expiry;
use relata::proto::update::Operation;
use tokio::time::{Instant, sleep, timeout};
use tonic::{Code, Status};

use super::{Guarded, PATIENCE, ROOT, credentials, expiring, on_both_guarded, parse, unauthenticated};
use crate::faults::{Cut, Gate, Proxy};
use crate::grpc::{Running, SCHEMA, reason, refused, update};
use crate::postgres_server;

async fn create(
    guarded: &Guarded,
    request: proto::CreateKeyRequest,
) -> Result<proto::CreateKeyResponse, Status> {
    guarded.keys(ROOT).create_key(request).await.map(tonic::Response::into_inner)
}

async fn listed(guarded: &Guarded, include_revoked: bool, page_size: u32) -> Vec<proto::Key> {
    let (mut keys, mut cursor) = (Vec::new(), String::new());
    loop {
        let request = proto::ListKeysRequest { page_size, cursor, include_revoked };
        let page = guarded.keys(ROOT).list_keys(request).await.expect("a page").into_inner();
        keys.extend(page.keys);
        cursor = page.cursor;
        if cursor.is_empty() {
            return keys;
        }
    }
}

async fn write(
    guarded: &Guarded,
    credential: &str,
    key: &str,
    tuple: &str,
) -> Result<proto::WriteResponse, Status> {
    let request = proto::WriteRequest {
        updates: vec![update(Operation::Touch, tuple)],
        idempotency_key: key.to_owned(),
        ..Default::default()
    };
    guarded.tuples(credential).write(request).await.map(tonic::Response::into_inner)
}

on_both_guarded! {
    async fn a_key_is_shown_once_and_kept_as_a_digest(guarded) {
        let day = prost_types::Duration { seconds: 86_400, nanos: 0 };
        let request = proto::CreateKeyRequest {
            name: "ci".into(),
            grants: parse("default:read,write *:read"),
            expiry: Some(Expiry::ExpiresIn(day)),
        };
        let made = create(guarded, request).await.expect("a key");
        let key = made.key.expect("a key");
        assert!(made.secret.starts_with(&format!("relata_{}_", key.id)), "{}", made.secret);
        assert_eq!((key.name.as_str(), key.created_by.as_str()), ("ci", "token:root"));
        assert_eq!(key.grants, parse("default:read,write *:read"));
        let lasts = key.expires_at.expect("an expiry").seconds - key.created_at.expect("a moment").seconds;
        assert!((86_300..86_500).contains(&lasts), "{lasts}");

        let listed = listed(guarded, true, 0).await;
        assert_eq!(listed, [key]);
        let secret = made.secret.rsplit('_').next().expect("a secret");
        assert!(!format!("{listed:?}").contains(secret));
    }

    async fn keys_that_cannot_be_are_refused(guarded) {
        let good = || proto::CreateKeyRequest { name: "ci".into(), grants: parse("*:read"), expiry: None };
        let invalid = async |request, field: &str| {
            refused(create(guarded, request).await, Code::InvalidArgument, "INVALID_FIELD", field);
        };
        for name in ["", "1ci", "a b", "ä", "a:b"] {
            invalid(proto::CreateKeyRequest { name: name.into(), ..good() }, "name").await;
        }
        invalid(proto::CreateKeyRequest { grants: vec![], ..good() }, "grants").await;
        let bad_store = vec![proto::Grant { store: "a b".into(), rights: vec![1] }];
        invalid(proto::CreateKeyRequest { grants: bad_store, ..good() }, "grants[0].store").await;
        let bad_right = vec![proto::Grant { store: "a".into(), rights: vec![17] }];
        invalid(proto::CreateKeyRequest { grants: bad_right, ..good() }, "grants[0].rights").await;
        let past = Some(Expiry::ExpiresAt(prost_types::Timestamp { seconds: 1, nanos: 0 }));
        invalid(proto::CreateKeyRequest { expiry: past, ..good() }, "expires_at").await;
        assert!(listed(guarded, true, 0).await.is_empty());
    }

    async fn keys_are_listed_in_pages_and_revoked_by_id_or_name(guarded) {
        for name in ["b", "a", "b", "c", "b"] {
            guarded.key(name, "default:read").await;
        }
        let all = listed(guarded, false, 0).await;
        let names: Vec<_> = all.iter().map(|key| key.name.as_str()).collect();
        assert_eq!(names, ["a", "b", "b", "b", "c"]);
        assert_eq!(listed(guarded, false, 2).await, all);
        refused(guarded.revoke("b", false).await, Code::FailedPrecondition, "KEY_AMBIGUOUS", "key");
        refused(guarded.revoke("nobody", true).await, Code::NotFound, "KEY_NOT_FOUND", "key");
        refused(guarded.revoke("", true).await, Code::InvalidArgument, "INVALID_FIELD", "key");
        let one = guarded.revoke(&all[1].id, false).await.expect("revoked");
        assert_eq!((one.len(), one[0].revoked_by.as_str()), (1, "token:root"));
        assert_eq!(guarded.revoke(&all[1].id, false).await.expect("revoked before"), one);
        assert_eq!(guarded.revoke("b", true).await.expect("revoked").len(), 2);
        assert_eq!(listed(guarded, false, 0).await.len(), 2);
        assert_eq!(listed(guarded, true, 2).await.len(), 5);
    }

    async fn the_changelog_names_the_key_that_wrote(guarded) {
        let schema = proto::WriteSchemaRequest { text: SCHEMA.into(), ..Default::default() };
        guarded.schemas(ROOT).write_schema(schema).await.expect("a schema");
        let (_, first) = guarded.key("ci", "default:write").await;
        let (_, second) = guarded.key("ci", "default:write").await;
        let written = write(guarded, &first, "once", "doc:1#owner@user:ann").await.expect("written");
        // A new key of the name is the same principal: a retry across a rotation is still one write.
        let again = write(guarded, &second, "once", "doc:1#owner@user:ann").await.expect("replayed");
        assert_eq!((again.replayed, again.zookie), (true, written.zookie));
        let other = write(guarded, ROOT, "once", "doc:1#owner@user:ann").await.expect("another's");
        assert!(!other.replayed);

        let mut principals = Vec::new();
        let mut stream = guarded.tuples(ROOT).watch(proto::WatchRequest::default()).await.expect("a stream").into_inner();
        stream.message().await.expect("a message").expect("where it begins");
        write(guarded, &second, "", "doc:2#owner@user:ann").await.expect("written");
        while principals.is_empty() {
            let message = stream.message().await.expect("a message").expect("more");
            if !message.changes.is_empty() {
                principals.push(message.principal);
            }
        }
        assert_eq!(principals, ["key:ci"]);
    }

    async fn a_stream_ends_when_its_key_is_revoked(guarded) {
        let (key, text) = guarded.key("watcher", "default:read").await;
        let mut stream = guarded.tuples(&text).watch(proto::WatchRequest::default()).await.expect("a stream").into_inner();
        stream.message().await.expect("a message").expect("where it begins");
        guarded.revoke(&key.id, false).await.expect("revoked");
        let ended = async {
            loop {
                match stream.message().await {
                    Ok(Some(_)) => {}
                    Ok(None) => panic!("ended without a word"),
                    Err(status) => return status,
                }
            }
        };
        let status = timeout(PATIENCE, ended).await.expect("within a poll");
        unauthenticated::<()>(Err(status));
        unauthenticated(guarded.get_store(&text, "").await);
    }

    async fn an_expired_key_is_refused(guarded) {
        let text = expiring(guarded, "*:read").await;
        unauthenticated(guarded.get_store(&text, "").await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revocation_reaches_the_other_nodes() {
    let Some(url) = tokio::task::spawn_blocking(postgres_server::fresh_database).await.expect("a cluster")
    else {
        return;
    };
    let (one, other) = (Guarded::on_url(&url).await, Guarded::on_url(&url).await);
    let (key, text) = one.key("ci", "*:read").await;
    other.get_store(&text, "").await.expect("a new key is known everywhere at once");
    one.revoke(&key.id, false).await.expect("revoked");
    unauthenticated(one.get_store(&text, "").await);
    let begun = Instant::now();
    while other.get_store(&text, "").await.is_ok() {
        assert!(begun.elapsed() < PATIENCE, "still let in after {:?}", begun.elapsed());
        sleep(Duration::from_millis(20)).await;
    }
    unauthenticated(other.get_store(&text, "").await);
    one.stop().await;
    other.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_file_is_read_again_when_it_changes() {
    let guarded = Guarded::sqlite().await;
    let file = guarded.tokens.path().join("tokens");
    let scoped = "scoped-token-0123456789";
    let begun = Instant::now();
    let until = async |expected: Code| {
        loop {
            let code = guarded.get_store(scoped, "").await.map_or_else(|status| status.code(), |_| Code::Ok);
            if code == expected {
                return;
            }
            assert!(begun.elapsed() < 6 * PATIENCE, "{code:?} instead of {expected:?}");
            sleep(Duration::from_millis(20)).await;
        }
    };
    until(Code::Ok).await;
    std::fs::write(&file, format!("{ROOT} root\n{scoped} app default:write\n")).expect("a file");
    until(Code::PermissionDenied).await;
    // A broken file changes nothing, however often it is read: every second.
    std::fs::write(&file, "short\n").expect("a file");
    sleep(Duration::from_secs(3)).await;
    until(Code::PermissionDenied).await;
    std::fs::write(&file, format!("{ROOT} root\n")).expect("a file");
    until(Code::Unauthenticated).await;
    guarded.get_store(ROOT, "").await.expect("whoever stays in the file stays known");
    // The last one can be taken out too.
    std::fs::write(&file, "# nobody\n").expect("a file");
    loop {
        match guarded.get_store(ROOT, "").await {
            Ok(_) => sleep(Duration::from_millis(20)).await,
            Err(status) => break assert_eq!(status.code(), Code::Unauthenticated),
        }
        assert!(begun.elapsed() < 4 * PATIENCE, "the last token is never taken back");
    }
    std::fs::write(&file, format!("{scoped} app default:read\n")).expect("a file");
    until(Code::Ok).await;
    guarded.stop().await;
}

/// Old answers may be allowed for long; a key that could have been revoked is not taken for longer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_cut_off_takes_no_key_however_old_its_answers_may_be() {
    let url = tokio::task::spawn_blocking(postgres_server::fresh_database).await.expect("a cluster");
    let Some(url) = url else { return };
    let (proxy, url) = Proxy::before_database(&url);
    let (tokens, access) = credentials();
    let server = Running::on_url(&url, |config| {
        config.access = access;
        config.feed.max_staleness = Duration::from_millis(1_500);
        config.allow_stale = Some(Duration::from_hours(1));
    })
    .await;
    let guarded = Guarded { server, tokens };
    let (_, key) = guarded.key("ci", "*:admin").await;
    guarded.get_store(&key, "default").await.expect("a key that holds");
    proxy.gate(Gate::Refuse);
    proxy.cut_all(Cut::Reset);
    let refused = timeout(PATIENCE, async {
        loop {
            if let Err(status) = guarded.get_store(&key, "default").await
                && reason(&status) == "KEYS_STALE"
            {
                return status;
            }
            sleep(Duration::from_millis(20)).await;
        }
    });
    assert_eq!(refused.await.expect("in time").code(), Code::Unavailable);
    let status = guarded.get_store(ROOT, "default").await.expect_err("no database");
    assert_eq!(reason(&status), "DATABASE_UNAVAILABLE", "tokens of a file go on");
    guarded.stop().await;
}

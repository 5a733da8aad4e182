//! Where keys come from, how they change, and what happens when they do not come.

#![allow(clippy::float_cmp, reason = "numbers of keys are whole")]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use relata::proto;
use serde_json::json;
use tonic::Code;

use super::issuer::{Issuer, Key, Mood};
use super::{Guarded, PATIENCE, entry, settings, unauthenticated};
use crate::grpc::{reason, refused};
use crate::observed::scrape;
use crate::program::{Record, Server};

/// Strangers who make up names of keys do not make the server ask the issuer for each of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn made_up_keys_do_not_hammer_the_issuer() {
    let issuer = Issuer::start(Key::ed25519()).await;
    let guarded =
        Guarded::start(&settings(&issuer, "").replace("refetch_seconds: 1", "refetch_seconds: 3600")).await;
    guarded.ask(&issuer.token("ann")).await.expect("let in");
    let before = issuer.asked();
    let stranger = Key::ed25519();
    let asked = (0..200).map(|number| {
        let token =
            stranger.token(&json!({"alg": "EdDSA", "kid": format!("k{number}")}), &issuer.claims("ann"));
        let guarded = &guarded;
        async move { unauthenticated(guarded.ask(&token).await, "a made-up key") }
    });
    let begun = Instant::now();
    futures::future::join_all(asked).await;
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    assert!(issuer.asked() <= before + 1, "{} more fetches", issuer.asked() - before);
    let metrics = scrape(guarded.server.operations).await;
    assert_eq!(metrics.value("relata_oidc_keys", &[]), 1.0);
    guarded.ask(&issuer.token("ann")).await.expect("the others notice nothing");
    guarded.stop().await;
}

/// A key that the issuer has just begun to use is fetched when the first token names it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_key_is_fetched_when_a_token_names_it() {
    let issuer = Issuer::start(Key::ed25519()).await;
    let guarded = Guarded::start(&settings(&issuer, "")).await;
    guarded.ask(&issuer.token("ann")).await.expect("let in");
    let next = Key::p256();
    issuer.publish(vec![issuer.key.public("first"), next.public("second")]);
    let token = next.token(&json!({"alg": "ES256", "kid": "second"}), &issuer.claims("ann"));
    // At once, or a second later if keys were fetched a moment ago.
    guarded.becomes(&token, Code::Ok).await;
    guarded.ask(&issuer.token("ann")).await.expect("the old key still counts");
    guarded.stop().await;
}

/// A key that the issuer withdraws counts no more after the next refresh: neither for new calls,
/// nor for tokens that were verified before, nor for streams that are open.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_withdrawn_key_sends_its_guests_away() {
    let issuer = Issuer::start(Key::ed25519()).await;
    let often = settings(&issuer, "").replace("refresh_seconds: 600", "refresh_seconds: 1");
    let guarded = Guarded::start(&often).await;
    let (token, kept) = (issuer.token("ann"), Key::p256());
    issuer.publish(vec![issuer.key.public("first"), kept.public("second")]);
    let staying = kept.token(&json!({"alg": "ES256", "kid": "second"}), &issuer.claims("bob"));
    guarded.becomes(&staying, Code::Ok).await;
    let watch = async |token: &str| {
        guarded.tuples(token).watch(proto::WatchRequest::default()).await.expect("a stream").into_inner()
    };
    let (mut watched, mut kept_watched) = (watch(&token).await, watch(&staying).await);

    issuer.publish(vec![kept.public("second")]);
    let ended = tokio::time::timeout(PATIENCE, async {
        loop {
            if let Err(status) = watched.message().await {
                return status;
            }
        }
    });
    refused::<()>(Err(ended.await.expect("ended in time")), Code::Unauthenticated, "UNAUTHENTICATED", "");
    unauthenticated(guarded.ask(&token).await, "a token of the withdrawn key");
    guarded.ask(&staying).await.expect("let in");
    let quiet = tokio::time::timeout(Duration::from_millis(500), async {
        loop {
            kept_watched.message().await.expect("the other stream goes on");
        }
    });
    assert!(quiet.await.is_err());
    guarded.stop().await;
}

/// Whoever has seen a key leak does not wait for the next refresh, nor restarts anything.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hangup_fetches_keys_although_the_settings_are_as_before() {
    let issuer = Issuer::start(Key::ed25519()).await;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("oidc.yaml");
    let seldom = settings(&issuer, "").replace("refetch_seconds: 1", "refetch_seconds: 3600");
    std::fs::write(&path, seldom).expect("a file");
    let record = Record::sqlite();
    let server = Server::start(&record, &["--oidc-config", path.to_str().expect("a path")]);
    let (leaked, next) = (issuer.token("ann"), Key::p256());
    let server = server.with_token(&leaked);
    // Ann may read, and nothing is there to be read: whoever is known is told so.
    let ask = || server.ask("tuple read doc").code;
    let begun = Instant::now();
    while ask() == 77 {
        assert!(begun.elapsed() < PATIENCE, "the first keys are not taken");
    }
    let before = issuer.asked();
    issuer.publish(vec![next.public("second")]);
    assert_ne!(ask(), 77, "nobody has asked for keys");
    assert_eq!(issuer.asked(), before);
    server.signal("HUP");
    let begun = Instant::now();
    while ask() != 77 {
        assert!(begun.elapsed() < PATIENCE, "the withdrawn key is still taken");
    }
    assert_eq!(server.stop(), 0);
}

/// An issuer that goes away leaves its keys behind, for a while.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_outlast_their_issuer_within_a_bound() {
    let issuer = Issuer::start(Key::ed25519()).await;
    let brief =
        settings(&issuer, "keep_keys_seconds: 4").replace("refresh_seconds: 600", "refresh_seconds: 1");
    let guarded = Guarded::start(&brief).await;
    let token = issuer.token("ann");
    guarded.ask(&token).await.expect("let in");
    let fresh = issuer.token("bob");
    let (key, address) = issuer.stop().await;
    let gone = Instant::now();
    guarded.ask(&fresh).await.expect("the keys are still there");
    guarded.becomes(&fresh, Code::Unavailable).await;
    // The keys were fetched at most a second or so before the issuer went.
    assert!(gone.elapsed() > Duration::from_secs(1), "{:?}", gone.elapsed());
    let status = guarded.ask(&token).await.expect_err("nor does it hold what was verified before");
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Unavailable, "ISSUER_UNAVAILABLE"));

    // When it comes back, so do the callers.
    let issuer = Issuer::start_at(key, address, "/realms/test").await;
    guarded.becomes(&token, Code::Ok).await;
    drop(issuer);
    guarded.stop().await;
}

/// A server starts without its issuer, says so to whoever needs it, and goes on when it comes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_issuer_may_come_later() {
    let issuer = Issuer::start(Key::ed25519()).await;
    let (settings, token) = (settings(&issuer, ""), issuer.token("ann"));
    let (key, address) = issuer.stop().await;
    let guarded = Guarded::start(&settings).await;
    let status = guarded.ask(&token).await.expect_err("no keys");
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Unavailable, "ISSUER_UNAVAILABLE"));
    let issuer = Issuer::start_at(key, address, "/realms/test").await;
    guarded.becomes(&token, Code::Ok).await;
    drop(issuer);
    guarded.stop().await;
}

/// What an issuer is to answer, given its address.
type MoodOf<'a> = Box<dyn Fn(&Issuer) -> Mood + 'a>;

/// Whatever an issuer answers, others are not harmed by it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_answer_is_no_key_set() {
    let elsewhere = Issuer::start(Key::ed25519()).await;
    let leads = |to: &str| json!({"issuer": to, "jwks_uri": to});
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let moods: Vec<(&str, MoodOf<'_>)> = vec![
        ("slow", Box::new(|_| Mood::Slow(Duration::from_mins(5)))),
        ("endless", Box::new(|_| Mood::Endless)),
        ("an error", Box::new(|_| Mood::Status(503, String::new()))),
        ("a redirect", Box::new(|_| Mood::Status(302, format!("{}/keys", elsewhere.url)))),
        ("discovery of another issuer", Box::new(|_| Mood::Discovery(leads(&elsewhere.url)))),
        (
            "keys over plain text from elsewhere",
            Box::new(|issuer| {
                Mood::Discovery(json!({"issuer": issuer.url, "jwks_uri": "http://keys.example/keys"}))
            }),
        ),
        ("no discovery", Box::new(|_| Mood::Discovery(json!([])))),
        ("no key set", Box::new(|_| Mood::Keys("<html>"))),
        ("half a key set", Box::new(|_| Mood::Keys(r#"{"keys": [{"kty": "#))),
    ];
    let mut bad = Vec::new();
    for (what, mood) in &moods {
        let issuer = Issuer::start_at(Key::ed25519(), any, "").await;
        issuer.set_mood(mood(&issuer));
        bad.push((*what, issuer));
    }
    let good = Issuer::start(Key::ed25519()).await;
    let entries: String = bad.iter().map(|(_, issuer)| entry(issuer, "")).collect();
    let guarded = Guarded::start(&format!("issuers:\n{entries}{}", entry(&good, ""))).await;
    let asked = bad.iter().map(|(what, issuer)| {
        let guarded = &guarded;
        async move {
            let status = guarded.ask(&issuer.token("ann")).await.expect_err(what);
            assert_eq!(reason(&status), "ISSUER_UNAVAILABLE", "{what}: {status:?}");
        }
    });
    let begun = Instant::now();
    futures::future::join_all(asked).await;
    assert!(begun.elapsed() < Duration::from_secs(30), "an issuer was waited for too long");
    guarded.ask(&good.token("ann")).await.expect("the others notice nothing");

    // When it answers well, its tokens are taken.
    let (_, mended) = &bad[2];
    mended.set_mood(Mood::Good);
    guarded.becomes(&mended.token("ann"), Code::Ok).await;
    guarded.stop().await;
}

/// Keys that are gone for good are gone, but keys that could not be fetched are kept.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_answer_does_not_cost_the_keys_there_are() {
    let issuer = Issuer::start(Key::ed25519()).await;
    let often = settings(&issuer, "").replace("refresh_seconds: 600", "refresh_seconds: 1");
    let guarded = Guarded::start(&often).await;
    guarded.ask(&issuer.token("ann")).await.expect("let in");
    issuer.set_mood(Mood::Keys("<html>"));
    let (seen, begun) = (issuer.asked(), Instant::now());
    while issuer.asked() < seen + 2 {
        assert!(begun.elapsed() < PATIENCE, "the issuer is asked again");
        guarded.ask(&issuer.token("bob")).await.expect("let in");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let metrics = scrape(guarded.server.operations).await;
    assert!(metrics.value("relata_oidc_key_fetches_total", &[("outcome", "failed")]) >= 1.0);
    assert!(metrics.value("relata_oidc_key_fetches_total", &[("outcome", "succeeded")]) >= 1.0);
    assert_eq!(metrics.value("relata_oidc_keys", &[]), 1.0);
    issuer.publish(vec![]);
    issuer.set_mood(Mood::Good);
    guarded.becomes(&issuer.token("eve"), Code::Unauthenticated).await;
    let metrics = scrape(guarded.server.operations).await;
    assert_eq!(metrics.value("relata_oidc_keys", &[]), 0.0);
    guarded.stop().await;
}

/// Keys from a file, without any issuer to reach.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_can_be_in_a_file() {
    let issuer = Issuer::start(Key::ed25519()).await;
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("keys.json");
    let write = |keys: serde_json::Value| {
        let staged = file.with_extension("new");
        std::fs::write(&staged, json!({ "keys": keys }).to_string()).expect("a file");
        std::fs::rename(staged, &file).expect("replaced");
    };
    write(json!([issuer.key.public("first")]));
    let guarded = Guarded::start(&settings(&issuer, &format!("jwks_file: {}", file.display()))).await;
    guarded.ask(&issuer.token("ann")).await.expect("let in");
    assert_eq!(issuer.asked(), 0, "nothing is fetched");
    let begun = Instant::now();
    let unknown = Key::p256().token(&json!({"alg": "ES256", "kid": "second"}), &issuer.claims("ann"));
    unauthenticated(guarded.ask(&unknown).await, "an unknown key");
    assert!(begun.elapsed() < Duration::from_secs(4), "there is nobody to wait for");
    // The file is read again.
    write(json!([]));
    guarded.becomes(&issuer.token("ann"), Code::Unauthenticated).await;
    guarded.stop().await;
}

/// Keys at an address of their own, without discovery.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_can_be_at_an_address() {
    let issuer = Issuer::start(Key::ed25519()).await;
    let guarded = Guarded::start(&settings(&issuer, &format!("jwks_url: {}/keys", issuer.url))).await;
    issuer.set_mood(Mood::Discovery(json!("not asked for")));
    guarded.ask(&issuer.token("ann")).await.expect("let in");
    guarded.stop().await;
}

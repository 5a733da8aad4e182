//! API keys as the record keeps them.

use std::sync::Arc;
use std::time::Duration;

use relata::datastore::{Datastore, KeyDigest, KeyFilter, KeyId, KeysStamp, LiveKeys, NewKey, StoredKey};

use super::fixture::Fixture;

fn key(id: &str, name: &str) -> NewKey {
    NewKey {
        id: KeyId(id.into()),
        digest: KeyDigest(blake3::hash(id.as_bytes())),
        name: name.into(),
        grants: "default:read *:write".into(),
        expires_at: None,
        created_by: "key:root".into(),
    }
}

async fn live(datastore: &Arc<dyn Datastore>, known: Option<KeysStamp>) -> Option<LiveKeys> {
    datastore.live_keys(known).await.expect("an answer")
}

async fn ids(datastore: &Arc<dyn Datastore>) -> Vec<String> {
    let keys = live(datastore, None).await.expect("keys").keys;
    let mut ids: Vec<_> = keys.into_iter().map(|key| key.id.to_string()).collect();
    ids.sort();
    ids
}

async fn listed(datastore: &Arc<dyn Datastore>, filter: KeyFilter) -> Vec<StoredKey> {
    datastore.keys(&filter, None, 100).await.expect("keys")
}

pub async fn a_key_is_live_until_it_is_revoked(fixture: Fixture) {
    let datastore = &fixture.datastore;
    let before = datastore.now().await.expect("the clock");
    let none = live(datastore, None).await.expect("the first look sees all there is");
    assert!(none.keys.is_empty());
    assert_eq!(live(datastore, Some(none.stamp)).await, None, "nothing has changed");

    let made = datastore.create_key(key("1a", "ci")).await.expect("made");
    assert!(made.created_at >= before && made.revoked_at.is_none());
    assert_eq!((&*made.name, &*made.grants, &*made.created_by), ("ci", "default:read *:write", "key:root"));
    let one = live(datastore, Some(none.stamp)).await.expect("news");
    assert_ne!(one.stamp, none.stamp);
    let [seen] = &one.keys[..] else { panic!("{one:?}") };
    assert_eq!((&seen.id, &*seen.name, &*seen.grants), (&made.id, "ci", "default:read *:write"));
    assert!(seen.digest == KeyDigest(blake3::hash(b"1a")) && seen.expires_at.is_none());

    let revoked = datastore.revoke_key(&made.id, "key:boss").await.expect("revoked").expect("known");
    assert!(revoked.revoked_at.is_some_and(|at| at >= made.created_at));
    let again = datastore.revoke_key(&made.id, "key:late").await.expect("an answer").expect("known");
    assert_eq!(again, revoked, "the first to revoke stays the one who did");
    assert_eq!(again.revoked_by.as_deref(), Some("key:boss"));
    let gone = live(datastore, Some(one.stamp)).await.expect("news");
    assert!(gone.keys.is_empty());
    assert_eq!(datastore.revoke_key(&KeyId("9z".into()), "key:boss").await.expect("an answer"), None);
}

pub async fn keys_are_listed_by_name_and_id(fixture: Fixture) {
    let datastore = &fixture.datastore;
    for (id, name) in [("3c", "ci"), ("1a", "ops"), ("2b", "ci"), ("4d", "app")] {
        datastore.create_key(key(id, name)).await.expect("made");
    }
    datastore.revoke_key(&KeyId("2b".into()), "key:boss").await.expect("revoked");
    let names = |keys: &[StoredKey]| {
        keys.iter().map(|key| format!("{}/{}", key.name, key.id)).collect::<Vec<_>>().join(" ")
    };
    let all = KeyFilter { revoked: true, ..KeyFilter::default() };
    assert_eq!(names(&listed(datastore, KeyFilter::default()).await), "app/4d ci/3c ops/1a");
    assert_eq!(names(&listed(datastore, all.clone()).await), "app/4d ci/2b ci/3c ops/1a");
    let ci = KeyFilter { name: Some("ci".into()), ..all.clone() };
    assert_eq!(names(&listed(datastore, ci).await), "ci/2b ci/3c");
    let one = KeyFilter { id: Some(KeyId("1a".into())), ..KeyFilter::default() };
    assert_eq!(names(&listed(datastore, one).await), "ops/1a");

    let (mut after, mut pages) = (None, Vec::new());
    loop {
        let page = datastore.keys(&all, after.as_ref(), 1).await.expect("a page");
        let Some(last) = page.last() else { break };
        after = Some((last.name.clone(), last.id.clone()));
        pages.extend(page);
    }
    assert_eq!(pages, listed(datastore, all).await, "pages are the list");
    assert!(datastore.create_key(key("1a", "twice")).await.is_err(), "an id is given once");
    assert_eq!(ids(datastore).await, ["1a", "3c", "4d"]);
}

pub async fn an_expired_key_is_not_live(fixture: Fixture) {
    let datastore = &fixture.datastore;
    let now = datastore.now().await.expect("the clock");
    let past = NewKey { expires_at: Some(now), ..key("1a", "past") };
    let future =
        NewKey { expires_at: Some(now.saturating_add(Duration::from_hours(1))), ..key("2b", "future") };
    let expiry = future.expires_at;
    datastore.create_key(past).await.expect("made");
    datastore.create_key(future).await.expect("made");
    let live = live(datastore, None).await.expect("keys");
    let [key] = &live.keys[..] else { panic!("{live:?}") };
    assert_eq!((&*key.name, key.expires_at), ("future", expiry));
    let listed = listed(datastore, KeyFilter::default()).await;
    assert_eq!(listed.len(), 2, "an expired key is still shown");
}

/// As after a failover that lost the last change: the next change must not look like the lost one.
pub async fn a_stamp_is_never_given_twice(fixture: Fixture) {
    let datastore = &fixture.datastore;
    datastore.create_key(key("1a", "ci")).await.expect("made");
    let before = live(datastore, None).await.expect("keys").stamp;
    datastore.revoke_key(&KeyId("1a".into()), "key:boss").await.expect("revoked");
    let lost = live(datastore, None).await.expect("keys").stamp;
    fixture.execute("UPDATE {key} SET revoked_at = NULL, revoked_by = NULL").await;
    datastore.create_key(key("2b", "other")).await.expect("made");
    let after = live(datastore, Some(lost)).await.expect("it is another state, though one change later too");
    assert!(after.stamp != lost && after.stamp != before);
    assert_eq!(after.keys.len(), 2);
}

pub async fn keys_outlive_a_restart_on_every_node(fixture: Fixture) {
    fixture.datastore.create_key(key("1a", "ci")).await.expect("made");
    let fixture = fixture.reopen().await;
    for node in fixture.nodes().await {
        assert_eq!(ids(&node).await, ["1a"]);
    }
}

/// What is logged about a key says nothing of its digest.
pub async fn a_digest_does_not_print(fixture: Fixture) {
    fixture.datastore.create_key(key("1a", "ci")).await.expect("made");
    let shown = format!("{:?}", live(&fixture.datastore, None).await);
    let digest = blake3::hash(b"1a");
    assert!(shown.contains("1a") && !shown.contains(&*digest.to_hex()), "{shown}");
    assert!(!shown.contains(&format!("{:?}", digest.as_bytes())), "{shown}");
}

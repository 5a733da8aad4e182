//! Expired tuples leave by themselves, and those who watch are told.

use std::time::{Duration, SystemTime};

use relata::proto;
use relata::proto::Verdict;
use relata::proto::tuple_change::Operation;
use relata::upkeep::SWEEPER;

use super::node::{Apart, serve};
use super::until;
use crate::datastore::fixture::{Place, on_each_place};
use crate::grpc::{self, Running, text};
use crate::observed::{Exposition, scrape, scrape_until};

on_each_place!(what_expired_is_swept_and_those_who_watch_are_told);

const LEFT: &str = "SELECT count(*) FROM {tuple} WHERE expires_at IS NOT NULL";

/// Writes a tuple that counts for so long.
async fn grant_for(server: &Running, tuple: &str, time: Duration) {
    let expires_at = Some(prost_types::Timestamp::from(SystemTime::now() + time));
    let updates = vec![proto::Update {
        tuple: Some(proto::Tuple { expires_at, ..grpc::tuple(tuple) }),
        ..grpc::update(proto::update::Operation::Touch, tuple)
    }];
    server.write(updates).await.expect("written");
}

async fn what_expired_is_swept_and_those_who_watch_are_told(place: Place) {
    let server = serve(&place, 1_000).await;
    server.with_schema().await;
    server.touch(&["doc:1#owner@user:ann"]).await;
    let request = proto::WatchRequest::default();
    let mut watched = server.tuples().watch(request).await.expect("a stream").into_inner();
    watched.message().await.expect("a message").expect("where it begins");

    grant_for(&server, "doc:1#owner@user:bob", Duration::from_millis(700)).await;
    grant_for(&server, "doc:1#owner@user:cora", Duration::from_hours(1)).await;
    assert_eq!(server.verdict("doc:1#owner@user:bob").await, Verdict::Allowed);
    let swept = loop {
        let message = tokio::time::timeout(Duration::from_secs(20), watched.message()).await;
        let message = message.expect("in time").expect("a message").expect("the stream goes on");
        if message.changes.iter().any(|change| change.operation() == Operation::Deleted) {
            break message;
        }
    };
    assert_eq!((swept.principal.as_str(), swept.note.as_str()), (SWEEPER, "expired"));
    let gone: Vec<_> = swept.changes.iter().map(|change| text(change.tuple.as_ref().expect("one"))).collect();
    assert_eq!(gone, ["doc:1#owner@user:bob"]);
    assert_eq!(server.verdict("doc:1#owner@user:bob").await, Verdict::Denied);
    assert_eq!(server.verdict("doc:1#owner@user:cora").await, Verdict::Allowed);
    assert_eq!(place.number(LEFT).await, 1, "the other one's");
    let removed = scrape(server.operations).await;
    assert!((removed.value("relata_upkeep_removed_total", &[("task", "sweep")]) - 1.0).abs() < 0.5);
    server.stop().await;
}

/// A server that hangs until its lease has ended finds, when it comes to itself, that the work is
/// another's: it does no further round.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_hung_past_its_lease_leaves_the_work_to_another() {
    const SWEEP: [(&str, &str); 1] = [("task", "sweep")];
    let url = tokio::task::spawn_blocking(crate::postgres_server::fresh_database);
    let Some(url) = url.await.expect("a cluster") else { return };
    let place = Place::Postgres(url);
    let hung = Apart::start(&place, 1_000).await;
    let held = |page: &Exposition| page.value("relata_upkeep_leases_held", &SWEEP) > 0.5;
    let rounds = |page: &Exposition| page.value("relata_upkeep_rounds_total", &SWEEP);
    scrape_until(hung.operations, "the lease and a round", |page| held(page) && rounds(page) > 0.5).await;

    let heir = serve(&place, 1_000).await;
    assert!(!held(&scrape(heir.operations).await), "there is one at a time");
    hung.signal("STOP");
    scrape_until(heir.operations, "the lease, once it has ended", held).await;
    hung.signal("CONT");
    // It asks for the lease again, and does not get it.
    let page = scrape_until(hung.operations, "the lease is gone", |page| !held(page)).await;
    let before = rounds(&page);

    heir.with_schema().await;
    grant_for(&heir, "doc:1#owner@user:bob", Duration::from_millis(50)).await;
    until(&place, LEFT, 0).await;
    let begun = rounds(&scrape(heir.operations).await);
    scrape_until(heir.operations, "many rounds", |page| rounds(page) > begun + 20.0).await;
    let page = scrape(hung.operations).await;
    assert!((rounds(&page) - before).abs() < 0.5, "it goes on: {} after {before}", rounds(&page));
    assert!(page.value("relata_upkeep_removed_total", &SWEEP).abs() < 0.5);
    heir.stop().await;
}

//! Freshness: what each requirement guarantees, and which zookies are refused.

use std::time::Duration;

use relata::proto;
use relata::proto::Verdict;
use relata::proto::consistency::Requirement;
use relata::revision::{Revision, Zookie};
use tonic::{Code, Request, Status};

use super::{Running, consistency, on_both, question, refused};

async fn check_at(
    server: &Running,
    text: &str,
    requirement: Requirement,
) -> Result<proto::CheckResponse, Status> {
    server.check(proto::CheckRequest { consistency: consistency(requirement), ..question(text) }).await
}

/// The zookie with another revision and the same everything else.
pub fn moved(zookie: &str, revision: Revision) -> String {
    let mut zookie: Zookie = zookie.parse().expect("a zookie");
    zookie.revision = revision;
    zookie.to_string()
}

on_both! {
    async fn an_answer_names_its_revision(server) {
        server.with_schema().await;
        let text = "doc:1#owner@user:ann";
        let granted = server.touch(&[text]).await;
        let revoked = server.delete(&[text]).await;
        let fresh = check_at(server, text, Requirement::AtLeast(revoked.clone())).await.expect("an answer");
        assert_eq!((fresh.verdict(), fresh.zookie.as_str()), (Verdict::Denied, revoked.as_str()));
        // At least an earlier one may be the newest.
        let fresh = check_at(server, text, Requirement::AtLeast(granted.clone())).await.expect("an answer");
        assert_eq!(fresh.verdict(), Verdict::Denied);
        // Exactly an earlier one is that one.
        let earlier = check_at(server, text, Requirement::Exact(granted.clone())).await.expect("an answer");
        assert_eq!((earlier.verdict(), earlier.zookie), (Verdict::Allowed, granted));
        let full = check_at(server, text, Requirement::Full(())).await.expect("an answer");
        assert_eq!((full.verdict(), full.zookie), (Verdict::Denied, revoked));
    }

    async fn an_earlier_revision_is_answered_with_its_schema(server) {
        server.with_schema().await;
        let granted = server.touch(&["doc:1#granted@user:ann"]).await;
        let narrow = crate::grpc::SCHEMA.replace("(granted or owner) but not blocked", "owner");
        server.write_schema(&narrow).await.expect("a second version");
        let text = "doc:1#viewer@user:ann";
        assert_eq!(server.verdict(text).await, Verdict::Denied);
        let earlier = check_at(server, text, Requirement::Exact(granted)).await.expect("an answer");
        assert_eq!(earlier.verdict(), Verdict::Allowed);
    }

    async fn zookies_that_cannot_be_used_are_refused(server) {
        server.with_schema().await;
        let text = "doc:1#owner@user:ann";
        let zookie = server.touch(&[text]).await;
        for malformed in ["", "x", "not a zookie", &zookie[1..]] {
            let outcome = check_at(server, text, Requirement::AtLeast(malformed.into())).await;
            refused(outcome, Code::InvalidArgument, "ZOOKIE_MALFORMED", "consistency.at_least");
        }
        let other = proto::CreateStoreRequest { name: "other".into() };
        let elsewhere = server.stores().create_store(other).await.expect("a store").into_inner().zookie;
        let outcome = check_at(server, text, Requirement::Exact(elsewhere)).await;
        refused(outcome, Code::InvalidArgument, "ZOOKIE_OTHER_STORE", "consistency.exact");

        // A revision that exists, of a write that was never made here.
        let mut forged: Zookie = zookie.parse().expect("a zookie");
        forged.write = [7; 8];
        let forged = forged.to_string();
        for requirement in [Requirement::AtLeast(forged.clone()), Requirement::Exact(forged)] {
            let outcome = check_at(server, text, requirement).await;
            refused(outcome, Code::FailedPrecondition, "ZOOKIE_HISTORY_LOST", "");
        }
    }

    // Whoever has a zookie has it from a write that the database had.
    async fn a_zookie_ahead_of_the_database_is_of_a_lost_write(server) {
        server.with_schema().await;
        let text = "doc:1#owner@user:ann";
        let zookie = server.touch(&[text]).await;
        let ahead = moved(&zookie, Revision(1_000));
        for requirement in [Requirement::AtLeast(ahead.clone()), Requirement::Exact(ahead.clone())] {
            let mut request = Request::new(proto::CheckRequest {
                consistency: consistency(requirement),
                ..question(text)
            });
            request.set_timeout(Duration::from_secs(20));
            let started = std::time::Instant::now();
            let outcome = server.permissions().check(request).await;
            refused(outcome, Code::FailedPrecondition, "ZOOKIE_HISTORY_LOST", "");
            assert!(started.elapsed() < Duration::from_secs(10), "nobody waits for what nobody has");
        }
        let request = proto::WatchRequest { after: ahead, ..Default::default() };
        let outcome = server.tuples().watch(request).await;
        refused(outcome.map(|_| ()), Code::FailedPrecondition, "ZOOKIE_HISTORY_LOST", "");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_zookie_of_another_database_is_refused() {
    let (here, there) = (Running::sqlite(|_| {}).await, Running::sqlite(|_| {}).await);
    here.with_schema().await;
    there.with_schema().await;
    let zookie = there.touch(&["doc:1#owner@user:ann"]).await;
    let outcome = check_at(&here, "doc:1#owner@user:ann", Requirement::AtLeast(zookie)).await;
    refused(outcome, Code::InvalidArgument, "ZOOKIE_OTHER_DATABASE", "consistency.at_least");
    here.stop().await;
    there.stop().await;
}

/// A revision further back than the reach is refused, and not answered from another one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_beyond_reach_is_out_of_range() {
    let server = Running::sqlite(|config| {
        config.feed.reach_changes = 3;
        config.feed.reach_time = Duration::ZERO;
    })
    .await;
    server.with_schema().await;
    let text = "doc:1#owner@user:ann";
    let first = server.touch(&[text]).await;
    for index in 0..10 {
        server.touch(&[&format!("doc:{index}#owner@user:bob")]).await;
    }
    let outcome = check_at(&server, text, Requirement::Exact(first.clone())).await;
    refused(outcome, Code::OutOfRange, "REVISION_OUT_OF_RANGE", "");
    assert!(check_at(&server, text, Requirement::AtLeast(first)).await.is_ok());
    server.stop().await;
}

/// Two nodes on one database: whoever names the zookie sees the write.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_zookie_carries_a_write_from_node_to_node() {
    let url = tokio::task::spawn_blocking(crate::postgres_server::fresh_database).await.expect("a cluster");
    let Some(url) = url else { return };
    let (here, there) = (Running::on_url(&url, |_| {}).await, Running::on_url(&url, |_| {}).await);
    here.with_schema().await;
    for round in 0..20 {
        let text = format!("doc:{round}#owner@user:ann");
        let zookie = here.touch(&[&text]).await;
        let answer = check_at(&there, &text, Requirement::AtLeast(zookie)).await.expect("an answer");
        assert_eq!(answer.verdict(), Verdict::Allowed, "{text}");
        here.delete(&[&text]).await;
        let full = check_at(&there, &text, Requirement::Full(())).await.expect("an answer");
        assert_eq!(full.verdict(), Verdict::Denied, "{text}");
    }
    here.stop().await;
    there.stop().await;
}

//! mTLS: who has no certificate of the right authority does not get in, and who had one goes.

use rcgen::ExtendedKeyUsagePurpose;
use relata::config::ClientAuth;

use super::authority::{self, Authority, Pair};
use super::{Encrypted, PATIENCE, call};

const ANN: &str = "spiffe://example.test/ann";

fn bad_ones(clients: &Authority, servers: &Authority) -> Vec<(&'static str, Pair)> {
    vec![
        ("of another authority", Authority::new("others").client(ANN)),
        ("of an authority of the same name", Authority::new("clients").client(ANN)),
        ("of the authority of servers", servers.client(ANN)),
        (
            "expired",
            clients.sign(|params| {
                authority::expired(params);
                params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
            }),
        ),
        ("for servers only", clients.server()),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_shows_no_good_certificate_stays_outside() {
    let clients = Authority::new("clients");
    let server = Encrypted::with_clients(Some((&clients, ClientAuth::Required)), |_| {}).await;
    server.ask(server.trust(Some(&clients.client(ANN)))).await.expect("let in");
    server.ask(server.trust(None)).await.expect_err("without a certificate");
    for (what, pair) in bad_ones(&clients, &server.authority) {
        assert!(server.ask(server.trust(Some(&pair))).await.is_err(), "a certificate {what}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_it_is_optional_a_bad_one_is_worse_than_none() {
    let clients = Authority::new("clients");
    let server = Encrypted::with_clients(Some((&clients, ClientAuth::Optional)), |_| {}).await;
    server.ask(server.trust(None)).await.expect("let in");
    server.ask(server.trust(Some(&clients.client(ANN)))).await.expect("let in");
    for (what, pair) in bad_ones(&clients, &server.authority) {
        assert!(server.ask(server.trust(Some(&pair))).await.is_err(), "a certificate {what}");
    }
    server.stop().await;
}

/// An authority that is no longer trusted loses its clients, those that are connected included,
/// and no others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_withdrawn_authority_loses_its_open_connections() {
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let server = Encrypted::with_clients(Some((&old, ClientAuth::Required)), |_| {}).await;
    let both = format!("{}{}", old.pem, new.pem);
    authority::write(server.folder.path(), "clients.pem", &both);
    let (leaving, staying) = (old.client(ANN), new.client(ANN));
    let admitted = tokio::time::timeout(PATIENCE, async {
        loop {
            if let Ok(channel) = server.ask(server.trust(Some(&staying))).await {
                break channel;
            }
        }
    });
    let staying = admitted.await.expect("the second authority is trusted in time");
    let first = server.ask(server.trust(Some(&leaving))).await.expect("the first one still is");

    authority::write(server.folder.path(), "clients.pem", &new.pem);
    let lost = tokio::time::timeout(PATIENCE, async { while call(&first).await.is_ok() {} });
    lost.await.expect("the open connection is closed in time");
    for _ in 0..10 {
        assert!(call(&first).await.is_err(), "and cannot come back");
        call(&staying).await.expect("the others notice nothing");
    }
    server.stop().await;
}

/// A certificate that ends while its connection is open ends the connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_ends_takes_its_connection_along() {
    let clients = Authority::new("clients");
    let server = Encrypted::with_clients(Some((&clients, ClientAuth::Required)), |_| {}).await;
    let brief = clients.sign(|params| {
        let end = std::time::SystemTime::now() + std::time::Duration::from_secs(5);
        params.not_after = end.into();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    });
    let channel = server.ask(server.trust(Some(&brief))).await.expect("let in");
    let lost = tokio::time::timeout(PATIENCE, async { while call(&channel).await.is_ok() {} });
    lost.await.expect("closed in time");
    assert!(call(&channel).await.is_err(), "and it cannot come back");
    server.stop().await;
}

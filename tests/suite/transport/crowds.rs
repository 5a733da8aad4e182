//! Nobody keeps others out by connecting: neither by silence nor by number.

use std::time::{Duration, Instant};

use relata::config::{Access, Config, Credentials};
use relata::proto;
use relata::proto::store_service_client::StoreServiceClient;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tonic::transport::Channel;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use super::{Encrypted, PATIENCE, call};
use crate::grpc::Running;
use crate::observed::scrape_until;

/// A thousand clients that connect and say nothing do not keep others waiting, and are not kept.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_clients_stop_nobody_and_are_sent_away() {
    let brief = |config: &mut Config| config.opening_timeout = Duration::from_secs(6);
    let server = Encrypted::with_clients(None, brief).await;
    let mut silent = Vec::new();
    for _ in 0..1_000 {
        silent.push(TcpStream::connect(server.address).await.expect("the port is open"));
    }
    let begun = Instant::now();
    for _ in 0..20 {
        server.ask(server.trust(None)).await.expect("let in");
    }
    // Had they to wait for the silent ones, this would take 6 s at least.
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    let sent_away = tokio::time::timeout(PATIENCE, async {
        for mut stream in silent {
            // An end or a reset.
            let _ = stream.read(&mut [0; 16]).await;
        }
    });
    sent_away.await.expect("all of them are sent away");
    server.stop().await;
}

/// Shaking hands is not enough: whoever then says nothing goes too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_says_nothing_after_the_handshake_is_sent_away() {
    let brief = |config: &mut Config| config.opening_timeout = Duration::from_secs(2);
    let server = Encrypted::with_clients(None, brief).await;
    let mut stream = server.shake_hands(None).await.expect("a handshake");
    // The server may greet first; what counts is that it hangs up.
    let mut said = Vec::new();
    let sent_away = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut said)).await;
    sent_away.expect("in time").ok();
    assert!(said.len() < 128, "{said:?}");
    server.stop().await;
}

/// The same without TLS.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_says_nothing_in_plain_text_is_sent_away() {
    let server = Running::sqlite(|config| config.opening_timeout = Duration::from_secs(2)).await;
    let mut stream = TcpStream::connect(server.address).await.expect("the port is open");
    let mut answer = Vec::new();
    let sent_away = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
    sent_away.expect("in time").ok();
    call(&server.channel).await.expect("whoever speaks stays");
    server.stop().await;
}

/// Connections beyond the bound are closed at once, and room is found again when others leave.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn there_is_room_for_so_many_and_no_more() {
    let server = Running::sqlite(|config| config.max_connections = 8).await;
    // One is the test's own.
    let mut kept = Vec::new();
    for _ in 0..7 {
        kept.push(connect(&server).await.expect("room"));
    }
    for _ in 0..5 {
        assert!(connect(&server).await.is_err(), "no room");
    }
    call(&server.channel).await.expect("those inside notice nothing");
    drop(kept);
    let again = tokio::time::timeout(PATIENCE, async { while connect(&server).await.is_err() {} });
    again.await.expect("room again");
    server.stop().await;
}

async fn connect(server: &Running) -> Result<tonic::transport::Channel, String> {
    let endpoint =
        tonic::transport::Endpoint::from_shared(format!("http://{}", server.address)).expect("an address");
    let channel = endpoint.connect().await.map_err(|error| error.to_string())?;
    call(&channel).await.map_err(|status| status.to_string())?;
    Ok(channel)
}

/// Speaking HTTP/2 is not enough where credentials are asked for. Whoever has shown a good one
/// stays, and so does who watches health.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_only_keeps_a_connection_busy_is_sent_away() {
    const TOKEN: &str = "0123456789abcdef";
    let folder = tempfile::tempdir().expect("a folder");
    let tokens = folder.path().join("tokens");
    std::fs::write(&tokens, TOKEN).expect("a file");
    let server = Running::sqlite(|config| {
        config.access = Access::Guarded(Credentials::tokens(tokens));
        config.stranger_timeout = Duration::from_secs(2);
    })
    .await;
    known(&server.channel, TOKEN).await.expect("let in");
    let endpoint =
        tonic::transport::Endpoint::from_shared(format!("http://{}", server.address)).expect("an address");
    let watching = endpoint.connect().await.expect("a connection");
    let watch = HealthClient::new(watching).watch(HealthCheckRequest::default()).await;
    let mut watch = watch.expect("a stream").into_inner();

    let stranger = TcpStream::connect(server.address).await.expect("the port is open");
    let (mut from, mut to) = stranger.into_split();
    let mut begun = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    begun.extend([0, 0, 0, 4, 0, 0, 0, 0, 0]);
    to.write_all(&begun).await.expect("the preface and the settings");
    let pinging = tokio::spawn(async move {
        let ping = [0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
        while to.write_all(&ping).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    let mut said = Vec::new();
    let sent_away = tokio::time::timeout(PATIENCE, from.read_to_end(&mut said)).await;
    sent_away.expect("in time").ok();
    assert!(said.len() > 24, "it was answered: {said:?}");
    pinging.abort();

    // The others have been connected for longer than the stranger was.
    let one = |exposition: &crate::observed::exposition::Exposition| {
        exposition.value("relata_connections_of_strangers_total", &[]) > 0.0
    };
    let told = scrape_until(server.operations, "the stranger is counted", one).await;
    let counted = told.value("relata_connections_of_strangers_total", &[]);
    assert!((0.5..1.5).contains(&counted), "{counted} were sent away");
    known(&server.channel, TOKEN).await.expect("stays");
    while let Ok(message) = tokio::time::timeout(Duration::from_millis(10), watch.message()).await {
        message.expect("goes on").expect("news of health");
    }
    server.stop().await;
}

/// A call with a token.
async fn known(channel: &Channel, token: &str) -> Result<(), tonic::Status> {
    let mut request = tonic::Request::new(proto::GetStoreRequest { store: "default".into() });
    request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().expect("a header"));
    StoreServiceClient::new(channel.clone()).get_store(request).await.map(drop)
}

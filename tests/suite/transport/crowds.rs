//! Nobody keeps others out by connecting: neither by silence nor by number.

use std::time::{Duration, Instant};

use relata::config::Config;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

use super::{Encrypted, PATIENCE, call};
use crate::grpc::Running;

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

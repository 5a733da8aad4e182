//! A client that trusts the right authority gets in; everything else gets a quick end.

use std::time::Instant;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint};

use super::authority::{Authority, SERVER_NAME};
use super::{Encrypted, PATIENCE};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_trusts_the_authority_gets_in() {
    let server = Encrypted::start().await;
    server.ask(server.trust(None)).await.expect("let in");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_is_not_fooled() {
    let server = Encrypted::start().await;
    let other = Authority::new("others");
    let trusting =
        ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&other.pem)).domain_name(SERVER_NAME);
    let refusal = server.ask(trusting).await.expect_err("another authority");
    assert!(refusal.contains("UnknownIssuer"), "{refusal}");
    let refusal = server.ask(server.trust(None).domain_name("other.test")).await.expect_err("another name");
    assert!(refusal.contains("NotValidForName"), "{refusal}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http2_is_agreed_on_and_old_versions_are_not_spoken() {
    let server = Encrypted::start().await;
    let stream = server.shake_hands(None).await.expect("a handshake");
    let session = stream.get_ref().1;
    assert_eq!(session.alpn_protocol(), Some(&b"h2"[..]));
    assert_eq!(session.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));

    // The beginning of a handshake in TLS 1.0: record, ClientHello, version 3.1, one cipher suite.
    let mut hello = vec![0x16, 3, 1, 0, 45, 1, 0, 0, 41, 3, 1];
    hello.extend([7; 32]);
    hello.extend([0, 0, 2, 0, 0x2f, 1, 0]);
    let mut stream = TcpStream::connect(server.address).await.expect("the port is open");
    stream.write_all(&hello).await.expect("sent");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.expect("an end");
    // An alert, fatal: protocol version or what rustls takes for it. Never a ServerHello.
    assert_eq!(answer.first(), Some(&0x15), "{answer:?}");
    server.stop().await;
}

/// What is no handshake is answered at once, not when patience ends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plain_text_is_turned_away_at_once() {
    let server = Encrypted::start().await;
    let begun = Instant::now();
    for greeting in
        ["PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "GET / HTTP/1.1\r\nHost: relata\r\n\r\n", "\0\0\0\0\0\0\0\0"]
    {
        let mut stream = TcpStream::connect(server.address).await.expect("the port is open");
        stream.write_all(greeting.as_bytes()).await.expect("sent");
        let mut answer = Vec::new();
        let ended = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("in time");
        assert!(ended.is_err() || answer.len() < 32, "{answer:?}");
    }
    let plain = Endpoint::from_shared(format!("http://{}", server.address)).expect("an address");
    // The connection itself comes about, since TCP does.
    if let Ok(channel) = plain.connect().await {
        super::call(&channel).await.expect_err("no plain text");
    }
    assert!(begun.elapsed().as_secs() < 8, "{:?}", begun.elapsed());
    server.stop().await;
}

/// Sessions are not resumed: each connection shows its certificate to the rules in force.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_session_is_resumed() {
    let server = Encrypted::start().await;
    for versions in [&[&rustls::version::TLS13][..], &[&rustls::version::TLS12][..]] {
        let config = server.config_of(versions, None);
        let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
        for _ in 0..3 {
            let tcp = TcpStream::connect(server.address).await.expect("the port is open");
            let name = SERVER_NAME.try_into().expect("a name");
            let mut stream = connector.connect(name, tcp).await.expect("a handshake");
            assert_eq!(stream.get_ref().1.handshake_kind(), Some(rustls::HandshakeKind::Full));
            // The greeting of a client, so that what the server sends after the handshake is read.
            stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.expect("sent");
            let mut frame = [0; 9];
            stream.read_exact(&mut frame).await.expect("the server's settings");
        }
    }
    server.stop().await;
}

//! The operations listener: what it tells, and what it does not.

use std::net::SocketAddr;
use std::time::Duration;

use relata::config::{Access, Config, Credentials};
use relata::server::RunError;
use relata::server::operations::{Exposure, OperationsListener};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

use super::{PATIENCE, get, send};
use crate::grpc::Running;
use crate::postgres_server::{Cluster, Durability, enabled};
use crate::program::{Record, Server, relata, run};

/// Asks until the server is ready, or is not.
async fn until_ready(address: SocketAddr, ready: bool) -> serde_json::Value {
    let begun = std::time::Instant::now();
    loop {
        let page = get(address, "/readyz").await;
        let told: serde_json::Value = serde_json::from_str(&page.body).expect("JSON");
        assert_eq!(page.status, if told["ready"] == true { 200 } else { 503 }, "{page:?}");
        assert_eq!(told["ready"] == true, told["reasons"].as_array().expect("a list").is_empty(), "{page:?}");
        if told["ready"] == ready {
            return told;
        }
        assert!(begun.elapsed() < PATIENCE, "{told}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_tells_three_things_and_nothing_else() {
    let server = Running::sqlite(|_| {}).await;
    let address = server.operations;
    until_ready(address, true).await;
    assert_eq!((get(address, "/livez").await.status, get(address, "/metrics").await.status), (200, 200));
    for path in [
        "/",
        "/config",
        "/debug/pprof",
        "/debug/pprof/cmdline",
        "/metrics/",
        "/livez?x",
        "/%2e%2e/etc/passwd",
    ] {
        let expected = if path == "/livez?x" { 200 } else { 404 };
        assert_eq!(get(address, path).await.status, expected, "{path}");
    }
    for method in ["POST", "PUT", "DELETE", "TRACE", "CONNECT", "OPTIONS"] {
        let request = format!("{method} /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n");
        let status = send(address, request.as_bytes()).await.status;
        assert!([400, 404, 405].contains(&status), "{method}: {status}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_its_database_lives_and_is_not_ready() {
    if !enabled() {
        return;
    }
    let mut cluster =
        tokio::task::spawn_blocking(|| Cluster::start(Durability::None)).await.expect("a cluster");
    let adapt = |config: &mut Config| {
        config.health_interval = Duration::from_millis(50);
        config.feed.max_staleness = Duration::from_millis(500);
    };
    let server = Running::on_url(&cluster.create_database(), adapt).await;
    until_ready(server.operations, true).await;
    cluster.stop();
    // Whichever is noticed first: the database is silent, the changelog cannot be followed, and
    // what was in memory cannot be proved current any more.
    let begun = std::time::Instant::now();
    loop {
        let told = until_ready(server.operations, false).await;
        let reasons = told["reasons"].as_array().expect("a list").iter();
        let reasons: Vec<&str> = reasons.filter_map(|reason| reason["reason"].as_str()).collect();
        if reasons == ["DATABASE", "FEED", "STALE"] {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "{told}");
    }
    assert_eq!(get(server.operations, "/livez").await.status, 200);
    cluster.resume();
    until_ready(server.operations, true).await;
    server.stop().await;
}

/// Nothing that is asked for, nor anything that goes wrong with it, is shown with a secret.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_page_shows_a_secret() {
    if !enabled() {
        return;
    }
    let mut cluster =
        tokio::task::spawn_blocking(|| Cluster::start(Durability::None)).await.expect("a cluster");
    let folder = tempfile::tempdir().expect("a folder");
    let tokens = folder.path().join("tokens");
    let (token, password) = ("s3cret-token-0123456789", "hunter2hunter2");
    std::fs::write(&tokens, format!("{token} ops\n")).expect("a file");
    let url = cluster.create_database();
    // Whatever the URL says, the cluster asks for no password.
    let url = format!("{url}{}password={password}", if url.contains('?') { '&' } else { '?' });
    let adapt = |config: &mut Config| {
        config.access = Access::Guarded(Credentials::tokens(tokens.clone()));
        config.health_interval = Duration::from_millis(50);
        config.feed.max_staleness = Duration::from_millis(500);
    };
    let server = Running::on_url(&url, adapt).await;
    let shows_none = async || {
        for path in ["/metrics", "/livez", "/readyz"] {
            let page = get(server.operations, path).await;
            assert!(!page.body.is_empty(), "{page:?}");
            for secret in [token, password, "s3cret", "postgres://"] {
                assert!(!format!("{page:?}").contains(secret), "{path} shows `{secret}`");
            }
        }
    };
    let mut client = relata::proto::store_service_client::StoreServiceClient::new(server.channel.clone());
    let mut request = tonic::Request::new(relata::proto::GetStoreRequest::default());
    let header = format!("Bearer {token}").parse().expect("a header");
    request.metadata_mut().insert("authorization", header);
    client.get_store(request).await.expect("the token is taken");
    until_ready(server.operations, true).await;
    shows_none().await;
    cluster.stop();
    until_ready(server.operations, false).await;
    shows_none().await;
    cluster.resume();
    until_ready(server.operations, true).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_and_slow_requests_are_refused() {
    let server = Running::sqlite(|_| {}).await;
    let address = server.operations;
    let large = format!("GET /livez HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "a".repeat(64 << 10));
    assert!([400, 431].contains(&send(address, large.as_bytes()).await.status));
    let many = format!("GET /livez HTTP/1.1\r\nHost: x\r\n{}\r\n", "x: y\r\n".repeat(100));
    assert!([400, 431].contains(&send(address, many.as_bytes()).await.status));

    // As many silent askers as are let in at once: they are hung up on, and others get their turn.
    let mut silent = Vec::new();
    for _ in 0..40 {
        silent.push(TcpStream::connect(address).await.expect("an open port"));
    }
    let page = tokio::time::timeout(PATIENCE * 2, async {
        let mut first = silent.remove(0);
        let mut rest = Vec::new();
        let _ = first.read_to_end(&mut rest).await;
        get(address, "/livez").await
    });
    assert_eq!(page.await.expect("a turn").status, 200);
    server.stop().await;
}

#[test]
fn it_is_kept_to_loopback_unless_said_plainly() {
    let refused = |address: &str| {
        let bound = OperationsListener::bind(address.parse().expect("an address"), Exposure::Loopback);
        assert!(matches!(bound, Err(RunError::OperationsExposed { .. })), "{address}: {bound:?}");
    };
    for address in ["0.0.0.0:0", "[::]:0", "[::ffff:10.0.0.1]:0", "192.0.2.1:0"] {
        refused(address);
    }
    OperationsListener::bind(([127, 0, 0, 1], 0).into(), Exposure::Loopback).expect("loopback");
    OperationsListener::bind(([0, 0, 0, 0], 0).into(), Exposure::Anywhere).expect("said plainly");
}

fn serve(arguments: &[&str]) -> crate::program::Ran {
    let record = Record::sqlite();
    let mut command = relata();
    command.args(["serve", "--listen", "127.0.0.1:0", "--datastore", &record.url]).args(arguments);
    run(&mut command, "")
}

#[test]
fn the_program_says_what_is_wrong_with_an_address() {
    serve(&["--operations-listen", "0.0.0.0:0"]).exits(64).says("--operations-insecure");
    serve(&["--operations-listen", "nowhere"]).exits(64).says("neither `ADDRESS:PORT` nor `off`");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    serve(&["--operations-listen", &address])
        .exits(69)
        .says(&format!("cannot listen on {address} for metrics and probes"))
        .says("--operations-listen");
}

#[test]
fn the_program_says_where_to_ask() {
    let record = Record::sqlite();
    let server = Server::start(&record, &["--operations-listen", "127.0.0.1:0"]);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let exposition = runtime.block_on(super::scrape(server.operations()));
    assert!(exposition.find("relata_build_info", &[("version", env!("CARGO_PKG_VERSION"))]).is_some());
    assert_eq!(server.stop(), 0);
}

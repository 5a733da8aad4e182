//! Start, health, reflection, stop, restart.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::time::Duration;

use relata::proto;
use relata::proto::Verdict;
use relata::proto::update::Operation;
use relata::server::{RunError, bind};
use tokio_stream::StreamExt as _;
use tonic::{Code, Response};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

use super::{Running, on_both, question, refused, update};

async fn wait_for(server: &Running, service: &str, wanted: ServingStatus) {
    let mut client = HealthClient::new(server.channel.clone());
    let request = HealthCheckRequest { service: service.into() };
    let mut changes = client.watch(request).await.expect("a stream").into_inner();
    let seen = tokio::time::timeout(Duration::from_secs(20), async {
        while changes.message().await.expect("a status").expect("more").status() != wanted {}
    });
    seen.await.unwrap_or_else(|_| panic!("{service}: {wanted:?} in time"));
}

on_both! {
    async fn health_says_serving_for_each_service(server) {
        for service in ["", "relata.v1.PermissionService", "relata.v1.TupleService", "relata.v1.SchemaService", "relata.v1.StoreService"] {
            wait_for(server, service, ServingStatus::Serving).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reflection_lists_every_service() {
    let server = Running::sqlite(|_| {}).await;
    let ask = |message| ServerReflectionRequest { host: String::new(), message_request: Some(message) };
    let mut client = ServerReflectionClient::new(server.channel.clone());
    let questions = vec![
        ask(MessageRequest::ListServices(String::new())),
        ask(MessageRequest::FileContainingSymbol("relata.v1.PermissionService".into())),
    ];
    let mut answers =
        client.server_reflection_info(tokio_stream::iter(questions)).await.expect("answers").into_inner();
    let Some(Ok(answer)) = answers.next().await else { panic!("an answer") };
    let Some(MessageResponse::ListServicesResponse(list)) = answer.message_response else {
        panic!("{answer:?}")
    };
    let names: BTreeSet<_> = list.service.into_iter().map(|service| service.name).collect();
    for service in [
        "relata.v1.PermissionService",
        "relata.v1.TupleService",
        "relata.v1.SchemaService",
        "relata.v1.StoreService",
        "grpc.health.v1.Health",
    ] {
        assert!(names.contains(service), "{names:?}");
    }
    let Some(Ok(answer)) = answers.next().await else { panic!("an answer") };
    assert!(
        matches!(answer.message_response, Some(MessageResponse::FileDescriptorResponse(_))),
        "{answer:?}"
    );
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_ends_watch_streams_with_a_reason_to_reconnect() {
    let mut server = Running::sqlite(|_| {}).await;
    server.with_schema().await;
    let mut watched =
        server.tuples().watch(proto::WatchRequest::default()).await.expect("a stream").into_inner();
    let mut health = HealthClient::new(server.channel.clone());
    wait_for(&server, "", ServingStatus::Serving).await;
    let mut health = health.watch(HealthCheckRequest::default()).await.expect("a stream").into_inner();
    assert_eq!(health.message().await.expect("a status").expect("more").status(), ServingStatus::Serving);
    server.begin_stop();
    let ended = loop {
        match watched.message().await {
            Ok(message) => assert!(message.is_some_and(|message| message.checkpoint)),
            Err(status) => break status,
        }
    };
    refused::<()>(Err(ended), Code::Unavailable, "SHUTTING_DOWN", "");
    assert_eq!(health.message().await.expect("a status").expect("more").status(), ServingStatus::NotServing);
    // The stop does not wait for those who go on watching health.
    assert!(health.message().await.expect("the end").is_none());
    let started = std::time::Instant::now();
    server.stop().await;
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
    drop(health);
}

/// Writes in flight when the stop is asked for are answered, and what was acknowledged is there
/// after a restart; what was refused is not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_finishes_what_is_in_flight() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("relata.db");
    let mut server = Running::on_file(path.clone(), |_| {}).await;
    server.with_schema().await;
    let mut writers = Vec::new();
    for writer in 0..8 {
        let mut client = server.tuples();
        writers.push(tokio::spawn(async move {
            let mut acknowledged = Vec::new();
            for index in 0.. {
                let tuple = format!("doc:{writer}-{index}#owner@user:ann");
                let updates = vec![update(Operation::Create, &tuple)];
                match client.write(proto::WriteRequest { updates, ..Default::default() }).await {
                    Ok(_) => acknowledged.push(tuple),
                    Err(status) => return (acknowledged, status),
                }
            }
            unreachable!("the server stops")
        }));
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    server.begin_stop();
    let mut acknowledged = Vec::new();
    for writer in writers {
        let (written, ended) = writer.await.expect("no panic");
        assert!(matches!(ended.code(), Code::Unavailable | Code::Unknown | Code::Cancelled), "{ended:?}");
        acknowledged.extend(written);
    }
    server.stop().await;
    assert!(!acknowledged.is_empty());

    let server = Running::on_file(path, |_| {}).await;
    for tuple in &acknowledged {
        assert_eq!(server.verdict(tuple).await, Verdict::Allowed, "{tuple}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_that_is_served_is_not_shared_by_accident() {
    let server = Running::sqlite(|_| {}).await;
    let taken = bind(server.address, NonZeroUsize::MIN).await;
    assert!(matches!(taken, Err(RunError::Listen { .. })), "{taken:?}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shards_share_one_port() {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let listeners = bind(any, NonZeroUsize::new(4).expect("not zero")).await.expect("a port");
    let ports: BTreeSet<u16> =
        listeners.iter().map(|listener| listener.local_addr().expect("an address").port()).collect();
    assert_eq!((listeners.len(), ports.len()), (4, 1));
}

/// The database goes away and comes back with all it acknowledged: reads go on for as long as they may, health says so,
/// writes fail with a reason, and everything recovers by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_disappears_is_survived() {
    let cluster = tokio::task::spawn_blocking(|| {
        crate::postgres_server::enabled()
            .then(|| crate::postgres_server::Cluster::start(crate::postgres_server::Durability::Full))
    });
    let Some(mut cluster) = cluster.await.expect("a cluster") else { return };
    let url = cluster.create_database();
    let server = Running::on_url(&url, |config| {
        config.feed.max_staleness = Duration::from_secs(3);
        config.health_interval = Duration::from_millis(200);
    })
    .await;
    server.with_schema().await;
    let text = "doc:1#owner@user:ann";
    server.touch(&[text]).await;
    wait_for(&server, "", ServingStatus::Serving).await;

    let mut cluster = tokio::task::spawn_blocking(move || {
        cluster.stop();
        cluster
    })
    .await
    .expect("stopped");
    assert_eq!(server.verdict(text).await, Verdict::Allowed, "reads go on");
    let refusal =
        server.write(vec![update(Operation::Touch, "doc:2#owner@user:ann")]).await.expect_err("no database");
    assert_eq!(refusal.code(), Code::Unavailable, "{refusal:?}");
    wait_for(&server, "", ServingStatus::NotServing).await;
    let stale = tokio::time::timeout(Duration::from_secs(20), async {
        loop {
            match server.check(question(text)).await {
                Ok(_) => tokio::time::sleep(Duration::from_millis(100)).await,
                Err(status) => return status,
            }
        }
    });
    let stale = stale.await.expect("refused in time");
    refused::<()>(Err(stale), Code::Unavailable, "REPLICA_STALE", "");

    let cluster = tokio::task::spawn_blocking(move || {
        cluster.resume();
        cluster
    })
    .await
    .expect("started");
    wait_for(&server, "", ServingStatus::Serving).await;
    server.touch(&["doc:3#owner@user:ann"]).await;
    assert_eq!(server.verdict("doc:3#owner@user:ann").await, Verdict::Allowed);
    server.stop().await;
    drop(cluster);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unknown_methods_and_bad_addresses_are_told_apart() {
    let server = Running::sqlite(|_| {}).await;
    let request = proto::GetStoreRequest { store: "x".repeat(100_000) };
    let status = server.stores().get_store(request).await.map(Response::into_inner).expect_err("refused");
    assert_eq!(status.code(), Code::NotFound);
    assert!(status.message().len() < 200, "what was typed is quoted, but not at any length");
    server.stop().await;
}

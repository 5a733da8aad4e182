//! Access: a walk over every method that the running server describes, and what else could let
//! somebody in.

mod keys;
mod raw;
mod stores;
mod tricks;
pub mod walk;

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::time::Duration;

use relata::config::{Access, Config, Credentials, DatastoreConfig};
use relata::proto;
use relata::proto::key_service_client::KeyServiceClient;
use relata::server::{RunError, bind, run};
use tokio::time::{Instant, sleep};
use tonic::metadata::MetadataValue;
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use super::{Running, refused};

/// A token that may do everything, beside those of the test.
const ROOT: &str = "root-token-0123456789";
/// Longer than any server may take to notice, on any machine that runs tests.
const PATIENCE: Duration = Duration::from_secs(30);
const TOKENS: &str = "# the test's\nroot-token-0123456789 root\nscoped-token-0123456789 app default:read\n";

/// A server that takes API keys and tokens.
pub struct Guarded {
    pub server: Running,
    tokens: tempfile::TempDir,
}

impl Guarded {
    async fn sqlite() -> Self {
        let (tokens, access) = credentials();
        Self { server: Running::sqlite(|config| config.access = access).await, tokens }
    }

    async fn postgres() -> Option<Self> {
        let (tokens, access) = credentials();
        Some(Self { server: Running::postgres(|config| config.access = access).await?, tokens })
    }

    async fn on_url(url: &str) -> Self {
        let (tokens, access) = credentials();
        Self { server: Running::on_url(url, |config| config.access = access).await, tokens }
    }

    async fn stop(self) {
        self.server.stop().await;
    }

    fn keys(&self, credential: &str) -> KeyServiceClient<InterceptedService<Channel, Bearer>> {
        KeyServiceClient::with_interceptor(self.server.channel.clone(), Bearer::new(credential))
    }

    /// Makes a key with grants such as `default:read,write *:read`.
    async fn key(&self, name: &str, grants: &str) -> (proto::Key, String) {
        let request = proto::CreateKeyRequest { name: name.to_owned(), grants: parse(grants), expiry: None };
        let made = self.keys(ROOT).create_key(request).await.expect("a key").into_inner();
        (made.key.expect("a key"), made.secret)
    }

    async fn revoke(&self, key: &str, all: bool) -> Result<Vec<proto::Key>, Status> {
        let request = proto::RevokeKeyRequest { key: key.to_owned(), all };
        self.keys(ROOT).revoke_key(request).await.map(|answer| answer.into_inner().keys)
    }

    async fn create_store(&self, name: &str) -> proto::Store {
        let mut stores = self.stores(ROOT);
        let request = proto::CreateStoreRequest { name: name.to_owned() };
        stores.create_store(request).await.expect("a store").into_inner().store.expect("a store")
    }

    fn stores(
        &self,
        credential: &str,
    ) -> proto::store_service_client::StoreServiceClient<InterceptedService<Channel, Bearer>> {
        let channel = self.server.channel.clone();
        proto::store_service_client::StoreServiceClient::with_interceptor(channel, Bearer::new(credential))
    }

    fn tuples(
        &self,
        credential: &str,
    ) -> proto::tuple_service_client::TupleServiceClient<InterceptedService<Channel, Bearer>> {
        let channel = self.server.channel.clone();
        proto::tuple_service_client::TupleServiceClient::with_interceptor(channel, Bearer::new(credential))
    }

    fn schemas(
        &self,
        credential: &str,
    ) -> proto::schema_service_client::SchemaServiceClient<InterceptedService<Channel, Bearer>> {
        let channel = self.server.channel.clone();
        proto::schema_service_client::SchemaServiceClient::with_interceptor(channel, Bearer::new(credential))
    }

    async fn get_store(&self, credential: &str, store: &str) -> Result<proto::GetStoreResponse, Status> {
        let request = proto::GetStoreRequest { store: store.to_owned() };
        self.stores(credential).get_store(request).await.map(Response::into_inner)
    }
}

fn credentials() -> (tempfile::TempDir, Access) {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("tokens");
    std::fs::write(&file, TOKENS).expect("a file");
    (directory, Access::Guarded(Credentials { api_keys: true, ..Credentials::tokens(file) }))
}

fn parse(grants: &str) -> Vec<proto::Grant> {
    let right = |word: &str| match word {
        "read" => proto::Right::Read,
        "write" => proto::Right::Write,
        "schema" => proto::Right::Schema,
        "admin" => proto::Right::Admin,
        other => panic!("{other}"),
    };
    let grant = |text: &str| {
        let (store, rights) = text.split_once(':').expect("a grant");
        let rights = rights.split(',').map(|word| right(word).into()).collect();
        proto::Grant { store: store.to_owned(), rights }
    };
    grants.split_whitespace().map(grant).collect()
}

/// A key that has been good, and is not any more.
async fn expiring(guarded: &Guarded, grants: &str) -> String {
    let short = prost_types::Duration { seconds: 1, nanos: 0 };
    let request = proto::CreateKeyRequest {
        name: "short".into(),
        grants: parse(grants),
        expiry: Some(proto::create_key_request::Expiry::ExpiresIn(short)),
    };
    let text = guarded.keys(ROOT).create_key(request).await.expect("a key").into_inner().secret;
    let begun = Instant::now();
    while guarded.get_store(&text, "").await.is_ok() {
        assert!(begun.elapsed() < PATIENCE);
        sleep(Duration::from_millis(20)).await;
    }
    text
}

/// Presents a credential with every call.
#[derive(Clone)]
pub struct Bearer(MetadataValue<tonic::metadata::Ascii>);

impl Bearer {
    fn new(credential: &str) -> Self {
        Self(format!("Bearer {credential}").parse().expect("a header"))
    }
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("authorization", self.0.clone());
        Ok(request)
    }
}

/// Runs each body on both databases, on a server that takes API keys and tokens.
macro_rules! on_both_guarded {
    ($($(#[$doc:meta])* async fn $name:ident($server:ident) $body:block)*) => {
        $(
            $(#[$doc])*
            mod $name {
                #[allow(clippy::wildcard_imports, unused_imports)]
                use super::*;

                async fn body($server: &$crate::grpc::access::Guarded) $body

                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn sqlite() {
                    let server = $crate::grpc::access::Guarded::sqlite().await;
                    body(&server).await;
                    server.stop().await;
                }

                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn postgres() {
                    let Some(server) = $crate::grpc::access::Guarded::postgres().await else { return };
                    body(&server).await;
                    server.stop().await;
                }
            }
        )*
    };
}
use on_both_guarded;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_is_open_to_load_balancers() {
    let guarded = Guarded::sqlite().await;
    let mut health = HealthClient::new(guarded.server.channel.clone());
    health.check(HealthCheckRequest::default()).await.expect("an answer");
    guarded.stop().await;
}

async fn start_refused(access: Access) -> RunError {
    let directory = tempfile::tempdir().expect("a directory");
    let mut config = Config::new(DatastoreConfig::Sqlite(directory.path().join("relata.db")));
    config.access = access;
    let open = SocketAddr::from(([0, 0, 0, 0], 0));
    let listeners = bind(open, NonZeroUsize::MIN).await.expect("a port");
    run(config, listeners, std::future::pending()).await.expect_err("refused")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_open_to_a_network_by_accident() {
    assert!(matches!(start_refused(Access::OpenOnLoopback).await, RunError::Exposed { .. }));
    let missing = Access::Guarded(Credentials::tokens("/nowhere/tokens"));
    assert!(matches!(start_refused(missing).await, RunError::Tokens(_)));
}

/// What is refused says so with details, like any other refusal.
#[track_caller]
fn unauthenticated<T: std::fmt::Debug>(outcome: Result<T, Status>) -> Status {
    refused(outcome, Code::Unauthenticated, "UNAUTHENTICATED", "")
}

#[track_caller]
fn denied<T: std::fmt::Debug>(outcome: Result<T, Status>) -> Status {
    refused(outcome, Code::PermissionDenied, "PERMISSION_DENIED", "")
}

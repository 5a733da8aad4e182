//! Tokens of issuers: a real server, a real issuer over HTTP, and tokens signed for the test.

mod issuer;
mod keys;
mod rights;
mod settings;
mod tokens;

use std::path::PathBuf;
use std::time::Duration;

use relata::config::{Access, Credentials};
use relata::proto;
use relata::proto::schema_service_client::SchemaServiceClient;
use relata::proto::store_service_client::StoreServiceClient;
use relata::proto::tuple_service_client::TupleServiceClient;
use tonic::metadata::MetadataValue;
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

use crate::grpc::{Running, reason};
use issuer::{AUDIENCE, Issuer};

/// Nothing a test waits for takes longer on any machine.
const PATIENCE: Duration = Duration::from_mins(1);

/// Presents a text with every call.
#[derive(Clone)]
struct Bearer(String);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let value: MetadataValue<_> = format!("Bearer {}", self.0).parse().expect("a header");
        request.metadata_mut().insert("authorization", value);
        Ok(request)
    }
}

type Client = InterceptedService<Channel, Bearer>;

/// A server that takes tokens of issuers.
struct Guarded {
    server: Running,
    folder: tempfile::TempDir,
}

impl Guarded {
    async fn start(settings: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("oidc.yaml");
        std::fs::write(&path, settings).expect("a file");
        let credentials = Credentials { oidc_config: Some(path), ..Credentials::default() };
        let server = Running::sqlite(|config| config.access = Access::Guarded(credentials)).await;
        Self { server, folder }
    }

    async fn stop(self) {
        self.server.stop().await;
    }

    /// Replaces the settings in one step.
    fn configure(&self, settings: &str) {
        let staged = self.path("oidc.yaml.new");
        std::fs::write(&staged, settings).expect("a file");
        std::fs::rename(staged, self.path("oidc.yaml")).expect("replaced");
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn service(&self, token: &str) -> Client {
        InterceptedService::new(self.server.channel.clone(), Bearer(token.to_owned()))
    }

    fn stores(&self, token: &str) -> StoreServiceClient<Client> {
        StoreServiceClient::new(self.service(token))
    }

    fn tuples(&self, token: &str) -> TupleServiceClient<Client> {
        TupleServiceClient::new(self.service(token))
    }

    fn schemas(&self, token: &str) -> SchemaServiceClient<Client> {
        SchemaServiceClient::new(self.service(token))
    }

    /// Asks for the default store, which needs the right to read it.
    async fn ask(&self, token: &str) -> Result<(), Status> {
        self.stores(token).get_store(proto::GetStoreRequest::default()).await.map(drop)
    }

    /// Asks until the answer is of this code.
    async fn becomes(&self, token: &str, code: Code) {
        let asked = tokio::time::timeout(PATIENCE, async {
            loop {
                let answered = self.ask(token).await.map_or_else(|status| status.code(), |()| Code::Ok);
                if answered == code {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        asked.await.unwrap_or_else(|_| panic!("{code:?} in time"));
    }
}

/// Settings of one issuer, with what is added to them. Readers may read the default store.
fn settings(issuer: &Issuer, more: &str) -> String {
    format!("issuers:\n{}", entry(issuer, more))
}

fn entry(issuer: &Issuer, more: &str) -> String {
    format!(
        "  - issuer: {}
    audience: {AUDIENCE}
    refresh_seconds: 600
    refetch_seconds: 1
    {more}
    rules:
      - {{ claim: groups, contains: readers, grants: ['default:read'] }}
",
        issuer.url
    )
}

#[track_caller]
fn unauthenticated(outcome: Result<(), Status>, what: &str) -> String {
    let status = outcome.expect_err(what);
    assert_eq!(
        (status.code(), reason(&status).as_str()),
        (Code::Unauthenticated, "UNAUTHENTICATED"),
        "{what}: {status:?}"
    );
    status.message().to_owned()
}

//! The server from outside: a real one on a port of its own, on both databases, asked by real
//! clients.

pub mod access;
mod admission;
mod audit;
mod bad_input;
mod checks;
mod deletions;
mod left_behind;
mod lifecycle;
mod limits;
mod lists;
mod memory;
mod reads;
mod schemas;
pub mod staleness;
mod stalled;
mod stores;
pub mod two_nodes;
mod watching;
mod writes;
mod zookies;

use std::fmt::Debug;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use relata::config::{Config, DatastoreConfig, Migration};
use relata::proto;
use relata::proto::permission_service_client::PermissionServiceClient;
use relata::proto::schema_service_client::SchemaServiceClient;
use relata::proto::store_service_client::StoreServiceClient;
use relata::proto::tuple_service_client::TupleServiceClient;
use relata::server::operations::{Exposure, OperationsListener};
use relata::server::{Listeners, RunError, bind, run};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Response, Status};
use tonic_types::StatusExt as _;

use super::postgres_server;

/// Groups in groups, a wildcard, a condition, an exclusion, an intersection.
pub const SCHEMA: &str = "model
  schema 1.1

type user

type group
  relations
    define member: [user, group#member]

type doc
  relations
    define owner: [user]
    define blocked: [user]
    define granted: [user, user:*, group#member, user with small]
    define viewer: (granted or owner) but not blocked
    define approver: owner and granted

condition small(amount: int) {
  amount < 100
}
";

/// Runs each body on SQLite and on PostgreSQL.
macro_rules! on_both {
    ($($(#[$doc:meta])* async fn $name:ident($server:ident) $body:block)*) => {
        $(
            $(#[$doc])*
            mod $name {
                #[allow(clippy::wildcard_imports, unused_imports)]
                use super::*;

                async fn body($server: &$crate::grpc::Running) $body

                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn sqlite() {
                    let server = $crate::grpc::Running::sqlite(|_| {}).await;
                    body(&server).await;
                    server.stop().await;
                }

                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn postgres() {
                    let Some(server) = $crate::grpc::Running::postgres(|_| {}).await else { return };
                    body(&server).await;
                    server.stop().await;
                }
            }
        )*
    };
}
pub(crate) use on_both;

/// A server under test.
pub struct Running {
    pub address: SocketAddr,
    pub channel: Channel,
    /// Where metrics and probes are asked for.
    pub operations: SocketAddr,
    shutdown: Option<oneshot::Sender<()>>,
    /// Absent where the server runs elsewhere.
    served: Option<JoinHandle<Result<(), RunError>>>,
    /// Removed when the test ends.
    directory: Option<tempfile::TempDir>,
}

impl Running {
    pub async fn sqlite(adapt: impl FnOnce(&mut Config)) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("relata.db");
        let mut server = Self::on_file(path, adapt).await;
        server.directory = Some(directory);
        server
    }

    pub async fn on_file(path: PathBuf, adapt: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::new(DatastoreConfig::Sqlite(path));
        adapt(&mut config);
        Self::start(config).await
    }

    /// `None` where tests on PostgreSQL are switched off.
    pub async fn postgres(adapt: impl FnOnce(&mut Config)) -> Option<Self> {
        let url = tokio::task::spawn_blocking(postgres_server::fresh_database).await.expect("a cluster")?;
        Some(Self::on_url(&url, adapt).await)
    }

    pub async fn on_url(url: &str, adapt: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::new(url.parse().expect("a URL"));
        config.migration = Migration::AtStart;
        adapt(&mut config);
        Self::start(config).await
    }

    pub async fn start(mut config: Config) -> Self {
        // `RELATA_LOG=debug` shows what the servers say.
        if let Ok(filter) = std::env::var("RELATA_LOG") {
            relata::server::logging::start(Some(&filter));
        }
        config.shards = NonZeroUsize::new(2).expect("not zero");
        config.search_threads = NonZeroUsize::new(2).expect("not zero");
        config.drain = Duration::from_secs(5);
        // Tests share the processors: what is refused because a thread has too much to do would depend
        // on what else is being tested.
        config.admission.lag = Duration::from_hours(1);
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let listeners = bind(any, config.shards).await.expect("a port");
        let address = listeners[0].local_addr().expect("an address");
        let operations = OperationsListener::bind(any, Exposure::Loopback).expect("a port");
        let asked_at = operations.address();
        let listeners = Listeners { grpc: listeners, operations: Some(operations) };
        let (shutdown, asked) = oneshot::channel();
        let served = tokio::spawn(run(config, listeners, async move {
            let _ = asked.await;
        }));
        let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an address");
        let channel = endpoint.connect().await.expect("the port is open");
        let (shutdown, served) = (Some(shutdown), Some(served));
        Self { address, channel, operations: asked_at, shutdown, served, directory: None }
    }

    /// A server that somebody else runs, for its client's methods.
    pub async fn elsewhere(endpoint: &str) -> Self {
        let address: SocketAddr = endpoint.trim_start_matches("http://").parse().expect("an address");
        let channel = Endpoint::from_shared(endpoint.to_owned()).expect("an address");
        let channel = channel.connect().await.expect("the port is open");
        Self { address, channel, operations: address, shutdown: None, served: None, directory: None }
    }

    /// Asks the server to stop, without waiting.
    pub fn begin_stop(&mut self) {
        if let Some(shutdown) = self.shutdown.take() {
            let _ = shutdown.send(());
        }
    }

    /// Stops the server, which must end well.
    pub async fn stop(mut self) {
        self.begin_stop();
        drop(self.channel);
        let _removed_at_the_end = self.directory;
        let Some(served) = self.served else { return };
        tokio::time::timeout(Duration::from_secs(20), served)
            .await
            .expect("stopped in time")
            .expect("no panic")
            .expect("stopped well");
    }

    pub fn permissions(&self) -> PermissionServiceClient<Channel> {
        PermissionServiceClient::new(self.channel.clone())
    }

    pub fn tuples(&self) -> TupleServiceClient<Channel> {
        TupleServiceClient::new(self.channel.clone())
    }

    pub fn schemas(&self) -> SchemaServiceClient<Channel> {
        SchemaServiceClient::new(self.channel.clone())
    }

    pub fn stores(&self) -> StoreServiceClient<Channel> {
        StoreServiceClient::new(self.channel.clone())
    }

    /// Puts [`SCHEMA`] in force in the default store.
    pub async fn with_schema(&self) -> String {
        self.write_schema(SCHEMA).await.expect("a schema").schema_id
    }

    pub async fn write_schema(&self, text: &str) -> Result<proto::WriteSchemaResponse, Status> {
        let request = proto::WriteSchemaRequest { text: text.to_owned(), ..Default::default() };
        self.schemas().write_schema(request).await.map(Response::into_inner)
    }

    /// Touches tuples of the default store; the zookie of the write.
    pub async fn touch(&self, tuples: &[&str]) -> String {
        let updates = tuples.iter().map(|text| update(proto::update::Operation::Touch, text)).collect();
        self.write(updates).await.expect("written").zookie
    }

    pub async fn delete(&self, tuples: &[&str]) -> String {
        let updates = tuples.iter().map(|text| update(proto::update::Operation::Delete, text)).collect();
        self.write(updates).await.expect("written").zookie
    }

    pub async fn write(&self, updates: Vec<proto::Update>) -> Result<proto::WriteResponse, Status> {
        let request = proto::WriteRequest { updates, ..Default::default() };
        self.tuples().write(request).await.map(Response::into_inner)
    }

    pub async fn check(&self, request: proto::CheckRequest) -> Result<proto::CheckResponse, Status> {
        self.permissions().check(request).await.map(Response::into_inner)
    }

    /// The verdict on `object#relation@subject` at the newest revision here.
    pub async fn verdict(&self, tuple: &str) -> proto::Verdict {
        self.check(question(tuple)).await.expect("an answer").verdict()
    }
}

/// A tuple from `object#relation@subject`.
pub fn tuple(text: &str) -> proto::Tuple {
    let (object, rest) = text.split_once('#').expect("an object");
    let (relation, subject) = rest.split_once('@').expect("a relation");
    proto::Tuple {
        object: object.to_owned(),
        relation: relation.to_owned(),
        subject: subject.to_owned(),
        ..Default::default()
    }
}

pub fn text(tuple: &proto::Tuple) -> String {
    format!("{}#{}@{}", tuple.object, tuple.relation, tuple.subject)
}

pub fn update(operation: proto::update::Operation, text: &str) -> proto::Update {
    proto::Update { operation: operation.into(), tuple: Some(tuple(text)), must_exist: false }
}

pub fn question(text: &str) -> proto::CheckRequest {
    let proto::Tuple { object, relation, subject, .. } = tuple(text);
    proto::CheckRequest { object, relation, subject, ..Default::default() }
}

#[allow(clippy::unnecessary_wraps, reason = "as requests hold it")]
pub fn consistency(requirement: proto::consistency::Requirement) -> Option<proto::Consistency> {
    Some(proto::Consistency { requirement: Some(requirement) })
}

pub fn number(value: f64) -> prost_types::Value {
    prost_types::Value { kind: Some(prost_types::value::Kind::NumberValue(value)) }
}

#[allow(clippy::unnecessary_wraps, reason = "as requests hold it")]
pub fn context(name: &str, value: prost_types::Value) -> Option<prost_types::Struct> {
    Some(prost_types::Struct { fields: [(name.to_owned(), value)].into() })
}

/// The machine-readable reason of a refusal.
pub fn reason(status: &Status) -> String {
    status.get_error_details().error_info().map(|info| info.reason.clone()).unwrap_or_default()
}

/// The fields a refusal names.
pub fn fields(status: &Status) -> Vec<String> {
    let details = status.get_error_details();
    details
        .bad_request()
        .map(|bad| bad.field_violations.iter().map(|violation| violation.field.clone()).collect())
        .unwrap_or_default()
}

/// Expects a refusal, with its code, its reason and the field at fault (empty for none).
#[track_caller]
pub fn refused<T: Debug>(outcome: Result<T, Status>, code: Code, expected: &str, field: &str) -> Status {
    let status = outcome.expect_err(expected);
    assert_eq!((status.code(), reason(&status).as_str()), (code, expected), "{status:?}");
    let details = status.get_error_details();
    assert_eq!(details.error_info().map(|info| info.domain.as_str()), Some("relata"));
    assert_eq!(fields(&status).first().map_or("", String::as_str), field, "{status:?}");
    assert!(!status.message().is_empty());
    status
}

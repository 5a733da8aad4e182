//! A whole server, called with the bytes of one message.

use std::future::poll_fn;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, HttpBody as _};
use http::{HeaderMap, Request, Response};
use prost::Message as _;
use prost_types::FileDescriptorSet;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tonic::service::Routes;
use tonic::{Code, Status};
use tonic_health::server::HealthReporter;
use tower::{Layer, ServiceExt as _};

use super::seeds::Seeds;
use crate::config::{Config, DatastoreConfig};
use crate::metrics::Metrics;
use crate::proto;
use crate::server::access::{AccessLayer, Gate};
use crate::server::admission::{AdmissionLayer, Ledger, Readers};
use crate::server::lifecycle::{open, routes};
use crate::server::node::Node;
use crate::server::{refusals, vocabulary};

/// A whole server without its port, on a record of its own.
pub struct Target {
    runtime: Runtime,
    /// Behind the layers that let calls in: a call that comes past them is a defect.
    services: <AccessLayer as Layer<<AdmissionLayer as Layer<Routes>>::Service>>::Service,
    seeds: Seeds,
    /// Told when the server stops, which it does with the process.
    _stop: watch::Sender<bool>,
    _directory: Directory,
}

/// Removes itself.
struct Directory(PathBuf);

impl Drop for Directory {
    fn drop(&mut self) {
        // What is left behind is in a place for temporary files.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// How long a call may take, streams included.
const PATIENCE: Duration = Duration::from_millis(200);

/// A call that takes longer than this, its deadline included, is a finding.
const HANGS: Duration = Duration::from_secs(5);

impl Target {
    /// Starts it, with a schema and a few tuples.
    ///
    /// # Errors
    /// If the record cannot be made.
    pub fn start() -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let path = std::env::temp_dir().join(format!("relata-fuzz-{}", uuid::Uuid::now_v7()));
        std::fs::create_dir_all(&path)?;
        let directory = Directory(path);
        let config = Config::new(DatastoreConfig::Sqlite(directory.0.join("relata.db")));
        let (stop, stopping) = watch::channel(false);
        let services = runtime.block_on(async {
            let metrics = Metrics::new();
            let datastore = open(&config.datastore, Arc::clone(&metrics)).await?;
            datastore.migrate().await?;
            let node = Node::start(config, Arc::clone(&datastore), Arc::clone(&metrics), stopping).await?;
            let limits = node.config().admission;
            let ledger = Ledger::new(limits, Arc::clone(&metrics));
            let readers = Readers::new(limits.reader_patience, Arc::clone(&metrics));
            let admission = AdmissionLayer::new(ledger, readers, &vocabulary::of_the_api());
            let access = AccessLayer::new(Gate::Open, metrics);
            anyhow::Ok(access.layer(admission.layer(routes(&node, &HealthReporter::new())?)))
        })?;
        let seeds = Seeds::new(FileDescriptorSet::decode(proto::DESCRIPTORS)?);
        let target = Self { runtime, services, seeds, _stop: stop, _directory: directory };
        target.fill();
        Ok(target)
    }

    /// Gives questions something to be about.
    fn fill(&self) {
        let first = ["/relata.v1.SchemaService/WriteSchema", "/relata.v1.TupleService/Write"];
        for path in first {
            let method = self.seeds.methods().iter().position(|method| method.path == path);
            if let Some(method) = method {
                self.call(method, &self.seeds.message(method));
            }
        }
    }

    /// For each method a message that fills every field, behind the byte that chooses the method:
    /// what a fuzzer starts from.
    #[must_use]
    pub fn seeds(&self) -> Vec<Vec<u8>> {
        let numbered = (0..self.seeds.methods().len()).filter_map(|at| Some((at, u8::try_from(at).ok()?)));
        numbered.map(|(method, byte)| [vec![byte], self.seeds.message(method)].concat()).collect()
    }

    /// Sends one message to a method and returns how the call ended.
    ///
    /// # Panics
    /// If the call hangs, or ends by a defect: without a status, or with one that blames the server.
    pub fn call(&self, method: usize, message: &[u8]) -> Status {
        let methods = self.seeds.methods();
        let Some(path) = methods.get(method % methods.len().max(1)).map(|method| &*method.path) else {
            return Status::ok("there is no method");
        };
        let length = u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes();
        let frame = [&[0][..], &length, message].concat();
        let status = self
            .runtime
            .block_on(async { tokio::time::timeout(HANGS, self.send(path, frame)).await.ok().flatten() });
        let status = status.unwrap_or_else(|| Status::data_loss("no status within the patience"));
        let blames_the_server = matches!(status.code(), Code::Internal | Code::Unknown | Code::DataLoss);
        assert!(!blames_the_server, "{path}: {status:?}");
        status
    }

    async fn send(&self, path: &str, frame: Vec<u8>) -> Option<Status> {
        let request = Request::post(path)
            .header("content-type", "application/grpc")
            .header("grpc-timeout", format!("{}m", PATIENCE.as_millis()))
            .body(tonic::body::Body::new(Body::from(frame)))
            .ok()?;
        // A router is called afresh, as for each connection.
        let answered = self.services.clone().oneshot(request).await.ok()?;
        let response: Response<_> = refusals::in_our_words(answered);
        if let Some(status) = Status::from_header_map(response.headers()) {
            return Some(status);
        }
        let mut body = pin!(response.into_body());
        let reading = async {
            let mut trailers = HeaderMap::new();
            while let Some(Ok(frame)) = poll_fn(|context| body.as_mut().poll_frame(context)).await {
                if let Ok(found) = frame.into_trailers() {
                    trailers = found;
                }
            }
            Status::from_header_map(&trailers)
        };
        // A watch goes on for ever; leaving it is what clients do.
        tokio::time::timeout(PATIENCE, reading).await.unwrap_or(Some(Status::ok("left")))
    }
}

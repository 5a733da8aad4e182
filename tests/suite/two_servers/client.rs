//! What every client of the run has: a connection to each server, one of which is its home, and
//! what all of them know.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::seq::IteratorRandom as _;
use relata::proto;
use relata::proto::consistency::Requirement;
use relata::proto::permission_service_client::PermissionServiceClient;
use relata::proto::schema_service_client::SchemaServiceClient;
use relata::proto::store_service_client::StoreServiceClient;
use relata::proto::tuple_service_client::TupleServiceClient;
use relata::proto::update::Operation;
use relata::revision::Zookie;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Response, Status};

use super::node::Node;
use crate::grpc::{consistency, update};

/// Acknowledged zookies that are kept for readers to ask about.
const RECENT: usize = 64;

/// What all clients know.
#[derive(Default)]
pub struct Shared {
    /// The newest revision that any client has been told of.
    acknowledged: AtomicU64,
    recent: Mutex<VecDeque<String>>,
    /// Whether the relation `auditor` has been added.
    pub auditing: AtomicBool,
    /// Calls repeated because a server was unavailable.
    pub retries: AtomicU64,
}

impl Shared {
    pub fn acknowledge(&self, zookie: &str) {
        self.acknowledged.fetch_max(revision(zookie), AcqRel);
        let mut recent = self.recent.lock().expect("no panic");
        recent.push_back(zookie.to_owned());
        if recent.len() > RECENT {
            recent.pop_front();
        }
    }

    /// A revision that whoever asks for full consistency from now on must see.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Acquire)
    }

    /// The zookie of some write of late, anybody's.
    pub fn recent(&self) -> Option<String> {
        self.recent.lock().expect("no panic").iter().choose(&mut rand::rng()).cloned()
    }
}

pub fn revision(zookie: &str) -> u64 {
    zookie.parse::<Zookie>().unwrap_or_else(|error| panic!("`{zookie}`: {error}")).revision.0
}

pub struct Client {
    channels: Vec<Channel>,
    /// The index of the server it belongs to.
    pub home: usize,
    pub shared: Arc<Shared>,
}

impl Client {
    /// Connects to all servers. Homes go round.
    pub async fn connect(nodes: &[Node], home: usize, shared: Arc<Shared>) -> Self {
        let mut channels = Vec::new();
        for node in nodes {
            let endpoint = Endpoint::from_shared(node.endpoint.clone()).expect("an address");
            channels.push(endpoint.connect().await.expect("a server that listens"));
        }
        Self { home: home % channels.len(), channels, shared }
    }

    /// The server after this one.
    pub fn other(&self, node: usize) -> usize {
        (node + 1) % self.channels.len()
    }

    pub fn permissions(&self) -> PermissionServiceClient<Channel> {
        PermissionServiceClient::new(self.channels[self.home].clone())
    }

    pub fn tuples(&self, node: usize) -> TupleServiceClient<Channel> {
        TupleServiceClient::new(self.channels[node].clone())
    }

    /// Repeats a call while the server is unavailable. Not for writes: they must know of it.
    pub async fn patiently<T, F>(&self, mut call: impl FnMut() -> F) -> Result<T, Status>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        loop {
            match call().await {
                Err(status) if status.code() == Code::Unavailable => self.pause().await,
                outcome => return outcome.map(Response::into_inner),
            }
        }
    }

    /// Waits before a call is repeated.
    pub async fn pause(&self) {
        self.shared.retries.fetch_add(1, Relaxed);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    /// The zookie of the newest revision.
    pub async fn head(&self) -> String {
        let stores = StoreServiceClient::new(self.channels[self.home].clone());
        let asked = || {
            let mut stores = stores.clone();
            async move { stores.get_store(proto::GetStoreRequest::default()).await }
        };
        self.patiently(asked).await.expect("the default store").zookie
    }

    /// Puts a schema in force, if `expected` is in force or empty.
    pub async fn write_schema(
        &self,
        node: usize,
        text: &str,
        expected: &str,
    ) -> Result<proto::WriteSchemaResponse, Status> {
        let request = proto::WriteSchemaRequest {
            text: text.to_owned(),
            expected_schema_id: expected.to_owned(),
            note: "schema".to_owned(),
            ..Default::default()
        };
        let mut schemas = SchemaServiceClient::new(self.channels[node].clone());
        schemas.write_schema(request).await.map(Response::into_inner)
    }

    /// The id of the schema in force and the zookie of the answer.
    pub async fn schema_in_force(&self) -> (String, String) {
        let schemas = SchemaServiceClient::new(self.channels[self.home].clone());
        let asked = || {
            let mut schemas = schemas.clone();
            async move { schemas.read_schema(proto::ReadSchemaRequest::default()).await }
        };
        let answer = self.patiently(asked).await.expect("a schema");
        (answer.schema.expect("a schema").id, answer.zookie)
    }

    /// A write that nothing can go wrong with.
    pub async fn write<const N: usize>(
        &self,
        node: usize,
        updates: [(Operation, &str); N],
    ) -> proto::WriteResponse {
        let request = proto::WriteRequest {
            updates: updates.into_iter().map(|(operation, text)| update(operation, text)).collect(),
            idempotency_key: uuid::Uuid::new_v4().to_string(),
            ..Default::default()
        };
        let asked = || {
            let (mut tuples, request) = (self.tuples(node), request.clone());
            async move { tuples.write(request).await }
        };
        self.patiently(asked).await.expect("written")
    }

    pub async fn check(&self, request: proto::CheckRequest) -> proto::CheckResponse {
        let asked = || {
            let (mut permissions, request) = (self.permissions(), request.clone());
            async move { permissions.check(request).await }
        };
        self.patiently(asked).await.expect("an answer")
    }

    /// A check at least as new as a zookie.
    pub async fn check_at_least(&self, request: proto::CheckRequest, zookie: &str) -> proto::CheckResponse {
        let wish = Requirement::AtLeast(zookie.to_owned());
        self.check(proto::CheckRequest { consistency: consistency(wish), ..request }).await
    }

    pub async fn batch_check(&self, request: proto::BatchCheckRequest) -> proto::BatchCheckResponse {
        let asked = || {
            let (mut permissions, request) = (self.permissions(), request.clone());
            async move { permissions.batch_check(request).await }
        };
        self.patiently(asked).await.expect("answers")
    }

    /// All objects of a list, and the revision it is of.
    pub async fn list_objects(&self, request: proto::ListObjectsRequest) -> (Vec<String>, u64) {
        let asked = || {
            let (mut permissions, request) = (self.permissions(), request.clone());
            async move {
                let mut stream = permissions.list_objects(request).await?.into_inner();
                let (mut objects, mut zookie) = (Vec::new(), String::new());
                while let Some(message) = stream.message().await? {
                    objects.extend(message.objects.into_iter().map(|listed| listed.object));
                    zookie = message.zookie;
                }
                Ok(Response::new((objects, revision(&zookie))))
            }
        };
        self.patiently(asked).await.expect("a list")
    }

    /// All subjects of a list, and the revision it is of.
    pub async fn list_subjects(&self, request: proto::ListSubjectsRequest) -> (Vec<String>, u64) {
        let asked = || {
            let (mut permissions, request) = (self.permissions(), request.clone());
            async move {
                let mut stream = permissions.list_subjects(request).await?.into_inner();
                let (mut subjects, mut zookie) = (Vec::new(), String::new());
                while let Some(message) = stream.message().await? {
                    subjects.extend(message.subjects.into_iter().map(|listed| listed.subject));
                    zookie = message.zookie;
                }
                Ok(Response::new((subjects, revision(&zookie))))
            }
        };
        self.patiently(asked).await.expect("a list")
    }

    /// All stored tuples that match, and the revision they are of.
    pub async fn read(&self, request: proto::ReadRequest) -> (Vec<String>, u64) {
        let asked = || {
            let (mut tuples, request) = (self.tuples(self.home), request.clone());
            async move {
                let mut stream = tuples.read(request).await?.into_inner();
                let (mut found, mut zookie) = (Vec::new(), String::new());
                while let Some(message) = stream.message().await? {
                    found.extend(message.tuples.iter().map(crate::grpc::text));
                    zookie = message.zookie;
                }
                Ok(Response::new((found, revision(&zookie))))
            }
        };
        self.patiently(asked).await.expect("tuples")
    }
}

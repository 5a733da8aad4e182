//! Stores whose searches are long.
//!
//! Groups in groups in groups: whoever is in the first is a member of all, and to find that out costs
//! some steps for each. How long a search is, is how many groups lie above its subject.

use std::time::Duration;

use relata::proto;
use relata::proto::permission_service_client::PermissionServiceClient;
use relata::proto::schema_service_client::SchemaServiceClient;
use relata::proto::store_service_client::StoreServiceClient;
use relata::proto::tuple_service_client::TupleServiceClient;
use relata::proto::update::Operation;
use tonic::transport::{Channel, Endpoint};

use crate::grpc::{question, update};
use crate::program::{Record, Server};

/// Each group is looked at through several relations, so that few tuples make long searches.
const SCHEMA: &str = "model
  schema 1.1
type user
type group
  relations
    define direct: [user, group#member]
    define second: direct
    define third: second
    define fourth: third
    define fifth: fourth
    define member: fifth
type doc
  relations
    define viewer: [user, group#member]
";

/// Groups in a row.
pub const GROUPS: usize = if cfg!(debug_assertions) { 1_000 } else { 10_000 };
/// Of them above somebody whose lists end in their first slice, where their call is served.
const NEAR_GROUPS: usize = 500;
/// Objects that a member of the last group sees.
const SEEN: usize = 20;

/// A server and its stores.
pub struct World {
    pub server: Server,
    _record: Record,
}

impl World {
    /// A server with stores of these names, each with the same long row of groups.
    pub async fn start(stores: &[&str], flags: &[&str]) -> Self {
        let record = Record::sqlite();
        let server = Server::start(&record, &[&["--operations-listen", "127.0.0.1:0"], flags].concat());
        let world = Self { server, _record: record };
        for store in stores {
            world.fill(store).await;
        }
        world
    }

    async fn fill(&self, store: &str) {
        let channel = self.connect().await;
        let request = proto::CreateStoreRequest { name: store.to_owned() };
        StoreServiceClient::new(channel.clone()).create_store(request).await.expect("a store");
        let request = proto::WriteSchemaRequest {
            store: store.to_owned(),
            text: SCHEMA.to_owned(),
            ..Default::default()
        };
        SchemaServiceClient::new(channel.clone()).write_schema(request).await.expect("a schema");
        let row = (0..GROUPS).map(|at| format!("group:{}#direct@group:{at}#member", at + 1));
        let seen = (0..SEEN).map(|at| format!("doc:{at}#viewer@group:{GROUPS}#member"));
        let people = [
            "group:0#direct@user:far".to_owned(),
            format!("group:{}#direct@user:near", GROUPS - NEAR_GROUPS),
            "doc:0#viewer@user:owner".to_owned(),
        ];
        self.write(store, row.chain(seen).chain(people).collect()).await;
    }

    /// Writes tuples, as many as it takes writes for.
    pub async fn write(&self, store: &str, tuples: Vec<String>) {
        let mut client = TupleServiceClient::new(self.connect().await);
        for some in tuples.chunks(1_000) {
            client.write(touch(store, some)).await.expect("written");
        }
    }

    /// A connection of its own.
    pub async fn connect(&self) -> Channel {
        let endpoint = Endpoint::from_shared(self.server.endpoint.clone()).expect("an address");
        endpoint.connect().await.expect("a server")
    }

    /// So many connections, which the server spreads over its threads.
    pub async fn connections(&self, count: usize) -> Vec<Channel> {
        let mut channels = Vec::new();
        for _ in 0..count {
            channels.push(self.connect().await);
        }
        channels
    }

    /// How long one list takes when nothing else happens: the middle of several.
    pub async fn idle(&self, store: &str, subject: &str) -> Duration {
        let mut client = PermissionServiceClient::new(self.connect().await);
        let mut took = Vec::new();
        for _ in 0..9 {
            let begun = std::time::Instant::now();
            let mut list = client.list_objects(list(store, subject)).await.expect("a list").into_inner();
            while list.message().await.expect("a message").is_some() {}
            took.push(begun.elapsed());
        }
        took.sort();
        took[took.len() / 2]
    }
}

/// Tuples in one write.
pub fn touch(store: &str, tuples: &[String]) -> proto::WriteRequest {
    let updates = tuples.iter().map(|text| update(Operation::Touch, text)).collect();
    proto::WriteRequest { store: store.to_owned(), updates, ..Default::default() }
}

/// Whose lists take all groups to find: they outlast their first slice by far.
pub const FAR: &str = "user:far";
/// Whose lists take few groups to find.
pub const NEAR: &str = "user:near";

/// What a user sees.
pub fn list(store: &str, subject: &str) -> proto::ListObjectsRequest {
    proto::ListObjectsRequest {
        store: store.to_owned(),
        subject: subject.to_owned(),
        relation: "viewer".to_owned(),
        object_type: "doc".to_owned(),
        page_size: 10,
        ..Default::default()
    }
}

/// A question that takes one tuple to answer.
pub fn short_check(store: &str) -> proto::CheckRequest {
    proto::CheckRequest { store: store.to_owned(), ..question("doc:0#viewer@user:owner") }
}

//! Tokens: every method, streams and reflection included, is closed without one.

use std::net::SocketAddr;
use std::num::NonZeroUsize;

use relata::config::{Access, Config, Credentials, DatastoreConfig};
use relata::proto;
use relata::server::{RunError, bind, run};
use tonic::metadata::MetadataValue;
use tonic::service::Interceptor;
use tonic::{Code, Request, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;

use super::{Running, refused, update};

const TOKENS: &str = "# the test's\nfirst-token-0123456789 deployer\nsecond-token-0123456789\n";

#[derive(Clone)]
struct Bearer(Option<&'static str>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = self.0 {
            let value: MetadataValue<_> = format!("Bearer {token}").parse().expect("a header");
            request.metadata_mut().insert("authorization", value);
        }
        Ok(request)
    }
}

async fn guarded() -> (Running, tempfile::TempDir) {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("tokens");
    std::fs::write(&file, TOKENS).expect("a file");
    let server = Running::sqlite(|config| config.access = Access::Guarded(Credentials::tokens(file))).await;
    (server, directory)
}

/// Calls every method and hands each outcome over as (name, whether it was let in, its refusal).
async fn every_method(
    server: &Running,
    token: Option<&'static str>,
) -> Vec<(&'static str, Result<(), Status>)> {
    let bearer = Bearer(token);
    let mut permissions = proto::permission_service_client::PermissionServiceClient::with_interceptor(
        server.channel.clone(),
        bearer.clone(),
    );
    let mut tuples = proto::tuple_service_client::TupleServiceClient::with_interceptor(
        server.channel.clone(),
        bearer.clone(),
    );
    let mut schemas = proto::schema_service_client::SchemaServiceClient::with_interceptor(
        server.channel.clone(),
        bearer.clone(),
    );
    let mut stores = proto::store_service_client::StoreServiceClient::with_interceptor(
        server.channel.clone(),
        bearer.clone(),
    );
    let mut keys =
        proto::key_service_client::KeyServiceClient::with_interceptor(server.channel.clone(), bearer.clone());
    let mut reflection = ServerReflectionClient::with_interceptor(server.channel.clone(), bearer.clone());
    let mut reflection_alpha =
        tonic_reflection::pb::v1alpha::server_reflection_client::ServerReflectionClient::with_interceptor(
            server.channel.clone(),
            bearer,
        );
    let list = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let list_alpha = tonic_reflection::pb::v1alpha::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(
            tonic_reflection::pb::v1alpha::server_reflection_request::MessageRequest::ListServices(
                String::new(),
            ),
        ),
    };
    vec![
        ("Check", permissions.check(proto::CheckRequest::default()).await.map(|_| ())),
        ("BatchCheck", permissions.batch_check(proto::BatchCheckRequest::default()).await.map(|_| ())),
        ("Expand", permissions.expand(proto::ExpandRequest::default()).await.map(|_| ())),
        ("ListObjects", permissions.list_objects(proto::ListObjectsRequest::default()).await.map(|_| ())),
        ("ListSubjects", permissions.list_subjects(proto::ListSubjectsRequest::default()).await.map(|_| ())),
        (
            "ListRelations",
            permissions.list_relations(proto::ListRelationsRequest::default()).await.map(|_| ()),
        ),
        ("Write", tuples.write(proto::WriteRequest::default()).await.map(|_| ())),
        ("Read", tuples.read(proto::ReadRequest::default()).await.map(|_| ())),
        ("Watch", tuples.watch(proto::WatchRequest::default()).await.map(|_| ())),
        ("WriteSchema", schemas.write_schema(proto::WriteSchemaRequest::default()).await.map(|_| ())),
        ("ReadSchema", schemas.read_schema(proto::ReadSchemaRequest::default()).await.map(|_| ())),
        ("ListSchemas", schemas.list_schemas(proto::ListSchemasRequest::default()).await.map(|_| ())),
        ("PlanSchema", schemas.plan_schema(proto::PlanSchemaRequest::default()).await.map(|_| ())),
        ("CreateStore", stores.create_store(proto::CreateStoreRequest::default()).await.map(|_| ())),
        ("GetStore", stores.get_store(proto::GetStoreRequest::default()).await.map(|_| ())),
        ("ListStores", stores.list_stores(proto::ListStoresRequest::default()).await.map(|_| ())),
        ("DeleteStore", stores.delete_store(proto::DeleteStoreRequest::default()).await.map(|_| ())),
        ("CreateKey", keys.create_key(proto::CreateKeyRequest::default()).await.map(|_| ())),
        ("ListKeys", keys.list_keys(proto::ListKeysRequest::default()).await.map(|_| ())),
        ("RevokeKey", keys.revoke_key(proto::RevokeKeyRequest::default()).await.map(|_| ())),
        ("reflection", reflection.server_reflection_info(tokio_stream::once(list)).await.map(|_| ())),
        (
            "reflection v1alpha",
            reflection_alpha.server_reflection_info(tokio_stream::once(list_alpha)).await.map(|_| ()),
        ),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_method_asks_for_a_token() {
    let (server, _directory) = guarded().await;
    for token in [None, Some("third-token-0123456789"), Some("")] {
        let outcomes = every_method(&server, token).await;
        for (method, outcome) in outcomes {
            let status = refused(outcome, Code::Unauthenticated, "UNAUTHENTICATED", "");
            assert!(!status.message().contains("third-token"), "{method}: {status}");
        }
    }
    for token in ["first-token-0123456789", "second-token-0123456789"] {
        for (method, outcome) in every_method(&server, Some(token)).await {
            let code = outcome.map_or_else(|status| status.code(), |()| Code::Ok);
            assert_ne!(code, Code::Unauthenticated, "{method}");
        }
    }
    server.stop().await;
}

/// The list above is complete: it names every method of the descriptors.
#[test]
fn no_method_is_forgotten() {
    use prost::Message as _;
    let descriptors = prost_types::FileDescriptorSet::decode(proto::DESCRIPTORS).expect("descriptors");
    let methods = descriptors
        .file
        .iter()
        .filter(|file| file.package() == "relata.v1")
        .flat_map(|file| &file.service)
        .map(|service| service.method.len())
        .sum::<usize>();
    assert_eq!(methods, 20, "a new method belongs into `every_method`");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_is_open_to_load_balancers() {
    let (server, _directory) = guarded().await;
    HealthClient::new(server.channel.clone()).check(HealthCheckRequest::default()).await.expect("an answer");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_changelog_names_who_wrote() {
    let (server, _directory) = guarded().await;
    let bearer = Bearer(Some("first-token-0123456789"));
    let mut schemas = proto::schema_service_client::SchemaServiceClient::with_interceptor(
        server.channel.clone(),
        bearer.clone(),
    );
    let mut tuples =
        proto::tuple_service_client::TupleServiceClient::with_interceptor(server.channel.clone(), bearer);
    let schema = proto::WriteSchemaRequest { text: crate::grpc::SCHEMA.into(), ..Default::default() };
    let zookie = schemas.write_schema(schema).await.expect("a schema").into_inner().zookie;
    let updates = vec![update(proto::update::Operation::Touch, "doc:1#owner@user:ann")];
    tuples.write(proto::WriteRequest { updates, ..Default::default() }).await.expect("written");
    let mut watched = tuples
        .watch(proto::WatchRequest { after: zookie, ..Default::default() })
        .await
        .expect("a stream")
        .into_inner();
    let principal = loop {
        let message = watched.message().await.expect("a message").expect("more");
        if !message.changes.is_empty() {
            break message.principal;
        }
    };
    assert_eq!(principal, "token:deployer");
    drop(watched);
    server.stop().await;
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

//! Client certificates as credentials: what the file says of their identity, and nothing more.

use std::path::Path;

use relata::config::{Access, ClientAuth, Credentials};
use relata::proto;
use relata::proto::store_service_client::StoreServiceClient;
use relata::proto::tuple_service_client::TupleServiceClient;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

use super::authority::{Authority, Pair, write};
use super::{Encrypted, PATIENCE};
use crate::grpc::access::walk::{Stranger, nothing_is_granted};
use crate::grpc::refused;
use crate::program::{Record, relata, run};

const ANN: &str = "spiffe://example.test/ann";
const BOB: &str = "spiffe://example.test/bob";

async fn guarded(clients: &Authority, auth: ClientAuth, folder: &Path, grants: &str) -> Encrypted {
    let file = write(folder, "grants", grants);
    let tokens = write(folder, "tokens", "a-token-of-the-test-0123 deployer\n");
    let credentials =
        Credentials { certificate_grants: Some(file), token_file: Some(tokens), ..Credentials::default() };
    Encrypted::with_clients(Some((clients, auth)), |config| config.access = Access::Guarded(credentials))
        .await
}

async fn connect(server: &Encrypted, client: Option<&Pair>) -> Channel {
    let endpoint = Endpoint::from_shared(format!("https://{}", server.address)).expect("an address");
    endpoint.tls_config(server.trust(client)).expect("a configuration").connect().await.expect("let in")
}

async fn get(channel: &Channel, store: &str, token: Option<&str>) -> Result<(), Status> {
    let mut request = Request::new(proto::GetStoreRequest { store: store.into() });
    if let Some(token) = token {
        request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().expect("a header"));
    }
    StoreServiceClient::new(channel.clone()).get_store(request).await.map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_gives_what_the_file_says() {
    let (clients, folder) = (Authority::new("clients"), tempfile::tempdir().expect("a folder"));
    let grants = format!("{ANN} default:read\n");
    let server = guarded(&clients, ClientAuth::Optional, folder.path(), &grants).await;
    let ann = connect(&server, Some(&clients.client(ANN))).await;
    get(&ann, "", None).await.expect("who may read");
    refused(get(&ann, "other", None).await, Code::PermissionDenied, "PERMISSION_DENIED", "");
    let write = TupleServiceClient::new(ann.clone()).write(proto::WriteRequest::default()).await;
    refused(write, Code::PermissionDenied, "PERMISSION_DENIED", "");

    // A good certificate of somebody the file does not name, and none at all.
    let bob = connect(&server, Some(&clients.client(BOB))).await;
    refused(get(&bob, "", None).await, Code::Unauthenticated, "UNAUTHENTICATED", "");
    let nobody = connect(&server, None).await;
    refused(get(&nobody, "", None).await, Code::Unauthenticated, "UNAUTHENTICATED", "");
    nothing_is_granted(&bob, None, Stranger::Unknown).await;
    nothing_is_granted(&nobody, None, Stranger::Unknown).await;

    // A token that is sent along decides, for better and for worse.
    get(&bob, "", Some("a-token-of-the-test-0123")).await.expect("a good token");
    let wrong = get(&ann, "", Some("another-token-0123456789")).await;
    refused(wrong, Code::Unauthenticated, "UNAUTHENTICATED", "");
    server.stop().await;
}

/// Whoever may do something else now comes in anew; others notice nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grants_change_while_connections_are_open() {
    let (clients, folder) = (Authority::new("clients"), tempfile::tempdir().expect("a folder"));
    let both = format!("{ANN} default:read\n{BOB} default:read\n");
    let server = guarded(&clients, ClientAuth::Required, folder.path(), &both).await;
    let ann = connect(&server, Some(&clients.client(ANN))).await;
    let bob = connect(&server, Some(&clients.client(BOB))).await;
    let watch = async |channel: &Channel| {
        let mut tuples = TupleServiceClient::new(channel.clone());
        tuples.watch(proto::WatchRequest::default()).await.expect("a stream").into_inner()
    };
    let (mut watched, mut kept) = (watch(&ann).await, watch(&bob).await);

    write(folder.path(), "grants", &format!("{BOB} default:read\n"));
    let ended = tokio::time::timeout(PATIENCE, async {
        loop {
            if let Err(status) = watched.message().await {
                return status;
            }
        }
    });
    refused::<()>(Err(ended.await.expect("ended in time")), Code::Unauthenticated, "UNAUTHENTICATED", "");
    refused(get(&ann, "", None).await, Code::Unauthenticated, "UNAUTHENTICATED", "");
    get(&bob, "", None).await.expect("as before");
    let quiet = tokio::time::timeout(std::time::Duration::from_millis(300), async {
        loop {
            kept.message().await.expect("the other stream goes on");
        }
    });
    assert!(quiet.await.is_err());

    // The last one can be taken out too.
    write(folder.path(), "grants", "# nobody\n");
    let ended = tokio::time::timeout(PATIENCE, async {
        loop {
            if let Err(status) = kept.message().await {
                return status;
            }
        }
    });
    refused::<()>(Err(ended.await.expect("ended in time")), Code::Unauthenticated, "UNAUTHENTICATED", "");
    refused(get(&bob, "", None).await, Code::Unauthenticated, "UNAUTHENTICATED", "");
    drop(kept);
    server.stop().await;
}

#[test]
fn a_server_that_asks_for_no_certificate_takes_none() {
    let (record, folder) = (Record::sqlite(), tempfile::tempdir().expect("a folder"));
    let grants = write(folder.path(), "grants", "ops *:admin\n");
    let start = |arguments: &[&str]| {
        let mut command = relata();
        command.args(["serve", "--listen", "127.0.0.1:0", "--datastore", &record.url]).args(arguments);
        run(&mut command, "")
    };
    let grants = grants.display().to_string();
    start(&["--certificate-grants", &grants]).exits(65).says("asks no client for a certificate");
    let authority = Authority::new("servers");
    let (certificate, key) = authority.server().write(folder.path(), "server");
    let (certificate, key) = (certificate.display().to_string(), key.display().to_string());
    let tls = ["--tls-cert", &certificate, "--tls-key", &key];
    start(&[&tls[..], &["--certificate-grants", &grants]].concat()).exits(65).says("asks no client");
    let empty = write(folder.path(), "empty", "").display().to_string();
    start(&[&tls[..], &["--tls-client-ca", &certificate, "--certificate-grants", &empty]].concat())
        .exits(65)
        .says("names nobody");
}

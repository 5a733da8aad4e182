//! What lies between a client and the server: TLS, client certificates, crowds.

mod authority;
mod certificate_grants;
mod client_certificates;
mod crowds;
mod encrypted;
mod files;
mod program;
mod renewal;

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use relata::config::{ClientAuth, Config, DatastoreConfig, TlsSettings};
use relata::proto;
use relata::proto::store_service_client::StoreServiceClient;
use relata::server::{RunError, bind, run};
use rustls::ClientConfig;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::Status;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

pub use authority::Authority;
use authority::{Pair, SERVER_NAME};

/// Nothing a test waits for takes longer on any machine.
const PATIENCE: Duration = Duration::from_mins(1);

/// A server that speaks TLS, with the authority that its clients are to trust.
struct Encrypted {
    address: SocketAddr,
    authority: Authority,
    /// Where its files are.
    folder: tempfile::TempDir,
    shutdown: Option<oneshot::Sender<()>>,
    served: JoinHandle<Result<(), RunError>>,
}

impl Encrypted {
    async fn start() -> Self {
        Self::with_clients(None, |_| {}).await
    }

    /// Asks clients for certificates of an authority.
    async fn with_clients(
        clients: Option<(&Authority, ClientAuth)>,
        adapt: impl FnOnce(&mut Config),
    ) -> Self {
        if let Ok(filter) = std::env::var("RELATA_LOG") {
            relata::server::logging::start(Some(&filter));
        }
        let folder = tempfile::tempdir().expect("a folder");
        let authority = Authority::new("servers");
        let (certificate, key) = authority.server().write(folder.path(), "server");
        let client_authorities =
            clients.map(|(clients, _)| authority::write(folder.path(), "clients.pem", &clients.pem));
        let client_auth = clients.map(|(_, auth)| auth).unwrap_or_default();
        let mut config = Config::new(DatastoreConfig::Sqlite(folder.path().join("relata.db")));
        config.tls = Some(TlsSettings { certificate, key, client_authorities, client_auth });
        config.shards = NonZeroUsize::new(2).expect("not zero");
        config.drain = Duration::from_secs(5);
        adapt(&mut config);
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let listeners = bind(any, config.shards).await.expect("a port");
        let address = listeners[0].local_addr().expect("an address");
        let (shutdown, asked) = oneshot::channel();
        let served = tokio::spawn(run(config, listeners, async move {
            let _ = asked.await;
        }));
        Self { address, authority, folder, shutdown: Some(shutdown), served }
    }

    async fn stop(mut self) {
        drop(self.shutdown.take());
        let ended = tokio::time::timeout(PATIENCE, self.served).await;
        ended.expect("stopped in time").expect("no panic").expect("stopped well");
    }

    /// What a client that trusts the server's authority uses.
    fn trust(&self, client: Option<&Pair>) -> ClientTlsConfig {
        let config = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(&self.authority.pem))
            .domain_name(SERVER_NAME);
        match client {
            None => config,
            Some(pair) => config.identity(Identity::from_pem(&pair.certificate, &pair.key)),
        }
    }

    /// Connects and makes a call over it.
    async fn ask(&self, tls: ClientTlsConfig) -> Result<Channel, String> {
        let endpoint = Endpoint::from_shared(format!("https://{}", self.address)).expect("an address");
        let endpoint = endpoint.tls_config(tls).expect("a configuration");
        let channel = endpoint.connect().await.map_err(|error| format!("{error:?}"))?;
        call(&channel).await.map_err(|status| format!("{status:?}"))?;
        Ok(channel)
    }

    /// Shakes hands without a library of RPCs, and says nothing more.
    async fn shake_hands(&self, client: Option<&Pair>) -> std::io::Result<TlsStream<TcpStream>> {
        let connector = TlsConnector::from(Arc::new(self.config(client)));
        let name = ServerName::try_from(SERVER_NAME).expect("a name");
        connector.connect(name, TcpStream::connect(self.address).await?).await
    }

    fn config(&self, client: Option<&Pair>) -> ClientConfig {
        self.config_of(rustls::DEFAULT_VERSIONS, client)
    }

    fn config_of(
        &self,
        versions: &[&'static rustls::SupportedProtocolVersion],
        client: Option<&Pair>,
    ) -> ClientConfig {
        let mut roots = rustls::RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(self.authority.pem.as_bytes()).expect("PEM"))
            .expect("a root");
        let builder = ClientConfig::builder_with_provider(relata::server::tls::provider())
            .with_protocol_versions(versions)
            .expect("versions")
            .with_root_certificates(roots);
        let mut config = match client {
            None => builder.with_no_client_auth(),
            Some(pair) => {
                let chain = vec![CertificateDer::from_pem_slice(pair.certificate.as_bytes()).expect("PEM")];
                let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).expect("a key");
                builder.with_client_auth_cert(chain, key).expect("a pair")
            }
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        config
    }
}

/// A call that every server answers.
async fn call(channel: &Channel) -> Result<(), Status> {
    let mut stores = StoreServiceClient::new(channel.clone());
    tokio::time::timeout(PATIENCE, stores.get_store(proto::GetStoreRequest::default()))
        .await
        .expect("answered in time")
        .map(drop)
}

/// The certificate that the server has shown.
fn shown(stream: &TlsStream<TcpStream>) -> Vec<u8> {
    stream.get_ref().1.peer_certificates().expect("a chain")[0].to_vec()
}

//! Start, serve, stop.
//!
//! ```text
//! caller's runtime            feed, committers, health, the record's connections
//! shard-0 … shard-n           one single-threaded runtime each: gRPC on a shared port
//! search-0 … search-n         slices of long searches
//! ```
//!
//! gRPC runs on single-threaded runtimes that share the port: measured, one core each carries
//! 40 % more than one runtime over all cores, since a connection never hops between threads.
//!
//! A stop goes in this order: health says `NOT_SERVING`; Watch streams end with `SHUTTING_DOWN`;
//! connections are told to open no more calls; calls in flight finish, within a bound; the feed
//! stops; the record is closed.

use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::net::TcpSocket;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tonic::service::Routes;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};
use tonic_reflection::server::Builder as Reflection;
use tower::util::MapResponseLayer;

use super::accept::{self, Door, InsideDoor};
use super::access::oidc::{Oidc, OidcConfigError};
use super::access::{
    AccessLayer, ApiKeys, Authenticator, CertificateGrants, CertificateGrantsError, FromInside, Gate,
    TokenFile, TokenFileError,
};
use super::admission::{self, AdmissionLayer, Ledger, Readers};
use super::journal::JournalError;
use super::key::Keys;
use super::node::Node;
use super::observe::ObserveLayer;
use super::operations::{self, OperationsListener, Pages};
use super::permission::Permissions;
use super::readiness::Readiness;
use super::schema::Schemas;
use super::store::Stores;
use super::tls::{self, TlsError};
use super::traces::{Exporter, TracesError};
use super::tuple::Tuples;
use super::{health, refusals, vocabulary};
use crate::config::{Access, AdmissionLimits, Config, DatastoreConfig, Migration};
use crate::datastore::postgres::Postgres;
use crate::datastore::sqlite::Sqlite;
use crate::datastore::traced::Traced;
use crate::datastore::{Datastore, DatastoreError};
use crate::metrics::Metrics;
use crate::proto;
use crate::proto::key_service_server::KeyServiceServer;
use crate::proto::permission_service_server::PermissionServiceServer;
use crate::proto::schema_service_server::SchemaServiceServer;
use crate::proto::store_service_server::StoreServiceServer;
use crate::proto::tuple_service_server::TupleServiceServer;
use crate::trace::Tracer;

/// Connections that wait to be accepted, per shard.
const BACKLOG: u32 = 1_024;

/// Longest request about health, in bytes.
const MAX_HEALTH_REQUEST_BYTES: usize = 4 << 10;

/// Why a server did not start, or did not stop well.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each message names its fields")]
pub enum RunError {
    /// Anybody on the network could call.
    #[error(
        "refusing to listen on {address} without authentication: take API keys, tokens of a file or of an issuer, or client certificates, listen on a loopback address, or say plainly that it is to be insecure"
    )]
    Exposed { address: SocketAddr },
    /// Anybody on the network could read the metrics.
    #[error(
        "refusing to serve metrics and probes on {address}, where they have no authentication: choose a loopback address, or say plainly that they are to be insecure"
    )]
    OperationsExposed { address: SocketAddr },
    /// The port for metrics and probes cannot be listened on.
    #[error("cannot listen on {address} for metrics and probes")]
    OperationsListen { address: SocketAddr, source: io::Error },
    /// The token file cannot be used.
    #[error(transparent)]
    Tokens(#[from] TokenFileError),
    /// The settings of issuers cannot be used.
    #[error(transparent)]
    Oidc(#[from] OidcConfigError),
    /// The grants of client certificates cannot be used.
    #[error(transparent)]
    CertificateGrants(#[from] CertificateGrantsError),
    /// Certificates or keys cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Traces cannot be sent.
    #[error(transparent)]
    Traces(#[from] TracesError),
    /// The record cannot be opened or is not ready.
    #[error(transparent)]
    Record(#[from] DatastoreError),
    /// What is told of single questions cannot be written.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The port cannot be listened on.
    #[error("cannot listen on {address}")]
    Listen { address: SocketAddr, source: io::Error },
    /// A thread or listener could not be set up.
    #[error("cannot start serving")]
    Start(#[source] io::Error),
    /// The transport failed.
    #[error("the gRPC transport failed")]
    Transport(#[from] tonic::transport::Error),
    /// The reflection service could not be built from the descriptors.
    #[error("the API's descriptors are unusable")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// A thread that served gRPC ended by a panic.
    #[error("a thread that served gRPC panicked")]
    ShardLost,
}

/// Where a server is asked: one listener for each shard, and one for metrics and probes if they are
/// wanted.
#[derive(Debug)]
pub struct Listeners {
    /// For gRPC, from [`bind`].
    pub grpc: Vec<TcpListener>,
    /// For metrics and probes.
    pub operations: Option<OperationsListener>,
}

impl From<Vec<TcpListener>> for Listeners {
    fn from(grpc: Vec<TcpListener>) -> Self {
        Self { grpc, operations: None }
    }
}

/// Listens on one address with as many sockets as there will be shards. Port 0 becomes a free
/// port, the same for all.
pub async fn bind(address: SocketAddr, shards: NonZeroUsize) -> Result<Vec<TcpListener>, RunError> {
    let failed = |source| RunError::Listen { address, source };
    // Sockets that share a port would share it with another server of the same user too, and
    // each would get a part of the calls. A plain bind first finds out that somebody is there.
    let probe = TcpListener::bind(address).map_err(failed)?;
    let address = probe.local_addr().map_err(failed)?;
    drop(probe);
    let listen = || -> io::Result<TcpListener> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.set_reuseaddr(true)?;
        #[cfg(all(unix, not(target_os = "solaris"), not(target_os = "illumos")))]
        socket.set_reuseport(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)?.into_std()
    };
    (0..shards.get()).map(|_| listen().map_err(failed)).collect()
}

/// Opens the record that the configuration names.
pub async fn open(
    config: &DatastoreConfig,
    metrics: Arc<Metrics>,
) -> Result<Arc<dyn Datastore>, DatastoreError> {
    match config {
        DatastoreConfig::Sqlite(path) => {
            let path = path.clone();
            // Opening a file blocks for as long as the file system takes.
            let opened = tokio::task::spawn_blocking(move || Sqlite::open(&path, metrics)).await;
            Ok(Arc::new(opened.map_err(|error| DatastoreError::Other(error.into()))??))
        }
        DatastoreConfig::Postgres(settings) => {
            Ok(Arc::new(Postgres::connect((**settings).clone(), metrics).await?))
        }
    }
}

/// Runs a server until `shutdown` ends, one shard per listener. The runtime of the caller does
/// what is not gRPC; it should have several threads.
pub async fn run(
    config: Config,
    listeners: impl Into<Listeners>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), RunError> {
    let (_, inside) = accept::inside();
    run_with_inside(config, listeners, inside, shutdown).await
}

/// As [`run`], with a way in for the process itself.
pub async fn run_with_inside(
    config: Config,
    listeners: impl Into<Listeners>,
    inside: InsideDoor,
    shutdown: impl Future<Output = ()>,
) -> Result<(), RunError> {
    tls::install();
    let Listeners { grpc: listeners, operations } = listeners.into();
    let metrics = Metrics::of(&vocabulary::of_the_api());
    let gate = gate(&config, &listeners, &metrics)?;
    let readiness = watch::Sender::new(Readiness::starting());
    // From the start: that a database cannot be reached should be seen from outside too.
    let mut answering = JoinSet::new();
    if let Some(listener) = operations {
        let pages = Pages { metrics: Arc::clone(&metrics), readiness: readiness.subscribe() };
        answering.spawn(operations::serve(listener, pages));
    }
    let door = Door::open(&config, &metrics)?;
    let sending = config.traces.as_ref().map(|settings| Exporter::start(settings, &metrics)).transpose()?;
    let (tracer, exporter) = sending.unzip();
    let mut datastore = open(&config.datastore, Arc::clone(&metrics)).await?;
    if tracer.is_some() {
        datastore = Arc::new(Traced::over(datastore));
    }
    let embedded = matches!(config.datastore, DatastoreConfig::Sqlite(_));
    if embedded || config.migration == Migration::AtStart {
        datastore.migrate().await?;
    }
    let entrance = Entrance { door, inside, listeners, tracer };
    let outcome = serve(config, gate, datastore, metrics, readiness, entrance, shutdown).await;
    if let Some(exporter) = exporter {
        exporter.finish().await;
    }
    outcome
}

/// Refuses to be open to a network by accident.
fn gate(config: &Config, listeners: &[TcpListener], metrics: &Arc<Metrics>) -> Result<Gate, RunError> {
    match &config.access {
        Access::Guarded(credentials) => {
            let mut authenticators: Vec<Arc<dyn Authenticator>> = vec![Arc::new(FromInside::default())];
            if let Some(path) = &credentials.token_file {
                authenticators.push(Arc::new(TokenFile::open(path)?));
            }
            if let Some(path) = &credentials.oidc_config {
                authenticators.push(Arc::new(Oidc::open(path, metrics)?));
            }
            if let Some(path) = &credentials.certificate_grants {
                if config.tls.as_ref().is_none_or(|tls| tls.client_authorities.is_none()) {
                    return Err(CertificateGrantsError::NoAuthorities.into());
                }
                authenticators.push(Arc::new(CertificateGrants::open(path)?));
            }
            if config.tls.is_none()
                && let Some(address) = beyond_loopback(listeners)?
            {
                tracing::warn!(
                    %address,
                    "credentials and answers cross the network in plain text: name a certificate (--tls-cert and --tls-key), or let only a proxy that speaks TLS reach this address"
                );
            }
            Ok(Gate::Guarded(authenticators))
        }
        Access::Insecure => Ok(Gate::Open),
        Access::OpenOnLoopback => match beyond_loopback(listeners)? {
            Some(address) => Err(RunError::Exposed { address }),
            None => Ok(Gate::Open),
        },
    }
}

/// An address that other machines may reach.
fn beyond_loopback(listeners: &[TcpListener]) -> Result<Option<SocketAddr>, RunError> {
    for listener in listeners {
        let address = listener.local_addr().map_err(RunError::Start)?;
        if !address.ip().to_canonical().is_loopback() {
            return Ok(Some(address));
        }
    }
    Ok(None)
}

/// Where clients come from, and who takes down what they do.
struct Entrance {
    door: Arc<Door>,
    inside: InsideDoor,
    listeners: Vec<TcpListener>,
    tracer: Option<Arc<Tracer>>,
}

async fn serve(
    config: Config,
    gate: Gate,
    datastore: Arc<dyn Datastore>,
    metrics: Arc<Metrics>,
    readiness: watch::Sender<Readiness>,
    entrance: Entrance,
    shutdown: impl Future<Output = ()>,
) -> Result<(), RunError> {
    datastore.ping().await?;
    let drain = config.drain;
    let (stop, stopping) = watch::channel(false);
    let node = Node::start(config, Arc::clone(&datastore), Arc::clone(&metrics), stopping.clone()).await?;
    let gate = match node.keys() {
        Some(keys) => gate.and(Arc::new(ApiKeys(Arc::clone(keys)))),
        None => gate,
    };
    let reporter = HealthReporter::new();
    health::announce(&reporter, ServingStatus::NotServing).await;
    let routes = routes(&node, &reporter)?;
    let judging = tokio::spawn(health::follow(Arc::clone(&node), reporter.clone(), readiness.clone()));

    let ledger = Ledger::new(admission_limits(node.config()), Arc::clone(&metrics));
    let readers = Readers::new(node.config().admission.reader_patience, Arc::clone(&metrics));
    let mut following = JoinSet::new();
    following.spawn(Arc::clone(&readers).follow());
    let vocabulary = vocabulary::of_the_api();

    let Entrance { door, inside, listeners, tracer } = entrance;
    let mut inside = Some(inside);
    let mut shards = Vec::with_capacity(listeners.len());
    for (index, listener) in listeners.into_iter().enumerate() {
        let shard = Shard {
            node: Arc::clone(&node),
            routes: routes.clone(),
            observe: ObserveLayer::new(Arc::clone(&metrics), tracer.clone()),
            access: AccessLayer::new(gate.clone(), Arc::clone(&metrics)),
            admission: AdmissionLayer::new(Arc::clone(&ledger), Arc::clone(&readers), &vocabulary),
            door: Arc::clone(&door),
            inside: inside.take(),
            listener,
        };
        shards.push(shard.start(index, stopping.clone()).map_err(RunError::Start)?);
    }
    let mut served = Box::pin(futures::future::try_join_all(shards.into_iter().map(ended)));

    let outcome = tokio::select! {
        early = &mut served => early.map(|_| ()),
        () = shutdown => {
            tracing::info!("stopping: finishing what is in flight");
            judging.abort();
            readiness.send_replace(Readiness::stopping());
            health::announce(&reporter, ServingStatus::NotServing).await;
            let _ = stop.send(true);
            tokio::spawn(health::hang_up(reporter));
            if let Ok(outcome) = timeout(drain + Duration::from_secs(1), served).await {
                outcome.map(|_| ())
            } else {
                tracing::warn!("stopping: some calls did not end within {drain:?}");
                Ok(())
            }
        }
    };
    judging.abort();
    let _ = stop.send(true);
    node.stop().await;
    datastore.close().await;
    tracing::info!("stopped");
    outcome
}

/// The bounds of the settings. Whoever shows no credential may not have a large part of the
/// connections by holding streams open.
fn admission_limits(config: &Config) -> AdmissionLimits {
    const FEWEST: usize = 16;
    let most = (config.max_connections / 10).max(FEWEST);
    let anonymous_streams = config.admission.anonymous_streams.min(most);
    AdmissionLimits { anonymous_streams, ..config.admission }
}

/// All services: ours, health, and reflection in both versions that clients ask for.
pub fn routes(node: &Arc<Node>, reporter: &HealthReporter) -> Result<Routes, RunError> {
    let limit = node.config().limits.message_bytes;
    let reflection = || {
        Reflection::configure()
            .register_encoded_file_descriptor_set(proto::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    // Anybody may ask, so nothing long is read: a request names a service.
    let health = HealthServer::new(HealthService::from_health_reporter(reporter.clone()))
        .max_decoding_message_size(MAX_HEALTH_REQUEST_BYTES);
    Ok(Routes::new(health)
        .add_service(reflection().build_v1()?)
        .add_service(reflection().build_v1alpha()?)
        .add_service(
            PermissionServiceServer::new(Permissions(Arc::clone(node))).max_decoding_message_size(limit),
        )
        .add_service(TupleServiceServer::new(Tuples(Arc::clone(node))).max_decoding_message_size(limit))
        .add_service(SchemaServiceServer::new(Schemas(Arc::clone(node))).max_decoding_message_size(limit))
        .add_service(KeyServiceServer::new(Keys(Arc::clone(node))).max_decoding_message_size(limit))
        .add_service(StoreServiceServer::new(Stores(Arc::clone(node))).max_decoding_message_size(limit)))
}

/// Turns of calls between two looks at the sockets.
const SOCKET_INTERVAL: u32 = 16;

/// One thread with one runtime and one of the sockets that share the port.
struct Shard {
    node: Arc<Node>,
    routes: Routes,
    observe: ObserveLayer,
    access: AccessLayer,
    admission: AdmissionLayer,
    door: Arc<Door>,
    /// One of the shards takes what comes from inside.
    inside: Option<InsideDoor>,
    listener: TcpListener,
}

type Served = oneshot::Receiver<Result<(), RunError>>;

impl Shard {
    fn start(self, index: usize, stopping: watch::Receiver<bool>) -> io::Result<Served> {
        let (sender, receiver) = oneshot::channel();
        self.listener.set_nonblocking(true)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            // Sockets and timers are looked at after so many turns: a turn may compute for
            // milliseconds, and by default there are 61.
            .event_interval(SOCKET_INTERVAL)
            .build()?;
        thread::Builder::new().name(format!("shard-{index}")).spawn(move || {
            let outcome = runtime.block_on(self.serve(stopping));
            // Calls that outlasted the bound end here, with their connections.
            runtime.shutdown_background();
            let _ = sender.send(outcome);
        })?;
        Ok(receiver)
    }

    async fn serve(self, stopping: watch::Receiver<bool>) -> Result<(), RunError> {
        let config = self.node.config();
        // It ends with the runtime.
        tokio::spawn(admission::pulse());
        let drain = config.drain;
        let listener = tokio::net::TcpListener::from_std(self.listener).map_err(RunError::Start)?;
        let incoming = TcpIncoming::from(listener)
            .with_nodelay(Some(true))
            .with_keepalive(Some(config.keepalive_interval));
        let incoming = accept::incoming(self.door, incoming, self.inside);
        let served = Server::builder()
            .max_concurrent_streams(config.max_concurrent_streams)
            // A client resets each call whose deadline passes. On a busy node that may be all it has
            // open before the node looks at any; by default its connection would be closed, and with
            // it what was answered in time.
            .http2_max_pending_accept_reset_streams(Some(config.max_concurrent_streams as usize))
            .http2_keepalive_interval(Some(config.keepalive_interval))
            .http2_keepalive_timeout(Some(config.keepalive_timeout))
            .layer(self.observe)
            .layer(MapResponseLayer::new(refusals::in_our_words as fn(_) -> _))
            .layer(self.access)
            .layer(self.admission)
            .add_routes(self.routes)
            .serve_with_incoming_shutdown(incoming, stopped(stopping.clone()));
        let bounded = async {
            stopped(stopping).await;
            tokio::time::sleep(drain).await;
        };
        tokio::select! {
            outcome = served => Ok(outcome?),
            () = bounded => Ok(()),
        }
    }
}

/// Ends when the server is to stop.
pub async fn stopped(mut stopping: watch::Receiver<bool>) {
    // An error means that the sender is gone, and the server with it.
    let _ = stopping.wait_for(|stop| *stop).await;
}

async fn ended(shard: Served) -> Result<(), RunError> {
    shard.await.unwrap_or(Err(RunError::ShardLost))
}

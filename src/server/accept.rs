//! Lets clients in: accepts, shakes hands, and bounds both.
//!
//! Nobody outside can stop others from connecting. Handshakes go on beside each other, each for a
//! bounded time; when too many have begun, the one that has taken longest gives way, since an
//! honest one takes milliseconds. Connections beyond the bound are closed at once, and running out
//! of file descriptors pauses accepting instead of ending it. Where credentials are asked for, a
//! connection that nobody known has used for its first half minute is closed, so that strangers
//! do not keep the places; [`super::connection`] sees to that.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt as _, stream};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tonic::transport::server::TcpIncoming;

use super::connection::{Connection, Patience};
use super::tls::{Certificates, TlsError};
use crate::config::{Access, Config};
use crate::metrics::{Counter, Gauge, Metrics, Outcome};

/// Handshakes under way at once, per shard. A pending one holds some tens of kilobytes.
const MAX_HANDSHAKES: usize = 512;
/// How long accepting rests when the process or the machine has run out of something.
const REST: Duration = Duration::from_millis(100);
/// How long a client that was turned away may take to read why, and what it may still send.
const FAREWELL: Duration = Duration::from_secs(1);
const MAX_FAREWELL: u64 = 64 << 10;
/// Connections from inside that wait to be taken.
const INSIDE_QUEUE: usize = 4;
/// Bytes under way from inside, in each direction.
const INSIDE_BUFFER: usize = 1 << 20;

/// What the shards share of letting clients in.
pub struct Door {
    certificates: Option<Arc<Certificates>>,
    slots: Arc<Semaphore>,
    max_connections: usize,
    patience: Patience,
    metrics: Arc<Metrics>,
    /// Follows the certificates for as long as there is a door.
    _following: JoinSet<()>,
}

impl Door {
    /// The door of the settings; without certificates it is a plain one.
    pub fn open(config: &Config, metrics: &Arc<Metrics>) -> Result<Arc<Self>, TlsError> {
        let mut following = JoinSet::new();
        let certificates = match &config.tls {
            None => None,
            Some(settings) => {
                let (certificates, changes) = Certificates::open(settings.clone(), Arc::clone(metrics))?;
                following.spawn(Arc::clone(&certificates).follow(changes));
                Some(certificates)
            }
        };
        // More than a semaphore can count is no bound.
        let max_connections = config.max_connections.min(Semaphore::MAX_PERMITS);
        Ok(Arc::new(Self {
            certificates,
            slots: Arc::new(Semaphore::new(max_connections)),
            max_connections,
            patience: patience(config),
            metrics: Arc::clone(metrics),
            _following: following,
        }))
    }

    fn slot(&self) -> Option<Slot> {
        let metrics = &self.metrics.access;
        let Ok(permit) = Arc::clone(&self.slots).try_acquire_owned() else {
            if metrics.connections_refused.inc().is_multiple_of(1_000) {
                let limit = self.max_connections;
                tracing::warn!(limit, "refusing connections: as many as are allowed are open");
            }
            return None;
        };
        metrics.connections.inc();
        let strangers = metrics.connections_of_strangers.clone();
        Some(Slot { _permit: permit, open: metrics.connections.clone(), strangers })
    }
}

fn patience(config: &Config) -> Patience {
    let guarded = matches!(config.access, Access::Guarded(_));
    let stranger = Some(config.stranger_timeout).filter(|timeout| guarded && !timeout.is_zero());
    Patience { opening: config.opening_timeout, stranger }
}

/// The right to hold one connection open. It is given back when dropped.
pub struct Slot {
    _permit: OwnedSemaphorePermit,
    open: Gauge,
    strangers: Counter,
}

impl Slot {
    /// Counts that it is given back because nobody known has called.
    pub fn count_stranger(&self) {
        self.strangers.inc();
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.open.dec();
    }
}

/// A way in from this process, past network, TLS and credentials. The program fills an empty
/// store through it.
#[derive(Debug, Clone)]
pub struct Inside(mpsc::Sender<DuplexStream>);

/// The server's end of [`Inside`].
#[derive(Debug)]
pub struct InsideDoor(mpsc::Receiver<DuplexStream>);

/// A way in and the door it leads to.
#[must_use]
pub fn inside() -> (Inside, InsideDoor) {
    let (sender, receiver) = mpsc::channel(INSIDE_QUEUE);
    (Inside(sender), InsideDoor(receiver))
}

impl Inside {
    /// Opens a connection. It waits until the server takes it, and fails once that has stopped.
    pub async fn connect(&self) -> io::Result<DuplexStream> {
        let (ours, theirs) = tokio::io::duplex(INSIDE_BUFFER);
        self.0.send(theirs).await.map_err(|_| io::Error::from(io::ErrorKind::ConnectionRefused))?;
        Ok(ours)
    }
}

/// The connections of one shard, ready to be served. It ends with the listener only.
pub fn incoming(
    door: Arc<Door>,
    listener: TcpIncoming,
    inside: Option<InsideDoor>,
) -> impl Stream<Item = io::Result<Connection>> {
    let entrance = Entrance { door, listener, inside, handshakes: Handshakes::default() };
    stream::unfold(entrance, |mut entrance| async move {
        let connection = entrance.next().await?;
        Some((Ok(connection), entrance))
    })
}

struct Entrance {
    door: Arc<Door>,
    listener: TcpIncoming,
    inside: Option<InsideDoor>,
    handshakes: Handshakes,
}

impl Entrance {
    async fn next(&mut self) -> Option<Connection> {
        loop {
            tokio::select! {
                accepted = self.listener.next() => match accepted? {
                    Ok(stream) => {
                        // Without a slot the stream is dropped, which closes it.
                        let Some(slot) = self.door.slot() else { continue };
                        match &self.door.certificates {
                            None => return Some(Connection::plain(stream, slot, self.door.patience)),
                            Some(certificates) => {
                                let (door, certificates) = (Arc::clone(&self.door), Arc::clone(certificates));
                                let gave_way = self.handshakes.begin(shake_hands(door, certificates, stream, slot));
                                if gave_way {
                                    self.door.metrics.access.tls_handshakes.of(Outcome::Failed).inc();
                                }
                            }
                        }
                    }
                    Err(error) if is_of_one_connection(&error) => {}
                    Err(error) => {
                        tracing::warn!("cannot accept connections: {error}");
                        tokio::time::sleep(REST).await;
                    }
                },
                Some(ended) = self.handshakes.next() => if let Some(connection) = ended {
                    return Some(connection);
                },
                Some(stream) = from_inside(&mut self.inside) => return Some(Connection::inside(stream)),
            }
        }
    }
}

/// Never ends where nobody can come from inside any more.
async fn from_inside(door: &mut Option<InsideDoor>) -> Option<DuplexStream> {
    let stream = match door {
        Some(InsideDoor(receiver)) => receiver.recv().await,
        None => std::future::pending().await,
    };
    if stream.is_none() {
        *door = None;
    }
    stream
}

/// Whether an error is of the connection that was to be accepted, and not of accepting.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}

async fn shake_hands(
    door: Arc<Door>,
    certificates: Arc<Certificates>,
    stream: TcpStream,
    slot: Slot,
) -> Option<Connection> {
    let peer = stream.peer_addr().ok();
    // Before the configuration: `Certificates::vouch` says why.
    let generation = certificates.generation();
    let handshake = TlsAcceptor::from(certificates.config()).accept(stream).into_fallible();
    let outcome = timeout(door.patience.opening, handshake).await;
    let succeeded = matches!(outcome, Ok(Ok(_)));
    let counted = if succeeded { Outcome::Succeeded } else { Outcome::Failed };
    door.metrics.access.tls_handshakes.of(counted).inc();
    // Anybody can cause a failure, so none is worth a line in the usual log.
    match outcome {
        Ok(Ok(stream)) => {
            let chain = stream.get_ref().1.peer_certificates();
            let vouched = chain.and_then(|chain| certificates.vouch(generation, chain));
            return Some(Connection::tls(stream, vouched, slot, door.patience));
        }
        Ok(Err((error, stream))) => {
            tracing::debug!(?peer, "a handshake failed: {error}");
            hang_up(stream).await;
        }
        Err(_) => tracing::debug!(?peer, "a handshake took too long"),
    }
    None
}

/// Closes a connection in a way that lets the client read why. What it has sent meanwhile would
/// otherwise make the system cut it off, and the alert of TLS would be lost.
async fn hang_up(mut stream: TcpStream) {
    let farewell = async {
        stream.shutdown().await?;
        tokio::io::copy(&mut stream.take(MAX_FAREWELL), &mut tokio::io::sink()).await
    };
    // Neither a client that goes on sending nor one that has gone matters.
    let _ = timeout(FAREWELL, farewell).await;
}

/// Handshakes under way, in the order in which they began.
#[derive(Default)]
struct Handshakes {
    running: JoinSet<Option<Connection>>,
    begun: VecDeque<AbortHandle>,
}

impl Handshakes {
    /// Begins one, and says whether another had to give way to it.
    fn begin(&mut self, handshake: impl Future<Output = Option<Connection>> + Send + 'static) -> bool {
        if self.begun.len() >= MAX_HANDSHAKES {
            self.begun.retain(|handshake| !handshake.is_finished());
        }
        let longest = if self.begun.len() < MAX_HANDSHAKES { None } else { self.begun.pop_front() };
        if let Some(longest) = &longest {
            longest.abort();
        }
        self.begun.push_back(self.running.spawn(handshake));
        longest.is_some()
    }

    /// The next one to end; `None` at once if none is under way.
    async fn next(&mut self) -> Option<Option<Connection>> {
        // One that was aborted came to nothing.
        self.running.join_next().await.map(Result::unwrap_or_default)
    }
}

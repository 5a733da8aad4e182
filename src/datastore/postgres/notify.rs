//! Hints between nodes that a store has a new revision.
//!
//! Never part of a write: a transaction that notifies takes a lock across all databases of the
//! cluster until its commit is flushed. A notifier per node sends what has accumulated on a
//! connection of its own. Every hint may be lost; polling is the truth.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt as _;
use sqlx::postgres::{PgConnectOptions, PgListener, PgNotification, PgPoolOptions};
use tokio::sync::{Notify, broadcast};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use uuid::Uuid;

use super::failure::Failure;
use super::lane::Lane;
use crate::revision::StoreId;

/// Where nodes hear each other.
pub(super) const CHANNEL: &str = "relata";

/// PostgreSQL takes payloads below 8,000 bytes; an id is 32 digits and a comma.
const IDS_PER_PAYLOAD: usize = 7_990 / 33;

/// The least time between two notifications: what accumulates meanwhile goes together.
const SPACING: Duration = Duration::from_millis(3);

/// How long a probe may take from sending to receiving.
const PROBE_TIME: Duration = Duration::from_secs(2);

/// How often a silent listener proves that it still hears. A cut network gives no other sign.
const PROBE_INTERVAL: Duration = Duration::from_secs(30);

/// How long to wait before listening again after a failure.
const RETRY: Duration = Duration::from_secs(1);

/// The same, where listening seems not to work at all.
const RETRY_DEAF: Duration = Duration::from_mins(1);

/// How long it may take until a connection listens, from the beginning.
const CONNECT_TIME: Duration = Duration::from_secs(5);

/// Marks a payload that a node sends to itself.
pub(super) const PROBE: &str = "probe:";

/// Collects the stores that have something new and tells the others.
#[derive(Debug)]
pub(super) struct Notifier {
    lane: Arc<Lane>,
    waiting: Mutex<BTreeSet<StoreId>>,
    wake: Notify,
}

impl Notifier {
    /// A notifier that sends on `lane`.
    pub(super) fn new(lane: Arc<Lane>) -> Self {
        Self { lane, waiting: Mutex::default(), wake: Notify::new() }
    }

    /// Takes note of stores to announce.
    pub(super) fn announce(&self, stores: &[StoreId]) {
        self.waiting().extend(stores);
        self.wake.notify_one();
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, BTreeSet<StoreId>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends what is announced, until the task is ended.
    pub(super) async fn run(self: Arc<Self>) {
        loop {
            self.wake.notified().await;
            let stores = std::mem::take(&mut *self.waiting());
            if stores.is_empty() {
                continue;
            }
            if let Err(error) = self.send(payloads(&stores)).await {
                tracing::debug!(%error, "a notification was not sent; other nodes will see the writes when they poll");
            }
            sleep(SPACING).await;
        }
    }

    async fn send(&self, payloads: Vec<String>) -> Result<(), Failure> {
        let payloads = Arc::new(payloads);
        self.lane
            .talk(move |session| {
                let payloads = Arc::clone(&payloads);
                Box::pin(async move {
                    let statement = "SELECT pg_notify('relata', payload) FROM unnest($1::text[]) AS payload";
                    session.rows(sqlx::query(statement).bind(payloads.as_slice())).await.map(drop)
                })
            })
            .await
    }
}

fn payloads(stores: &BTreeSet<StoreId>) -> Vec<String> {
    let ids: Vec<String> = stores.iter().map(|store| store.0.simple().to_string()).collect();
    ids.chunks(IDS_PER_PAYLOAD).map(|chunk| chunk.join(",")).collect()
}

/// What a notification says.
#[derive(Debug, PartialEq, Eq)]
enum Heard {
    Stores(Vec<StoreId>),
    Probe(Uuid),
}

/// Anyone who may connect may notify; what cannot be read is nothing.
fn read(payload: &str) -> Heard {
    if let Some(probe) = payload.strip_prefix(PROBE).and_then(|probe| probe.parse().ok()) {
        return Heard::Probe(probe);
    }
    Heard::Stores(payload.split(',').filter_map(|id| id.parse().ok().map(StoreId)).collect())
}

/// Listens and passes hints on, until the task is ended. Connects again by itself. `hearing` says
/// whether the last probe arrived.
pub(super) async fn listen(
    options: PgConnectOptions,
    notifier: Arc<Notifier>,
    hints: broadcast::Sender<StoreId>,
    hearing: Arc<AtomicBool>,
) {
    let mut warned = false;
    loop {
        let ended = listen_once(&options, &notifier, &hints, &hearing).await;
        hearing.store(false, Ordering::Relaxed);
        let pause = match ended {
            Ok(Silence::FromTheStart) => {
                if !std::mem::replace(&mut warned, true) {
                    tracing::warn!(
                        "notifications do not arrive: a pooler in transaction mode swallows them. Polling \
                         replaces them; with a direct URL other nodes' writes are seen sooner"
                    );
                }
                RETRY_DEAF
            }
            Ok(Silence::Sudden) => RETRY,
            Err(error) => {
                tracing::debug!(%error, "cannot listen for notifications; polling goes on");
                RETRY
            }
        };
        sleep(pause).await;
    }
}

/// How a connection that listened came to nothing.
enum Silence {
    /// Not even its first probe arrived.
    FromTheStart,
    /// Probes had arrived before.
    Sudden,
}

/// A connection that listens.
async fn listening(options: &PgConnectOptions, limit: Duration) -> Result<PgListener, sqlx::Error> {
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .acquire_timeout(limit)
        .max_lifetime(None)
        .idle_timeout(None)
        .connect_lazy_with(options.clone());
    // A server that accepts and then says nothing must not keep us waiting for ever.
    let beginning = async {
        let mut listener = PgListener::connect_with(&pool).await?;
        listener.listen(CHANNEL).await?;
        Ok(listener)
    };
    timeout(limit, beginning)
        .await
        .unwrap_or_else(|_elapsed| Err(std::io::Error::from(ErrorKind::TimedOut).into()))
}

/// Listens on one connection for as long as it hears itself.
async fn listen_once(
    options: &PgConnectOptions,
    notifier: &Arc<Notifier>,
    hints: &broadcast::Sender<StoreId>,
    hearing: &AtomicBool,
) -> Result<Silence, sqlx::Error> {
    let listener = listening(options, CONNECT_TIME).await?;
    // A stream, because its state survives the time limits below.
    let mut notifications = Box::pin(listener.into_stream());

    let mut silence = Silence::FromTheStart;
    let mut probe = None;
    let mut next_probe = Instant::now();
    loop {
        if probe.is_none() && Instant::now() >= next_probe {
            let id = Uuid::new_v4();
            // A probe that cannot be sent says nothing about listening.
            if notifier.send(vec![format!("{PROBE}{id}")]).await.is_ok() {
                probe = Some((id, Instant::now() + PROBE_TIME));
            }
            next_probe = Instant::now() + PROBE_INTERVAL;
        }
        let wake_at = probe.map_or(next_probe, |(_, deadline)| deadline);
        let notification: PgNotification = match timeout_at(wake_at, notifications.next()).await {
            Ok(Some(notification)) => notification?,
            Ok(None) => return Ok(silence),
            Err(_elapsed) if probe.is_some() => return Ok(silence),
            Err(_elapsed) => continue,
        };
        match read(notification.payload()) {
            Heard::Probe(id) => {
                if probe.is_some_and(|(sent, _)| sent == id) {
                    probe = None;
                    silence = Silence::Sudden;
                    hearing.store(true, Ordering::Relaxed);
                }
            }
            Heard::Stores(stores) => {
                for store in stores {
                    // Nobody may be interested.
                    let _ = hints.send(store);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use sqlx::postgres::PgSslMode;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[test]
    fn payloads_stay_below_the_limit_and_read_back() {
        let stores: BTreeSet<StoreId> = (0..1000).map(|n| StoreId(Uuid::from_u128(n))).collect();
        let payloads = payloads(&stores);
        assert!(payloads.iter().all(|payload| payload.len() < 8000));
        let read: Vec<StoreId> = payloads
            .iter()
            .flat_map(|payload| match read(payload) {
                Heard::Stores(stores) => stores,
                Heard::Probe(_) => Vec::new(),
            })
            .collect();
        assert_eq!(read, Vec::from_iter(stores));
    }

    /// As behind a cut network, or before a server that hangs.
    #[tokio::test]
    async fn a_server_that_says_nothing_is_not_waited_for() {
        const READY: &[u8] = b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I";
        let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = server.local_addr().expect("an address").port();
        let serving = tokio::spawn(async move {
            let (mut connection, _) = server.accept().await.expect("a connection");
            let mut hello = [0; 1024];
            assert!(connection.read(&mut hello).await.expect("a greeting") > 0);
            connection.write_all(READY).await.expect("an answer");
            std::future::pending::<()>().await;
        });
        let options = PgConnectOptions::new_without_pgpass()
            .host("127.0.0.1")
            .port(port)
            .username("nobody")
            .ssl_mode(PgSslMode::Disable);
        let outcome = timeout(Duration::from_secs(20), listening(&options, Duration::from_millis(300))).await;
        assert!(outcome.expect("given up").is_err());
        serving.abort();
    }

    #[test]
    fn a_strangers_payload_is_nothing() {
        assert_eq!(read(""), Heard::Stores(Vec::new()));
        assert_eq!(read("probe:me,;drop"), Heard::Stores(Vec::new()));
        let id = Uuid::new_v4();
        assert_eq!(read(&format!("{PROBE}{id}")), Heard::Probe(id));
    }
}

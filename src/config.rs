//! Every setting with its unit, default and reason.
//!
//! A [`Config`] is plain data: the command line fills it from flags and `RELATA_*` variables,
//! tests fill it by hand, and [`crate::server::run`] takes it.

use std::fmt;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::str::FromStr;
use std::thread;
use std::time::Duration;

use crate::datastore::postgres::{DatabaseUrlError, PostgresSettings};
use crate::engine::Limits;
use crate::feed::FeedSettings;
use crate::server::journal::JournalSettings;
use crate::trace::Ratio;
use crate::tuple;
use crate::upkeep::UpkeepSettings;

/// Where the record is kept.
#[derive(Debug, Clone)]
pub enum DatastoreConfig {
    /// `sqlite:PATH`: a file, created if absent.
    Sqlite(PathBuf),
    /// `postgres://…` or `postgresql://…`. The URL may hold a password and does not print it.
    Postgres(Box<PostgresSettings>),
}

/// Why a text does not say where the record is kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DatastoreConfigError {
    /// Neither of the two schemes. The text is not shown: it may hold a password.
    #[error("the datastore must start with `sqlite:`, `postgres://` or `postgresql://`")]
    UnknownScheme,
    /// `sqlite:` and nothing.
    #[error("`sqlite:` needs the path of a file, for example `sqlite:relata.db`")]
    NoPath,
    /// A URL that cannot be understood.
    #[error(transparent)]
    Url(#[from] DatabaseUrlError),
}

impl FromStr for DatastoreConfig {
    type Err = DatastoreConfigError;

    fn from_str(text: &str) -> Result<Self, DatastoreConfigError> {
        if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            return Ok(Self::Postgres(Box::new(PostgresSettings::new(text.parse()?))));
        }
        let path = text.strip_prefix("sqlite:").ok_or(DatastoreConfigError::UnknownScheme)?;
        let path = path.strip_prefix("//").unwrap_or(path);
        if path.is_empty() {
            return Err(DatastoreConfigError::NoPath);
        }
        Ok(Self::Sqlite(PathBuf::from(path)))
    }
}

/// When the tables are created or upgraded at start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Migration {
    /// `SQLite` yes, `PostgreSQL` no: a file has one user, a shared database has an operator.
    #[default]
    EmbeddedOnly,
    /// Always. Several nodes may do so at once.
    AtStart,
}

/// Who may call.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Access {
    /// Anybody who can connect, and only loopback addresses may be listened on.
    #[default]
    OpenOnLoopback,
    /// Anybody who can connect, on any address. For networks that are guarded otherwise.
    Insecure,
    /// Whoever presents a credential of one of these kinds.
    Guarded(Credentials),
}

/// The kinds of credentials that are taken; at least one should be.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Credentials {
    /// API keys, made by `relata key create` or the `KeyService`. Default: not taken.
    pub api_keys: bool,
    /// Tokens of this file: one `TOKEN [NAME] [STORE:RIGHT,RIGHT…]` per line, `#` begins a
    /// comment. A line without grants may do everything.
    pub token_file: Option<PathBuf>,
    /// Tokens signed by the issuers of this file. It is read again while the server runs.
    pub oidc_config: Option<PathBuf>,
    /// Client certificates (mTLS) whose identity is in this file: one `IDENTITY GRANT…` per line. It
    /// is read again while the server runs.
    pub certificate_grants: Option<PathBuf>,
}

impl Credentials {
    /// Only the tokens of a file.
    #[must_use]
    pub fn tokens(file: impl Into<PathBuf>) -> Self {
        Self { token_file: Some(file.into()), ..Self::default() }
    }

    /// Only API keys.
    #[must_use]
    pub fn api_keys() -> Self {
        Self { api_keys: true, ..Self::default() }
    }
}

/// How a server presents itself, and which clients it lets connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsSettings {
    /// The server's certificate and those that lead to its authority, PEM, its own first.
    pub certificate: PathBuf,
    /// Its private key, PEM: PKCS#8, PKCS#1 or SEC1, without a passphrase.
    pub key: PathBuf,
    /// Authorities of clients, PEM. With them a client shows a certificate (mTLS).
    pub client_authorities: Option<PathBuf>,
    /// Whether a client must show one. Without authorities it means nothing.
    pub client_auth: ClientAuth,
}

/// Whether a client must show a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ClientAuth {
    /// Who has none cannot connect.
    #[default]
    Required,
    /// Who has none can connect; who shows one must show a good one.
    Optional,
}

/// Where traces go, and of which calls.
#[derive(Clone, PartialEq)]
pub struct TraceSettings {
    /// The collector, which speaks OTLP over gRPC: `http://HOST:4317` or `https://HOST:4317`.
    pub endpoint: String,
    /// Which part of the calls is recorded whose caller says nothing of it.
    pub ratio: Ratio,
}

impl fmt::Debug for TraceSettings {
    /// Without what stands before an `@`: it would be refused, and may be a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let endpoint = self.endpoint.rsplit('@').next().unwrap_or_default();
        f.debug_struct("TraceSettings").field("endpoint", &endpoint).field("ratio", &self.ratio).finish()
    }
}

/// What stores in memory may take together.
///
/// It is a bound on what is counted: graphs, recent changes, compiled schemas. Connections, requests
/// under way, and what readers hold of states gone by come on top.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MemoryBudget {
    /// Half of the machine's memory, or of the container's if that is less.
    #[default]
    Share,
    /// So many bytes.
    Bytes(usize),
    /// Whatever there is: the operating system ends a server that takes too much.
    Unbounded,
}

impl MemoryBudget {
    /// The bound in bytes; `None`: there is none. `available` is what the server may use at all,
    /// if that is known.
    #[must_use]
    pub fn bytes(self, available: Option<usize>) -> Option<usize> {
        match self {
            Self::Share => available.map(|available| available / 2),
            Self::Bytes(bytes) => Some(bytes),
            Self::Unbounded => None,
        }
    }
}

/// Why a text is not a [`MemoryBudget`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is not a size: write bytes as in `4GiB`, `512MiB` or `1000000`, or `none`", .0.escape_debug())]
pub struct MemoryBudgetError(String);

impl FromStr for MemoryBudget {
    type Err = MemoryBudgetError;

    fn from_str(text: &str) -> Result<Self, MemoryBudgetError> {
        if text == "none" {
            return Ok(Self::Unbounded);
        }
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let unit = text.strip_prefix(digits).unwrap_or_default();
        let shift = match unit.to_ascii_lowercase().as_str() {
            "" | "b" => 0,
            "k" | "kib" => 10,
            "m" | "mib" => 20,
            "g" | "gib" => 30,
            "t" | "tib" => 40,
            _ => return Err(MemoryBudgetError(text.to_owned())),
        };
        let bytes = digits.parse::<usize>().ok().and_then(|count| count.checked_mul(1 << shift));
        match bytes {
            Some(0) => Ok(Self::Unbounded),
            Some(bytes) => Ok(Self::Bytes(bytes)),
            None => Err(MemoryBudgetError(text.to_owned())),
        }
    }
}

/// What a server is started with.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where the record is kept. Default `sqlite:relata.db`.
    pub datastore: DatastoreConfig,
    /// When tables are created. Default: at start on `SQLite`, never on `PostgreSQL`.
    pub migration: Migration,
    /// Who may call. Default: anybody on loopback, nothing beyond.
    pub access: Access,
    /// TLS; without it connections are in plain text. The files are read again while the server
    /// runs. Default: none.
    pub tls: Option<TlsSettings>,
    /// Traces for a collector. Default: none.
    pub traces: Option<TraceSettings>,
    /// Connections open at once; more are closed as they come. Each takes a file descriptor and
    /// some tens of kilobytes. Default 10,000.
    pub max_connections: usize,
    /// How long a client may take to shake hands, and then again to say that it speaks HTTP/2.
    /// Default 10 s; an honest one takes a few round trips.
    pub opening_timeout: Duration,
    /// How long a connection may be open until a call with a credential that is taken comes over it,
    /// where credentials are asked for; one that has a stream of health open may stay. Zero: for
    /// ever, and then strangers can take up all connections. Default 30 s.
    pub stranger_timeout: Duration,
    /// Runtimes that serve gRPC, one thread each, sharing the port. Default: one per core;
    /// measured to carry 40 % more than one runtime of as many threads.
    pub shards: NonZeroUsize,
    /// Threads for searches that outlast their first slice. Default: one per core.
    pub search_threads: NonZeroUsize,
    /// Long searches under way while others wait for them to end. Few, so that each ends soon:
    /// default 4 for each thread.
    pub usual_searches: usize,
    /// Long searches under way at most: each store's first goes beyond the usual number. Each may
    /// hold tens of megabytes of search state. Default 256.
    pub max_searches: usize,
    /// Long searches that wait to begin, over all stores; more are refused with `QUEUE_FULL`, those
    /// of the store that floods first. Default 1,024: some megabytes of requests.
    pub search_queue: usize,
    /// The same of one store. Default 256.
    pub search_queue_of_store: usize,
    /// What is let in at once.
    pub admission: AdmissionLimits,
    /// The deadline of a unary call that names none. Default 10 s.
    pub default_deadline: Duration,
    /// How long a stream of answers may take when the call names no deadline. `Watch` has no such
    /// end. Default 60 s: more than `snapshot_age`, so that who names none is told how to go on.
    pub stream_deadline: Duration,
    /// How long one list may hold the snapshot it is made from, whether or not its reader reads:
    /// after that it ends with `STREAM_TOO_OLD` and a cursor. A snapshot gone by holds what was
    /// changed since, and a store that left memory altogether. Default 30 s.
    pub snapshot_age: Duration,
    /// Stores, by name, that are in memory before the server says that it serves, and never leave
    /// it to make room for others. Default: `default`.
    pub pinned_stores: Vec<String>,
    /// What stores in memory may take together. Default: half of what the machine, or the container,
    /// has.
    pub memory_budget: MemoryBudget,
    /// Following the changelog. Its `max_staleness` also refuses answers at the newest local
    /// revision: larger serves older answers through a longer outage of the database.
    pub feed: FeedSettings,
    /// What happens to the record by itself: expired tuples, deleted stores, old log.
    pub upkeep: UpkeepSettings,
    /// How old an answer at the newest local revision may be at most while the database cannot be
    /// reached; the answer then says how old it may be. Default none: nothing older than
    /// `feed.max_staleness` is answered. With it, revoked rights may go on for as long.
    pub allow_stale: Option<Duration>,
    /// How long a Write that is committed waits for the local graph to have it, so that one
    /// node reads its own writes. Passing it costs only that comfort. Default 2 s.
    pub write_visibility: Duration,
    /// How long the record may be asked before the node calls itself not serving. Default 2 s.
    pub health_timeout: Duration,
    /// How often health is judged. Default 1 s.
    pub health_interval: Duration,
    /// How often an idle Watch stream gets a checkpoint. Default 10 s.
    pub watch_checkpoint: Duration,
    /// How long calls in flight may take to end after a stop was asked for. Default 20 s, below
    /// the 30 s that orchestrators usually allow before they kill.
    pub drain: Duration,
    /// What one connection may have open. Default 1,000: the default of the library, 200,
    /// queues calls inside busy clients.
    pub max_concurrent_streams: u32,
    /// A quiet connection is probed this often, so that vanished clients are noticed. Default
    /// 30 s.
    pub keepalive_interval: Duration,
    /// A probed connection that does not answer is closed after this long. Default 20 s.
    pub keepalive_timeout: Duration,
    /// What is told of single questions. Default: those that take longer than a second, in the log.
    pub journal: JournalSettings,
    /// What one call may bring.
    pub limits: RequestLimits,
    /// What one search may cost. The engine says what each bound is for.
    pub search: Limits,
    /// Fuel of one slice of a search; a unit is a goal or a tuple looked at. Default 5,000, about
    /// a millisecond: what a shard may compute without serving others.
    pub slice: u64,
}

impl Config {
    /// The defaults over a record.
    #[must_use]
    pub fn new(datastore: DatastoreConfig) -> Self {
        let cores = thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        Self {
            datastore,
            migration: Migration::default(),
            access: Access::default(),
            tls: None,
            traces: None,
            max_connections: 10_000,
            opening_timeout: Duration::from_secs(10),
            stranger_timeout: Duration::from_secs(30),
            shards: cores,
            search_threads: cores,
            usual_searches: 4 * cores.get(),
            max_searches: 256,
            search_queue: 1_024,
            search_queue_of_store: 256,
            admission: AdmissionLimits::default(),
            default_deadline: Duration::from_secs(10),
            stream_deadline: Duration::from_mins(1),
            snapshot_age: Duration::from_secs(30),
            pinned_stores: vec!["default".to_owned()],
            memory_budget: MemoryBudget::default(),
            feed: FeedSettings::default(),
            upkeep: UpkeepSettings::default(),
            allow_stale: None,
            write_visibility: Duration::from_secs(2),
            health_timeout: Duration::from_secs(2),
            health_interval: Duration::from_secs(1),
            watch_checkpoint: Duration::from_secs(10),
            drain: Duration::from_secs(20),
            max_concurrent_streams: 1_000,
            keepalive_interval: Duration::from_secs(30),
            keepalive_timeout: Duration::from_secs(20),
            journal: JournalSettings::default(),
            limits: RequestLimits::default(),
            search: Limits::default(),
            slice: 5_000,
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self::new(DatastoreConfig::Sqlite(PathBuf::from("relata.db")))
    }
}

/// What may be under way at once on one node; that health is asked for once is never refused. More
/// is refused with `OVERLOADED`. No caller gets more than four fifths of any of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AdmissionLimits {
    /// Calls with one answer. Default 4,096.
    pub calls: usize,
    /// Calls with a stream of answers, `Watch` among them. Default 10,000.
    pub streams: usize,
    /// Streams that ask for no credential, which are those of who watches health; sixteen of one
    /// connection. Default 1,000, and never more than a tenth of the connections.
    pub anonymous_streams: usize,
    /// Bytes of requests under way, and of answers that their readers have not taken. Default
    /// 256 MiB.
    pub bytes: usize,
    /// How long a call may wait for the thread that serves it, if that is more than a moment's
    /// hitch; a call with little time may wait a quarter of it. Default 250 ms.
    pub lag: Duration,
    /// How long a reader may leave an answer of a stream untaken before the stream is ended. Default
    /// 60 s, so that a list has been ended by its age before, with a cursor.
    pub reader_patience: Duration,
}

impl Default for AdmissionLimits {
    fn default() -> Self {
        Self {
            calls: 4_096,
            streams: 10_000,
            anonymous_streams: 1_000,
            bytes: 256 << 20,
            lag: Duration::from_millis(250),
            reader_patience: Duration::from_mins(1),
        }
    }
}

/// Bounds on one call. Exceeding one is an error that names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestLimits {
    /// Bytes of one request message. Default 4 MiB, what clients of gRPC expect.
    pub message_bytes: usize,
    /// Updates of one Write: a write is one transaction under the store's lock. Default 1,000.
    pub updates: usize,
    /// Preconditions of one Write; each is a query under the lock. Default 100.
    pub preconditions: usize,
    /// Bytes of an idempotency key. Default 128.
    pub idempotency_key_bytes: usize,
    /// Characters of a note. Default 1,000.
    pub note_chars: usize,
    /// Contextual tuples of one question. Default 1,000.
    pub contextual_tuples: usize,
    /// Questions of one `BatchCheck`. Default 10,000.
    pub batch_items: usize,
    /// Results of one page. Default 10,000.
    pub page_size: u32,
    /// Results in one message of a stream. Default 500, some tens of kilobytes.
    pub stream_chunk: usize,
    /// Bytes of one context, of a request or a tuple, as JSON. Default 32 KiB.
    pub context_bytes: usize,
    /// Bytes of a schema text. Default 256 KiB.
    pub schema_bytes: usize,
    /// Object types of one Watch filter. Default 100.
    pub watch_types: usize,
}

impl Default for RequestLimits {
    fn default() -> Self {
        Self {
            message_bytes: 4 << 20,
            updates: 1_000,
            preconditions: 100,
            idempotency_key_bytes: 128,
            note_chars: 1_000,
            contextual_tuples: 1_000,
            batch_items: 10_000,
            page_size: 10_000,
            stream_chunk: 500,
            context_bytes: 32 << 10,
            schema_bytes: 256 << 10,
            watch_types: 100,
        }
    }
}

/// Longest name of a store, in characters.
pub const MAX_STORE_NAME_CHARS: usize = 64;

/// Longest part of a filter, in characters: no id of a stored tuple is longer.
pub const MAX_FILTER_CHARS: usize = tuple::MAX_OBJECT_CHARS;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_datastore_is_a_file_or_a_url() {
        let file = |text: &str| match text.parse() {
            Ok(DatastoreConfig::Sqlite(path)) => path,
            other => panic!("{other:?}"),
        };
        assert_eq!(file("sqlite:a/b.db"), PathBuf::from("a/b.db"));
        assert_eq!(file("sqlite:///a/b.db"), PathBuf::from("/a/b.db"));
        let error = |text: &str| text.parse::<DatastoreConfig>().expect_err("refused");
        assert_eq!(error("sqlite:"), DatastoreConfigError::NoPath);
        assert_eq!(error("mysql://x:hunter2@y"), DatastoreConfigError::UnknownScheme);
        assert!(matches!(error("postgres://x:hunter2@y:port/z"), DatastoreConfigError::Url(_)));
    }

    #[test]
    fn a_memory_budget_is_a_size_or_none() {
        let read = |text: &str| text.parse::<MemoryBudget>();
        assert_eq!(read("1500"), Ok(MemoryBudget::Bytes(1_500)));
        assert_eq!(read("64k"), Ok(MemoryBudget::Bytes(64 << 10)));
        assert_eq!(read("512MiB"), Ok(MemoryBudget::Bytes(512 << 20)));
        assert_eq!(read("2g"), Ok(MemoryBudget::Bytes(2 << 30)));
        assert_eq!(read("0"), Ok(MemoryBudget::Unbounded));
        assert_eq!(read("none"), Ok(MemoryBudget::Unbounded));
        for text in ["", "MiB", "-1", "1.5GiB", "5 GiB", "5 parsecs", "99999999999TiB"] {
            assert!(read(text).is_err(), "{text}");
        }
        assert_eq!(MemoryBudget::Share.bytes(Some(1_000)), Some(500));
        assert_eq!(MemoryBudget::Share.bytes(None), None);
        assert_eq!(MemoryBudget::Bytes(7).bytes(Some(1_000)), Some(7));
        assert_eq!(MemoryBudget::Unbounded.bytes(Some(1_000)), None);
    }

    #[test]
    fn a_password_does_not_print() {
        let config: DatastoreConfig = "postgres://relata:hunter2@db/relata".parse().expect("a URL");
        let mut config = Config::new(config);
        let endpoint = "https://relata:hunter2@collector".to_owned();
        config.traces = Some(TraceSettings { endpoint, ratio: Ratio::NONE });
        assert!(!format!("{config:?}").contains("hunter2"));
    }
}

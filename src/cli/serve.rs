//! `relata serve`: runs the server, and says how to ask it.

use std::io::IsTerminal as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use anstyle::Style;
use clap::Args;

use super::bootstrap::{self, Bootstrapped};
use super::capacity::Capacity;
use super::exit::{Exit, Failure};
use super::freshness::{self, Freshness};
use super::journal::JournalFlags;
use super::output::{Output, remark};
use super::record::Record;
use super::settings::Globals;
use super::tidying::Tidying;
use super::tls::ServerTlsFlags;
use crate::config::{Access, Config, Credentials, DatastoreConfig, MemoryBudget, Migration, TraceSettings};
use crate::server::operations::{Exposure, OperationsListener};
use crate::server::{self, Listeners, RunError};
use crate::store_file::{self, StoreFile};
use crate::trace::Ratio;

/// Run the server.
///
/// Without any flag it listens on loopback and keeps its record in one file, relata.db, which is
/// created if absent.
#[derive(Debug, Args)]
#[command(after_help = "\
Ctrl-C or SIGTERM stops it: calls in flight are finished first; a second one ends it at once.
Logs go to standard error, as text on a terminal and as JSON otherwise; RELATA_LOG=debug says more.

Examples:
  relata serve
  relata serve --bootstrap schema-examples/drive/store.fga.yaml
  RELATA_DATASTORE=postgres://relata@db/relata relata serve --migrate
  relata serve --listen 0.0.0.0:8081 --token-file tokens.txt --tls-cert server.pem --tls-key server.key
  relata serve --listen 0.0.0.0:8081 --api-keys --tls-cert server.pem --tls-key server.key
  relata serve --listen 127.0.0.1:0 --datastore sqlite:dev.db")]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub struct Serve {
    /// Address to listen on; port 0 takes a free one, which is printed.
    #[arg(long, env = "RELATA_LISTEN", value_name = "ADDR", default_value = "127.0.0.1:8081")]
    listen: SocketAddr,
    #[command(flatten)]
    record: Record,
    /// Store file whose schema and tuples are written if the store has none.
    #[arg(long, env = "RELATA_BOOTSTRAP", value_name = "FILE")]
    bootstrap: Option<PathBuf>,
    /// Create or upgrade the tables at start; always done for SQLite.
    #[arg(long, env = "RELATA_MIGRATE")]
    migrate: bool,
    /// Ask every call for an API key; `relata key create` makes them.
    #[arg(long, env = "RELATA_API_KEYS")]
    api_keys: bool,
    /// File of tokens that may call: one `TOKEN [NAME] [STORE:RIGHT,…]` per line, `#` begins a comment.
    #[arg(long, env = "RELATA_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// File of issuers whose signed tokens (OIDC) are taken, and what they may do; YAML or JSON.
    #[arg(long, env = "RELATA_OIDC_CONFIG", value_name = "FILE")]
    oidc_config: Option<PathBuf>,
    /// File of what client certificates may do: one `IDENTITY STORE:RIGHT,…` per line; needs --tls-client-ca.
    #[arg(long, env = "RELATA_CERTIFICATE_GRANTS", value_name = "FILE")]
    certificate_grants: Option<PathBuf>,
    /// Serve anybody who can connect, beyond loopback too: for networks that are guarded otherwise.
    #[arg(long, env = "RELATA_INSECURE", conflicts_with_all = ["token_file", "api_keys", "oidc_config", "certificate_grants"])]
    insecure: bool,
    #[command(flatten)]
    tls: ServerTlsFlags,
    /// Connections open at once; more are closed as they come.
    #[arg(long, env = "RELATA_MAX_CONNECTIONS", value_name = "N", default_value_t = 10_000)]
    max_connections: usize,
    /// How long a connection may be open until a call with a credential that is taken comes over it, in
    /// seconds, where credentials are asked for; 0 for ever.
    #[arg(long, env = "RELATA_STRANGER_TIMEOUT", value_name = "SECONDS", default_value_t = 30)]
    stranger_timeout: u64,
    /// Address for metrics and probes (`/metrics`, `/livez`, `/readyz`), which have no
    /// authentication; `off` for none [default: 127.0.0.1:8082].
    #[arg(long, env = "RELATA_OPERATIONS_LISTEN", value_name = "ADDR")]
    operations_listen: Option<OperationsAddress>,
    /// Serve metrics and probes beyond loopback too: for networks that are guarded otherwise.
    #[arg(long, env = "RELATA_OPERATIONS_INSECURE")]
    operations_insecure: bool,
    /// Collector that spans are sent to, over OTLP and gRPC, such as `http://127.0.0.1:4317`: of calls
    /// whose caller records them (`traceparent`), and of a part of the others.
    #[arg(long, env = "RELATA_OTLP_ENDPOINT", hide_env_values = true, value_name = "URL")]
    otlp_endpoint: Option<String>,
    /// Part of the calls that is recorded whose caller says nothing of it: from 0, none, to 1, all
    /// [default: 0].
    #[arg(long, env = "RELATA_TRACE_RATIO", value_name = "RATIO", requires = "otlp_endpoint")]
    trace_ratio: Option<Ratio>,
    /// Threads that serve, and as many for long searches [default: one per core].
    #[arg(long, env = "RELATA_THREADS", value_name = "N")]
    threads: Option<NonZeroUsize>,
    /// What stores in memory may take together, such as `4GiB`; `none` for no bound [default: half of
    /// the machine's memory, or of the container's].
    ///
    /// A store that is not in memory is loaded when it is asked for, and the one used longest ago
    /// leaves for it. Leave room above the budget for connections and requests.
    #[arg(long, env = "RELATA_MEMORY_BUDGET", value_name = "SIZE")]
    memory_budget: Option<MemoryBudget>,
    /// Store, by name, that is in memory before the server says it serves, and never leaves; may be
    /// given several times.
    #[arg(
        long,
        env = "RELATA_PINNED_STORES",
        value_name = "STORE",
        value_delimiter = ',',
        default_value = "default"
    )]
    pin: Vec<String>,
    #[command(flatten)]
    capacity: Capacity,
    #[command(flatten)]
    freshness: Freshness,
    /// How long one list may hold the state it is made from, in seconds, whether or not its reader
    /// reads; it then ends with `STREAM_TOO_OLD` and a cursor.
    #[arg(long, env = "RELATA_SNAPSHOT_AGE", value_name = "SECONDS", default_value_t = 30.0)]
    snapshot_age: f64,
    #[command(flatten)]
    tidying: Tidying,
    #[command(flatten)]
    journal: JournalFlags,
    /// How long calls in flight may take to end after a stop was asked for, in seconds.
    #[arg(long, env = "RELATA_DRAIN", value_name = "SECONDS", default_value_t = 20)]
    drain: u64,
}

/// Where metrics and probes are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OperationsAddress {
    Off,
    At(SocketAddr),
}

impl OperationsAddress {
    const DEFAULT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8082);
}

impl FromStr for OperationsAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self::Off);
        }
        text.parse().map(Self::At).map_err(|_| format!("`{text}` is neither `ADDRESS:PORT` nor `off`"))
    }
}

impl Serve {
    pub(super) fn run(self, globals: &Globals, out: &mut Output) -> Result<Exit, Failure> {
        let config = self.config(globals)?;
        let example = match &self.bootstrap {
            Some(path) => Some(store_file::load(path).map_err(Failure::bad_input)?),
            None => None,
        };
        server::logging::start(std::env::var("RELATA_LOG").ok().as_deref());
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .map_err(|error| Failure::new(Exit::Internal, format!("cannot start: {error}")))?;
        let operations = self.operations()?;
        runtime.block_on(serve(config, self.listen, operations, globals, example.as_ref(), out))
    }

    /// Listens for who asks after metrics and probes. Without an address of the operator's choice
    /// a server goes on without them rather than not at all: it may be the second on its machine.
    fn operations(&self) -> Result<Option<OperationsListener>, Failure> {
        let exposure = if self.operations_insecure { Exposure::Anywhere } else { Exposure::Loopback };
        let bound = |address| OperationsListener::bind(address, exposure);
        match self.operations_listen {
            Some(OperationsAddress::Off) => Ok(None),
            Some(OperationsAddress::At(address)) => bound(address).map(Some).map_err(|error| failure(&error)),
            None => match bound(OperationsAddress::DEFAULT) {
                Ok(listener) => Ok(Some(listener)),
                Err(error) => {
                    tracing::warn!(
                        "{}: going on without them; choose another address with --operations-listen, or `off`",
                        with_causes(&error)
                    );
                    Ok(None)
                }
            },
        }
    }

    fn config(&self, globals: &Globals) -> Result<Config, Failure> {
        let mut config = Config::new(self.record.config()?);
        if self.migrate {
            config.migration = Migration::AtStart;
        }
        let credentials = Credentials {
            api_keys: self.api_keys,
            token_file: self.token_file.clone(),
            oidc_config: self.oidc_config.clone(),
            certificate_grants: self.certificate_grants.clone(),
        };
        config.access = match (credentials == Credentials::default(), self.insecure) {
            (false, _) => Access::Guarded(credentials),
            (true, true) => Access::Insecure,
            (true, false) => Access::OpenOnLoopback,
        };
        config.tls = globals.tls.server(&self.tls)?;
        config.max_connections = self.max_connections;
        config.stranger_timeout = Duration::from_secs(self.stranger_timeout);
        let ratio = self.trace_ratio.unwrap_or(Ratio::NONE);
        config.traces = self.otlp_endpoint.clone().map(|endpoint| TraceSettings { endpoint, ratio });
        if let Some(threads) = self.threads {
            config.shards = threads;
            config.search_threads = threads;
        }
        self.capacity.apply(&mut config);
        config.memory_budget = self.memory_budget.unwrap_or_default();
        config.pinned_stores.clone_from(&self.pin);
        config.pinned_stores.retain(|store| !store.is_empty());
        config.snapshot_age = freshness::seconds("--snapshot-age", self.snapshot_age)?;
        config.drain = Duration::from_secs(self.drain);
        self.freshness.apply(&mut config)?;
        self.tidying.apply(&mut config)?;
        config.journal = self.journal.settings()?;
        Ok(config)
    }
}

async fn serve(
    config: Config,
    listen: SocketAddr,
    operations: Option<OperationsListener>,
    globals: &Globals,
    example: Option<&StoreFile>,
    out: &mut Output,
) -> Result<Exit, Failure> {
    let grpc = server::bind(listen, config.shards).await.map_err(|error| failure(&error))?;
    let address = match grpc.first().map(std::net::TcpListener::local_addr) {
        Some(Ok(address)) => address,
        Some(Err(error)) => return Err(Failure::new(Exit::Internal, error.to_string())),
        None => listen,
    };
    meet_file_limits_as_errors();
    let asked_at = operations.as_ref().map(OperationsListener::address);
    let listeners = Listeners { grpc, operations };
    let record = config.datastore.clone();
    let scheme = if config.tls.is_some() { "https" } else { "http" };
    let url = |address: SocketAddr| format!("{scheme}://{address}");
    let mut settings = globals.settings()?;
    // The store a flag or a variable names; a context is for servers elsewhere.
    settings.store = globals.store.clone().unwrap_or_default();

    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let (inside, door) = server::inside();
    let running = server::run_with_inside(config, listeners, door, async {
        // The sender is dropped only when the process ends anyway.
        let _ = stopped.await;
    });
    tokio::pin!(running);
    let begun = tokio::select! {
        ended = &mut running => return ended.map(|()| Exit::Success).map_err(|error| failure(&error)),
        ready = bootstrap::when_ready(&inside, &settings, example) => ready,
        () = signal() => Err(Failure::new(Exit::Success, "")),
    };
    let failed = match begun {
        Ok(begun) => {
            announce(address, asked_at, &url, &record, example.zip(begun), out)?;
            tokio::select! {
                ended = &mut running => return ended.map(|()| Exit::Success).map_err(|error| failure(&error)),
                () = signal() => None,
            }
        }
        Err(failure) => Some(failure),
    };
    let _ = stop.send(());
    tokio::select! {
        ended = running => ended.map_err(|error| failure(&error))?,
        () = signal() => remark("stopped at once; calls in flight were cut off"),
    }
    failed.map_or(Ok(Exit::Success), Err)
}

/// The address to reach an address by: an unspecified one is every one of this machine's.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip @ (IpAddr::V4(_) | IpAddr::V6(_)) => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// Has a limit on the size of files (`ulimit -f`) met like a full disk: by a write that fails, and
/// not by the end of the process, which is what its signal does to whoever does not listen to it.
fn meet_file_limits_as_errors() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        // The handler stays when what it would tell is dropped.
        if let Err(error) = signal(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw())) {
            tracing::warn!(%error, "a limit on the size of files would end this process");
        }
    }
}

/// Ends when the process is asked to stop.
async fn signal() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let (Ok(mut terminate), Ok(mut interrupt)) =
            (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
        else {
            // Without a handler a signal ends the process by itself.
            return std::future::pending().await;
        };
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    }
    #[cfg(not(unix))]
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Says where it listens, on the first line and in a form that does not change; on a terminal
/// also how to ask.
fn announce(
    address: SocketAddr,
    operations: Option<SocketAddr>,
    url: &impl Fn(SocketAddr) -> String,
    record: &DatastoreConfig,
    example: Option<(&StoreFile, Bootstrapped)>,
    out: &mut Output,
) -> Result<(), Failure> {
    out.line(format_args!("listening on {}", url(address)))?;
    match record {
        DatastoreConfig::Sqlite(path) => {
            out.line(format_args!("record in {}", absolute(path).display()))?;
        }
        DatastoreConfig::Postgres(_) => out.line("record in PostgreSQL")?,
    }
    if let Some(address) = operations {
        out.line(format_args!("metrics on http://{address}/metrics"))?;
    }
    if let Some((file, bootstrapped)) = &example {
        out.line(bootstrapped.sentence(file))?;
    }
    if std::io::stdout().is_terminal() {
        let endpoint = match address.port() {
            8081 if url(address).starts_with("http://127.0.0.1:") => String::new(),
            _ => format!(" --endpoint {}", url(reachable(address))),
        };
        let bold = |text: String| out.paint(Style::new().bold(), &text);
        let question = example.and_then(|(file, _)| bootstrap::sample_question(file));
        let asks = match question {
            Some(question) => vec![
                bold(format!("relata{endpoint} check {question} --explain")),
                bold(format!("relata{endpoint} tuple read")),
            ],
            None => vec![
                bold(format!("relata{endpoint} schema write schema.fga")),
                bold(format!("relata{endpoint} tuple write doc:plan viewer user:ann")),
                bold(format!("relata{endpoint} check doc:plan viewer user:ann --explain")),
            ],
        };
        out.line("\nIn another terminal:")?;
        asks.iter().try_for_each(|ask| out.line(format_args!("  {ask}")))?;
        out.line("\nCtrl-C stops it.\n")?;
    }
    out.flush()
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// What a server that did not start, or stopped badly, is to the person who started it.
fn failure(error: &RunError) -> Failure {
    let exit = match error {
        RunError::Exposed { .. } | RunError::OperationsExposed { .. } | RunError::Traces(_) => Exit::Usage,
        RunError::Tokens(_)
        | RunError::Tls(_)
        | RunError::Oidc(_)
        | RunError::Journal(_)
        | RunError::CertificateGrants(_) => Exit::BadInput,
        RunError::Record(error) => super::migrate::exit_of(error),
        RunError::Listen { .. } | RunError::OperationsListen { .. } => Exit::Unavailable,
        RunError::Start(_) | RunError::Transport(_) | RunError::Reflection(_) | RunError::ShardLost => {
            Exit::Internal
        }
    };
    let advice = match error {
        RunError::Exposed { .. } => Some(
            "add --api-keys, --token-file, --oidc-config or --certificate-grants, or --insecure if the network is guarded otherwise",
        ),
        RunError::OperationsExposed { .. } => {
            Some("choose another address with --operations-listen, or add --operations-insecure")
        }
        RunError::OperationsListen { .. } => {
            Some("choose another address with --operations-listen, or `off`")
        }
        RunError::Listen { .. } => Some("choose another address with --listen; port 0 takes a free one"),
        RunError::Tokens(_)
        | RunError::Tls(_)
        | RunError::Oidc(_)
        | RunError::CertificateGrants(_)
        | RunError::Traces(_)
        | RunError::Journal(_)
        | RunError::Record(_)
        | RunError::Start(_)
        | RunError::Transport(_)
        | RunError::Reflection(_)
        | RunError::ShardLost => None,
    };
    let failure = Failure::new(exit, with_causes(error));
    match advice {
        Some(advice) => failure.advise(advice),
        None => failure,
    }
}

/// An error with what caused it, on one line.
pub(super) fn with_causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let said = inner.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = inner.source();
    }
    text
}

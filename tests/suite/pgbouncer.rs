//! A throw-away `PgBouncer` before a database.
//!
//! It is the child of a small shell that waits for its standard input to end, as the database
//! servers of these tests are, so that nothing is left behind.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use relata::datastore::postgres::{Postgres, PostgresSettings};
use relata::datastore::{Datastore as _, DatastoreError};
use relata::metrics::Metrics;

use crate::postgres_server::{self, fresh_database};

const PROGRAM: &str = "pgbouncer";
const PORT: u16 = 6432;
const PATIENCE: Duration = Duration::from_secs(30);

const KEEPER: &str = r#"
    directory=$1; shift
    "$@" >>"$directory/log" 2>&1 &
    pooler=$!
    read -r word
    kill -TERM $pooler
    wait $pooler
    rm -rf "$directory"
"#;

/// When a session goes back to be lent to somebody else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// When a client disconnects.
    Session,
    /// After each transaction.
    Transaction,
}

/// A running pooler; it ends when dropped.
pub struct PgBouncer {
    directory: PathBuf,
    keeper: Child,
}

impl PgBouncer {
    /// A pooler of at most `sessions` sessions before the database of a URL, and the URL that
    /// leads through it. Its settings are the defaults.
    ///
    /// # Panics
    /// If there is no `PgBouncer`: what was not tested must not look tested.
    pub fn before(url: &str, mode: Mode, sessions: u32) -> (Self, String) {
        let rest = url.strip_prefix("postgres:///").expect("a URL of these tests");
        let (database, parameters) = rest.split_once('?').expect("parameters");
        let parameters: HashMap<&str, &str> =
            parameters.split('&').filter_map(|parameter| parameter.split_once('=')).collect();
        let directory =
            tempfile::Builder::new().prefix("relata-pooler-").tempdir().expect("a directory").keep();
        let place = directory.display();
        let mode = match mode {
            Mode::Session => "session",
            Mode::Transaction => "transaction",
        };
        let settings = format!(
            "[databases]\n{database} = host={} port={}\n[pgbouncer]\nunix_socket_dir = {place}\n\
             listen_port = {PORT}\nauth_type = any\npool_mode = {mode}\n\
             default_pool_size = {sessions}\nmax_client_conn = 400\n",
            parameters["host"], parameters["port"],
        );
        // With this kind of authentication the user must be said here.
        let settings =
            settings.replace("\n[pgbouncer]", &format!(" user={}\n[pgbouncer]", parameters["user"]));
        fs::write(directory.join("settings.ini"), settings).expect("a file");
        let owner = postgres_server::owner(&directory);
        if let Some((user, group)) = owner {
            chown(&directory, Some(user), Some(group)).expect("to give the directory away");
        }
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).expect("to open the directory");

        let mut command = Command::new("/bin/sh");
        command.args(["-c", KEEPER, "keeper"]).arg(&directory).arg(program());
        command.arg(directory.join("settings.ini")).current_dir(&directory);
        if let Some((user, group)) = owner {
            command.uid(user).gid(group);
        }
        command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let keeper = command.spawn().expect("to start the pooler");
        let pooler = Self { directory, keeper };
        let socket = pooler.directory.join(format!(".s.PGSQL.{PORT}"));
        let begun = Instant::now();
        while UnixStream::connect(&socket).is_err() {
            let log = || fs::read_to_string(pooler.directory.join("log")).unwrap_or_default();
            assert!(begun.elapsed() < PATIENCE, "PgBouncer does not start:\n{}", log());
            std::thread::sleep(Duration::from_millis(10));
        }
        let url = format!(
            "postgres:///{database}?host={}&port={PORT}&user={}",
            pooler.directory.display(),
            parameters["user"]
        );
        (pooler, url)
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}

fn program() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    let mut programs = places.map(|directory| directory.join(PROGRAM));
    programs.find(|program| program.exists()).unwrap_or_else(|| {
        panic!(
            "no PgBouncer found: install one (Debian: `apt-get install -y pgbouncer`), or leave all tests \
             on PostgreSQL out by RELATA_TEST_POSTGRES=skip"
        )
    })
}

async fn connect(url: &str, statements: Option<usize>) -> Result<Postgres, DatastoreError> {
    let mut settings = PostgresSettings::new(url.parse().expect("a URL"));
    settings.statement_cache_capacity = statements;
    Postgres::connect(settings, Metrics::new()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pooler_that_shares_sessions_out_is_noticed() {
    let Some(url) = fresh_database() else { return };
    assert!(!connect(&url, None).await.expect("connected").is_pooled(), "there is no pooler");
    for (mode, sessions, shared) in
        [(Mode::Session, 4, false), (Mode::Transaction, 4, true), (Mode::Transaction, 1, true)]
    {
        let (_pooler, url) = PgBouncer::before(&url, mode, sessions);
        let node = connect(&url, None).await.expect("connected");
        assert_eq!(node.is_pooled(), shared, "{mode:?} with {sessions} sessions");
        node.close().await;
    }
}

/// Each connects, migrates and renews the identity on sessions that others have used before.
#[tokio::test(flavor = "multi_thread")]
async fn tables_can_be_made_through_a_pooler() {
    let Some(url) = fresh_database() else { return };
    let (_pooler, url) = PgBouncer::before(&url, Mode::Transaction, 2);
    for _ in 0..3 {
        let node = connect(&url, None).await.expect("connected");
        node.migrate().await.expect("migrated");
        node.ping().await.expect("usable");
        let identity = node.renew_identity().await.expect("renewed").database;
        assert_eq!(node.identity().await.expect("an identity").database, identity);
        node.close().await;
    }
}

/// Whoever says that the pooler follows prepared statements, and is wrong, is told what to set.
#[tokio::test(flavor = "multi_thread")]
async fn statements_that_a_pooler_loses_are_explained() {
    let Some(url) = fresh_database() else { return };
    let (_pooler, url) = PgBouncer::before(&url, Mode::Transaction, 1);
    let _first = connect(&url, Some(100)).await.expect("connected");
    let told = match connect(&url, Some(100)).await {
        Ok(_) => String::new(),
        Err(error) => format!("{:#}", anyhow::Error::new(error)),
    };
    // A version that follows them has nothing to complain of.
    let version = Command::new(program()).arg("--version").output().expect("a version");
    let version = String::from_utf8_lossy(&version.stdout).lines().next().unwrap_or_default().to_owned();
    let numbers: Vec<u32> = version
        .trim_start_matches(|letter: char| !letter.is_ascii_digit())
        .split('.')
        .filter_map(|part| part.parse().ok())
        .collect();
    println!("{version}: {told}");
    if numbers.as_slice() < [1, 21].as_slice() {
        assert!(told.contains("--statement-cache 0"), "{told}");
    }
}

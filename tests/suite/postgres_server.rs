//! A throw-away PostgreSQL: one cluster for the whole test binary, a fresh database for each
//! test, clusters of one's own for tests in which the database goes away, and replicas of them
//! that can be promoted.
//!
//! Each server is the child of a small shell that waits for its standard input to end. When the
//! test process ends, in whatever way, the pipe closes and the shell stops the server and removes
//! its directory, so that nothing is left behind even after a kill.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Set to `skip` to leave out every test that needs PostgreSQL.
const SWITCH: &str = "RELATA_TEST_POSTGRES";
const START_TIMEOUT: Duration = Duration::from_secs(30);
const PORT: u16 = 5432;

/// The URL of a new, empty database on the shared cluster; `None` if tests on PostgreSQL are
/// switched off, which is said on standard error.
///
/// # Panics
/// If there is no PostgreSQL: what was not tested must not look tested.
pub fn fresh_database() -> Option<String> {
    static SHARED: OnceLock<Cluster> = OnceLock::new();
    if !enabled() {
        return None;
    }
    Some(SHARED.get_or_init(|| Cluster::start(Durability::None)).create_database())
}

/// Whether tests on PostgreSQL run; says so if they do not.
pub fn enabled() -> bool {
    let skip = std::env::var(SWITCH).is_ok_and(|value| value == "skip");
    if skip {
        eprintln!("SKIPPED: {SWITCH}=skip, this was not tested on PostgreSQL");
    }
    !skip
}

/// Runs a server until its input ends; removes its directory unless told otherwise.
const KEEPER: &str = r#"
    directory=$1; shift
    "$@" >>"$directory/log" 2>&1 &
    server=$!
    read -r word
    case $word in fast) kill -INT $server ;; *) kill -QUIT $server ;; esac
    wait $server
    case $word in fast | keep) ;; *) rm -rf "$directory" ;; esac
"#;

/// What a cluster survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Nothing is flushed to disk: for tests.
    None,
    /// An acknowledged commit survives the death of the server, not of the machine. The server
    /// keeps what a replica may need.
    Process,
    /// As an operator would run it: for measurements.
    Full,
}

/// A server on a data directory of its own, reached through a socket in that directory.
pub struct Cluster {
    directory: PathBuf,
    owner: Option<(u32, u32)>,
    durability: Durability,
    /// The shell that keeps the server; absent while it is stopped.
    keeper: Option<Child>,
}

impl Cluster {
    /// Makes a data directory and starts a server on it.
    pub fn start(durability: Durability) -> Self {
        let mut cluster = Self::empty(durability);
        let mut command = cluster.command("initdb");
        command.args([
            "-A",
            "trust",
            "-U",
            "postgres",
            "-E",
            "UTF8",
            "--locale=C",
            "-N",
            "--no-instructions",
        ]);
        run(command.arg("-D").arg(cluster.directory.join("data")));
        cluster.resume();
        cluster
    }

    /// A standby of this cluster that follows it, asynchronously.
    pub fn replica(&self) -> Self {
        let mut replica = Self::empty(self.durability);
        let mut command = self.command("pg_basebackup");
        command.args(["-U", "postgres", "--write-recovery-conf", "--checkpoint=fast", "--no-sync", "-h"]);
        run(command.arg(&self.directory).arg("-D").arg(replica.directory.join("data")));
        replica.resume();
        replica
    }

    fn empty(durability: Durability) -> Self {
        let directory = tempfile::Builder::new().prefix("relata-pg-").tempdir().expect("a directory").keep();
        let owner = owner(&directory);
        for path in [directory.clone(), directory.join("data")] {
            fs::create_dir_all(&path).expect("a directory");
            if let Some((user, group)) = owner {
                chown(&path, Some(user), Some(group)).expect("to give the directory away");
            }
            fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).expect("to close the directory");
        }
        Self { directory, owner, durability, keeper: None }
    }

    /// The URL of a new, empty database.
    pub fn create_database(&self) -> String {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        self.create_database_named(&format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed)))
    }

    /// The URL of a new, empty database of that name.
    pub fn create_database_named(&self, name: &str) -> String {
        let mut command = self.command("createdb");
        run(command.args(["-U", "postgres", "-T", "template0", "-h"]).arg(&self.directory).arg(name));
        self.url(name)
    }

    /// The URL of a database of this cluster.
    pub fn url(&self, database: &str) -> String {
        format!("postgres:///{database}?host={}&port={PORT}&user=postgres", self.directory.display())
    }

    /// The socket its clients connect to.
    pub fn socket(&self) -> PathBuf {
        self.directory.join(format!(".s.PGSQL.{PORT}"))
    }

    /// What a statement returns, one row a line, values parted by `|`. `None`: it failed.
    pub fn ask(&self, statement: &str) -> Option<String> {
        let mut command = self.command("psql");
        command.args(["-X", "-A", "-t", "-q", "-U", "postgres", "-c", statement, "-h"]).arg(&self.directory);
        let output = command.output().expect("to run psql");
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// Stops the server at once, as if its machine had failed. The data directory stays.
    pub fn stop(&mut self) {
        self.end("keep");
    }

    /// Stops the server as an operator would: clients are sent away, all is written out.
    pub fn stop_in_order(&mut self) {
        self.end("fast");
    }

    fn end(&mut self, word: &str) {
        if let Some(mut keeper) = self.keeper.take() {
            let mut stdin = keeper.stdin.take().expect("a piped standard input");
            writeln!(stdin, "{word}").expect("to tell the keeper");
            drop(stdin);
            keeper.wait().expect("the keeper to end");
        }
    }

    /// Makes commits wait until a replica has them, and until one that waits is there.
    pub fn wait_for_replicas(&self) {
        self.set("synchronous_standby_names = '*'");
        self.until(
            "a replica is waited for",
            "select count(*) = 1 from pg_stat_replication where sync_state = 'sync'",
        );
    }

    /// Cuts a replica off: it receives nothing any more.
    pub fn detach(&self) {
        self.set("primary_conninfo = ''");
        self.until("nothing is received", "select count(*) = 0 from pg_stat_wal_receiver");
    }

    /// Makes a replica a primary with what it has received. It waits for no replica.
    pub fn promote(&self) {
        self.set("synchronous_standby_names = ''");
        run(self.command("pg_ctl").arg("promote").arg("-D").arg(self.directory.join("data")));
        self.until("it is a primary", "select not pg_is_in_recovery()");
    }

    /// Changes a setting of the whole cluster.
    pub fn set(&self, setting: &str) {
        let set = self.ask(&format!("alter system set {setting}"));
        let set = set.and_then(|_| self.ask("select pg_reload_conf()"));
        assert!(set.is_some(), "`{setting}` was refused:\n{}", self.log());
    }

    /// Waits until a statement answers true.
    fn until(&self, what: &str, statement: &str) {
        let started = Instant::now();
        while self.ask(statement).as_deref() != Some("t") {
            assert!(started.elapsed() < START_TIMEOUT, "waited in vain until {what}:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.directory.join("log")).unwrap_or_default()
    }

    /// Makes a stopped server a standby: from its next start on it takes no writes.
    pub fn demote(&self) {
        assert!(self.keeper.is_none(), "the server runs");
        let signal = self.directory.join("data/standby.signal");
        fs::write(&signal, "").expect("a file");
        if let Some((user, group)) = self.owner {
            chown(&signal, Some(user), Some(group)).expect("to give the file away");
        }
    }

    /// Starts the server again on the same data directory.
    pub fn resume(&mut self) {
        assert!(self.keeper.is_none(), "the server runs");
        let mut command = self.command_of(Path::new("/bin/sh"));
        command.args(["-c", KEEPER, "keeper"]).arg(&self.directory).arg(program("postgres"));
        command.arg("-D").arg(self.directory.join("data")).arg("-k").arg(&self.directory);
        let port = format!("port={PORT}");
        for setting in ["listen_addresses=", port.as_str(), "max_connections=400", "shared_buffers=64MB"] {
            command.args(["-c", setting]);
        }
        let settings: &[&str] = match self.durability {
            Durability::None => {
                &["fsync=off", "synchronous_commit=off", "full_page_writes=off", "autovacuum=off"]
            }
            Durability::Process => &[
                "fsync=off",
                "full_page_writes=off",
                "wal_keep_size=512MB",
                "wal_retrieve_retry_interval=200ms",
            ],
            Durability::Full => &[],
        };
        for setting in settings {
            command.args(["-c", setting]);
        }
        // Out of the terminal's process group: an interrupt must reach the keeper as the end of
        // its input, not as its own death.
        command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        self.keeper = Some(command.spawn().expect("to start the server"));
        self.wait_until_ready();
    }

    fn wait_until_ready(&self) {
        let started = Instant::now();
        loop {
            let ready = self
                .command("pg_isready")
                .args(["-q", "-h"])
                .arg(&self.directory)
                .status()
                .expect("to run pg_isready");
            if ready.success() {
                return;
            }
            assert!(started.elapsed() < START_TIMEOUT, "PostgreSQL does not start:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn command(&self, name: &str) -> Command {
        let mut command = self.command_of(&program(name));
        command.stdin(Stdio::null());
        command
    }

    fn command_of(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.directory).env("LC_ALL", "C");
        for variable in ["PGHOST", "PGPORT", "PGUSER", "PGPASSWORD", "PGDATABASE", "PGDATA", "PGOPTIONS"] {
            command.env_remove(variable);
        }
        command.env("PGPORT", PORT.to_string());
        if let Some((user, group)) = self.owner {
            command.uid(user).gid(group);
        }
        command
    }
}

impl Drop for Cluster {
    /// Stops the server and removes the directory.
    fn drop(&mut self) {
        match self.keeper.take() {
            Some(mut keeper) => {
                drop(keeper.stdin.take());
                let _ = keeper.wait();
            }
            None => {
                let _ = fs::remove_dir_all(&self.directory);
            }
        }
    }
}

/// Runs a program of PostgreSQL, which must end well.
fn run(command: &mut Command) {
    let output = command.output().expect("a program of PostgreSQL");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Who must own the cluster: PostgreSQL refuses to run as root, so root becomes `postgres`, else
/// `nobody`; anyone else stays who they are.
pub fn owner(directory: &Path) -> Option<(u32, u32)> {
    if fs::metadata(directory).expect("the directory just made").uid() != 0 {
        return None;
    }
    let accounts = fs::read_to_string("/etc/passwd").expect("the list of accounts");
    let ids = ["postgres", "nobody"].iter().find_map(|wanted| {
        accounts.lines().find_map(|line| {
            let fields: Vec<&str> = line.split(':').collect();
            (fields[0] == *wanted)
                .then(|| (fields[2].parse().expect("an id"), fields[3].parse().expect("an id")))
        })
    });
    Some(ids.expect("an account other than root to run PostgreSQL"))
}

/// A program of the newest PostgreSQL installed. Debian keeps them off the search path.
fn program(name: &str) -> PathBuf {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    let directory = DIRECTORY.get_or_init(|| {
        let complete =
            |directory: &PathBuf| directory.join("initdb").exists() && directory.join("postgres").exists();
        let versioned = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
        let newest = versioned
            .filter_map(|entry| {
                Some((entry.file_name().to_str()?.parse::<u32>().ok()?, entry.path().join("bin")))
            })
            .filter(|(_, directory)| complete(directory))
            .max();
        let on_path = || {
            let path = std::env::var_os("PATH").unwrap_or_default();
            std::env::split_paths(&path).find(complete)
        };
        newest.map(|(_, directory)| directory).or_else(on_path).unwrap_or_else(|| {
            panic!(
                "no PostgreSQL server found: install one (Debian: `apt-get install -y postgresql`), \
                 or set {SWITCH}=skip to leave these tests out"
            )
        })
    });
    directory.join(name)
}

#[test]
fn a_database_outlives_a_stopped_server_and_nothing_outlives_the_cluster() {
    if !enabled() {
        return;
    }
    let mut cluster = Cluster::start(Durability::Full);
    let url = cluster.create_database();
    let ask = |url: &str| {
        Command::new(program("psql"))
            .args(["-X", "-A", "-t", "-c", "select 40 + 2", url])
            .output()
            .expect("psql")
    };
    assert_eq!(String::from_utf8_lossy(&ask(&url).stdout).trim(), "42");
    cluster.stop();
    assert!(!ask(&url).status.success(), "a stopped server answered");
    cluster.resume();
    assert_eq!(String::from_utf8_lossy(&ask(&url).stdout).trim(), "42");

    let directory = cluster.directory.clone();
    drop(cluster);
    assert!(!directory.exists(), "{} was left behind", directory.display());
}

#[test]
fn a_promoted_replica_has_what_it_received() {
    if !enabled() {
        return;
    }
    let mut primary = Cluster::start(Durability::Process);
    primary.ask("create table t (n int)").expect("a table");
    let mut replica = primary.replica();
    primary.wait_for_replicas();
    primary.ask("insert into t values (1)").expect("a row");
    // Nobody waits for the replica any more, and it receives nothing.
    primary.set("synchronous_standby_names = ''");
    replica.detach();
    primary.ask("insert into t values (2)").expect("a row");
    assert_eq!(replica.ask("insert into t values (3)"), None, "a standby was written to");
    primary.stop();
    replica.promote();
    assert_eq!(replica.ask("select * from t").as_deref(), Some("1"));
    replica.ask("insert into t values (3)").expect("a row");

    // The old one comes back and takes no writes; the new one is restarted and has all.
    primary.demote();
    primary.resume();
    assert_eq!(primary.ask("select * from t").as_deref(), Some("1\n2"));
    assert_eq!(primary.ask("insert into t values (4)"), None, "a standby was written to");
    replica.stop_in_order();
    replica.resume();
    assert_eq!(replica.replica().ask("select * from t").as_deref(), Some("1\n3"));
}

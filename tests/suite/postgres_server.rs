//! A throw-away PostgreSQL: one cluster for the whole test binary, a fresh database for each
//! test, and clusters of one's own for tests in which the database goes away.
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
    kill -QUIT $server; wait $server
    [ "$word" = keep ] || rm -rf "$directory"
"#;

/// Whether a cluster survives a crash of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Nothing is flushed to disk: for tests.
    None,
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
        let directory = tempfile::Builder::new().prefix("relata-pg-").tempdir().expect("a directory").keep();
        let owner = owner(&directory);
        for path in [directory.clone(), directory.join("data")] {
            fs::create_dir_all(&path).expect("a directory");
            if let Some((user, group)) = owner {
                chown(&path, Some(user), Some(group)).expect("to give the directory away");
            }
            fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).expect("to close the directory");
        }
        let mut cluster = Self { directory, owner, durability, keeper: None };
        let output = cluster
            .command("initdb")
            .args([
                "-A",
                "trust",
                "-U",
                "postgres",
                "-E",
                "UTF8",
                "--locale=C",
                "-N",
                "--no-instructions",
                "-D",
            ])
            .arg(cluster.directory.join("data"))
            .output()
            .expect("to run initdb");
        assert!(output.status.success(), "initdb failed: {}", String::from_utf8_lossy(&output.stderr));
        cluster.resume();
        cluster
    }

    /// The URL of a new, empty database.
    pub fn create_database(&self) -> String {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let name = format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let output = self
            .command("createdb")
            .args(["-U", "postgres", "-T", "template0", "-h"])
            .arg(&self.directory)
            .arg(&name)
            .output()
            .expect("to run createdb");
        assert!(output.status.success(), "createdb failed: {}", String::from_utf8_lossy(&output.stderr));
        self.url(&name)
    }

    /// The URL of a database of this cluster.
    pub fn url(&self, database: &str) -> String {
        format!("postgres:///{database}?host={}&port={PORT}&user=postgres", self.directory.display())
    }

    /// Stops the server at once, as if its machine had failed. The data directory stays.
    pub fn stop(&mut self) {
        if let Some(mut keeper) = self.keeper.take() {
            let mut stdin = keeper.stdin.take().expect("a piped standard input");
            writeln!(stdin, "keep").expect("to tell the keeper");
            drop(stdin);
            keeper.wait().expect("the keeper to end");
        }
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
        if self.durability == Durability::None {
            for setting in ["fsync=off", "synchronous_commit=off", "full_page_writes=off", "autovacuum=off"] {
                command.args(["-c", setting]);
            }
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
            let log = fs::read_to_string(self.directory.join("log")).unwrap_or_default();
            assert!(started.elapsed() < START_TIMEOUT, "PostgreSQL does not start:\n{log}");
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

/// Who must own the cluster: PostgreSQL refuses to run as root, so root becomes `postgres`, else
/// `nobody`; anyone else stays who they are.
fn owner(directory: &Path) -> Option<(u32, u32)> {
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

//! The database file: its lock, and connections with every setting spelled out.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use rusqlite::{Connection, OpenFlags};
use uuid::Uuid;

use super::DatastoreError;
use super::rows::failed;
use crate::time::Timestamp;

/// How long a statement waits for a lock that a foreign tool, such as the `sqlite3` shell, holds.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// The write-ahead log is cut back to this size after a checkpoint.
const JOURNAL_SIZE_LIMIT_BYTES: i64 = 64 << 20;
/// Statements kept prepared on each connection: more than there are, reads by filter included.
const PREPARED_STATEMENTS: usize = 128;

/// What an acknowledged commit survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Durability {
    /// A crash of the machine: every commit is flushed to the disk.
    Full,
    /// A crash of the process: for databases that nobody keeps.
    Process,
}

impl Durability {
    fn pragma(self) -> &'static str {
        match self {
            Self::Full => "FULL",
            Self::Process => "OFF",
        }
    }
}

/// A database file that belongs to this process for as long as the value lives.
#[derive(Debug)]
pub(super) struct DatabaseFile {
    path: PathBuf,
    durability: Durability,
    /// Removed with the value.
    temporary: Option<PathBuf>,
    /// Held, never read. The operating system lets go of the lock when the process ends.
    _lock: File,
}

impl DatabaseFile {
    /// Takes the lock beside a file, which need not exist yet.
    pub(super) fn at(path: &Path) -> Result<Self, DatastoreError> {
        let path = std::path::absolute(path)
            .with_context(|| format!("`{}` is not a path", path.display()))
            .map_err(DatastoreError::Unavailable)?;
        let lock = lock(&path)?;
        Ok(Self { path, durability: Durability::Full, temporary: None, _lock: lock })
    }

    /// A file in a new directory of its own.
    pub(super) fn temporary() -> Result<Self, DatastoreError> {
        let directory = std::env::temp_dir().join(format!("relata-{}", Uuid::new_v4()));
        std::fs::create_dir(&directory)
            .with_context(|| format!("could not create `{}`", directory.display()))
            .map_err(DatastoreError::Unavailable)?;
        let path = directory.join("relata.db");
        let lock = lock(&path)?;
        Ok(Self { path, durability: Durability::Process, temporary: Some(directory), _lock: lock })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The connection that writes. Creates the file.
    pub(super) fn writer(&self) -> Result<Connection, DatastoreError> {
        self.create();
        let connection = self.connect(OpenFlags::SQLITE_OPEN_CREATE)?;
        // WAL: readers do not wait for the writer. It is kept in the file, so readers find it.
        let mode: String = connection
            .pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))
            .map_err(failed)?;
        if mode != "wal" {
            let error = anyhow::anyhow!("the file system of `{}` has no shared memory", self.path.display());
            return Err(DatastoreError::Unavailable(error.context("a write-ahead log is not possible")));
        }
        connection.pragma_update(None, "journal_size_limit", JOURNAL_SIZE_LIMIT_BYTES).map_err(failed)?;
        Ok(connection)
    }

    /// Creates the file, if there is none, so that nobody else can read it: it holds everybody's
    /// rights, and digests of keys. SQLite gives the files beside it the same mode, and says what is
    /// wrong if the file cannot be opened.
    fn create(&self) {
        let mut options = File::options();
        options.create_new(true).write(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let _ = options.open(&self.path);
    }

    /// A connection that reads.
    pub(super) fn reader(&self) -> Result<Connection, DatastoreError> {
        let connection = self.connect(OpenFlags::empty())?;
        connection.pragma_update(None, "query_only", true).map_err(failed)?;
        Ok(connection)
    }

    fn connect(&self, also: OpenFlags) -> Result<Connection, DatastoreError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | also;
        let connection = Connection::open_with_flags(&self.path, flags)
            .with_context(|| format!("could not open `{}`", self.path.display()))
            .map_err(DatastoreError::Unavailable)?;
        connection.busy_timeout(BUSY_TIMEOUT).map_err(failed)?;
        connection.pragma_update(None, "synchronous", self.durability.pragma()).map_err(failed)?;
        connection.pragma_update(None, "foreign_keys", true).map_err(failed)?;
        connection.set_prepared_statement_cache_capacity(PREPARED_STATEMENTS);
        Ok(connection)
    }
}

impl Drop for DatabaseFile {
    fn drop(&mut self) {
        if let Some(directory) = &self.temporary
            && let Err(error) = std::fs::remove_dir_all(directory)
        {
            tracing::warn!(directory = %directory.display(), %error, "could not remove a temporary database");
        }
    }
}

/// Locks `<path>-lock`. The file stays when the lock is released: removing it would let two
/// processes hold locks on two files of that name.
fn lock(path: &Path) -> Result<File, DatastoreError> {
    let mut name = path.as_os_str().to_owned();
    name.push("-lock");
    let name = PathBuf::from(name);
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&name)
        .with_context(|| format!("could not create `{}`", name.display()))
        .map_err(DatastoreError::Unavailable)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(DatastoreError::InUse(path.display().to_string())),
        Err(TryLockError::Error(error)) => {
            let error = anyhow::Error::new(error).context(format!("could not lock `{}`", name.display()));
            Err(DatastoreError::Unavailable(error))
        }
    }
}

/// The clock of this database is the machine's: SQLite's own keeps milliseconds only.
pub(super) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use rusqlite::types::Value;

    use super::*;

    fn pragma(connection: &Connection, name: &str) -> String {
        let value = connection.pragma_query_value(None, name, |row| row.get::<_, Value>(0));
        match value.expect(name) {
            Value::Integer(value) => value.to_string(),
            Value::Text(value) => value,
            other @ (Value::Null | Value::Real(_) | Value::Blob(_)) => panic!("{name} is {other:?}"),
        }
    }

    #[cfg(unix)]
    #[test]
    fn nobody_else_can_read_a_new_file_and_an_old_one_stays_as_it_is() {
        use std::fs::{Permissions, metadata, set_permissions};
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("relata.db");
        let file = DatabaseFile::at(&path).expect("a file");
        let writer = file.writer().expect("a connection");
        writer.execute_batch("CREATE TABLE t (a); INSERT INTO t VALUES (1)").expect("written");
        let mode =
            |name: &str| metadata(directory.path().join(name)).expect(name).permissions().mode() & 0o777;
        assert_eq!(["relata.db", "relata.db-wal", "relata.db-shm"].map(mode), [0o600; 3]);
        drop(writer);
        set_permissions(&path, Permissions::from_mode(0o640)).expect("another mode");
        drop(file.writer().expect("a connection"));
        assert_eq!(mode("relata.db"), 0o640);
    }

    #[test]
    fn connections_are_durable_and_strict() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = DatabaseFile::at(&directory.path().join("relata.db")).expect("a file");
        let writer = file.writer().expect("a connection");
        let reader = file.reader().expect("a connection");
        for connection in [&writer, &reader] {
            assert_eq!(pragma(connection, "journal_mode"), "wal");
            assert_eq!(pragma(connection, "synchronous"), "2", "FULL");
            assert_eq!(pragma(connection, "foreign_keys"), "1");
            assert_eq!(pragma(connection, "busy_timeout"), "5000");
        }
        assert_eq!(pragma(&writer, "journal_size_limit"), (64 << 20).to_string());
        assert_eq!((pragma(&writer, "query_only"), pragma(&reader, "query_only")), ("0".into(), "1".into()));
    }

    #[test]
    fn what_is_no_database_is_refused() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("notes.txt");
        std::fs::write(&path, "x".repeat(4096)).expect("written");
        let error = DatabaseFile::at(&path).and_then(|file| file.writer()).expect_err("no database");
        assert!(matches!(error, DatastoreError::Unavailable(_)), "{error:?}");

        let nowhere = DatabaseFile::at(&directory.path().join("absent/relata.db")).expect_err("no folder");
        assert!(format!("{nowhere:?}").contains("could not create"), "{nowhere:?}");
    }
}

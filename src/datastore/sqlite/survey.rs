//! Looks a database file over for `relata doctor`, whether or not a server has it.
//!
//! The file is opened for reading only. How long a flush takes is measured on a file of its own
//! beside it, which also shows that the directory can be written to.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::{Connection, OpenFlags, Params};
use uuid::Uuid;

use super::migrate::{APPLICATION_ID, needed};
use crate::datastore::DatastoreError;
use crate::datastore::survey::{Samples, Seen, StoreSize, TablesVersion, machine_now};

/// Reads timed.
const READS: usize = 20;
/// Flushes timed.
const FLUSHES: usize = 5;
/// What is flushed: a page, as the smallest commit writes one.
const FLUSHED_BYTES: usize = 4_096;
/// How long a statement waits for a lock that another program holds.
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);
/// How long tuples are counted before the total has to do.
const COUNTING: Duration = Duration::from_secs(3);

/// What was found.
#[derive(Debug, Clone)]
pub struct SqliteSurvey {
    /// The absolute path.
    pub path: PathBuf,
    /// The version of SQLite that is built in.
    pub sqlite_version: &'static str,
    /// What the directory is on, and whether it can be written to.
    pub place: Place,
    /// The file; `None`: it does not exist.
    pub file: Seen<Option<FileFacts>>,
}

/// Where the file is.
#[derive(Debug, Clone)]
pub struct Place {
    /// The directory.
    pub directory: PathBuf,
    /// Bytes that are free for this user, and of how many.
    pub space: Seen<(u64, u64)>,
    /// What sort of file system it is.
    pub file_system: FileSystem,
    /// How long a flush of one page takes.
    pub flushes: Seen<Samples>,
}

/// A sort of file system, told apart by what it means for a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileSystem {
    /// Nothing is known against it.
    Ordinary,
    /// In memory: gone with the machine.
    Memory,
    /// On another machine, by the name of the protocol: locks may not hold.
    Network(&'static str),
}

/// The file.
#[derive(Debug, Clone)]
pub struct FileFacts {
    /// Its size in bytes.
    pub bytes: u64,
    /// The size of its write-ahead log in bytes.
    pub log_bytes: u64,
    /// Whether a server has it.
    pub in_use: bool,
    /// Whether this user may write to it.
    pub writable: bool,
    /// Whether it is Relata's, an empty one included.
    pub ours: bool,
    /// How it is journaled, such as `wal`.
    pub journal_mode: String,
    /// How long one read takes.
    pub reads: Option<Samples>,
    /// The version of the tables.
    pub tables: Seen<TablesVersion>,
    /// Live tuples in all stores, if they were counted in time.
    pub tuples: Option<u64>,
    /// Live stores.
    pub stores: Seen<Vec<StoreSize>>,
    /// How far the newest commit of any store is ahead of this machine's clock, in microseconds;
    /// negative in the usual case.
    pub newest_ahead: Seen<Option<i64>>,
}

/// Looks over what a server with this file would use. Blocks.
#[must_use]
pub fn survey(path: &Path) -> SqliteSurvey {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let directory = path.parent().unwrap_or(Path::new("/")).to_owned();
    let place = Place {
        space: space(&directory).map_err(|error| error.to_string()),
        file_system: file_system(&directory),
        flushes: flushes(&directory).map_err(|error| error.to_string()),
        directory,
    };
    let file = look(&path).map_err(|error| told(&error));
    SqliteSurvey { path, sqlite_version: rusqlite::version(), place, file }
}

/// An error with its causes, on one line.
fn told(error: &DatastoreError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}

#[cfg(unix)]
fn space(directory: &Path) -> io::Result<(u64, u64)> {
    let found = rustix::fs::statvfs(directory)?;
    Ok((found.f_bavail.saturating_mul(found.f_frsize), found.f_blocks.saturating_mul(found.f_frsize)))
}

#[cfg(not(unix))]
fn space(_: &Path) -> io::Result<(u64, u64)> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "this system is not asked"))
}

/// By the numbers of `linux/magic.h`.
#[cfg(target_os = "linux")]
fn file_system(directory: &Path) -> FileSystem {
    let Ok(found) = rustix::fs::statfs(directory) else { return FileSystem::Ordinary };
    // The number has 32 bits, whatever type the system's header gives it.
    match u64::try_from(found.f_type).unwrap_or_default() & 0xffff_ffff {
        0x0102_1994 | 0x8584_58f6 => FileSystem::Memory,
        0x6969 => FileSystem::Network("NFS"),
        0x517b | 0xfe53_4d42 | 0xff53_4d42 => FileSystem::Network("SMB"),
        0x00c3_6400 => FileSystem::Network("Ceph"),
        0x5346_414f => FileSystem::Network("AFS"),
        0x0102_1997 => FileSystem::Network("9P"),
        _ => FileSystem::Ordinary,
    }
}

#[cfg(not(target_os = "linux"))]
fn file_system(_: &Path) -> FileSystem {
    FileSystem::Ordinary
}

/// Writes and flushes pages of a file of its own, which is gone afterwards.
fn flushes(directory: &Path) -> io::Result<Samples> {
    let path = directory.join(format!(".relata-doctor-{}", Uuid::new_v4().simple()));
    let mut file = File::options().write(true).create_new(true).open(&path)?;
    let measured = (0..FLUSHES)
        .map(|_| {
            file.write_all(&[0; FLUSHED_BYTES])?;
            let begun = Instant::now();
            file.sync_data()?;
            Ok(begun.elapsed())
        })
        .collect::<io::Result<Vec<_>>>();
    fs::remove_file(&path)?;
    Samples::of(measured?).ok_or_else(|| io::Error::other("nothing was measured"))
}

fn look(path: &Path) -> Result<Option<FileFacts>, DatastoreError> {
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(DatastoreError::Unavailable(error.into())),
    };
    let beside = |suffix: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    let connection =
        Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)
            .map_err(super::rows::failed)?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(super::rows::failed)?;
    let pragma = |name: &str| number(&connection, &format!("PRAGMA {name}"), []);
    let (application, version) = (pragma("application_id")?, pragma("user_version")?);
    let foreign = "SELECT count(*) FROM sqlite_schema WHERE type = 'table'";
    let ours = application == APPLICATION_ID || number(&connection, foreign, [])? == 0;
    let ready = if ours && version > 0 { Ok(()) } else { Err("there are no tables yet".to_owned()) };
    let says_from = "SELECT count(*) FROM pragma_table_info('database') WHERE name = 'usable_from'";
    let usable_from = || match number(&connection, says_from, []) {
        Ok(0) | Err(_) => None,
        Ok(_) => number(&connection, "SELECT usable_from FROM database", []).ok(),
    };
    let newest = "SELECT max(r.committed_at) FROM store s JOIN revision r ON r.store = s.id
        WHERE r.revision = (SELECT max(revision) FROM revision WHERE store = s.id)";
    let newest = |()| {
        let newest: Option<i64> =
            connection.query_row(newest, [], |row| row.get(0)).map_err(|error| error.to_string())?;
        Ok(newest.map(|newest| newest.saturating_sub(machine_now().as_micros())))
    };
    let timed = (0..READS).map(|_| {
        let begun = Instant::now();
        number(&connection, foreign, []).map(|_| begun.elapsed())
    });
    let counts = if ready.is_ok() { counts(&connection) } else { None };
    Ok(Some(FileFacts {
        bytes: metadata.len(),
        log_bytes: fs::metadata(beside("-wal")).map_or(0, |log| log.len()),
        in_use: in_use(&beside("-lock")),
        writable: File::options().append(true).open(path).is_ok(),
        ours,
        journal_mode: connection
            .query_row("PRAGMA journal_mode", [], |row| row.get(0))
            .map_err(super::rows::failed)?,
        reads: Samples::of(timed.collect::<Result<_, _>>()?),
        tables: Ok(TablesVersion { found: version, known: needed(), usable_from: usable_from() }),
        tuples: counts.as_ref().map(|counts| counts.iter().map(|(_, count)| count).sum()),
        stores: ready
            .clone()
            .and_then(|()| stores(&connection, counts.as_deref()).map_err(|error| error.to_string())),
        newest_ahead: ready.and_then(newest),
    }))
}

fn number(connection: &Connection, sql: &str, parameters: impl Params) -> Result<i64, DatastoreError> {
    connection.query_row(sql, parameters, |row| row.get(0)).map_err(super::rows::failed)
}

/// Whether a server holds the lock. It is let go of at once: a server that starts in this very
/// moment would be refused the file.
fn in_use(lock: &Path) -> bool {
    let Ok(file) = File::open(lock) else { return false };
    matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))
}

/// Tuples by store, if they can be counted in a few seconds.
fn counts(connection: &Connection) -> Option<Vec<(Vec<u8>, u64)>> {
    let mut statement = connection.prepare("SELECT store, count(*) FROM tuple GROUP BY store").ok()?;
    let stop = connection.get_interrupt_handle();
    let (done, ended) = mpsc::channel::<()>();
    thread::scope(|scope| {
        scope.spawn(move || {
            if ended.recv_timeout(COUNTING) == Err(RecvTimeoutError::Timeout) {
                stop.interrupt();
            }
        });
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?))).ok()?;
        let counted =
            rows.map(|row| row.ok().map(|(store, count)| (store, u64::try_from(count).unwrap_or(0))));
        let counted = counted.collect();
        drop(done);
        counted
    })
}

fn stores(connection: &Connection, counts: Option<&[(Vec<u8>, u64)]>) -> rusqlite::Result<Vec<StoreSize>> {
    let sql = "SELECT id, name, coalesce((SELECT max(revision) FROM revision WHERE store = id), 0)
               FROM store WHERE deleted_at IS NULL ORDER BY name";
    let mut statement = connection.prepare(sql)?;
    let stores = statement.query_map([], |row| {
        let id: Vec<u8> = row.get(0)?;
        let count = |counts: &[(Vec<u8>, u64)]| {
            counts.iter().find_map(|(store, count)| (*store == id).then_some(*count)).unwrap_or(0)
        };
        Ok(StoreSize {
            name: row.get(1)?,
            revision: u64::try_from(row.get::<_, i64>(2)?).unwrap_or(0),
            tuples: counts.map(count),
        })
    })?;
    stores.collect()
}

#[cfg(test)]
mod tests {
    use super::super::file;
    use super::*;

    #[test]
    fn a_file_is_looked_over_and_left_as_it_is() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("relata.db");
        let absent = survey(&path);
        assert!(matches!(absent.file, Ok(None)), "{:?}", absent.file);
        assert!(fs::read_dir(directory.path()).expect("readable").next().is_none(), "something was left");
        assert_eq!(absent.place.flushes.expect("measured").count(), FLUSHES);
        let (free, all) = absent.place.space.expect("known");
        assert!(free > 0 && free <= all);

        let lock = file::DatabaseFile::at(&path).expect("a file");
        let mut writer = lock.writer().expect("a connection");
        super::super::migrate::migrate(&mut writer).expect("migrated");
        let Ok(Some(found)) = survey(&path).file else { panic!("not found") };
        assert!(found.in_use && found.ours && found.writable && found.journal_mode == "wal", "{found:?}");
        assert_eq!(found.stores.expect("one")[0].name, "default");
        let tables = found.tables.expect("tables");
        assert_eq!((tables.found, tables.usable_from), (needed(), Some(3)));
        drop((writer, lock));
        let Ok(Some(found)) = survey(&path).file else { panic!("not found") };
        assert!(!found.in_use, "nobody has it");
    }
}

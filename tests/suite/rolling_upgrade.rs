//! Upgrades without stopping, step by step as `docs/operations/rolling-upgrade.md` has them: tables of
//! the version before, migrated while servers work; tables of a version to come, worked on by this
//! program as an old one; and tables that it is too old for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use crate::postgres_server::fresh_database;
use crate::program::{Ran, Record, Server, relata, run};

const SCHEMA: &str = "model\n  schema 1.1\ntype user\ntype doc\n  relations\n    define viewer: [user]\n";

/// What the third migration adds, taken away again: the tables as version 2 has them.
const BACK_TO_TWO: &str = "DROP TABLE relata.lease;
    ALTER TABLE relata.database DROP COLUMN usable_from;
    DELETE FROM relata.migration WHERE version = 3";

/// A migration of a program to come that only adds.
const EXPAND: &str = "BEGIN;
    CREATE TABLE relata.of_the_future (id bigint PRIMARY KEY);
    ALTER TABLE relata.store ADD COLUMN colour text;
    ALTER TABLE relata.tuple ADD COLUMN weight integer;
    ALTER TABLE relata.revision ADD COLUMN origin text;
    INSERT INTO relata.migration (version, description, success, checksum, execution_time)
        VALUES (1004, 'adds', true, '', 0);
    COMMIT";

/// One that takes something away which only programs before it needed.
const CONTRACT: &str = "BEGIN;
    INSERT INTO relata.migration (version, description, success, checksum, execution_time)
        VALUES (1005, 'takes away', true, '', 0);
    UPDATE relata.database SET usable_from = 1004;
    COMMIT";

fn change(url: &str, sql: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let mut connection = PgConnection::connect(url).await.expect("a connection");
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut connection).await.expect(sql);
    });
}

fn migrate(url: &str) -> Ran {
    run(relata().args(["migrate", "--datastore", url]), "")
}

/// A server that is started without migrating, and refused.
fn refused(url: &str) -> Ran {
    run(relata().args(["serve", "--listen", "127.0.0.1:0", "--datastore", url]), "").exits(65)
}

/// Writes and asks through a server until told to stop; no call may fail.
struct Client {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    thread: std::thread::JoinHandle<()>,
}

impl Client {
    fn of(server: &Arc<Server>, name: &'static str) -> Self {
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (server, stopped, counted) = (Arc::clone(server), Arc::clone(&stop), Arc::clone(&done));
        let thread = std::thread::spawn(move || {
            for n in 0.. {
                let written = server.ask(&format!("tuple write doc:{name}-{n} viewer user:ann")).exits(0);
                let zookie = written.line().to_owned();
                server.ask(&format!("check doc:{name}-{n} viewer user:ann --at-least {zookie}")).exits(0);
                counted.fetch_add(1, Ordering::Relaxed);
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
            }
        });
        Self { stop, done, thread }
    }

    /// Waits until it has done so many rounds more.
    fn goes_on(&self, rounds: u64) {
        let before = self.done.load(Ordering::Relaxed);
        while self.done.load(Ordering::Relaxed) < before + rounds {
            assert!(!self.thread.is_finished(), "a call failed");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }

    fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("no call failed");
        self.done.load(Ordering::Relaxed)
    }
}

#[test]
fn old_and_new_programs_work_side_by_side() {
    let Some(url) = fresh_database() else { return };
    migrate(&url).exits(0);

    // The tables of the version before: this program does not work on them, and says what to do.
    change(&url, BACK_TO_TWO);
    refused(&url).says("at version 2").says("relata migrate");
    // Several migrate at once; each says that it is done.
    let migrations: Vec<_> = (0..3)
        .map(|_| {
            let url = url.clone();
            std::thread::spawn(move || migrate(&url))
        })
        .collect();
    for migration in migrations {
        migration.join().expect("an end").exits(0);
    }

    let record = Record::at(url.clone());
    let first = Arc::new(Server::start(&record, &[]));
    first.feed(&["schema", "write", "-"], SCHEMA).exits(0);
    let client = Client::of(&first, "first");
    client.goes_on(2);

    // A newer program migrates while the old server works; then a second old one joins, as when a
    // machine is replaced in the middle of the upgrade.
    change(&url, EXPAND);
    client.goes_on(2);
    migrate(&url).exits(0);
    let second = Arc::new(Server::start(&record, &[]));
    let other = Client::of(&second, "second");
    other.goes_on(2);
    client.goes_on(2);
    let zookie = second.ask("tuple write doc:both viewer user:eve").exits(0).line().to_owned();
    first.ask(&format!("check doc:both viewer user:eve --at-least {zookie}")).exits(0);
    let report = run(relata().args(["doctor", "--datastore", &url]), "");
    report.says("version 1004, newer than this program's 3");

    // Nobody of the old version may be left when something is taken away.
    let written = client.stop() + other.stop();
    assert!(written >= 8);
    let counted = second.ask("tuple read doc#viewer --output jsonl").exits(0).json_lines().len();
    assert_eq!(u64::try_from(counted).expect("a count"), written + 1, "every write is there");
    change(&url, CONTRACT);
    refused(&url).says("at version 1005").says("use a newer `relata`");
    migrate(&url).exits(65).says("use a newer `relata`");
    // Those that run notice, and are taken out of rotation.
    let begun = std::time::Instant::now();
    while !run(relata().args(["doctor", "--endpoint", &first.endpoint]), "").stdout.contains("NOT_SERVING") {
        assert!(begun.elapsed() < std::time::Duration::from_mins(1), "it goes on serving");
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
}

#[test]
fn a_file_of_the_version_before_is_migrated_by_the_next_start() {
    let record = Record::sqlite();
    let server = Server::start(&record, &[]);
    server.feed(&["schema", "write", "-"], SCHEMA).exits(0);
    let zookie = server.ask("tuple write doc:1 viewer user:ann").exits(0).line().to_owned();
    assert_eq!(server.stop(), 0);

    let change = |sql: &str| {
        rusqlite::Connection::open(record.path()).expect("a file").execute_batch(sql).expect(sql);
    };
    change("DROP TABLE lease; ALTER TABLE database DROP COLUMN usable_from; PRAGMA user_version = 2");
    let server = Server::start(&record, &[]);
    server.ask(&format!("check doc:1 viewer user:ann --at-least {zookie}")).exits(0);
    assert_eq!(server.stop(), 0);

    // The program before is put back on a file that a newer one has added to.
    change("ALTER TABLE store ADD COLUMN colour TEXT; PRAGMA user_version = 1004");
    let server = Server::start(&record, &[]);
    server.ask(&format!("check doc:1 viewer user:ann --at-least {zookie}")).exits(0);
    server.ask("tuple write doc:2 viewer user:ann").exits(0);
    assert_eq!(server.stop(), 0);
    change("UPDATE database SET usable_from = 1004");
    refused(&record.url).says("at version 1004").says("use a newer `relata`");
}

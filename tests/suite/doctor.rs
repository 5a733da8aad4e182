//! `relata doctor` on databases that are in order, and on ones with everything wrong with them that
//! can be provoked.

use std::path::Path;

use rusqlite::Connection as File;
use serde_json::Value as Json;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use crate::postgres_server::{Cluster, Durability, enabled, fresh_database};
use crate::program::{Ran, Record, Server, relata, run};

/// What the doctor said.
#[derive(Debug)]
struct Report {
    code: i32,
    findings: Vec<Json>,
}

impl Report {
    fn of(ran: &Ran) -> Self {
        let mut document = ran.json();
        let findings = document["findings"].take();
        let findings: Vec<Json> = findings.as_array().expect("findings").clone();
        let number = |severity: &str| findings.iter().filter(|found| found["severity"] == severity).count();
        assert_eq!(document["problems"], number("problem"), "counted");
        assert_eq!(document["warnings"], number("warning"), "counted");
        assert_eq!(ran.code, i32::from(number("problem") > 0), "the exit code: {}", ran.stdout);
        for found in &findings {
            let bad = found["severity"] == "problem" || found["severity"] == "warning";
            assert!(!bad || found["remedy"].is_string(), "without a remedy: {found}");
        }
        Self { code: ran.code, findings }
    }

    /// Asserts that something was found, and how bad it is.
    #[track_caller]
    fn has(&self, topic: &str, severity: &str, text: &str) -> &Self {
        let found = self.findings.iter().any(|found| {
            found["topic"] == topic
                && found["severity"] == severity
                && found["finding"].as_str().is_some_and(|what| what.contains(text))
        });
        assert!(found, "no {severity} of {topic} with `{text}`: {:#?}", self.findings);
        self
    }

    /// Asserts that something was found, however the machine of the test fares with it.
    #[track_caller]
    fn mentions(&self, topic: &str, text: &str) -> &Self {
        let said = |found: &&Json| found["finding"].as_str().is_some_and(|what| what.contains(text));
        let found = self.findings.iter().filter(said).any(|found| found["topic"] == topic);
        assert!(found, "nothing of {topic} with `{text}`: {:#?}", self.findings);
        self
    }

    /// Asserts that nothing is wrong, not even a little, but for what the machine of the test is to
    /// blame for: its disk, its load.
    #[track_caller]
    fn is_well(&self) -> &Self {
        let of_the_machine = ["space", "commit", "latency"];
        let bad = |found: &&Json| found["severity"] == "problem" || found["severity"] == "warning";
        let found: Vec<_> = self
            .findings
            .iter()
            .filter(bad)
            .filter(|found| !of_the_machine.iter().any(|topic| found["topic"] == *topic))
            .collect();
        assert!(found.is_empty(), "{found:#?}");
        self
    }

    #[track_caller]
    fn has_no(&self, severity: &str) -> &Self {
        let found: Vec<_> = self.findings.iter().filter(|found| found["severity"] == severity).collect();
        assert!(found.is_empty(), "{found:#?}");
        self
    }
}

fn doctor(url: &str, arguments: &[&str]) -> Report {
    let mut command = relata();
    command.args(["doctor", "--output", "json", "--datastore", url]).args(arguments);
    Report::of(&run(&mut command, ""))
}

fn migrate(url: &str) {
    run(relata().args(["migrate", "--datastore", url]), "").exits(0);
}

/// Changes a database behind Relata's back.
fn change(url: &str, sql: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let mut connection = PgConnection::connect(url).await.expect("a connection");
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut connection).await.expect(sql);
    });
}

/// The name of the database that a URL of the test's cluster leads to.
fn database(url: &str) -> &str {
    url.trim_start_matches("postgres:///").split('?').next().expect("a name")
}

/// Waits until a statement answers true.
#[track_caller]
fn until(cluster: &Cluster, statement: &str) {
    let begun = std::time::Instant::now();
    while cluster.ask(statement).as_deref() != Some("t") {
        assert!(begun.elapsed() < std::time::Duration::from_mins(1), "waited in vain: {statement}");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

#[test]
fn a_file_that_a_server_has_is_looked_over_while_it_serves() {
    let record = Record::sqlite();
    doctor(&record.url, &[]).is_well().has("connection", "note", "does not exist yet");
    assert!(!record.path().exists(), "the doctor made the file");

    let server = Server::start(&record, &[]);
    let report = doctor(&record.url, &["--endpoint", &server.endpoint]);
    report
        .has_no("problem")
        .has("connection", "ok", "a server has it")
        .has("tables", "ok", "version 3")
        .has("durability", "ok", "synchronous=FULL")
        .mentions("latency", "median of 20")
        .mentions("space", "free")
        .has("stores", "ok", "1 store, 0 tuples")
        .has("server", "ok", "it serves")
        .has("access", "ok", "may read store `default`");
    // With an endpoint alone only the server is asked.
    let asked = Report::of(&server.run(&["doctor", "--output", "json"]));
    assert!(asked.findings.iter().all(|found| found["of"].as_str().expect("a part").starts_with("server")));
    asked.mentions("latency", "a round trip takes");

    let absent = Report::of(&server.run(&["doctor", "--output", "json", "--store", "nowhere"]));
    absent.has("access", "warning", "`nowhere`");
    let endpoint = server.endpoint.clone();
    server.kill();
    let gone = run(relata().args(["doctor", "--output", "json", "--endpoint", &endpoint]), "");
    Report::of(&gone).has("server", "problem", "no server answers");
    doctor(&record.url, &[]).has("connection", "ok", "no server has it");
}

#[test]
fn a_server_that_asks_for_a_token_is_told_from_one_that_does_not_serve() {
    let record = Record::sqlite();
    let tokens = record.path().with_extension("tokens");
    std::fs::write(
        &tokens,
        "0123456789abcdef-all ops *:read,write,schema,admin\n0123456789abcdef-few app other:read\n",
    )
    .expect("a file");
    let server = Server::start(&record, &["--token-file", tokens.to_str().expect("UTF-8")]);
    let ask = |token: &str| {
        let mut command = server.command(&["doctor", "--output", "json"]);
        Report::of(&run(command.env("RELATA_TOKEN", token), ""))
    };
    ask("0123456789abcdef-all").is_well().has("access", "ok", "may read");
    ask("0123456789abcdef-few").has_no("problem").has("access", "note", "cannot be read");
    let wrong = ask("0123456789abcdef-wrong");
    wrong.has("server", "ok", "it serves").has("access", "problem", "cannot be read");
    assert_eq!(wrong.code, 1);
}

#[test]
fn what_is_wrong_with_a_file_is_found() {
    let directory = tempfile::tempdir().expect("a directory");
    let at = |name: &str| format!("sqlite:{}", directory.path().join(name).display());

    let foreign = directory.path().join("foreign.db");
    File::open(&foreign).expect("a file").execute_batch("CREATE TABLE bookmarks (url TEXT)").expect("made");
    doctor(&at("foreign.db"), &[]).has("connection", "problem", "another program");
    std::fs::write(directory.path().join("notes.txt"), "x".repeat(4_096)).expect("written");
    doctor(&at("notes.txt"), &[]).has("connection", "problem", "cannot be read");
    doctor(&at("absent/relata.db"), &[]).has("commit", "problem", "cannot be written to");

    let url = at("relata.db");
    migrate(&url);
    doctor(&url, &[]).is_well();
    let change = |sql: &str| {
        File::open(directory.path().join("relata.db")).expect("a file").execute_batch(sql).expect(sql);
    };
    // A commit of the year 2100.
    change(
        "INSERT INTO revision (store, revision, write_id, committed_at, principal, note, changes)
         SELECT id, 1, zeroblob(16), 4102444800000000, '', '', 0 FROM store",
    );
    doctor(&url, &[]).has("clock", "warning", "in the future");
    change("DELETE FROM revision; PRAGMA user_version = 2");
    doctor(&url, &[]).is_well().has("tables", "note", "`relata serve` makes it 3");
    change("PRAGMA user_version = 7");
    doctor(&url, &[]).is_well().has("tables", "note", "newer than this program's");
    change("UPDATE database SET usable_from = 7");
    doctor(&url, &[]).has("tables", "problem", "programs before version 7");
}

#[test]
fn a_file_in_memory_is_not_durable() {
    // What is there on every Linux.
    let Ok(directory) = tempfile::tempdir_in("/dev/shm") else {
        eprintln!("SKIPPED: there is no /dev/shm");
        return;
    };
    let url = format!("sqlite:{}", directory.path().join("relata.db").display());
    doctor(&url, &[]).has("durability", "problem", "is in memory");
}

#[test]
fn the_memory_budget_is_held_against_the_machine() {
    let record = Record::sqlite();
    let with = |budget: &str| doctor(&record.url, &["--memory-budget", budget]);
    with("64MiB").is_well().has("memory", "ok", "a budget of 64 MiB");
    with("none").has("memory", "warning", "no budget");
    with("4000TiB").has("memory", "problem", "more than there is");
}

#[test]
fn a_database_in_order_and_its_replica() {
    if !enabled() {
        return;
    }
    let primary = Cluster::start(Durability::Full);
    let url = primary.create_database();
    doctor(&url, &[]).has("tables", "problem", "not migrated");
    migrate(&url);
    let alone = doctor(&url, &[]);
    alone
        .is_well()
        .has("connection", "ok", "on this machine")
        .has("version", "ok", "PostgreSQL 1")
        .has("tables", "ok", "version 3")
        .has("role", "ok", "a primary")
        .has("durability", "ok", "fsync and full_page_writes are on, synchronous_commit is on")
        .has("replication", "note", "no replica")
        .mentions("latency", "median of 20")
        .mentions("commit", "median of 5")
        .has("notifications", "ok", "arrived after")
        .has("clock", "ok", "this machine's")
        .has("connections", "ok", "a server opens up to 26")
        .mentions("space", "does not say")
        .has("stores", "ok", "1 store, 0 tuples");
    assert_eq!(alone.code, 0);

    let replica = primary.replica();
    let of_replica = doctor(&replica.url(database(&url)), &[]);
    of_replica.has("role", "problem", "it is a replica").has("tables", "ok", "version 3");
    until(&primary, "select count(*) = 1 from pg_stat_replication where state = 'streaming'");
    doctor(&url, &[]).has("replication", "warning", "No commit waits for a replica");
    primary.wait_for_replicas();
    doctor(&url, &[]).is_well().has("replication", "ok", "sync");

    // The replica goes, and commits wait for it.
    drop(replica);
    until(&primary, "select count(*) = 0 from pg_stat_replication");
    doctor(&url, &[]).has("replication", "problem", "no standby is there").has(
        "commit",
        "problem",
        "does not end",
    );
}

#[test]
fn what_is_wrong_with_a_database_is_found() {
    // This cluster is one that nobody should run.
    let Some(url) = fresh_database() else { return };
    let name = database(&url).to_owned();
    migrate(&url);
    doctor(&url, &[])
        .has("durability", "problem", "fsync is off")
        .has("durability", "problem", "full_page_writes is off")
        .has("durability", "problem", "synchronous_commit is off")
        .has("upkeep", "warning", "autovacuum is off");

    change(&url, &format!("ALTER DATABASE {name} CONNECTION LIMIT 5"));
    doctor(&url, &[]).has("connections", "problem", "of 5 are open");
    change(&url, &format!("ALTER DATABASE {name} CONNECTION LIMIT -1"));

    change(
        &url,
        "INSERT INTO relata.revision (store, revision, write_id, committed_at, principal, note, changes)
        SELECT id, 1, gen_random_uuid(), 4102444800000000, '', '', 0 FROM relata.store",
    );
    doctor(&url, &[]).has("clock", "warning", "in the future");

    change(
        &url,
        "INSERT INTO relata.migration (version, description, success, checksum, execution_time)
        VALUES (1007, 'of the future', true, '', 0)",
    );
    doctor(&url, &[]).has("tables", "note", "version 1007, newer");
    change(&url, "UPDATE relata.database SET usable_from = 1007");
    doctor(&url, &[]).has("tables", "problem", "programs before version 1007");
    change(
        &url,
        "DELETE FROM relata.migration WHERE version > 2; ALTER TABLE relata.database DROP COLUMN usable_from",
    );
    doctor(&url, &[]).has("tables", "problem", "of version 2, and this program needs 3");

    change(&url, &format!("ALTER DATABASE {name} SET default_transaction_read_only = on"));
    doctor(&url, &[]).has("role", "problem", "read-only").has("notifications", "note", "takes no writes");
}

/// A database whose functions lie: its clock is ahead, its version is old, and what notifies says
/// nothing, as behind a pooler.
#[test]
fn a_clock_a_version_and_a_pooler_are_found_out() {
    let Some(url) = fresh_database() else { return };
    migrate(&url);
    let name = database(&url).to_owned();
    change(
        &url,
        &format!(
            "CREATE SCHEMA fake;
             CREATE FUNCTION fake.clock_timestamp() RETURNS timestamptz LANGUAGE sql
                 AS $$ SELECT pg_catalog.clock_timestamp() + interval '5 s' $$;
             CREATE FUNCTION fake.current_setting(text) RETURNS text LANGUAGE sql
                 AS $$ SELECT CASE $1 WHEN 'server_version_num' THEN '130009'
                              ELSE pg_catalog.current_setting($1) END $$;
             CREATE FUNCTION fake.pg_notify(text, text) RETURNS void LANGUAGE sql AS $$ SELECT $$;
             ALTER DATABASE {name} SET search_path = fake, pg_catalog"
        ),
    );
    doctor(&url, &[])
        .has("clock", "problem", "ahead of this machine's")
        .has("version", "problem", "older than the oldest supported one")
        .has("notifications", "warning", "swallows them");
    doctor(&url, &["--max-clock-skew", "15"]).has("clock", "warning", "5.0 s ahead");
    doctor(&url, &["--max-clock-skew", "60"]).has("clock", "ok", "5.0 s ahead");
}

#[test]
fn a_role_that_may_not_write_is_found() {
    let Some(url) = fresh_database() else { return };
    migrate(&url);
    let name = database(&url);
    let role = format!("reader_{name}");
    change(
        &url,
        &format!(
            "CREATE ROLE {role} LOGIN; GRANT USAGE ON SCHEMA relata TO {role};
             GRANT SELECT ON ALL TABLES IN SCHEMA relata TO {role}"
        ),
    );
    let report = doctor(&url.replace("user=postgres", &format!("user={role}")), &[]);
    report.has("tables", "problem", "the role may not read and write these tables").has(
        "tables",
        "ok",
        "version 3",
    );
}

#[test]
fn a_database_that_cannot_be_reached_is_a_finding_without_its_password() {
    let ran = run(relata().args(["doctor", "--datastore", "postgres://ann:s3cret@127.0.0.1:1/main"]), "");
    let ran = ran.exits(1).says("problem  connection").says("postgres://127.0.0.1:1/main").says("→ check");
    assert!(!ran.stdout.contains("s3cret") && ran.stderr.is_empty(), "{ran:?}");
    let nowhere = Path::new("/nonexistent/relata.db");
    doctor(&format!("sqlite:{}", nowhere.display()), &[]).has("commit", "problem", "cannot be written to");
    run(relata().args(["doctor", "--datastore", "mysql://x"]), "").exits(64);
}

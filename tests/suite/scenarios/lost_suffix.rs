//! **Lost suffix.** The database is replaced by a copy that lacks the last revisions, and other
//! writes reuse their numbers: servers under load follow the copy within moments, without loading
//! anything, and everybody who held on to a lost write is told.
//!
//! On PostgreSQL two servers meet another database under the name of theirs. On SQLite a file is
//! put back under a running server, as a restore by SQLite's own means does it, and under one that
//! was killed.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use relata::proto;
use relata::proto::Verdict;
use relata::proto::consistency::Requirement;
use relata::proto::update::Operation;
use sqlx::Connection as _;
use tokio::task::JoinHandle;
use tonic::{Code, Status, Streaming};
use tonic_types::StatusExt as _;

use crate::faults::{Cut, Gate, Proxy};
use crate::grpc::{Running, consistency, question, reason, refused, update};
use crate::program::{self, Server};

/// How long the servers may take, once the database is there again. A machine shared with other
/// tests gets more.
const BOUND: Duration = Duration::from_secs(10);

/// Runs a statement on the cluster of a URL, outside the database that it names.
async fn administer(url: &str, database: &str, statement: String) {
    let elsewhere = url.replace(&format!("/{database}?"), "/postgres?");
    let mut connection = sqlx::PgConnection::connect(&elsewhere).await.expect("a connection");
    // A session that was cut a moment ago may still count as a user of the database.
    let begun = Instant::now();
    while let Err(error) =
        sqlx::raw_sql(sqlx::AssertSqlSafe(statement.clone())).execute(&mut connection).await
    {
        assert!(begun.elapsed() < BOUND, "{statement}: {error}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn ask(server: &Running, text: &str, requirement: Requirement) -> Result<proto::CheckResponse, Status> {
    server.check(proto::CheckRequest { consistency: consistency(requirement), ..question(text) }).await
}

/// Everything that Ann owns, at the newest revision a server has.
async fn owned(server: &Running) -> Result<BTreeSet<String>, Status> {
    let request = proto::ListObjectsRequest {
        subject: "user:ann".into(),
        relation: "owner".into(),
        object_type: "doc".into(),
        ..Default::default()
    };
    let mut stream = server.permissions().list_objects(request).await?.into_inner();
    let mut owned = BTreeSet::new();
    while let Some(message) = stream.message().await? {
        owned.extend(message.objects.into_iter().map(|listed| listed.object));
    }
    Ok(owned)
}

/// A number that a server counts.
fn counted(operations: SocketAddr, series: &str) -> u64 {
    let mut stream = TcpStream::connect(operations).expect("a connection");
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect("asked");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer");
    let line =
        text.lines().find(|line| line.starts_with(series)).unwrap_or_else(|| panic!("{series}: {text}"));
    line.rsplit(' ').next().expect("a number").parse().expect("a number")
}

/// The end of a stream, past what it still shows.
async fn end(mut stream: Streaming<proto::WatchResponse>) -> Status {
    let ended = tokio::time::timeout(BOUND, async {
        loop {
            match stream.message().await {
                Ok(message) => drop(message.expect("no end without a reason")),
                Err(status) => return status,
            }
        }
    });
    ended.await.expect("the stream ends")
}

fn object(tuple: &str) -> String {
    tuple.split('#').next().expect("an object").to_owned()
}

/// Both histories, and who asks about them.
struct Scenario {
    nodes: Arc<Vec<Running>>,
    /// What Ann owns in the history that counts.
    expected: BTreeSet<String>,
    /// The newest revision that both histories have.
    fork: String,
    /// Tuples that were written and are gone, each with the zookie of its write.
    lost: Vec<(String, String)>,
    streams: Vec<Streaming<proto::WatchResponse>>,
    over: Arc<AtomicBool>,
    readers: Vec<JoinHandle<u64>>,
}

impl Scenario {
    /// Writes what both histories have.
    async fn begin(nodes: Vec<Running>) -> Self {
        nodes[0].with_schema().await;
        let (mut expected, mut fork) = (BTreeSet::new(), String::new());
        for index in 0..40 {
            let tuple = format!("doc:kept{index}#owner@user:ann");
            fork = nodes[index % nodes.len()].touch(&[&tuple]).await;
            expected.insert(object(&tuple));
        }
        let (nodes, over) = (Arc::new(nodes), Arc::new(AtomicBool::new(false)));
        let (lost, streams, readers) = (Vec::new(), Vec::new(), Vec::new());
        Self { nodes, expected, fork, lost, streams, over, readers }
    }

    fn node(&self, index: usize) -> &Running {
        &self.nodes[index % self.nodes.len()]
    }

    async fn watch(&self, node: usize, object_types: Vec<String>) -> Streaming<proto::WatchResponse> {
        let request = proto::WatchRequest { after: self.fork.clone(), object_types, ..Default::default() };
        let begun = Instant::now();
        loop {
            match self.node(node).tuples().watch(request.clone()).await {
                Ok(stream) => return stream.into_inner(),
                Err(status) => assert!(begun.elapsed() < BOUND, "{status:?}"),
            }
        }
    }

    /// Writes what will be lost. Two streams have shown it, and one has shown nothing. Readers go
    /// on asking through all that follows.
    async fn write_what_will_be_lost(&mut self) {
        for (node, types) in [(0, Vec::new()), (1, Vec::new()), (0, vec!["group".to_owned()])] {
            let stream = self.watch(node, types).await;
            self.streams.push(stream);
        }
        let begun = Instant::now();
        while self.lost.len() < 12 {
            let tuple = format!("doc:lost{}#owner@user:ann", self.lost.len());
            match self.node(self.lost.len()).write(vec![update(Operation::Touch, &tuple)]).await {
                Ok(written) => self.lost.push((tuple, written.zookie)),
                Err(status) => assert!(begun.elapsed() < BOUND, "{status:?}"),
            }
        }
        for node in self.nodes.iter() {
            for (tuple, zookie) in &self.lost {
                let answer = ask(node, tuple, Requirement::AtLeast(zookie.clone())).await.expect("an answer");
                assert_eq!(answer.verdict(), Verdict::Allowed);
            }
        }
        for reader in 0..4 {
            let (nodes, over) = (Arc::clone(&self.nodes), Arc::clone(&self.over));
            self.readers.push(tokio::spawn(async move {
                let node = &nodes[reader % nodes.len()];
                let mut answers = 0_u64;
                while !over.load(Ordering::Acquire) {
                    let asked = ask(node, "doc:kept1#owner@user:ann", Requirement::MinimizeLatency(()));
                    if asked.await.is_ok_and(|answer| answer.verdict() == Verdict::Allowed) {
                        answers += 1;
                    }
                }
                answers
            }));
        }
    }

    /// Another server writes on the copy: fewer revisions than were lost, so that some numbers are
    /// taken and some are yet to come.
    async fn write_otherwise(&mut self, other: &Running) {
        for index in 0..5 {
            let tuple = format!("doc:new{index}#owner@user:ann");
            other.touch(&[&tuple]).await;
            self.expected.insert(object(&tuple));
        }
    }

    /// The copy is there: every server must serve it soon, and tell everybody.
    async fn settle(mut self) {
        let back = Instant::now();
        for node in self.nodes.iter() {
            while !owned(node).await.is_ok_and(|owned| owned == self.expected) {
                assert!(back.elapsed() < BOUND, "{:?} is not {:?}", owned(node).await, self.expected);
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        println!("the new history was served {:?} after it was there", back.elapsed());
        for node in self.nodes.iter() {
            self.refuses_what_is_lost(node).await;
            let kept = ask(node, "doc:kept1#owner@user:ann", Requirement::AtLeast(self.fork.clone())).await;
            assert!(kept.is_ok(), "{kept:?}");
            let count = |outcome| {
                counted(node.operations, &format!("relata_feed_divergences_total{{outcome=\"{outcome}\"}}"))
            };
            assert_eq!((count("rewound"), count("reloaded")), (1, 0), "memory went back, and loaded nothing");
        }
        for stream in std::mem::take(&mut self.streams) {
            let told = refused::<()>(Err(end(stream).await), Code::DataLoss, "HISTORY_DIVERGED", "");
            assert_eq!(zookie_in(&told), Some(self.fork.clone()));
        }
        self.go_on().await;
        self.over.store(true, Ordering::Release);
        for reader in self.readers {
            assert!(reader.await.expect("no panic") > 0, "a reader was never answered");
        }
        for node in Arc::into_inner(self.nodes).expect("nobody else has them") {
            node.stop().await;
        }
    }

    async fn refuses_what_is_lost(&self, node: &Running) {
        for (tuple, zookie) in &self.lost {
            assert_eq!(node.verdict(tuple).await, Verdict::Denied, "{tuple}");
            for requirement in [Requirement::AtLeast(zookie.clone()), Requirement::Exact(zookie.clone())] {
                let asked = Instant::now();
                let answer = ask(node, tuple, requirement).await;
                let told = refused(answer, Code::FailedPrecondition, "ZOOKIE_HISTORY_LOST", "");
                assert_eq!(zookie_in(&told), Some(self.fork.clone()), "where to go on from");
                assert!(asked.elapsed() < Duration::from_secs(5), "{:?}: it was waited for", asked.elapsed());
            }
            let again = proto::WatchRequest { after: zookie.clone(), ..Default::default() };
            let told = node.tuples().watch(again).await.map(|_| ());
            refused(told, Code::FailedPrecondition, "ZOOKIE_HISTORY_LOST", "");
        }
    }

    /// The new history goes on over the lost numbers, and the lost writes stay lost.
    async fn go_on(&mut self) {
        for index in 0..12 {
            let tuple = format!("doc:later{index}#owner@user:ann");
            let zookie = self.node(index).touch(&[&tuple]).await;
            let answer = ask(self.node(index + 1), &tuple, Requirement::AtLeast(zookie)).await;
            assert_eq!(answer.expect("an answer").verdict(), Verdict::Allowed);
            self.expected.insert(object(&tuple));
        }
        for node in self.nodes.iter() {
            for (tuple, zookie) in &self.lost {
                let told = ask(node, tuple, Requirement::AtLeast(zookie.clone())).await.expect_err("lost");
                assert_eq!(reason(&told), "ZOOKIE_HISTORY_LOST");
            }
            assert_eq!(owned(node).await.expect("a list"), self.expected);
        }
    }
}

/// The zookie that a refusal says to go on from.
fn zookie_in(status: &Status) -> Option<String> {
    status.get_error_details().error_info().and_then(|info| info.metadata.get("zookie").cloned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres() {
    let url = tokio::task::spawn_blocking(crate::postgres_server::fresh_database).await.expect("a cluster");
    let Some(url) = url else { return };
    let database = url.split("postgres:///").nth(1).and_then(|rest| rest.split('?').next()).expect("a name");
    let (proxy, through) = Proxy::before_database(&url);
    let nodes = vec![Running::on_url(&through, |_| {}).await, Running::on_url(&through, |_| {}).await];
    let mut scenario = Scenario::begin(nodes).await;

    // The copy is made while nobody is connected, which PostgreSQL asks for.
    let close = || {
        proxy.gate(Gate::Refuse);
        proxy.cut_all(Cut::Reset);
    };
    close();
    administer(&url, database, format!("CREATE DATABASE {database}_copy TEMPLATE {database}")).await;
    proxy.gate(Gate::Open);

    scenario.write_what_will_be_lost().await;
    close();
    administer(&url, database, format!("ALTER DATABASE {database} RENAME TO {database}_lost")).await;
    administer(&url, database, format!("ALTER DATABASE {database}_copy RENAME TO {database}")).await;
    let other = Running::on_url(&url, |_| {}).await;
    scenario.write_otherwise(&other).await;
    other.stop().await;
    proxy.gate(Gate::Open);
    scenario.settle().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_under_a_running_server() {
    let directory = tempfile::tempdir().expect("a directory");
    let (file, copy) = (directory.path().join("relata.db"), directory.path().join("copy.db"));
    let mut scenario = Scenario::begin(vec![Running::on_file(file.clone(), |_| {}).await]).await;
    let foreign = rusqlite::Connection::open(&file).expect("the file");
    foreign.execute("VACUUM INTO ?", [copy.to_str().expect("a path")]).expect("a copy");

    scenario.write_what_will_be_lost().await;
    let other = Running::on_file(copy.clone(), |_| {}).await;
    scenario.write_otherwise(&other).await;
    other.stop().await;
    put_back(&foreign, &copy);
    scenario.settle().await;
}

/// Makes the open file what the copy is, at once: what `.restore` does page by page.
fn put_back(live: &rusqlite::Connection, copy: &Path) {
    live.busy_timeout(BOUND).expect("patience");
    live.pragma_update(None, "foreign_keys", false).expect("no order of tables to keep");
    live.execute("ATTACH ? AS copy", [copy.to_str().expect("a path")]).expect("attached");
    let mut tables =
        live.prepare("SELECT name FROM copy.sqlite_master WHERE type = 'table'").expect("tables");
    let tables: Vec<String> =
        tables.query_map([], |row| row.get(0)).expect("tables").collect::<Result<_, _>>().expect("tables");
    let all = tables.iter().fold("BEGIN IMMEDIATE;".to_owned(), |all, table| {
        format!("{all} DELETE FROM main.{table}; INSERT INTO main.{table} SELECT * FROM copy.{table};")
    });
    live.execute_batch(&format!("{all} COMMIT;")).expect("put back");
    live.execute("DETACH copy", []).expect("detached");
}

/// The server is killed while it writes, an earlier copy of the file takes its place, and a new
/// process gives the numbers out again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_under_a_killed_server() {
    let record = program::Record::sqlite();
    let copies = tempfile::tempdir().expect("a directory");
    let owner = |name: &str| format!("doc:{name}#owner@user:ann");
    let server = Process::start(&record).await;
    server.client.with_schema().await;
    let mut expected = BTreeSet::new();
    for index in 0..20 {
        server.client.touch(&[&owner(&format!("kept{index}"))]).await;
        expected.insert(format!("doc:kept{index}"));
    }
    let fork = server.client.touch(&[&owner("fork")]).await;
    expected.insert("doc:fork".to_owned());
    server.kill();
    copy_files(record.path(), &copies.path().join("relata.db"));

    let server = Process::start(&record).await;
    let stream = proto::WatchRequest { after: fork.clone(), ..Default::default() };
    let stream = server.client.tuples().watch(stream).await.expect("a stream").into_inner();
    let mut lost = Vec::new();
    for index in 0..12 {
        let tuple = owner(&format!("lost{index}"));
        let zookie = server.client.touch(&[&tuple]).await;
        lost.push((tuple, zookie));
    }
    // Writes are under way when it dies; whether they count is of no matter, they will be lost.
    let mut client = server.client.tuples();
    let writing = tokio::spawn(async move {
        for index in 0.. {
            let updates = vec![update(Operation::Touch, &format!("doc:late{index}#owner@user:ann"))];
            let request = proto::WriteRequest { updates, ..Default::default() };
            if client.write(request).await.is_err() {
                return index;
            }
        }
        0
    });
    // Once the fourth is there, the third has been acknowledged.
    while !owned(&server.client).await.is_ok_and(|owned| owned.contains("doc:late3")) {}
    server.kill();
    assert!(writing.await.expect("no panic") > 2, "nothing was written at the end");
    assert_ne!(end(stream).await.code(), Code::Ok);
    copy_files(&copies.path().join("relata.db"), record.path());

    let begun = Instant::now();
    let server = Process::start(&record).await;
    println!("a new process served the new history {:?} after it was started", begun.elapsed());
    assert_eq!(owned(&server.client).await.expect("a list"), expected);
    for index in 0..lost.len() {
        // Not one answer, whether the number has come again or not.
        for (tuple, zookie) in &lost {
            let request = proto::CheckRequest {
                consistency: consistency(Requirement::AtLeast(zookie.clone())),
                ..question(tuple)
            };
            let reused = revision(zookie) <= revision(&fork) + index as u64;
            let mut request = tonic::Request::new(request);
            request.set_timeout(if reused { BOUND } else { Duration::from_millis(100) });
            let told = server.client.permissions().check(request).await.expect_err("lost");
            let expected: &[Code] = if reused {
                &[Code::FailedPrecondition]
            } else {
                &[Code::Unavailable, Code::DeadlineExceeded, Code::Cancelled]
            };
            assert!(expected.contains(&told.code()), "{tuple}, number taken: {reused}: {told:?}");
            assert!(!reused || reason(&told) == "ZOOKIE_HISTORY_LOST", "{told:?}");
            if index % 5 != 0 {
                break;
            }
        }
        let name = format!("new{index}");
        server.client.touch(&[&owner(&name)]).await;
        expected.insert(format!("doc:{name}"));
    }
    for (tuple, zookie) in &lost {
        assert_eq!(server.client.verdict(tuple).await, Verdict::Denied, "{tuple}");
        for requirement in [Requirement::AtLeast(zookie.clone()), Requirement::Exact(zookie.clone())] {
            let answer = ask(&server.client, tuple, requirement).await;
            refused(answer, Code::FailedPrecondition, "ZOOKIE_HISTORY_LOST", "");
        }
        let again = proto::WatchRequest { after: zookie.clone(), ..Default::default() };
        let told = server.client.tuples().watch(again).await.map(|_| ());
        refused(told, Code::FailedPrecondition, "ZOOKIE_HISTORY_LOST", "");
    }
    assert_eq!(owned(&server.client).await.expect("a list"), expected);
    let kept = ask(&server.client, &owner("kept1"), Requirement::AtLeast(fork)).await;
    assert_eq!(kept.expect("an answer").verdict(), Verdict::Allowed);
    server.kill();
}

fn revision(zookie: &str) -> u64 {
    zookie.parse::<relata::revision::Zookie>().expect("a zookie").revision.0
}

/// A server that can be killed, and a client of it.
struct Process {
    server: Server,
    client: Running,
}

impl Process {
    async fn start(record: &program::Record) -> Self {
        let server = Server::start(record, &[]);
        let client = Running::elsewhere(&server.endpoint).await;
        Self { server, client }
    }

    fn kill(self) {
        self.server.kill();
    }
}

/// Puts a database file and its write-ahead log in the place of another.
fn copy_files(from: &Path, to: &Path) {
    for suffix in ["", "-wal", "-shm"] {
        let with = |path: &Path| {
            let mut name = path.as_os_str().to_owned();
            name.push(suffix);
            std::path::PathBuf::from(name)
        };
        let _ = std::fs::remove_file(with(to));
        if suffix != "-shm" && with(from).exists() {
            std::fs::copy(with(from), with(to)).expect("a copy");
        }
    }
}

//! Whole servers under load, judged by what they said: eight writers and eight readers mixed over
//! two processes on one PostgreSQL, also while that drops its clients, and over one on SQLite.
//!
//! While it runs, clients hold the servers to what they can know at once: a fact that nobody
//! undoes is seen by whoever names its zookie; the halves of an atomic write are seen together or
//! not at all; a server that acknowledged a write has it; nothing is older than what was asked
//! for. All else is written down with the revision that the answer named.
//!
//! Then comes the reckoning. The Watch log is replayed over a model that shares no code with the
//! servers, and every answer must be the one the model gives at exactly that revision, every
//! acknowledged write must be in the log once, under its own revision, and no refused one. At the
//! end all servers hold the tuples that the log leads to.
//!
//! `RELATA_TWO_SERVERS_SECONDS` says how long the writers write, 60 without it:
//!
//! ```text
//! RELATA_TWO_SERVERS_SECONDS=600 cargo test --test suite two_servers::
//! ```

mod client;
mod cuts;
mod model;
mod node;
mod reader;
mod reckoning;
mod schema_change;
mod watcher;
mod writer;

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use relata::proto::update::Operation;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::postgres_server;
use client::{Client, Shared, revision};
use node::Node;
use reader::Reader;
use reckoning::Record;
use watcher::{Entry, Route};
use writer::Writer;

const WRITERS: usize = 8;
/// Acknowledged writes that a reader may lag behind before its writer waits for it.
const LAG: usize = 8;
/// What the run may take beyond the time in which writers write.
const PATIENCE: Duration = Duration::from_mins(4);

const SCHEMA: &str = "model
  schema 1.1

type user

type group
  relations
    define member: [user, group#member]

type doc
  relations
    define owner: [user]
    define blocked: [user]
    define granted: [user, group#member]
    define viewer: (granted or owner) but not blocked

type draft
  relations
    define author: [user]
    define reader: author
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_on_postgres() {
    on_postgres("two servers on PostgreSQL", writing_time(), None).await;
}

/// As above, while the database drops all its clients every now and then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_on_a_postgres_that_drops_its_clients() {
    let every = Some(Duration::from_millis(700));
    on_postgres("two servers on a PostgreSQL that drops its clients", writing_time() / 6, every).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_on_sqlite() {
    let directory = tempfile::tempdir().expect("a directory");
    let record = format!("sqlite:{}", directory.path().join("relata.db").display());
    let node = Node::start("only", &record, directory.path()).listening().await;
    bounded("one server on SQLite", vec![node], writing_time() / 6, None).await;
}

fn writing_time() -> Duration {
    const SETTING: &str = "RELATA_TWO_SERVERS_SECONDS";
    let seconds = std::env::var(SETTING).map_or(60, |text| {
        text.parse().unwrap_or_else(|_| panic!("{SETTING}={text} is not a number of seconds"))
    });
    Duration::from_secs(seconds)
}

/// Where and how often the database ends the sessions of its clients.
struct Cuts {
    url: String,
    every: Duration,
}

async fn on_postgres(name: &str, writing: Duration, cut_every: Option<Duration>) {
    let url = tokio::task::spawn_blocking(postgres_server::fresh_database).await.expect("a cluster");
    let Some(url) = url else { return };
    let directory = tempfile::tempdir().expect("a directory");
    // Both create the tables, at the same time.
    let first = Node::start("first", &url, directory.path());
    let second = Node::start("second", &url, directory.path());
    let nodes = vec![first.listening().await, second.listening().await];
    bounded(name, nodes, writing, cut_every.map(|every| Cuts { url, every })).await;
}

async fn bounded(name: &str, nodes: Vec<Node>, writing: Duration, cuts: Option<Cuts>) {
    let summary = tokio::time::timeout(writing + PATIENCE, scenario(&nodes, writing, cuts)).await;
    let summary = summary.expect("the run ends in time");
    for node in nodes {
        node.stop();
    }
    // Past the test runner, which keeps what a passing test prints to itself.
    let _ = writeln!(std::io::stderr(), "{name}, {} s: {summary}", writing.as_secs());
}

async fn scenario(nodes: &[Node], writing: Duration, cuts: Option<Cuts>) -> String {
    let shared = Arc::new(Shared::default());
    let client = |home: usize| Client::connect(nodes, home, Arc::clone(&shared));
    let coordinator = client(0).await;
    let beginning = coordinator.head().await;
    assert_eq!(revision(&beginning), 0, "a fresh store");

    // The streams are there before there is anything to see.
    let (end, until) = watch::channel(None);
    let mut streams = JoinSet::new();
    let routes = (0..nodes.len()).map(Route::Stay).chain([Route::Wander { every: writing / 12 }]).enumerate();
    for (index, route) in routes {
        streams.spawn(watcher::follow(client(index).await, route, beginning.clone(), until.clone()));
    }

    let schema = coordinator.write_schema(0, SCHEMA, "").await.expect("a schema").schema_id;
    let deadline = Instant::now() + writing;
    let mut writers = JoinSet::new();
    let mut readers = JoinSet::new();
    for index in 0..WRITERS {
        let (news, heard) = mpsc::channel(LAG);
        writers.spawn(Writer::new(index, client(index).await, news).run(deadline));
        readers.spawn(Reader::new(index, client(index + 1).await, heard).run());
    }
    let change = schema_change::add_a_relation(client(0).await, schema, writing / 3);
    let cutting = async {
        match cuts {
            Some(Cuts { url, every }) => cuts::end_sessions(url, every, deadline).await,
            None => 0,
        }
    };
    let (written, read, changed, cut) =
        tokio::join!(all(writers), all(readers), tokio::spawn(change), cutting);
    let mut record = Record::default();
    written.into_iter().chain(read).for_each(|part| record.add(part));
    record.schemas = changed.expect("the schema was changed");
    assert_eq!(record.readers_with_news, WRITERS, "each reader checked what its writer wrote");

    let last = coordinator.write(0, [(Operation::Touch, "doc:end#owner@user:end")]).await.zookie;
    end.send(Some(revision(&last))).expect("the streams are open");
    let mut logs = all(streams).await;
    let resumed: usize = logs.iter().map(|log| log.begun - 1).sum();
    assert!(resumed > 0, "no stream was resumed");
    // Once more, now that everything is history.
    for index in 0..nodes.len() {
        logs.push(
            watcher::follow(client(index).await, Route::Stay(index), beginning.clone(), until.clone()).await,
        );
    }
    let messages: usize = logs.iter().map(|log| log.messages).sum();
    let log = same(logs.into_iter().map(|log| log.entries).collect());

    let model = record.reckon(&log);
    for index in 0..nodes.len() {
        let home = client(index).await;
        reckoning::compare_tuples(&home, &model, &last).await;
        reckoning::compare_lists(&home, &model, &last).await;
    }
    format!(
        "{}, {} revisions, {messages} watch messages on {} streams resumed {resumed} times, {} tuples at the end, \
         {cut} sessions cut, {} calls repeated because a server was unavailable",
        record.summary(),
        log.len(),
        2 * nodes.len() + 1,
        model.tuples().len(),
        shared.retries.load(Relaxed),
    )
}

/// What every task returns. The first panic ends the test.
async fn all<T: 'static>(mut tasks: JoinSet<T>) -> Vec<T> {
    let mut results = Vec::new();
    while let Some(ended) = tasks.join_next().await {
        results.push(ended.expect("a task that ends well"));
    }
    results
}

/// The one log that all streams showed.
fn same(mut logs: Vec<Vec<Entry>>) -> Vec<Entry> {
    let first = logs.swap_remove(0);
    for other in logs {
        for (left, right) in first.iter().zip(&other) {
            assert_eq!(left, right, "two streams show different things");
        }
        assert_eq!(first.len(), other.len(), "one stream shows more than another");
    }
    first
}

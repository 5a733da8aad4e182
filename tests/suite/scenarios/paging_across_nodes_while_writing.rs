//! **Paging across nodes while writing.** Lists are read page by page, each page from another
//! server, while four writers change what is listed as fast as they may, tuples expire between two
//! pages, and a server is replaced half way. Together the pages are the list at the revision and
//! moment of the first one: no more, no less, nothing twice. A list that cannot be gone on with is
//! refused with `OUT_OF_RANGE`, and never cut.
//!
//! The truth is the changelog, read from the database when all is over. On SQLite there is one
//! server, which is stopped and started again between pages.
//!
//! `RELATA_SCENARIO_SECONDS` says for how long lists are begun.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use relata::config::Config;
use relata::datastore::postgres::{Postgres, PostgresSettings};
use relata::datastore::sqlite::Sqlite;
use relata::datastore::{Datastore, LogEntry};
use relata::metrics::Metrics;
use relata::proto;
use relata::proto::tuple_service_client::TupleServiceClient;
use relata::proto::update::Operation;
use relata::revision::{Revision, Zookie};
use relata::time::Timestamp;
use tokio::sync::watch;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::grpc::{Running, refused, tuple, update};
use crate::postgres_server::fresh_database;

/// Writes a second that the writers aim at, together.
const RATE: u32 = 500;
const WRITERS: u32 = 4;
const PAGE: u32 = 23;
/// When the tuples that expire do so, from the beginning of a list.
const EXPIRY: Duration = Duration::from_millis(1_200);

/// Where the record is.
#[derive(Clone)]
enum Place {
    Sqlite(PathBuf),
    Postgres(String),
}

impl Place {
    async fn serve(&self, adapt: impl FnOnce(&mut Config)) -> Running {
        match self {
            Self::Sqlite(path) => Running::on_file(path.clone(), adapt).await,
            Self::Postgres(url) => Running::on_url(url, adapt).await,
        }
    }

    /// Every revision there has been. No server may be running on SQLite.
    async fn log(&self) -> Vec<LogEntry> {
        let datastore: Arc<dyn Datastore> = match self {
            Self::Sqlite(path) => Arc::new(Sqlite::open(path, Metrics::new()).expect("a database")),
            Self::Postgres(url) => {
                let settings = PostgresSettings::new(url.parse().expect("a URL"));
                Arc::new(Postgres::connect(settings, Metrics::new()).await.expect("a connection"))
            }
        };
        let store = datastore.store_named("default").await.expect("an answer").expect("a store").id;
        let mut log: Vec<LogEntry> = Vec::new();
        loop {
            let from = log.last().map_or(Revision(1), |last| last.revision.next());
            let some = datastore.log(store, from, 10_000).await.expect("the log");
            if some.is_empty() {
                datastore.close().await;
                return log;
            }
            log.extend(some);
        }
    }
}

/// The lists that are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// What Ann owns.
    Objects,
    /// Who owns one document.
    Subjects,
    /// The tuples that say that Ann owns something.
    Tuples,
}

/// A list as far as it has been read.
struct List {
    kind: Kind,
    items: Vec<String>,
    /// `None` before the first page; empty after the last.
    cursor: Option<String>,
    zookie: String,
    pages: u32,
    /// Between these moments the first page was made.
    made: (Timestamp, Timestamp),
}

fn wall_clock() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a clock");
    Timestamp::from_micros(i64::try_from(since.as_micros()).expect("a moment"))
}

impl List {
    fn new(kind: Kind) -> Self {
        let made = (Timestamp::from_micros(0), Timestamp::from_micros(0));
        Self { kind, items: Vec::new(), cursor: None, zookie: String::new(), pages: 0, made }
    }

    fn is_complete(&self) -> bool {
        self.cursor.as_deref() == Some("")
    }

    /// Reads one more page.
    async fn turn(&mut self, server: &Running) -> Result<(), Status> {
        let before = wall_clock();
        let cursor = self.cursor.clone().unwrap_or_default();
        let (items, cursor, zookie) = match self.kind {
            Kind::Objects => objects(server, cursor).await?,
            Kind::Subjects => subjects(server, cursor).await?,
            Kind::Tuples => tuples(server, cursor).await?,
        };
        if self.cursor.is_none() {
            (self.made, self.zookie) = ((before, wall_clock()), zookie);
        } else {
            assert_eq!(self.zookie, zookie, "a page of {:?} is of another revision", self.kind);
        }
        assert!(
            items.len() <= PAGE as usize
                && (cursor.is_empty() || !items.is_empty() || self.kind == Kind::Tuples)
        );
        self.items.extend(items);
        self.cursor = Some(cursor);
        self.pages += 1;
        Ok(())
    }

    /// Holds what was read against the log.
    fn judge(&self, log: &[LogEntry]) {
        let at = self.zookie.parse::<Zookie>().expect("a zookie").revision;
        let mut live: BTreeMap<String, Option<Timestamp>> = BTreeMap::new();
        for change in log.iter().filter(|entry| entry.revision <= at).flat_map(|entry| &entry.changes) {
            match &change.after {
                Some(after) => drop(live.insert(change.key.to_string(), after.expires_at)),
                None => drop(live.remove(&change.key.to_string())),
            }
        }
        let (prefix, suffix) = match self.kind {
            Kind::Objects | Kind::Tuples => ("doc:", "#owner@user:ann"),
            Kind::Subjects => ("doc:shared#owner@", ""),
        };
        let (mut expected, mut either) = (BTreeSet::new(), BTreeSet::new());
        for (tuple, expires_at) in live {
            if !tuple.starts_with(prefix) || !tuple.ends_with(suffix) {
                continue;
            }
            let item = match self.kind {
                Kind::Objects => tuple.trim_end_matches(suffix).to_owned(),
                Kind::Subjects => tuple.trim_start_matches(prefix).to_owned(),
                Kind::Tuples => tuple,
            };
            match expires_at {
                Some(moment) if moment <= self.made.0 => {}
                // The moment of the list is not told; it lies between these two.
                Some(moment) if moment <= self.made.1 => drop(either.insert(item)),
                Some(_) | None => drop(expected.insert(item)),
            }
        }
        let listed: BTreeSet<String> = self.items.iter().cloned().collect();
        assert_eq!(listed.len(), self.items.len(), "{:?}: something is listed twice", self.kind);
        assert!(self.items.is_sorted(), "{:?}: the pages are not in order", self.kind);
        let wrong: Vec<&String> =
            listed.symmetric_difference(&expected).filter(|item| !either.contains(*item)).collect();
        assert!(wrong.is_empty(), "{:?} in {} pages at {at}: {wrong:?}", self.kind, self.pages);
    }
}

type Page = (Vec<String>, String, String);

async fn objects(server: &Running, cursor: String) -> Result<Page, Status> {
    let request = proto::ListObjectsRequest {
        subject: "user:ann".into(),
        relation: "owner".into(),
        object_type: "doc".into(),
        page_size: PAGE,
        cursor,
        ..Default::default()
    };
    let mut stream = server.permissions().list_objects(request).await?.into_inner();
    let mut page = Page::default();
    while let Some(message) = stream.message().await? {
        page.0.extend(message.objects.into_iter().map(|listed| listed.object));
        (page.1, page.2) = (message.cursor, message.zookie);
    }
    Ok(page)
}

async fn subjects(server: &Running, cursor: String) -> Result<Page, Status> {
    let request = proto::ListSubjectsRequest {
        object: "doc:shared".into(),
        relation: "owner".into(),
        subject_type: "user".into(),
        page_size: PAGE,
        cursor,
        ..Default::default()
    };
    let mut stream = server.permissions().list_subjects(request).await?.into_inner();
    let mut page = Page::default();
    while let Some(message) = stream.message().await? {
        page.0.extend(message.subjects.into_iter().map(|listed| listed.subject));
        (page.1, page.2) = (message.cursor, message.zookie);
    }
    Ok(page)
}

async fn tuples(server: &Running, cursor: String) -> Result<Page, Status> {
    let filter = proto::TupleFilter {
        object_type: "doc".into(),
        relation: "owner".into(),
        subject_type: "user".into(),
        subject_id: "ann".into(),
        ..Default::default()
    };
    let request = proto::ReadRequest { filter: Some(filter), page_size: PAGE, cursor, ..Default::default() };
    let mut stream = server.tuples().read(request).await?.into_inner();
    let mut page = Page::default();
    while let Some(message) = stream.message().await? {
        page.0.extend(message.tuples.iter().map(crate::grpc::text));
        (page.1, page.2) = (message.cursor, message.zookie);
    }
    Ok(page)
}

/// Changes what is listed, at most so often. What fails because a server stops is not repeated:
/// the log knows.
async fn write_on(
    writer: u32,
    server: watch::Receiver<Channel>,
    over: Arc<AtomicBool>,
    written: Arc<AtomicU64>,
) {
    let pace = Duration::from_secs(1) * WRITERS / RATE;
    let begun = Instant::now();
    for index in 0_u32.. {
        if over.load(Ordering::Acquire) {
            return;
        }
        tokio::time::sleep_until((begun + pace * index).into()).await;
        let operation = if index / 40 % 2 == 0 { Operation::Touch } else { Operation::Delete };
        let updates = vec![
            update(operation, &format!("doc:w{writer}n{}#owner@user:ann", index % 40)),
            update(operation, &format!("doc:shared#owner@user:w{writer}n{}", index % 40)),
        ];
        let mut client = TupleServiceClient::new(server.borrow().clone());
        let request = proto::WriteRequest { updates, ..Default::default() };
        if client.write(request).await.is_ok() {
            written.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Tuples that expire while lists that have begun are still being read.
async fn write_what_expires(server: &Running) -> Timestamp {
    let at = wall_clock().as_micros() + i64::try_from(EXPIRY.as_micros()).expect("a moment");
    let seconds = at.div_euclid(1_000_000);
    let nanos = i32::try_from(at.rem_euclid(1_000_000) * 1_000).expect("nanoseconds");
    let expires_at = Some(prost_types::Timestamp { seconds, nanos });
    let updates = (0..5).flat_map(|n| {
        // Some come early in the order of a list, some late.
        [
            format!("doc:a-expires{n}#owner@user:ann"),
            format!("doc:z-expires{n}#owner@user:ann"),
            format!("doc:shared#owner@user:z-expires{n}"),
        ]
    });
    let updates = updates.map(|text| proto::Update {
        operation: Operation::Touch.into(),
        tuple: Some(proto::Tuple { expires_at, ..tuple(&text) }),
        must_exist: false,
    });
    server.write(updates.collect()).await.expect("written");
    Timestamp::from_micros(at)
}

async fn paging(place: Place, nodes: usize) {
    let length = std::env::var("RELATA_SCENARIO_SECONDS").ok().map(|text| text.parse().expect("seconds"));
    let end = Instant::now() + Duration::from_secs(length.unwrap_or(0));
    let mut servers = Vec::new();
    for _ in 0..nodes {
        servers.push(place.serve(|_| {}).await);
    }
    servers[0].with_schema().await;
    let stays = (0..150)
        .flat_map(|n| [format!("doc:stays{n}#owner@user:ann"), format!("doc:shared#owner@user:stays{n}")]);
    let stays: Vec<String> = stays.collect();
    servers[0].touch(&stays.iter().map(String::as_str).collect::<Vec<_>>()).await;

    let (over, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let (at, server) = watch::channel(servers[0].channel.clone());
    let begun = Instant::now();
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| tokio::spawn(write_on(writer, server.clone(), Arc::clone(&over), Arc::clone(&written))))
        .collect();

    let mut lists: Vec<List> = Vec::new();
    for round in 0.. {
        let expiry = write_what_expires(&servers[0]).await;
        let expired = Instant::now() + EXPIRY + Duration::from_millis(50);
        let mut reading: Vec<List> = [Kind::Objects, Kind::Subjects, Kind::Tuples].map(List::new).into();
        for page in 0..3 {
            for list in &mut reading {
                list.turn(&servers[page % nodes]).await.expect("a page");
            }
        }
        assert!(reading.iter().all(|list| !list.is_complete()), "there is something to go on with");
        // The last server is replaced by one that knows nothing but what it loads. Where it is the
        // only one, writers meet it as well.
        let old = servers.pop().expect("a server");
        if nodes == 1 {
            old.stop().await;
            servers.push(place.serve(|_| {}).await);
            at.send_replace(servers[0].channel.clone());
        } else {
            let ((), new) = tokio::join!(old.stop(), place.serve(|_| {}));
            servers.push(new);
        }
        tokio::time::sleep_until(expired.into()).await;
        for turn in 1.. {
            if reading.iter().all(List::is_complete) {
                break;
            }
            for list in reading.iter_mut().filter(|list| !list.is_complete()) {
                list.turn(&servers[turn % nodes]).await.expect("a page");
            }
        }
        assert!(wall_clock() > expiry);
        let in_time = reading.iter().all(|list| list.made.1 < expiry);
        lists.extend(reading);
        // On a machine that is too busy the expiry came before the first page; then once more.
        if Instant::now() >= end && (in_time || round == 10) {
            break;
        }
    }
    over.store(true, Ordering::Release);
    for writer in writers {
        writer.await.expect("no panic");
    }
    let rate = u128::from(written.load(Ordering::Relaxed)) * 1_000 / begun.elapsed().as_millis();
    for server in servers {
        server.stop().await;
    }
    let log = place.log().await;
    let (mut pages, mut expiring) = (0, 0);
    for list in &lists {
        list.judge(&log);
        pages += list.pages;
        expiring += list.items.iter().filter(|item| item.contains("z-expires")).count();
    }
    println!(
        "{} lists of {pages} pages and {} items, {expiring} of which had expired when they were listed, while \
         {rate} writes/s made {} revisions",
        lists.len(),
        lists.iter().map(|list| list.items.len()).sum::<usize>(),
        log.len(),
    );
    assert!(expiring >= 15, "{expiring} that expired between pages were listed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_on_postgres() {
    let url = tokio::task::spawn_blocking(fresh_database).await.expect("a cluster");
    let Some(url) = url else { return };
    paging(Place::Postgres(url), 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_node_on_sqlite() {
    let directory = tempfile::tempdir().expect("a directory");
    paging(Place::Sqlite(directory.path().join("relata.db")), 1).await;
}

/// Once the revision of a list is too far back, both servers say so; neither goes on from another.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_out_of_reach_is_refused() {
    let url = tokio::task::spawn_blocking(fresh_database).await.expect("a cluster");
    let Some(url) = url else { return };
    let near = |config: &mut Config| {
        (config.feed.reach_changes, config.feed.reach_time) = (50, Duration::ZERO);
    };
    let place = Place::Postgres(url);
    let servers = [place.serve(near).await, place.serve(near).await];
    servers[0].with_schema().await;
    let stays: Vec<String> = (0..2 * PAGE)
        .flat_map(|n| [format!("doc:stays{n}#owner@user:ann"), format!("doc:shared#owner@user:stays{n}")])
        .collect();
    servers[0].touch(&stays.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let mut lists = [List::new(Kind::Objects), List::new(Kind::Subjects)];
    for list in &mut lists {
        list.turn(&servers[0]).await.expect("a page");
    }
    let mut zookie = String::new();
    for round in 0..30 {
        zookie = servers[round % 2]
            .touch(&[
                &format!("doc:late{round}#owner@user:ann"),
                &format!("doc:shared#owner@user:late{round}"),
            ])
            .await;
    }
    for server in &servers {
        let requirement = proto::consistency::Requirement::AtLeast(zookie.clone());
        let consistency = crate::grpc::consistency(requirement);
        let request = proto::CheckRequest { consistency, ..crate::grpc::question("doc:1#owner@user:ann") };
        server.check(request).await.expect("it has caught up");
        for list in &mut lists {
            let told = list.turn(server).await;
            refused(told, Code::OutOfRange, "REVISION_OUT_OF_RANGE", "");
        }
    }
    for server in servers {
        server.stop().await;
    }
}

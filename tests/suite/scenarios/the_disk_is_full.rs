//! The disk takes no more in the middle of commits, again and again: what was acknowledged is there,
//! once and whole, what was refused is there whole or not at all, and as soon as there is room the
//! server writes on without anybody's help.
//!
//! The disk is a limit on the size of files of the running server. Writes beyond it fail as they do on
//! a full disk, or are cut short within a page.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use relata::proto;
use relata::proto::permission_service_client::PermissionServiceClient;
use relata::proto::schema_service_client::SchemaServiceClient;
use relata::proto::tuple_service_client::TupleServiceClient;
use relata::proto::update::Operation;
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

use crate::grpc::{question, tuple, update};
use crate::program::{Record, Server};

const SCHEMA: &str = "model\n  schema 1.1\ntype user\ntype doc\n  relations\n    define viewer: [user]\n";
const WRITERS: u32 = 4;
/// Of each write: a page of the database does not hold them, so that a commit writes several.
const TUPLES: u32 = 20;
const PATIENCE: Duration = Duration::from_secs(20);
/// Longer than any commit takes, and as long as a refused writer waits.
const DEADLINE: Duration = Duration::from_millis(700);

/// What is left of the disk: beyond the end of the write-ahead log, or nothing whatever there is.
#[derive(Clone, Copy, Debug)]
enum Room {
    Beyond(u64),
    Nowhere,
}

/// A frame of the log is a page of 4,096 bytes and 24 more: the limits lie before one, within its
/// head, within its page, and behind some.
const ROOMS: [Room; 6] = [
    Room::Beyond(0),
    Room::Beyond(10),
    Room::Beyond(2_000),
    Room::Beyond(4_120),
    Room::Beyond(30_000),
    Room::Nowhere,
];

fn limit(server: &Server, bytes: Option<u64>) {
    let process = Pid::from_raw(i32::try_from(server.id()).expect("a process id"));
    let limit = Rlimit { current: bytes, maximum: None };
    prlimit(process, Resource::Fsize, limit).expect("a limit");
}

/// The name of what a write is about.
fn document(writer: u32, number: u32) -> String {
    format!("{writer}-{number}")
}

fn tuples(document: &str) -> Vec<proto::Update> {
    // Long names fill pages.
    let tuple = |index| format!("doc:{document}#viewer@user:{index}-{}", "x".repeat(200));
    (0..TUPLES).map(|index| update(Operation::Create, &tuple(index))).collect()
}

async fn write(channel: &Channel, document: &str) -> Result<(), Status> {
    let mut request =
        Request::new(proto::WriteRequest { updates: tuples(document), ..proto::WriteRequest::default() });
    request.set_timeout(DEADLINE);
    TupleServiceClient::new(channel.clone()).write(request).await.map(drop)
}

/// What writers were told.
#[derive(Default)]
struct Told {
    acknowledged: Mutex<BTreeSet<String>>,
    refused: Mutex<BTreeMap<String, Status>>,
    /// Writers whose newest write was refused since this was last set to 0.
    hindered: AtomicU32,
}

async fn keep_writing(channel: Channel, writer: u32, told: Arc<Told>, over: Arc<AtomicBool>) {
    let mut number = 0;
    while !over.load(Ordering::Relaxed) {
        number += 1;
        let document = document(writer, number);
        match write(&channel, &document).await {
            Ok(()) => {
                told.acknowledged.lock().expect("not poisoned").insert(document);
            }
            Err(status) => {
                told.refused.lock().expect("not poisoned").insert(document, status);
                told.hindered.fetch_or(1 << writer, Ordering::Relaxed);
            }
        }
    }
}

/// Waits for something that comes by itself.
async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds().await {
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Documents with the number of their tuples, and what the log says of itself.
fn left(path: &Path) -> (BTreeMap<String, u32>, Vec<i64>) {
    let database = rusqlite::Connection::open(path).expect("the file");
    let sound: String = database.query_row("PRAGMA integrity_check", [], |row| row.get(0)).expect("checked");
    assert_eq!(sound, "ok");
    let mut documents = database
        .prepare("SELECT object_id, count(*) FROM tuple WHERE object_type = 'doc' GROUP BY object_id")
        .expect("a statement");
    let documents = documents.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).expect("rows");
    let mut revisions =
        database.prepare("SELECT revision FROM revision ORDER BY revision").expect("a statement");
    let revisions = revisions.query_map([], |row| row.get(0)).expect("rows");
    (documents.map(|row| row.expect("a row")).collect(), revisions.map(|row| row.expect("a row")).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_disk_is_full() {
    let record = Record::sqlite();
    let server = Server::start(&record, &[]);
    let log = record.path().with_extension("db-wal");
    let channel = Endpoint::from_shared(server.endpoint.clone()).expect("a URL").connect().await.expect("it");
    let request = proto::WriteSchemaRequest { text: SCHEMA.to_owned(), ..Default::default() };
    SchemaServiceClient::new(channel.clone()).write_schema(request).await.expect("a schema");
    let first = tuple(&format!("doc:first#viewer@user:0-{}", "x".repeat(200)));
    write(&channel, "first").await.expect("room");

    let (told, over) = (Arc::new(Told::default()), Arc::new(AtomicBool::new(false)));
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            tokio::spawn(keep_writing(channel.clone(), writer, Arc::clone(&told), Arc::clone(&over)))
        })
        .collect();
    for room in ROOMS {
        let written = || told.acknowledged.lock().expect("not poisoned").len();
        let before = written();
        until("nothing is written although there is room", async || written() > before + 5).await;

        told.hindered.store(0, Ordering::Relaxed);
        let end = std::fs::metadata(&log).expect("a write-ahead log").len();
        limit(
            &server,
            Some(match room {
                Room::Beyond(bytes) => end + bytes,
                Room::Nowhere => 0,
            }),
        );
        let all = (1 << WRITERS) - 1;
        until("the limit is not met", async || told.hindered.load(Ordering::Relaxed) == all).await;
        // Who only asks does not notice.
        let mut asked = PermissionServiceClient::new(channel.clone());
        let question = question(&crate::grpc::text(&first));
        let answer = asked.check(question).await.unwrap_or_else(|status| panic!("{room:?}: {status}"));
        assert_eq!(answer.into_inner().verdict(), proto::Verdict::Allowed);
        limit(&server, None);
    }
    over.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.expect("a writer");
    }
    write(&channel, "last").await.expect("room");
    assert_eq!(server.stop(), 0);

    let (documents, revisions) = left(record.path());
    let whole = |document: &str| documents.get(document) == Some(&TUPLES);
    let acknowledged = told.acknowledged.lock().expect("not poisoned");
    let lost: Vec<_> = acknowledged.iter().filter(|document| !whole(document)).collect();
    assert!(lost.is_empty(), "acknowledged and not there: {lost:?}");
    let halves: Vec<_> = documents.iter().filter(|(_, count)| **count != TUPLES).collect();
    assert!(halves.is_empty(), "half applied: {halves:?}");
    // The schema, the first, the last, and each of the others in a revision of its own.
    let expected: Vec<i64> = (1..=i64::try_from(documents.len()).expect("few") + 1).collect();
    assert_eq!(revisions, expected);
    let refused = told.refused.lock().expect("not poisoned");
    for (document, status) in refused.iter() {
        assert!(
            matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded),
            "{document}: {status:?}"
        );
    }
    let kept = refused.keys().filter(|document| whole(document)).count();
    println!(
        "{} writes acknowledged, {} refused, of which {kept} are there after all",
        acknowledged.len(),
        refused.len(),
    );
    for message in refused
        .values()
        .map(|status| format!("{:?} {}", status.code(), status.message()))
        .collect::<BTreeSet<_>>()
    {
        println!("  {message}");
    }
}

//! `examples/dual-write`, killed between any two of its steps: what it leaves is the table in
//! `docs/dual-write.md`, and the same request again heals it.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use relata::proto;
use relata::proto::store_service_client::StoreServiceClient;
use relata::proto::tuple_service_client::TupleServiceClient;
use relata::revision::{Revision, Zookie};
use tonic::transport::{Channel, Endpoint};

use crate::grpc::{self, Running};
use crate::program::{Record, Server, example};

/// The places where the program can be told to die, in the order it passes them.
const STEPS: [&str; 5] =
    ["before-relation", "after-relation", "after-commit", "after-rejection", "after-undo"];
const SIGABRT: i32 = 6;

/// The example beside this test binary.
fn program() -> PathBuf {
    let binary = std::env::current_exe().expect("this binary");
    let built =
        binary.parent().and_then(Path::parent).expect("a target directory").join("examples/dual-write");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/dual-write/main.rs");
    let changed = |path: &Path| fs::metadata(path).and_then(|file| file.modified()).ok();
    assert!(
        changed(&built) >= changed(&source),
        "{} is not built or older than its source: run `cargo build --example dual-write`, or all tests",
        built.display()
    );
    built
}

/// A service with a database of its own, and a store of Relata's with the schema it needs.
struct Service {
    endpoint: String,
    channel: Channel,
    store: String,
    directory: tempfile::TempDir,
}

/// One request to create a document.
#[derive(Clone, Copy)]
struct Request {
    id: &'static str,
    document: &'static str,
    title: &'static str,
    owner: &'static str,
}

/// Has a title that the other request wants too.
const FIRST: Request = Request { id: "r0", document: "first", title: "Roadmap", owner: "zoe" };
const ACCEPTED: Request = Request { id: "r1", document: "plan", title: "The plan", owner: "ann" };
const REJECTED: Request = Request { id: "r1", document: "plan", title: "Roadmap", owner: "ann" };

/// Both databases.
#[derive(Debug, PartialEq, Eq)]
struct Left {
    /// Relata's tuples.
    relations: BTreeSet<String>,
    /// How many writes it took to get there.
    revision: Revision,
    /// The service's rows, each with the revision of its zookie.
    rows: BTreeSet<(String, String, String, Revision)>,
    /// The service's decisions by request.
    decisions: BTreeSet<(String, String)>,
}

impl Service {
    async fn new(endpoint: &str, store: &str) -> Self {
        let channel =
            Endpoint::from_shared(endpoint.to_owned()).expect("a URL").connect().await.expect("a server");
        let request = proto::CreateStoreRequest { name: store.to_owned() };
        StoreServiceClient::new(channel.clone()).create_store(request).await.expect("a store");
        let text = fs::read_to_string(example("drive").join("schema.fga")).expect("the schema");
        let request = proto::WriteSchemaRequest { store: store.to_owned(), text, ..Default::default() };
        let mut schemas = proto::schema_service_client::SchemaServiceClient::new(channel.clone());
        schemas.write_schema(request).await.expect("a schema");
        let directory = tempfile::tempdir().expect("a directory");
        Self { endpoint: endpoint.to_owned(), channel, store: store.to_owned(), directory }
    }

    fn database(&self) -> PathBuf {
        self.directory.path().join("documents.db")
    }

    fn command(&self) -> Command {
        let mut command = Command::new(program());
        for variable in ["RELATA_ENDPOINT", "RELATA_STORE", "RUST_BACKTRACE", "RUST_LIB_BACKTRACE"] {
            command.env_remove(variable);
        }
        command.stdin(Stdio::null());
        command.arg("--database").arg(self.database()).args([
            "--store",
            &self.store,
            "--endpoint",
            &self.endpoint,
        ]);
        command
    }

    /// The program with a request, dying at a step if one is named and it comes there.
    fn creating(&self, request: Request, crash_at: Option<&str>) -> Command {
        let Request { id, document, title, owner } = request;
        let mut command = self.command();
        if let Some(step) = crash_at {
            command.args(["--crash-at", step]);
        }
        command.args(["create", "--request", id, "--document", document, "--title", title, "--owner", owner]);
        command
    }

    /// Runs a request to its end; what it answers.
    fn create(&self, request: Request) -> String {
        answer(&self.creating(request, None).output().expect("the example"))
    }

    /// Runs a request that dies at a step, if it comes there; what it answers if it does not.
    fn die(&self, request: Request, step: &str) -> Option<String> {
        let output = self.creating(request, Some(step)).output().expect("the example");
        if output.status.signal() == Some(SIGABRT) { None } else { Some(answer(&output)) }
    }

    fn read(&self, document: &str, user: &str) -> String {
        let output = self.command().args(["read", "--document", document, "--user", user]).output();
        answer(&output.expect("the example"))
    }

    async fn left(&self) -> Left {
        let request = proto::ReadRequest { store: self.store.clone(), ..Default::default() };
        let mut answers = TupleServiceClient::new(self.channel.clone())
            .read(request)
            .await
            .expect("the tuples")
            .into_inner();
        let mut relations = BTreeSet::new();
        while let Some(answer) = answers.message().await.expect("the tuples") {
            relations.extend(answer.tuples.iter().map(grpc::text));
        }
        let request = proto::GetStoreRequest { store: self.store.clone() };
        let store =
            StoreServiceClient::new(self.channel.clone()).get_store(request).await.expect("the store");

        let database = rusqlite::Connection::open(self.database()).expect("the service's database");
        // A program that died before its first statement has made no tables.
        let mut rows = database.prepare("select id, title, owner, zookie from document").expect("a table");
        let rows = rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)));
        let rows = rows.expect("rows").map(|row: rusqlite::Result<(_, _, _, String)>| {
            let (id, title, owner, zookie) = row.expect("a row");
            (id, title, owner, revision(&zookie))
        });
        let rows = rows.collect();
        let mut decisions = database.prepare("select id, decision from request").expect("a table");
        let decisions = decisions.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).expect("rows");
        let decisions = decisions.map(|row| row.expect("a row")).collect();
        Left { relations, revision: revision(&store.into_inner().zookie), rows, decisions }
    }
}

/// What the program says, whether or not it succeeds.
#[track_caller]
fn answer(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    let (said, told) = (text(&output.stdout), text(&output.stderr));
    match output.status.code() {
        Some(0) => said,
        Some(_) => told,
        None => panic!("ended by {}: {told}", output.status),
    }
}

fn revision(zookie: &str) -> Revision {
    zookie.parse::<Zookie>().expect("a zookie").revision
}

/// What is left of one request, in the words of the table.
#[derive(Debug, PartialEq, Eq)]
struct Remains {
    relation: String,
    row: String,
    decision: String,
}

impl Remains {
    fn of(left: &Left, request: Request) -> Self {
        let word = |found: bool, word: &str| if found { word.to_owned() } else { "–".to_owned() };
        let relation = format!("doc:{}#owner@user:{}", request.document, request.owner);
        let decision = left.decisions.iter().find(|(id, _)| id == request.id);
        Self {
            relation: word(left.relations.contains(&relation), "written"),
            row: word(left.rows.iter().any(|(id, ..)| id == request.document), "inserted"),
            decision: decision.map_or_else(|| "–".to_owned(), |(_, decision)| decision.clone()),
        }
    }
}

impl fmt::Display for Remains {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:8} | {:8} | {:8}", self.relation, self.row, self.decision)
    }
}

/// The rows of the table in the documents: the step, the kinds of request it is about, and what
/// is left.
fn documented() -> Vec<(String, String, Remains)> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/dual-write.md");
    let page = fs::read_to_string(page).expect("the page");
    let rows = page.lines().filter(|line| line.starts_with("| `"));
    let row = |line: &str| {
        let cells: Vec<String> = line.split('|').map(|cell| cell.trim().to_owned()).collect();
        let step = cells[1].split('`').nth(1).expect("a step").to_owned();
        let remains =
            Remains { relation: cells[3].clone(), row: cells[4].clone(), decision: cells[5].clone() };
        (step, cells[2].clone(), remains)
    };
    rows.map(row).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_crash_leaves_what_the_table_says_and_the_retry_heals_it() {
    let record = Record::sqlite();
    let server = Server::start(&record, &[]);
    let table = documented();
    println!("dies at          | request  | relation | row      | decision");
    for (kind, request, said) in [
        ("accepted", ACCEPTED, "created document:plan"),
        ("rejected", REJECTED, "Error: rejected: the title `Roadmap` is taken"),
    ] {
        let unharmed = Service::new(&server.endpoint, &format!("{kind}-unharmed")).await;
        unharmed.create(FIRST);
        assert_eq!(unharmed.create(request), said);
        let wanted = unharmed.left().await;
        println!("never            | {kind} | {}", Remains::of(&wanted, request));
        // Done is done: the same request once more changes nothing.
        assert_eq!(unharmed.create(request), said);
        assert_eq!(unharmed.left().await, wanted);

        let mut died = 0;
        for step in STEPS {
            let service = Service::new(&server.endpoint, &format!("{kind}-{step}")).await;
            service.create(FIRST);
            let expected = table.iter().find(|(at, of, _)| at == step && (of == "any" || of == kind));
            let Some((_, _, expected)) = expected else {
                let answer = service.die(request, step);
                assert_eq!(answer.as_deref(), Some(said), "{step} is passed by a request that is {kind}");
                continue;
            };
            died += 1;
            assert_eq!(service.die(request, step), None, "{step} is not passed");
            let left = Remains::of(&service.left().await, request);
            println!("{step:16} | {kind} | {left}");
            assert_eq!(left, *expected, "{kind}, {step}");
            assert_eq!(service.create(request), said, "the retry after {step}");
            assert_eq!(service.left().await, wanted, "{kind}, healed after {step}");
        }
        assert_eq!(died, if kind == "accepted" { 3 } else { 5 });
    }
    assert_eq!(table.len(), 6);
    assert_eq!(server.stop(), 0);
}

/// Retries die too: at most two of them, wherever they come.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retry_may_die_as_well() {
    let record = Record::sqlite();
    let server = Server::start(&record, &[]);
    for (kind, request) in [("accepted", ACCEPTED), ("rejected", REJECTED)] {
        let unharmed = Service::new(&server.endpoint, &format!("{kind}-unharmed")).await;
        unharmed.create(FIRST);
        let said = unharmed.create(request);
        let wanted = unharmed.left().await;
        for first in STEPS {
            for second in STEPS {
                let service = Service::new(&server.endpoint, &format!("{kind}-{first}-{second}")).await;
                service.create(FIRST);
                for step in [first, second] {
                    if let Some(answer) = service.die(request, step) {
                        assert_eq!(answer, said, "{kind}, {first}, {second}");
                    }
                }
                assert_eq!(service.create(request), said, "{kind}, {first}, {second}");
                assert_eq!(service.left().await, wanted, "{kind}, healed after {first} and {second}");
            }
        }
    }
    assert_eq!(server.stop(), 0);
}

/// Many requests want the same document, and most of them die on the way. None undoes what another one
/// was granted, and nobody is ever the owner of somebody else's document.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_for_one_document_do_not_undo_one_another() {
    const OWNERS: [&str; 4] = ["ann", "bob", "carl", "ann"];
    const IDS: [&str; 4] = ["r1", "r2", "r3", "r4"];
    let record = Record::sqlite();
    let server = Server::start(&record, &[]);
    let mut died = 0;
    for round in 0..4 {
        let service = Service::new(&server.endpoint, &format!("round-{round}")).await;
        service.create(FIRST);
        // The titles of the second and the last are taken.
        let requests: Vec<Request> = (0..4)
            .map(|at| Request {
                id: IDS[at],
                document: "plan",
                title: if at % 2 == 0 { "The plan" } else { "Roadmap" },
                owner: OWNERS[at],
            })
            .collect();
        let dying = requests.iter().enumerate().map(|(at, request)| {
            let mut command = service.creating(*request, Some(STEPS[(at + round) % STEPS.len()]));
            command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the example")
        });
        for mut child in dying.collect::<Vec<_>>() {
            let ended = child.wait().expect("its end");
            died += usize::from(ended.signal() == Some(SIGABRT));
        }
        // Some may have to wait until the request that holds the document has been ended.
        for request in requests.iter().chain(&requests) {
            service.create(*request);
        }
        let left = service.left().await;
        let owners: BTreeSet<String> =
            left.rows.iter().map(|(id, _, owner, _)| format!("doc:{id}#owner@user:{owner}")).collect();
        assert_eq!(left.relations, owners, "round {round}: {left:?}");
        assert_eq!(left.rows.len(), 2, "round {round}: {left:?}");
    }
    assert!(died >= 4, "only {died} of 16 requests died on the way");
    assert_eq!(server.stop(), 0);
}

/// The zookie beside the row makes the owner's first read succeed, on the server that wrote and
/// on another one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_owner_reads_at_once() {
    let record = Record::sqlite();
    let server = Server::start(&record, &[]);
    let service = Service::new(&server.endpoint, "documents").await;
    assert_eq!(service.create(ACCEPTED), "created document:plan");
    assert_eq!(service.read("plan", "ann"), "The plan");
    assert_eq!(service.read("plan", "bob"), "Error: user `bob` may not read document `plan`");
    // Nor does wanting the document make anybody its owner.
    let taken = Request { id: "r2", title: "Mine", owner: "bob", ..ACCEPTED };
    let before = service.left().await;
    assert_eq!(service.create(taken), "Error: rejected: the document `plan` is taken");
    assert_eq!(service.left().await, before);
    assert_eq!(service.read("plan", "bob"), "Error: user `bob` may not read document `plan`");
    assert_eq!(server.stop(), 0);

    let url = tokio::task::spawn_blocking(crate::postgres_server::fresh_database).await.expect("a cluster");
    let Some(url) = url else { return };
    let (here, there) = (Running::on_url(&url, |_| {}).await, Running::on_url(&url, |_| {}).await);
    let mut service = Service::new(&format!("http://{}", here.address), "documents").await;
    let elsewhere = format!("http://{}", there.address);
    for (id, document) in [("a", "a"), ("b", "b"), ("c", "c"), ("d", "d"), ("e", "e")] {
        let request = Request { id, document, title: document, owner: "ann" };
        assert_eq!(service.create(request), format!("created document:{document}"));
        let at_home = std::mem::replace(&mut service.endpoint, elsewhere.clone());
        assert_eq!(service.read(document, "ann"), document);
        service.endpoint = at_home;
    }
    drop(service);
    here.stop().await;
    there.stop().await;
}

//! A thousand stores, a budget that holds a tenth of them, requests over all of them: nobody gets a
//! wrong answer, the process stays within its bounds, and stores are seen to leave and come back.
//!
//! The short form has a hundred stores. In full, five minutes with a thousand:
//!
//! ```text
//! RELATA_SCENARIO_SECONDS=300 cargo test --test suite scenarios::a_thousand_stores -- --nocapture
//! ```

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use relata::proto;
use relata::proto::permission_service_client::PermissionServiceClient;
use relata::proto::schema_service_client::SchemaServiceClient;
use relata::proto::store_service_client::StoreServiceClient;
use relata::proto::tuple_service_client::TupleServiceClient;
use relata::proto::update::Operation;
use tokio::sync::Mutex;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use crate::grpc::{question, reason, update};
use crate::program::{Record, Server};

/// Bytes of a mebibyte.
const MIB: f64 = 1_048_576.0;

const SCHEMA: &str = "model
  schema 1.1
type user
type doc
  relations
    define viewer: [user]
";

/// Documents and users of each store.
const DOCS: usize = 40;
const USERS: usize = 60;

/// Requests at the same time.
const WORKERS: u64 = 6;

/// What the process may take beyond its budget: buffers of calls, what was freed and not yet given
/// back to the operating system, graphs on their way out.
const SLACK: usize = 96 << 20;

/// One store as it must be: its live tuples, and nobody else's hands on them meanwhile.
type Model = Mutex<BTreeSet<String>>;

struct Run {
    channel: Channel,
    models: Vec<Model>,
    over: AtomicBool,
    answers: AtomicU64,
    /// Answers that the store was being loaded, which is no wrong answer.
    waited: AtomicU64,
}

fn name(store: usize) -> String {
    format!("tenant-{store}")
}

fn tuple(random: &mut StdRng) -> String {
    format!("doc:{}#viewer@user:{}", random.random_range(0..DOCS), random.random_range(0..USERS))
}

/// Stores asked about now and then, and few that everybody asks about.
fn pick(random: &mut StdRng, stores: usize) -> usize {
    let uniform: f64 = random.random_range(0.0..1.0);
    // The inverse of a distribution whose density falls as the rank grows.
    let rank = (f64::from(u32::try_from(stores).expect("few"))).powf(uniform) - 1.0;
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between zero and the number of stores"
    )]
    let rank = rank as usize;
    // Neighbouring ranks are stores far apart.
    rank.min(stores - 1) * 37 % stores
}

impl Run {
    /// Sends a request until it is answered with something else than that the store is loading.
    async fn ask<T, F: Future<Output = Result<tonic::Response<T>, Status>>>(
        &self,
        send: impl Fn() -> F,
    ) -> T {
        loop {
            match send().await {
                Ok(answer) => {
                    self.answers.fetch_add(1, Ordering::Relaxed);
                    return answer.into_inner();
                }
                Err(status) if status.code() == Code::Unavailable && reason(&status) == "STORE_LOADING" => {
                    self.waited.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                Err(status) => panic!("{status:?}"),
            }
        }
    }

    async fn write(&self, store: usize, updates: Vec<proto::Update>) {
        let request = proto::WriteRequest { store: name(store), updates, ..Default::default() };
        let tuples = TupleServiceClient::new(self.channel.clone());
        self.ask(|| {
            let (mut tuples, request) = (tuples.clone(), request.clone());
            async move { tuples.write(request).await }
        })
        .await;
    }

    /// One request of any kind, held against the model.
    async fn step(&self, random: &mut StdRng) {
        let store = pick(random, self.models.len());
        let mut model = self.models[store].lock().await;
        match random.random_range(0..10) {
            0..7 => {
                // Half of the questions are about what is there.
                let there = random
                    .random_bool(0.5)
                    .then(|| model.iter().nth(random.random_range(0..model.len())))
                    .flatten();
                let text = there.cloned().unwrap_or_else(|| tuple(random));
                let request = proto::CheckRequest { store: name(store), ..question(&text) };
                let permissions = PermissionServiceClient::new(self.channel.clone());
                let answer = self
                    .ask(|| {
                        let (mut permissions, request) = (permissions.clone(), request.clone());
                        async move { permissions.check(request).await }
                    })
                    .await;
                let allowed = answer.verdict() == proto::Verdict::Allowed;
                assert_eq!(allowed, model.contains(&text), "{} in {}", text, name(store));
            }
            7..9 => {
                let text = tuple(random);
                let operation = if model.remove(&text) {
                    Operation::Delete
                } else {
                    model.insert(text.clone());
                    Operation::Touch
                };
                self.write(store, vec![update(operation, &text)]).await;
            }
            _ => {
                let user = format!("user:{}", random.random_range(0..USERS));
                let request = proto::ListObjectsRequest {
                    store: name(store),
                    object_type: "doc".to_owned(),
                    relation: "viewer".to_owned(),
                    subject: user.clone(),
                    ..Default::default()
                };
                let permissions = PermissionServiceClient::new(self.channel.clone());
                let mut stream = self
                    .ask(|| {
                        let (mut permissions, request) = (permissions.clone(), request.clone());
                        async move { permissions.list_objects(request).await }
                    })
                    .await;
                let mut listed = BTreeSet::new();
                while let Some(message) = stream.message().await.expect("the whole list") {
                    listed.extend(message.objects.into_iter().map(|found| found.object));
                }
                let suffix = format!("#viewer@{user}");
                let expected: BTreeSet<String> =
                    model.iter().filter_map(|tuple| tuple.strip_suffix(&suffix)).map(str::to_owned).collect();
                assert_eq!(listed, expected, "{user} in {}", name(store));
            }
        }
    }
}

/// The sum of all series of a family.
fn measured(server: &Server, family: &str) -> f64 {
    let mut connection = TcpStream::connect(server.operations()).expect("metrics");
    connection.write_all(b"GET /metrics HTTP/1.0\r\nHost: relata\r\n\r\n").expect("a request");
    let mut page = String::new();
    connection.read_to_string(&mut page).expect("a page");
    let series = page
        .lines()
        .filter(|line| line.strip_prefix(family).is_some_and(|rest| rest.starts_with(['{', ' '])));
    series.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_stores_in_little_memory() {
    let long =
        std::env::var("RELATA_SCENARIO_SECONDS").ok().map(|text| text.parse::<u64>().expect("seconds"));
    let (stores, tuples) = if long.is_some() { (1_000, 1_200) } else { (100, 250) };
    let length = Duration::from_secs(long.unwrap_or(3));
    let record = Record::sqlite();
    let metrics = ["--operations-listen", "127.0.0.1:0"];
    let server = Server::start(&record, &[&metrics[..], &["--memory-budget", "none"]].concat());
    let endpoint = Endpoint::from_shared(server.endpoint.clone()).expect("an address");
    let run = Run {
        channel: endpoint.connect().await.expect("a server"),
        models: (0..stores).map(|_| Model::default()).collect(),
        over: AtomicBool::new(false),
        answers: AtomicU64::new(0),
        waited: AtomicU64::new(0),
    };
    let mut random = StdRng::seed_from_u64(7);
    for store in 0..stores {
        let request = proto::CreateStoreRequest { name: name(store) };
        StoreServiceClient::new(run.channel.clone()).create_store(request).await.expect("created");
        let request =
            proto::WriteSchemaRequest { store: name(store), text: SCHEMA.to_owned(), ..Default::default() };
        SchemaServiceClient::new(run.channel.clone()).write_schema(request).await.expect("a schema");
        let mut model = run.models[store].lock().await;
        while model.len() < tuples {
            model.insert(tuple(&mut random));
        }
        let all: Vec<&String> = model.iter().collect();
        for some in all.chunks(500) {
            run.write(store, some.iter().map(|tuple| update(Operation::Touch, tuple)).collect()).await;
        }
    }
    let whole = measured(&server, "relata_memory_bytes");
    drop(server);

    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a size")]
    let budget = (whole / 10.0) as usize;
    let server = Server::start(&record, &[&metrics[..], &["--memory-budget", &budget.to_string()]].concat());
    let endpoint = Endpoint::from_shared(server.endpoint.clone()).expect("an address");
    let run = Arc::new(Run { channel: endpoint.connect().await.expect("a server"), ..run });
    let before = server.resident_bytes();
    let workers: Vec<_> = (0..WORKERS)
        .map(|worker| {
            let run = Arc::clone(&run);
            tokio::spawn(async move {
                let mut random = StdRng::seed_from_u64(worker);
                while !run.over.load(Ordering::Relaxed) {
                    run.step(&mut random).await;
                }
            })
        })
        .collect();
    let begun = Instant::now();
    let (mut most, mut most_counted) = (0, 0.0_f64);
    while begun.elapsed() < length && workers.iter().all(|worker| !worker.is_finished()) {
        tokio::time::sleep(Duration::from_millis(200)).await;
        most = most.max(server.resident_bytes());
        most_counted = most_counted.max(measured(&server, "relata_memory_bytes"));
    }
    run.over.store(true, Ordering::Relaxed);
    for worker in workers {
        worker.await.expect("every answer is right");
    }
    let (evictions, reloads) = (
        measured(&server, "relata_memory_evictions_total"),
        measured(&server, "relata_memory_reloads_total"),
    );
    println!(
        "{stores} stores of {:.0} MiB together in a budget of {} MiB for {length:?}: {} answers, {} told to wait, {evictions} evictions, {reloads} reloads; counted at most {:.0} MiB; the process took {} MiB at first and {} MiB at most",
        whole / MIB,
        budget >> 20,
        run.answers.load(Ordering::Relaxed),
        run.waited.load(Ordering::Relaxed),
        most_counted / MIB,
        before >> 20,
        most >> 20,
    );
    assert!(evictions > 0.0 && reloads > 0.0);
    #[allow(clippy::cast_precision_loss, reason = "a size")]
    let bound = budget as f64 * 1.05;
    assert!(most_counted <= bound, "{most_counted} bytes were counted");
    assert!(most <= before + 2 * budget + SLACK, "the process took {most} bytes");
    assert_eq!(server.stop(), 0);
}

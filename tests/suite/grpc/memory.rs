//! Stores that come and go in memory, as clients see them.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use futures::TryStreamExt as _;
use relata::config::{Config, MemoryBudget};
use relata::proto;
use relata::proto::consistency::Requirement;
use relata::proto::update::Operation;
use tonic::{Code, Request, Status};
use tonic_types::StatusExt as _;

use super::{Running, consistency, question, refused, update};
use crate::observed::{get, scrape, scrape_until};
use crate::postgres_server;

const SCHEMA: &str = "model
  schema 1.1
type user
type doc
  relations
    define viewer: [user]
";

/// A record that several servers have, one after another.
enum Place {
    File(tempfile::TempDir),
    Url(String),
}

impl Place {
    fn file() -> Self {
        Self::File(tempfile::tempdir().expect("a directory"))
    }

    async fn url() -> Option<Self> {
        let url = tokio::task::spawn_blocking(postgres_server::fresh_database).await.expect("a cluster")?;
        Some(Self::Url(url))
    }

    /// A server on it that keeps no store unless it is asked for.
    async fn serve(&self, adapt: impl FnOnce(&mut Config)) -> Running {
        let adapt = |config: &mut Config| {
            config.pinned_stores.clear();
            adapt(config);
        };
        match self {
            Self::File(directory) => Running::on_file(Path::join(directory.path(), "relata.db"), adapt).await,
            Self::Url(url) => Running::on_url(url, adapt).await,
        }
    }
}

fn viewer(document: usize) -> String {
    format!("doc:{document:05}#viewer@user:ann")
}

/// A store with so many documents.
async fn create(server: &Running, store: &str, documents: usize) -> String {
    let request = proto::CreateStoreRequest { name: store.to_owned() };
    server.stores().create_store(request).await.expect("created");
    let (name, text) = (store.to_owned(), SCHEMA.to_owned());
    let request = proto::WriteSchemaRequest { store: name, text, ..Default::default() };
    server.schemas().write_schema(request).await.expect("a schema");
    let mut zookie = String::new();
    for some in (0..documents).collect::<Vec<_>>().chunks(1_000) {
        let updates = some.iter().map(|document| update(Operation::Touch, &viewer(*document))).collect();
        zookie = write(server, store, updates).await.expect("written");
    }
    zookie
}

async fn write(server: &Running, store: &str, updates: Vec<proto::Update>) -> Result<String, Status> {
    let request = proto::WriteRequest { store: store.to_owned(), updates, ..Default::default() };
    Ok(server.tuples().write(request).await?.into_inner().zookie)
}

/// Whether Ann may view a document.
async fn check(
    server: &Running,
    store: &str,
    document: usize,
    consistency: Option<proto::Consistency>,
) -> Result<bool, Status> {
    let request = proto::CheckRequest { store: store.to_owned(), consistency, ..question(&viewer(document)) };
    Ok(server.check(request).await?.verdict() == proto::Verdict::Allowed)
}

fn listing(store: &str, page_size: u32, cursor: String) -> proto::ListObjectsRequest {
    proto::ListObjectsRequest {
        store: store.to_owned(),
        object_type: "doc".to_owned(),
        relation: "viewer".to_owned(),
        subject: "user:ann".to_owned(),
        page_size,
        cursor,
        ..Default::default()
    }
}

/// A page: what is on it, and the cursor for what follows.
async fn page(server: &Running, request: proto::ListObjectsRequest) -> Result<(Vec<String>, String), Status> {
    let stream = server.permissions().list_objects(request).await?.into_inner();
    let messages: Vec<_> = stream.try_collect().await?;
    let cursor = messages.last().expect("a message").cursor.clone();
    Ok((
        messages.into_iter().flat_map(|message| message.objects).map(|listed| listed.object).collect(),
        cursor,
    ))
}

/// What the stores in memory take.
async fn taken(server: &Running) -> usize {
    let page = scrape(server.operations).await;
    let classes = ["graph", "ring", "schemas"];
    let bytes: f64 = classes.iter().map(|class| page.value("relata_memory_bytes", &[("class", class)])).sum();
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a size")]
    let bytes = bytes as usize;
    bytes
}

async fn evictions(server: &Running) -> f64 {
    scrape(server.operations).await.value("relata_memory_evictions_total", &[])
}

/// Two stores `a` and `b` of that size each, and a budget that holds one of them.
async fn two_stores(place: &Place, documents: usize, adapt: fn(&mut Config)) -> usize {
    let server = place.serve(adapt).await;
    create(&server, "a", documents).await;
    create(&server, "b", documents).await;
    let both = taken(&server).await;
    server.stop().await;
    both * 3 / 4
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_does_not_fit_is_refused_and_harms_nobody() {
    let place = Place::file();
    let server = place.serve(|_| {}).await;
    create(&server, "small", 50).await;
    let small = taken(&server).await;
    create(&server, "large", 3_000).await;
    let large = taken(&server).await - small;
    server.stop().await;

    let budget = small + large / 2;
    let server = place.serve(|config| config.memory_budget = MemoryBudget::Bytes(budget)).await;
    assert!(check(&server, "small", 7, None).await.expect("an answer"));
    for _ in 0..3 {
        let status =
            refused(check(&server, "large", 7, None).await, Code::ResourceExhausted, "STORE_TOO_LARGE", "");
        let details = status.get_error_details();
        let told = &details.error_info().expect("a reason").metadata;
        let number = |name: &str| told[name].parse::<usize>().expect("a number");
        assert_eq!(number("budget"), budget);
        assert!(number("bytes") > budget, "{told:?}");
        let written = write(&server, "large", vec![update(Operation::Touch, &viewer(9))]).await;
        refused(written, Code::ResourceExhausted, "STORE_TOO_LARGE", "");
        let listed = page(&server, listing("large", 0, String::new())).await;
        refused(listed, Code::ResourceExhausted, "STORE_TOO_LARGE", "");
    }
    assert!(check(&server, "small", 49, None).await.expect("an answer"));
    assert!(!check(&server, "small", 50, None).await.expect("an answer"));
    let page = scrape(server.operations).await;
    assert!(page.find("relata_memory_evictions_total", &[]) == Some(0.0), "nobody left for nothing");
    assert!(
        page.find("relata_memory_loads_total", &[("outcome", "too_large")]) == Some(1.0),
        "looked at once"
    );
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_waits_for_memory_says_that_it_is_loading() {
    let place = Place::file();
    let budget = two_stores(&place, 8_000, |_| {}).await;
    let server = place
        .serve(|config| {
            config.memory_budget = MemoryBudget::Bytes(budget);
            // So that the list below is not made at once, and held for as long as the test likes.
            config.slice = 10;
            config.limits.stream_chunk = 1;
            config.snapshot_age = Duration::from_hours(1);
        })
        .await;
    let mut held = Request::new(listing("a", 0, String::new()));
    held.set_timeout(Duration::from_hours(1));
    let held = server.permissions().list_objects(held).await.expect("a list").into_inner();

    let question = || {
        let mut request = Request::new(proto::CheckRequest { store: "b".to_owned(), ..question(&viewer(7)) });
        request.set_timeout(Duration::from_millis(700));
        request
    };
    let status = refused(
        server.permissions().check(question()).await.map(tonic::Response::into_inner),
        Code::Unavailable,
        "STORE_LOADING",
        "",
    );
    assert!(status.get_error_details().retry_info().is_some(), "trying again helps");
    drop(held);
    // The load went on meanwhile, and ends once there is room.
    scrape_until(server.operations, "the store", |page| {
        page.find("relata_memory_loads_total", &[("outcome", "loaded")]) == Some(2.0)
    })
    .await;
    assert!(check(&server, "b", 7, None).await.expect("an answer"));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pinned_store_stays_while_others_come_and_go() {
    let place = Place::file();
    let budget = two_stores(&place, 500, |_| {}).await;
    let server = place.serve(|_| {}).await;
    create(&server, "pinned", 500).await;
    let pinned = taken(&server).await;
    server.stop().await;
    let server = place
        .serve(|config| {
            config.memory_budget = MemoryBudget::Bytes(pinned + budget);
            config.pinned_stores = vec!["pinned".to_owned()];
        })
        .await;
    scrape_until(server.operations, "the pinned store", |page| {
        page.find("relata_memory_loads_total", &[("outcome", "loaded")]) == Some(1.0)
    })
    .await;
    for round in 0..4 {
        for store in ["a", "b"] {
            assert!(check(&server, store, round, None).await.expect("an answer"));
        }
    }
    let before = scrape(server.operations).await.value("relata_memory_reloads_total", &[]);
    assert!(before >= 4.0, "{before} reloads");
    // It was asked for longest ago.
    assert!(check(&server, "pinned", 7, None).await.expect("an answer"));
    let after = scrape(server.operations).await.value("relata_memory_reloads_total", &[]);
    assert!((after - before).abs() < 0.5, "it had to be loaded again");
    // What is told of the pinned store is told as pinned, and nothing is told twice or not at all.
    scrape_until(server.operations, "all bytes by what becomes of them", |page| {
        let of = |stay| page.value("relata_memory_stay_bytes", &[("stay", stay)]);
        let classes =
            ["graph", "ring", "schemas"].map(|class| page.value("relata_memory_bytes", &[("class", class)]));
        let stays = ["pinned", "evictable", "leaving", "shared"].map(of);
        of("pinned") > 0.0
            && of("evictable") > 0.0
            && (stays.iter().sum::<f64>() - classes.iter().sum::<f64>()).abs() < 0.5
    })
    .await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_is_ready_when_its_pinned_stores_are_in_memory() {
    let place = Place::file();
    let budget = two_stores(&place, 1_000, |_| {}).await;
    let pins = |config: &mut Config| {
        config.pinned_stores = vec!["a".to_owned(), "b".to_owned(), "later".to_owned()];
        config.health_interval = Duration::from_millis(50);
    };
    // One of them does not fit beside the other.
    let server = place
        .serve(|config| {
            pins(config);
            config.memory_budget = MemoryBudget::Bytes(budget);
        })
        .await;
    scrape_until(server.operations, "the first refusal", |page| {
        page.find("relata_memory_loads_total", &[("outcome", "too_large")]) == Some(1.0)
    })
    .await;
    let told = get(server.operations, "/readyz").await;
    assert_eq!(told.status, 503, "{told:?}");
    assert!(told.body.contains("LOADING"), "{told:?}");
    server.stop().await;

    let server = place.serve(pins).await;
    let begun = std::time::Instant::now();
    while get(server.operations, "/readyz").await.status != 200 {
        assert!(begun.elapsed() < Duration::from_secs(20), "not ready");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // In memory before anybody has asked for them.
    let page = scrape(server.operations).await;
    assert!(page.find("relata_memory_stores_resident", &[]) == Some(2.0), "{page:#?}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ids_are_told_by_whether_a_tuple_names_them() {
    let place = Place::file();
    let server = place.serve(|_| {}).await;
    create(&server, "a", 1_000).await;
    let ids = |live: f64, dead: f64| {
        let address = server.operations;
        async move {
            scrape_until(address, "the ids", |page| {
                let of = |state| page.value("relata_memory_ids", &[("state", state)]);
                (of("live") - live).abs() < 0.5 && (of("dead") - dead).abs() < 0.5
            })
            .await;
        }
    };
    // And Ann.
    ids(1_001.0, 0.0).await;
    let all = |operation, documents: std::ops::Range<usize>| {
        documents.map(|document| update(operation, &viewer(document))).collect::<Vec<_>>()
    };
    write(&server, "a", all(Operation::Delete, 0..400)).await.expect("written");
    ids(601.0, 400.0).await;
    write(&server, "a", all(Operation::Touch, 5_000..5_300)).await.expect("written");
    ids(901.0, 100.0).await;
    let request = proto::DeleteStoreRequest { store: "a".to_owned() };
    server.stores().delete_store(request).await.expect("deleted");
    ids(0.0, 0.0).await;
    server.stop().await;
}

/// Revisions and cursors of a store that leaves memory between any two questions.
async fn pinned_questions_survive_eviction(place: &Place) {
    const DOCUMENTS: usize = 900;
    const WRITES: usize = 40;
    /// Changes within which an earlier revision can be asked about.
    const REACH: usize = 60;
    let reach = |config: &mut Config| {
        config.feed.ring_changes = REACH;
        config.feed.reach_changes = REACH;
    };
    let budget = two_stores(place, DOCUMENTS, reach).await;
    let server = place
        .serve(|config| {
            reach(config);
            config.memory_budget = MemoryBudget::Bytes(budget);
        })
        .await;
    let leave = || async {
        let before = evictions(&server).await;
        assert!(check(&server, "b", 7, None).await.expect("an answer"));
        scrape_until(server.operations, "the eviction", |page| {
            page.value("relata_memory_evictions_total", &[]) > before
        })
        .await;
    };
    let (first, mut cursor) = page(&server, listing("a", 300, String::new())).await.expect("a page");
    let mut listed = first;
    let pinned: BTreeSet<usize> = (0..DOCUMENTS).collect();

    // Each write takes one document away and adds another; what held then is remembered.
    let mut now = pinned.clone();
    let mut known: Vec<(String, BTreeSet<usize>)> = Vec::new();
    for number in 0..WRITES {
        let (gone, new) = (number * 17, 10_000 + number);
        now.remove(&gone);
        now.insert(new);
        let updates = vec![update(Operation::Delete, &viewer(gone)), update(Operation::Touch, &viewer(new))];
        known.push((write(&server, "a", updates).await.expect("written"), now.clone()));
        if number == 10 {
            // Within reach: the same list, wherever it comes from.
            leave().await;
            let (next, follows) = page(&server, listing("a", 300, cursor)).await.expect("a page");
            listed.extend(next);
            cursor = follows;
        }
    }
    let expected: Vec<String> =
        pinned.iter().take(600).map(|document| format!("doc:{document:05}")).collect();
    assert_eq!(listed, expected);
    leave().await;
    // Out of reach by now: an error, and never another page.
    let late = page(&server, listing("a", 300, cursor)).await;
    refused(late, Code::OutOfRange, "REVISION_OUT_OF_RANGE", "");

    let (mut answered, mut refusals) = (0, 0);
    for (back, (zookie, documents)) in known.iter().rev().enumerate() {
        if back % 8 == 0 {
            leave().await;
        }
        for document in [7, 17 * (WRITES - 1 - back), 10_000 + WRITES - 1 - back, 10_000 + WRITES - back] {
            let exact = consistency(Requirement::Exact(zookie.clone()));
            match check(&server, "a", document, exact).await {
                Ok(allowed) => {
                    assert_eq!(allowed, documents.contains(&document), "{document}, {back} writes ago");
                    answered += 1;
                }
                refusal => {
                    refused(refusal, Code::OutOfRange, "REVISION_OUT_OF_RANGE", "");
                    refusals += 1;
                }
            }
        }
        // Two changes each, so the rule says the same on every node and after every load.
        assert_eq!(refusals > 0, back * 2 > REACH, "{back} writes ago");
    }
    assert!(answered > 100 && refusals > 0, "{answered} answers, {refusals} refusals");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cursors_and_exact_revisions_survive_eviction_on_sqlite() {
    pinned_questions_survive_eviction(&Place::file()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cursors_and_exact_revisions_survive_eviction_on_postgres() {
    let Some(place) = Place::url().await else { return };
    pinned_questions_survive_eviction(&place).await;
}

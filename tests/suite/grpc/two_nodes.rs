//! Two nodes on one database, writers and readers mixed over both: whoever names the zookie of an
//! acknowledged write sees it, no stream misses or repeats a revision, and both nodes end alike.
//!
//! Runs for `RELATA_SOAK_SECONDS`, five unless said otherwise; an issue's worth is sixty.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::TryStreamExt as _;
use futures::future::join_all;
use relata::proto;
use relata::proto::Verdict;
use relata::proto::consistency::Requirement;
use relata::proto::tuple_change::Operation as Change;
use relata::proto::update::Operation;
use relata::revision::{Revision, Zookie};

use super::{Running, consistency, question, text, update};

const WRITERS: usize = 8;
const READERS: usize = 8;

/// What holds from a zookie on, for ever: each document is written once, and every second one is
/// deleted again.
#[derive(Clone)]
struct Fact {
    tuple: String,
    verdict: Verdict,
    zookie: String,
}

fn soak() -> Duration {
    let seconds = std::env::var("RELATA_SOAK_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(5))
}

async fn acknowledged(node: &Running, operation: Operation, tuple: &str) -> String {
    node.write(vec![update(operation, tuple)]).await.expect("written").zookie
}

async fn write_until(end: Instant, writer: usize, nodes: &[Running; 2], known: &Mutex<Vec<Fact>>) {
    for index in 0.. {
        if Instant::now() >= end {
            return;
        }
        let tuple = format!("doc:{writer}-{index}#owner@user:ann");
        let mut zookie = acknowledged(&nodes[index % 2], Operation::Create, &tuple).await;
        let mut verdict = Verdict::Allowed;
        if index % 2 == 1 {
            zookie = acknowledged(&nodes[(index + writer) % 2], Operation::Delete, &tuple).await;
            verdict = Verdict::Denied;
        }
        known.lock().expect("facts")[writer] = Fact { tuple, verdict, zookie };
    }
}

async fn read_until(end: Instant, reader: usize, nodes: &[Running; 2], known: &Mutex<Vec<Fact>>) -> u64 {
    let mut checks = 0;
    while Instant::now() < end {
        let fact = known.lock().expect("facts")[(reader + checks) % WRITERS].clone();
        let request = proto::CheckRequest {
            consistency: consistency(Requirement::AtLeast(fact.zookie.clone())),
            ..question(&fact.tuple)
        };
        let answer = nodes[(reader + checks / WRITERS) % 2].check(request).await.expect("an answer");
        assert_eq!(answer.verdict(), fact.verdict, "{} at {}", fact.tuple, answer.zookie);
        checks += 1;
    }
    checks as u64
}

fn revision(zookie: &str) -> Revision {
    zookie.parse::<Zookie>().expect("a zookie").revision
}

/// Every revision after `start` as one node streams it, until `last` is known and reached.
async fn watch(
    node: &Running,
    start: &str,
    over: &AtomicBool,
    last: &AtomicU64,
) -> Vec<(Revision, Vec<String>)> {
    let request = proto::WatchRequest { after: start.to_owned(), ..Default::default() };
    let mut stream = node.tuples().watch(request).await.expect("a stream").into_inner();
    let (mut seen, mut reached) = (Vec::new(), revision(start));
    while !(over.load(Ordering::Acquire) && reached.0 >= last.load(Ordering::Acquire)) {
        let message = tokio::time::timeout(Duration::from_secs(20), stream.message()).await;
        let message = message.expect("a message in time").expect("no end").expect("more");
        reached = revision(&message.zookie);
        if !message.checkpoint {
            let sign =
                |change: &proto::TupleChange| if change.operation() == Change::Written { '+' } else { '-' };
            let changes = message.changes.iter().map(|change| {
                format!("{}{}", sign(change), change.tuple.as_ref().map(text).unwrap_or_default())
            });
            seen.push((reached, changes.collect()));
        }
    }
    seen
}

/// Everything Ann owns, as one node's memory has it at a revision.
async fn owned(node: &Running, zookie: &str) -> BTreeSet<String> {
    let request = proto::ListObjectsRequest {
        subject: "user:ann".into(),
        relation: "owner".into(),
        object_type: "doc".into(),
        consistency: consistency(Requirement::Exact(zookie.to_owned())),
        ..Default::default()
    };
    let stream = node.permissions().list_objects(request).await.expect("a list").into_inner();
    let messages: Vec<proto::ListObjectsResponse> = stream.try_collect().await.expect("a list");
    messages.into_iter().flat_map(|message| message.objects).map(|listed| listed.object).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_agree_while_both_write() {
    let url = tokio::task::spawn_blocking(crate::postgres_server::fresh_database).await.expect("a cluster");
    let Some(url) = url else { return };
    agree([Running::on_url(&url, |_| {}).await, Running::on_url(&url, |_| {}).await], soak()).await;
}

/// The test, on any two nodes of a fresh database.
pub async fn agree(nodes: [Running; 2], length: Duration) {
    let nodes = Arc::new(nodes);
    nodes[0].with_schema().await;
    let start = nodes[0].touch(&["doc:start#owner@user:ann"]).await;
    let first =
        Fact { tuple: "doc:start#owner@user:ann".into(), verdict: Verdict::Allowed, zookie: start.clone() };
    let known = Arc::new(Mutex::new(vec![first; WRITERS]));
    let (over, last) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));

    let watchers = [0, 1].map(|node| {
        let (nodes, start, over, last) =
            (Arc::clone(&nodes), start.clone(), Arc::clone(&over), Arc::clone(&last));
        tokio::spawn(async move { watch(&nodes[node], &start, &over, &last).await })
    });
    let end = Instant::now() + length;
    let writers = (0..WRITERS).map(|writer| {
        let (nodes, known) = (Arc::clone(&nodes), Arc::clone(&known));
        tokio::spawn(async move { write_until(end, writer, &nodes, &known).await })
    });
    let readers = (0..READERS).map(|reader| {
        let (nodes, known) = (Arc::clone(&nodes), Arc::clone(&known));
        tokio::spawn(async move { read_until(end, reader, &nodes, &known).await })
    });
    let (writers, readers): (Vec<_>, Vec<_>) = (writers.collect(), readers.collect());
    for writer in join_all(writers).await {
        writer.expect("no panic");
    }
    let checks: u64 = join_all(readers).await.into_iter().map(|reader| reader.expect("no panic")).sum();

    // One more write, so that the streams have something to end with.
    let end = acknowledged(&nodes[0], Operation::Touch, "doc:end#owner@user:ann").await;
    last.store(revision(&end).0, Ordering::Release);
    over.store(true, Ordering::Release);
    let mut streams = Vec::new();
    for watcher in watchers {
        streams.push(watcher.await.expect("no panic"));
    }
    let numbers: Vec<u64> = streams[0].iter().map(|(revision, _)| revision.0).collect();
    let expected: Vec<u64> = (revision(&start).0 + 1..=revision(&end).0).collect();
    assert_eq!(numbers, expected, "no revision is missed or repeated");
    assert_eq!(streams[0], streams[1], "both nodes stream the same");

    let mut replayed = BTreeSet::from(["doc:start".to_owned()]);
    for change in streams[0].iter().flat_map(|(_, changes)| changes) {
        let object = change[1..].split('#').next().expect("an object").to_owned();
        if change.starts_with('+') {
            replayed.insert(object)
        } else {
            replayed.remove(&object)
        };
    }
    for node in nodes.iter() {
        assert_eq!(owned(node, &end).await, replayed, "memory equals what was streamed");
    }
    println!("{} revisions, {checks} checks", numbers.len());
    assert!(checks > 20 && numbers.len() > 20, "{} revisions, {checks} checks", numbers.len());
    let nodes = Arc::into_inner(nodes).expect("nobody else has them");
    for node in nodes {
        node.stop().await;
    }
}

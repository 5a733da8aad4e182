//! The primary is replaced by a copy that lacks the last revisions, and other writes reuse their
//! numbers: two servers under load follow the copy within moments, without loading anything, and
//! everybody who held on to a lost write is told.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use relata::proto;
use relata::proto::Verdict;
use relata::proto::consistency::Requirement;
use sqlx::Connection as _;
use tonic::{Code, Status, Streaming};
use tonic_types::StatusExt as _;

use crate::faults::{Cut, Gate, Proxy};
use crate::grpc::{Running, consistency, question, reason, refused};

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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_suffix() {
    let url = tokio::task::spawn_blocking(crate::postgres_server::fresh_database).await.expect("a cluster");
    let Some(url) = url else { return };
    let database = url.split("postgres:///").nth(1).and_then(|rest| rest.split('?').next()).expect("a name");
    let (proxy, through) = Proxy::before_database(&url);
    let nodes = [Running::on_url(&through, |_| {}).await, Running::on_url(&through, |_| {}).await];
    nodes[0].with_schema().await;
    let mut kept = BTreeSet::new();
    let mut fork = String::new();
    for index in 0..40 {
        let tuple = format!("doc:kept{index}#owner@user:ann");
        fork = nodes[index % 2].touch(&[&tuple]).await;
        kept.insert(object(&tuple));
    }

    // The copy is made while nobody is connected, which PostgreSQL asks for.
    let close = || {
        proxy.gate(Gate::Refuse);
        proxy.cut_all(Cut::Reset);
    };
    close();
    administer(&url, database, format!("CREATE DATABASE {database}_copy TEMPLATE {database}")).await;
    proxy.gate(Gate::Open);

    // What the copy will not have; two streams have shown it, and one has shown nothing.
    let watch = async |node: &Running, object_types: Vec<String>| {
        let request = proto::WatchRequest { after: fork.clone(), object_types, ..Default::default() };
        let begun = Instant::now();
        loop {
            match node.tuples().watch(request.clone()).await {
                Ok(stream) => return stream.into_inner(),
                Err(status) => assert!(begun.elapsed() < BOUND, "{status:?}"),
            }
        }
    };
    let streams = [
        watch(&nodes[0], Vec::new()).await,
        watch(&nodes[1], Vec::new()).await,
        watch(&nodes[0], vec!["group".into()]).await,
    ];
    let mut lost = Vec::new();
    let begun = Instant::now();
    while lost.len() < 12 {
        let tuple = format!("doc:lost{}#owner@user:ann", lost.len());
        let updates = vec![crate::grpc::update(proto::update::Operation::Touch, &tuple)];
        match nodes[lost.len() % 2].write(updates).await {
            Ok(written) => lost.push((tuple, written.zookie)),
            Err(status) => assert!(begun.elapsed() < BOUND, "{status:?}"),
        }
    }
    for (node, (tuple, zookie)) in nodes.iter().flat_map(|node| lost.iter().map(move |lost| (node, lost))) {
        let answer = ask(node, tuple, Requirement::AtLeast(zookie.clone())).await.expect("an answer");
        assert_eq!(answer.verdict(), Verdict::Allowed);
    }

    // Readers go on asking through all of it; every answer must be of a history that was there.
    let nodes = Arc::new(nodes);
    let over = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = (0..4)
        .map(|reader| {
            let (nodes, over) = (Arc::clone(&nodes), Arc::clone(&over));
            tokio::spawn(async move {
                let mut answers = 0_u64;
                while !over.load(Ordering::Acquire) {
                    if ask(&nodes[reader % 2], "doc:kept1#owner@user:ann", Requirement::MinimizeLatency(()))
                        .await
                        .is_ok_and(|answer| answer.verdict() == Verdict::Allowed)
                    {
                        answers += 1;
                    }
                }
                answers
            })
        })
        .collect();

    close();
    administer(&url, database, format!("ALTER DATABASE {database} RENAME TO {database}_lost")).await;
    administer(&url, database, format!("ALTER DATABASE {database}_copy RENAME TO {database}")).await;
    // Fewer writes than were lost, so that some numbers are taken and some are yet to come.
    let other = Running::on_url(&url, |_| {}).await;
    let mut expected = kept.clone();
    for index in 0..5 {
        let tuple = format!("doc:new{index}#owner@user:ann");
        other.touch(&[&tuple]).await;
        expected.insert(object(&tuple));
    }
    other.stop().await;
    proxy.gate(Gate::Open);

    let back = Instant::now();
    for node in nodes.iter() {
        while !owned(node).await.is_ok_and(|owned| owned == expected) {
            assert!(back.elapsed() < BOUND, "{:?} is not {expected:?}", owned(node).await);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    println!("the new history was served {:?} after the database was back", back.elapsed());

    for node in nodes.iter() {
        for (tuple, zookie) in &lost {
            assert_eq!(node.verdict(tuple).await, Verdict::Denied, "{tuple}");
            for requirement in [Requirement::AtLeast(zookie.clone()), Requirement::Exact(zookie.clone())] {
                let asked = Instant::now();
                let told = refused(
                    ask(node, tuple, requirement).await,
                    Code::FailedPrecondition,
                    "ZOOKIE_HISTORY_LOST",
                    "",
                );
                let details = told.get_error_details();
                let metadata = details.error_info().map(|info| info.metadata.clone()).unwrap_or_default();
                assert_eq!(metadata.get("zookie"), Some(&fork), "where to go on from");
                assert!(asked.elapsed() < Duration::from_secs(5), "{:?}: it was waited for", asked.elapsed());
            }
            let again = proto::WatchRequest { after: zookie.clone(), ..Default::default() };
            let told = node.tuples().watch(again).await.map(|_| ());
            refused(told, Code::FailedPrecondition, "ZOOKIE_HISTORY_LOST", "");
        }
        assert!(ask(node, "doc:kept1#owner@user:ann", Requirement::AtLeast(fork.clone())).await.is_ok());
        let count = |outcome| {
            counted(node.operations, &format!("relata_feed_divergences_total{{outcome=\"{outcome}\"}}"))
        };
        assert_eq!((count("rewound"), count("reloaded")), (1, 0), "memory went back, and loaded nothing");
    }
    for stream in streams {
        let status = end(stream).await;
        let told = refused::<()>(Err(status), Code::DataLoss, "HISTORY_DIVERGED", "");
        let details = told.get_error_details();
        assert_eq!(details.error_info().and_then(|info| info.metadata.get("zookie")), Some(&fork));
    }

    // The new history goes on over the lost numbers, and the lost writes stay lost.
    for index in 0..12 {
        let tuple = format!("doc:later{index}#owner@user:ann");
        let zookie = nodes[index % 2].touch(&[&tuple]).await;
        let answer = ask(&nodes[(index + 1) % 2], &tuple, Requirement::AtLeast(zookie)).await;
        assert_eq!(answer.expect("an answer").verdict(), Verdict::Allowed);
        expected.insert(object(&tuple));
    }
    for node in nodes.iter() {
        for (tuple, zookie) in &lost {
            let told = ask(node, tuple, Requirement::AtLeast(zookie.clone())).await.expect_err("lost");
            assert_eq!(reason(&told), "ZOOKIE_HISTORY_LOST");
        }
        assert_eq!(owned(node).await.expect("a list"), expected);
    }
    over.store(true, Ordering::Release);
    for reader in readers {
        assert!(reader.await.expect("no panic") > 0, "a reader was never answered");
    }
    for node in Arc::into_inner(nodes).expect("nobody else has them") {
        node.stop().await;
    }
}

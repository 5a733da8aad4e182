//! What becomes of spans when the collector takes them, some of them, or none.

#![allow(clippy::float_cmp, reason = "numbers of spans are whole")]

use std::time::{Duration, Instant};

use super::collector::{Collector, Mood, attributes};
use super::{followed, traced};
use crate::grpc::{Running, question};
use crate::observed::{scrape, scrape_until};
use crate::program::{Record, relata, run};

/// Asks so many times for a caller that records; each answer comes.
async fn ask(server: &Running, times: usize) {
    for _ in 0..times {
        let check = followed(question("doc:1#owner@user:ann"), 1, "01");
        server.permissions().check(check).await.expect("an answer");
    }
}

/// Spans come in batches, from a server that says who it is, and are counted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn spans_come_in_batches_and_are_counted() {
    let collector = Collector::start(Mood::Good).await;
    let server = Running::sqlite(|config| traced(config, &collector.url(), "0")).await;
    server.with_schema().await;
    ask(&server, 300).await;
    // A call and its search.
    scrape_until(server.operations, "all spans", |metrics| {
        metrics.value("relata_trace_spans_exported_total", &[]) >= 600.0
    })
    .await;
    assert_eq!(scrape(server.operations).await.value("relata_trace_spans_dropped_total", &[]), 0.0);
    server.stop().await;
    let requests = collector.requests();
    assert!(requests.len() <= 60, "{} requests for 600 spans", requests.len());
    let resource = requests[0].resource_spans[0].resource.as_ref().expect("a resource");
    let said = attributes(&resource.attributes);
    assert_eq!(said["service.name"], "relata");
    assert_eq!(said["service.version"], env!("CARGO_PKG_VERSION"));
    assert!(!said["service.instance.id"].is_empty());
}

/// Nobody notices that the collector is away, refuses, or hangs; what is lost is counted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_is_not_well_harms_nothing() {
    let away = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        format!("http://{}", listener.local_addr().expect("an address"))
    };
    let (refusing, silent) = (Collector::start(Mood::Refusing).await, Collector::start(Mood::Silent).await);
    for endpoint in [&away, &refusing.url(), &silent.url()] {
        let server = Running::sqlite(|config| traced(config, endpoint, "1")).await;
        server.with_schema().await;
        ask(&server, 20).await;
        if *endpoint == silent.url() {
            silent.until_asked().await;
            // More than the queue holds, while the collector thinks.
            let begun = Instant::now();
            let crowd = (0..40).map(|_| ask(&server, 120));
            futures::future::join_all(crowd).await;
            assert!(begun.elapsed() < Duration::from_mins(1), "{:?}", begun.elapsed());
        }
        scrape_until(server.operations, "spans that are lost", |metrics| {
            metrics.value("relata_trace_spans_dropped_total", &[]) >= 40.0
        })
        .await;
        assert_eq!(scrape(server.operations).await.value("relata_trace_spans_exported_total", &[]), 0.0);
        let begun = Instant::now();
        server.stop().await;
        assert!(begun.elapsed() < Duration::from_secs(15), "stopped after {:?}", begun.elapsed());
    }
}

/// Spans that a collector refuses are lost, and the others are not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_span_that_is_refused_is_counted_as_lost() {
    let collector = Collector::start(Mood::Picky).await;
    let server = Running::sqlite(|config| traced(config, &collector.url(), "0")).await;
    server.with_schema().await;
    ask(&server, 5).await;
    let metrics = scrape_until(server.operations, "spans that are taken", |metrics| {
        let counts = ["relata_trace_spans_exported_total", "relata_trace_spans_dropped_total"];
        counts.iter().map(|name| metrics.value(name, &[])).sum::<f64>() >= 10.0
    })
    .await;
    let lost = metrics.value("relata_trace_spans_dropped_total", &[]);
    assert_eq!(lost, f64::from(u32::try_from(collector.requests().len()).expect("few")));
    server.stop().await;
}

/// Settings that make no sense are refused before anything begins.
#[test]
fn the_program_says_what_is_wrong_with_the_settings() {
    let record = Record::sqlite();
    let check = |arguments: &[&str], expected: &str| {
        let mut command = relata();
        command.args(["serve", "--listen", "127.0.0.1:0", "--operations-listen", "off", "--datastore"]);
        command.arg(&record.url).args(arguments);
        run(&mut command, "").exits(64).says(expected);
    };
    check(&["--otlp-endpoint", "collector:4317"], "is not the address of a collector");
    check(&["--otlp-endpoint", "http://127.0.0.1:4317", "--trace-ratio", "2"], "is not a part of all calls");
    check(&["--trace-ratio", "0.5"], "--otlp-endpoint");
    assert!(!record.path().exists(), "nothing was begun");
}

//! Starvation: long lists that use up all the work they may cost, from callers who never stop asking,
//! and readers who open streams and read nothing. Writes, health and the feed go on as when nothing
//! happens; deadlines are honoured; memory stays flat; the readers are let go.
//!
//! The short form takes some seconds and compares with itself, since the machine may be busy. In
//! full, a minute on a machine of its own, with the bounds as they are promised:
//!
//! ```text
//! RELATA_SCENARIO_SECONDS=60 scripts/test --release --test suite scenarios::starvation -- --nocapture
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use relata::proto;
use relata::proto::permission_service_client::PermissionServiceClient;
use relata::proto::tuple_service_client::TupleServiceClient;
use tonic::Streaming;
use tonic::transport::{Channel, Endpoint};

use crate::observed;
use crate::overload::alone;
use crate::overload::load::{End, Kind, Stream, ask, drive};
use crate::overload::tally::{Tally, ms, quantile};
use crate::overload::world::{GROUPS, World, touch};

const HUNGRY: &str = "hungry";
const QUIET: &str = "quiet";
const LIST: &str = "relata.v1.PermissionService/ListObjects";
/// What the server promises: an end within 50 ms of the deadline, and its histogram has a bound there.
const DEADLINE: Duration = Duration::from_millis(200);
const HONOURED: &str = "0.25";
/// Callers who never stop asking for lists.
const CALLERS: u32 = 32;
/// Readers who read nothing.
const STALLED: u32 = 40;
/// The same, as metrics count.
const READERS: f64 = STALLED as f64;

/// What quiet callers see.
#[derive(Debug)]
struct Seen {
    write: Duration,
    health: Duration,
    lag: Duration,
}

impl Seen {
    fn line(&self) -> String {
        format!(
            "99 % of writes within {} ms, of health within {} ms, of changes in the feed {} ms after their write",
            ms(self.write),
            ms(self.health),
            ms(self.lag)
        )
    }

    /// Within twice what it was, or within what nobody notices.
    fn is_within_twice(&self, idle: &Self, unnoticed: Duration) -> bool {
        let within = |now: Duration, then: Duration| now <= (then * 2).max(unnoticed);
        within(self.write, idle.write) && within(self.health, idle.health) && within(self.lag, idle.lag)
    }
}

/// Writes, asks for health and watches for so long.
async fn quiet_callers(world: &World, length: Duration, from: u32) -> Seen {
    let stream = |kind| Stream { store: QUIET, kind, per_second: 25.0, deadline: Duration::from_secs(10) };
    let channels = world.connections(2).await;
    let beside = tokio::spawn({
        let channels = channels.clone();
        async move { drive(&channels, &[stream(Kind::Health)], length).await }
    });
    let request = proto::WatchRequest { store: QUIET.to_owned(), ..Default::default() };
    let mut watch =
        TupleServiceClient::new(world.connect().await).watch(request).await.expect("a stream").into_inner();
    watch.message().await.expect("a message").expect("where it begins");
    let begun = Instant::now();
    let (mut writes, mut lags) = (Vec::new(), Vec::new());
    let mut number = from;
    while begun.elapsed() < length {
        let asked = Instant::now();
        let tuple = format!("doc:q{number}#viewer@user:owner");
        number += 1;
        TupleServiceClient::new(channels[0].clone()).write(touch(QUIET, &[tuple])).await.expect("written");
        let written = asked.elapsed();
        while watch.message().await.expect("a message").expect("no end").changes.is_empty() {}
        writes.push(written);
        lags.push(asked.elapsed().saturating_sub(written));
        tokio::time::sleep(Duration::from_millis(40).saturating_sub(asked.elapsed())).await;
    }
    let health = Tally::of(&beside.await.expect("asked"), Kind::Health, None);
    assert!((health.share() - 1.0).abs() < f64::EPSILON, "health always answers: {health:?}");
    writes.sort();
    lags.sort();
    Seen { write: quantile(&writes, 0.99), health: health.p99(), lag: quantile(&lags, 0.99) }
}

/// Opens streams that are larger than what a connection takes unread, and reads nothing.
async fn stalled(world: &World) -> Vec<Streaming<proto::ListSubjectsResponse>> {
    // As much as the protocol gives every stream: about a sixth of the list.
    let endpoint = Endpoint::from_shared(world.server.endpoint.clone()).expect("an address");
    let channel = endpoint.initial_stream_window_size(65_535).connect().await.expect("a server");
    let client: PermissionServiceClient<Channel> = PermissionServiceClient::new(channel);
    let mut streams = Vec::new();
    for _ in 0..STALLED {
        let request = proto::ListSubjectsRequest {
            store: QUIET.to_owned(),
            object: "doc:wide".to_owned(),
            relation: "viewer".to_owned(),
            subject_type: "user".to_owned(),
            ..Default::default()
        };
        streams.push(client.clone().list_subjects(request).await.expect("a stream").into_inner());
    }
    streams
}

/// How many readers have been let go, once that are all of them.
async fn let_go(world: &World) -> f64 {
    let begun = Instant::now();
    loop {
        let metrics = observed::scrape(world.server.operations()).await;
        let let_go = metrics.value("relata_admission_stalled_readers_total", &[]);
        if let_go >= READERS || begun.elapsed() > Duration::from_mins(2) {
            return let_go;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// How lists that cost too much ended.
#[derive(Debug, Default)]
struct Ends {
    exhausted: AtomicU32,
    refused: AtomicU32,
}

/// Asks for lists that cost too much, one after the other, until it is told to stop.
async fn hungry(channel: Channel, over: Arc<AtomicBool>, seen: Arc<Ends>) {
    let stream = Stream { store: HUNGRY, kind: Kind::LongList, per_second: 0.0, deadline: DEADLINE };
    while !over.load(Ordering::Relaxed) {
        let sample = ask(channel.clone(), &stream, 0).await;
        match sample.end {
            End::Exhausted => drop(seen.exhausted.fetch_add(1, Ordering::Relaxed)),
            // As a client should: not at once.
            End::Refused => {
                seen.refused.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            End::Late => {}
            End::Answered => panic!("it may not cost so much"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn starvation() {
    let _alone = alone().await;
    let long =
        std::env::var("RELATA_SCENARIO_SECONDS").ok().map(|text| text.parse::<u64>().expect("seconds"));
    let length = Duration::from_secs(long.map_or(3, |seconds| seconds / 2));
    // They are there as long as anything is measured, and then let go.
    let patience = (length.as_secs() * 2).to_string();
    // Somewhat less than the whole row of groups takes.
    let fuel = (GROUPS * 5).to_string();
    let flags = ["--search-fuel", &fuel, "--reader-patience", &patience];
    let world = World::start(&[HUNGRY, QUIET], &flags).await;
    let padding = "x".repeat(200);
    let wide = (0..2_000).map(|at| format!("doc:wide#viewer@user:{padding}{at}"));
    world.write(QUIET, wide.collect()).await;

    let idle = quiet_callers(&world, length, 0).await;
    println!("idle: {}", idle.line());

    let (over, ends) = (Arc::new(AtomicBool::new(false)), Arc::new(Ends::default()));
    let channels = world.connections(4).await;
    let callers: Vec<_> = channels
        .iter()
        .cycle()
        .take(CALLERS as usize)
        .map(|channel| tokio::spawn(hungry(channel.clone(), Arc::clone(&over), Arc::clone(&ends))))
        .collect();
    let mut unread = stalled(&world).await;
    tokio::time::sleep(length / 4).await;
    let before = world.server.resident_bytes();
    let saturated = quiet_callers(&world, length, 1_000_000).await;
    let after = world.server.resident_bytes();
    over.store(true, Ordering::Relaxed);
    for caller in callers {
        caller.await.expect("no surprise");
    }
    let let_go = let_go(&world).await;
    let metrics = observed::scrape(world.server.operations()).await;
    let refused = f64::from(ends.refused.load(Ordering::Relaxed));
    // What was refused was so early, and says nothing of deadlines.
    let begun = metrics.value("relata_request_seconds_count", &[("rpc", LIST)]) - refused;
    let honoured =
        metrics.value("relata_request_seconds_bucket", &[("rpc", LIST), ("le", HONOURED)]) - refused;
    println!(
        "saturated: {}; {refused} lists refused, {begun} begun, {} of them ended for what they cost, {:.2} % within 50 ms of their deadline; {let_go} readers let go; {} MiB, then {} MiB",
        saturated.line(),
        ends.exhausted.load(Ordering::Relaxed),
        honoured / begun * 100.0,
        before >> 20,
        after >> 20,
    );

    // A reader who comes back is told what happened.
    let mut reading = unread.pop().expect("a stream");
    let told = loop {
        match reading.message().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("the list was cut short and nobody said so"),
            Err(status) => break crate::grpc::reason(&status),
        }
    };
    assert_eq!(told, "READER_STALLED");

    assert!(ends.exhausted.load(Ordering::Relaxed) > 0);
    assert!((let_go - READERS).abs() < 0.5, "{let_go} of {READERS} readers were let go");
    let (unnoticed, punctual) =
        if long.is_some() { (Duration::from_millis(20), 0.999) } else { (Duration::from_secs(1), 0.9) };
    assert!(saturated.is_within_twice(&idle, unnoticed), "{saturated:?} and {idle:?} before");
    assert!(honoured >= begun * punctual, "{honoured} of {begun}");
    assert!(after <= before + before / 4 + (16 << 20), "{before} bytes, then {after}");
}

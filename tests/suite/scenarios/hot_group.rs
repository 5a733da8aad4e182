//! One group that everybody is in, while members come and go and everybody asks: no wrong answer, the
//! feed keeps up, memory stays where it is, and a reader who never finishes costs nothing for long.
//!
//! The short form has some ten thousand members. In full, five million members, 200 of them replaced
//! each second, 10,000 Checks each second, for ten minutes, on a release build:
//!
//! ```text
//! cargo build --release
//! RELATA_PROGRAM=target/release/relata RELATA_SCENARIO_SECONDS=600 \
//!     cargo test --test suite scenarios::hot_group -- --nocapture
//! ```
//!
//! `RELATA_HOT_GROUP_MEMBERS` and `RELATA_HOT_GROUP_CHECKS` make it smaller, for smaller machines.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::future::join_all;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use relata::proto;
use relata::proto::Verdict;
use relata::proto::consistency::Requirement;
use relata::proto::permission_service_client::PermissionServiceClient;
use relata::proto::schema_service_client::SchemaServiceClient;
use relata::proto::tuple_service_client::TupleServiceClient;
use relata::proto::update::Operation;
use tokio::time::{MissedTickBehavior, interval, sleep};
use tonic::Request;
use tonic::transport::{Channel, Endpoint};

use crate::grpc::{consistency, question, reason, update};
use crate::observed::{scrape, scrape_until};
use crate::program::{Record, Server};

const MIB: usize = 1 << 20;

const SCHEMA: &str = "model
  schema 1.1
type user
type group
  relations
    define member: [user]
type doc
  relations
    define viewer: [group#member]
";

/// Each replaces members of its own: those whose number leaves a certain rest.
const WRITERS: u64 = 8;
/// Members replaced each second.
const ADDS: u64 = 200;
/// Of ten Checks, nine come in batches of so many.
const BATCH: u64 = 100;
/// Each asks, waits for the answer and asks again.
const BATCHERS: u64 = 6;
const SINGLES: u64 = 10;
/// How much longer than asked for a run may take to have shown anything.
const PATIENCE: Duration = Duration::from_mins(1);

/// What is run.
#[derive(Debug, Clone, Copy)]
struct Form {
    members: u64,
    length: Duration,
    /// Each second.
    checks: u64,
    /// `--snapshot-age`, in seconds.
    age: u64,
    /// Whether the machine is this test's alone, so that time can be measured.
    full: bool,
}

impl Form {
    fn chosen() -> Self {
        let number = |name| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
        match number("RELATA_SCENARIO_SECONDS") {
            None => {
                Self { members: 8_000, length: Duration::from_secs(3), checks: 1_000, age: 1, full: false }
            }
            Some(seconds) => Self {
                members: number("RELATA_HOT_GROUP_MEMBERS").unwrap_or(5_000_000),
                length: Duration::from_secs(seconds),
                checks: number("RELATA_HOT_GROUP_CHECKS").unwrap_or(10_000),
                age: 30,
                full: true,
            },
        }
    }
}

/// What is known of the members of one writer, which come and go in the order of their numbers.
/// What was begun may have happened, what was acknowledged has.
#[derive(Debug, Default)]
struct Window {
    adds_begun: AtomicU64,
    removals_begun: AtomicU64,
    acknowledged: Mutex<Acknowledged>,
}

#[derive(Debug, Default, Clone)]
struct Acknowledged {
    adds: u64,
    removals: u64,
    /// Of the last write.
    zookie: String,
}

/// What may be said of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    In,
    Out,
    /// It came or went while it was asked about.
    Either,
}

impl Window {
    fn now(&self) -> Acknowledged {
        self.acknowledged.lock().expect("whole").clone()
    }

    /// What holds at some moment between `before` and now.
    fn known(&self, before: &Acknowledged, member: u64) -> Known {
        if member < before.removals || member >= self.adds_begun.load(Ordering::SeqCst) {
            Known::Out
        } else if member < before.adds && member >= self.removals_begun.load(Ordering::SeqCst) {
            Known::In
        } else {
            Known::Either
        }
    }
}

#[derive(Debug)]
struct Run {
    form: Form,
    channel: Channel,
    windows: Vec<Window>,
    over: AtomicBool,
    adds: AtomicU64,
    checks: AtomicU64,
    /// Answers that could not be judged, as the member was on its way.
    either: AtomicU64,
    /// How often the reader was told that it is too slow.
    told: AtomicU64,
    /// What single Checks took, in microseconds.
    latencies: Mutex<Vec<u32>>,
}

fn user(writer: u64, member: u64) -> String {
    format!("user:{writer}-{member:08}")
}

fn membership(writer: u64, member: u64) -> String {
    format!("group:all#member@{}", user(writer, member))
}

async fn connect(server: &Server) -> Channel {
    Endpoint::from_shared(server.endpoint.clone()).expect("an address").connect().await.expect("a server")
}

/// Ticks so often a second, starting anew when it could not keep up.
fn pace(per_second: f64) -> tokio::time::Interval {
    let mut ticks = interval(Duration::from_secs_f64(1.0 / per_second));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    ticks
}

#[allow(clippy::cast_precision_loss, reason = "small numbers")]
fn fraction(part: u64, whole: u64) -> f64 {
    part as f64 / whole as f64
}

impl Run {
    /// Replaces one member after another.
    async fn replace(&self, writer: u64) {
        let window = &self.windows[usize::try_from(writer).expect("few")];
        let mut tuples = TupleServiceClient::new(self.channel.clone());
        let mut ticks = pace(fraction(ADDS, WRITERS));
        while !self.over.load(Ordering::Relaxed) {
            ticks.tick().await;
            let Acknowledged { adds, removals, .. } = window.now();
            window.adds_begun.store(adds + 1, Ordering::SeqCst);
            window.removals_begun.store(removals + 1, Ordering::SeqCst);
            let updates = vec![
                update(Operation::Create, &membership(writer, adds)),
                update(Operation::Delete, &membership(writer, removals)),
            ];
            let request = proto::WriteRequest { updates, ..Default::default() };
            let zookie = tuples.write(request).await.expect("written").into_inner().zookie;
            *window.acknowledged.lock().expect("whole") =
                Acknowledged { adds: adds + 1, removals: removals + 1, zookie };
            self.adds.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A member worth asking about: of those there are, of the newest, of those gone, of those to come.
    fn pick(before: &Acknowledged, random: &mut StdRng) -> u64 {
        match random.random_range(0..10) {
            0..6 => random.random_range(before.removals..before.adds),
            6..8 => before.adds - 1 - random.random_range(0..3),
            8 => before.removals.saturating_sub(1 + random.random_range(0..50)),
            _ => before.adds + random.random_range(0..1_000),
        }
    }

    fn judge(&self, writer: u64, before: &Acknowledged, member: u64, verdict: Verdict) {
        self.checks.fetch_add(1, Ordering::Relaxed);
        let window = &self.windows[usize::try_from(writer).expect("few")];
        match window.known(before, member) {
            Known::In => assert_eq!(verdict, Verdict::Allowed, "{}", user(writer, member)),
            Known::Out => assert_eq!(verdict, Verdict::Denied, "{}", user(writer, member)),
            Known::Either => {
                self.either.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    async fn ask_in_batches(&self, asker: u64) {
        let mut random = StdRng::seed_from_u64(asker);
        let mut permissions = PermissionServiceClient::new(self.channel.clone());
        let mut ticks = pace(fraction(self.form.checks * 9 / 10, BATCH * BATCHERS));
        while !self.over.load(Ordering::Relaxed) {
            ticks.tick().await;
            let writer = random.random_range(0..WRITERS);
            let before = self.windows[usize::try_from(writer).expect("few")].now();
            let members: Vec<u64> = (0..BATCH).map(|_| Self::pick(&before, &mut random)).collect();
            let item = |member: &u64| proto::BatchCheckItem {
                object: "doc:plan".to_owned(),
                relation: "viewer".to_owned(),
                subject: user(writer, *member),
            };
            let request = proto::BatchCheckRequest {
                items: members.iter().map(item).collect(),
                consistency: consistency(Requirement::AtLeast(before.zookie.clone())),
                ..Default::default()
            };
            let answer = permissions.batch_check(request).await.expect("an answer").into_inner();
            assert_eq!(answer.results.len(), members.len());
            for (member, result) in members.into_iter().zip(answer.results) {
                self.judge(writer, &before, member, result.verdict());
            }
        }
    }

    async fn ask_one_by_one(&self, asker: u64) {
        let mut random = StdRng::seed_from_u64(1_000 + asker);
        let mut permissions = PermissionServiceClient::new(self.channel.clone());
        let mut ticks = pace(fraction(self.form.checks / 10, SINGLES));
        while !self.over.load(Ordering::Relaxed) {
            ticks.tick().await;
            let writer = random.random_range(0..WRITERS);
            let before = self.windows[usize::try_from(writer).expect("few")].now();
            let member = Self::pick(&before, &mut random);
            let request = proto::CheckRequest {
                consistency: consistency(Requirement::AtLeast(before.zookie.clone())),
                ..question(&format!("doc:plan#viewer@{}", user(writer, member)))
            };
            let sent = Instant::now();
            let answer = permissions.check(request).await.expect("an answer").into_inner();
            let took = u32::try_from(sent.elapsed().as_micros()).expect("not for ever");
            self.latencies.lock().expect("whole").push(took);
            self.judge(writer, &before, member, answer.verdict());
        }
    }

    /// Lists the whole group, a message now and then, and begins again when it is told that this
    /// takes too long.
    async fn never_finish(&self, server: &Server) {
        let endpoint = Endpoint::from_shared(server.endpoint.clone()).expect("an address");
        let endpoint = endpoint.initial_connection_window_size(65_535).initial_stream_window_size(65_535);
        let mut permissions = PermissionServiceClient::new(endpoint.connect().await.expect("a server"));
        'lists: while !self.over.load(Ordering::Relaxed) {
            let mut request = Request::new(proto::ListSubjectsRequest {
                object: "group:all".to_owned(),
                relation: "member".to_owned(),
                subject_type: "user".to_owned(),
                ..Default::default()
            });
            request.set_timeout(Duration::from_hours(24));
            let mut list = permissions.list_subjects(request).await.expect("a list").into_inner();
            while !self.over.load(Ordering::Relaxed) {
                match list.message().await {
                    Ok(message) => assert!(message.is_some(), "a list of everybody was read to its end"),
                    Err(status) => {
                        assert_eq!(reason(&status), "STREAM_TOO_OLD", "{status:?}");
                        self.told.fetch_add(1, Ordering::Relaxed);
                        continue 'lists;
                    }
                }
                sleep(Duration::from_millis(400)).await;
            }
        }
    }
}

/// Fills the group, with every writer's share at once.
async fn fill(channel: &Channel, members: u64) {
    let request = proto::WriteSchemaRequest { text: SCHEMA.to_owned(), ..Default::default() };
    SchemaServiceClient::new(channel.clone()).write_schema(request).await.expect("a schema");
    let plan = vec![update(Operation::Touch, "doc:plan#viewer@group:all#member")];
    let request = proto::WriteRequest { updates: plan, ..Default::default() };
    TupleServiceClient::new(channel.clone()).write(request).await.expect("written");
    let share = members / WRITERS;
    join_all((0..WRITERS).map(|writer| async move {
        let mut tuples = TupleServiceClient::new(channel.clone());
        for from in (0..share).step_by(1_000) {
            let some = from..share.min(from + 1_000);
            let updates = some.map(|member| update(Operation::Create, &membership(writer, member))).collect();
            tuples.write(proto::WriteRequest { updates, ..Default::default() }).await.expect("written");
        }
    }))
    .await;
}

/// What a server takes, and what it holds.
#[derive(Debug, Clone, Copy)]
struct Sample {
    resident: usize,
    graph: f64,
    ring: f64,
    live: f64,
    dead: f64,
    retired: f64,
}

async fn sample(server: &Server) -> Sample {
    let page = scrape(server.operations()).await;
    let bytes = |class| page.value("relata_memory_bytes", &[("class", class)]);
    let ids = |state| page.value("relata_memory_ids", &[("state", state)]);
    Sample {
        resident: server.resident_bytes(),
        graph: bytes("graph"),
        ring: bytes("ring"),
        live: ids("live"),
        dead: ids("dead"),
        retired: page.value("relata_memory_graphs_retired", &[]),
    }
}

/// How many revisions were published within a time of their commit, and how many in all.
async fn published_within(server: &Server, seconds: &str) -> (f64, f64) {
    let page = scrape(server.operations()).await;
    let bucket = page.value("relata_feed_publish_delay_seconds_bucket", &[("le", seconds)]);
    (bucket, page.value("relata_feed_publish_delay_seconds_count", &[]))
}

fn percentile(sorted: &[u32], hundredths: usize) -> Duration {
    let at = (sorted.len() * hundredths / 100).min(sorted.len() - 1);
    Duration::from_micros(sorted[at].into())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[allow(clippy::too_many_lines, reason = "one story, told in order")]
async fn hot_group() {
    let form = Form::chosen();
    let record = Record::sqlite();
    let age = form.age.to_string();
    let arguments = ["--operations-listen", "127.0.0.1:0", "--snapshot-age", &age];
    let server = Server::start(&record, &arguments);
    let begun = Instant::now();
    fill(&connect(&server).await, form.members).await;
    println!("{} members written in {:.1?}", form.members, begun.elapsed());
    assert_eq!(server.stop(), 0);

    let begun = Instant::now();
    let server = Server::start(&record, &arguments);
    while scrape(server.operations()).await.find("relata_memory_stores_resident", &[]) != Some(1.0) {
        assert!(begun.elapsed() < Duration::from_mins(10), "the store does not load");
        sleep(Duration::from_millis(50)).await;
    }
    let first = sample(&server).await;
    println!("loaded in {:.1?}: {} MiB resident", begun.elapsed(), first.resident / MIB);

    let share = form.members / WRITERS;
    let window = |_| {
        let window = Window::default();
        window.adds_begun.store(share, Ordering::SeqCst);
        window.acknowledged.lock().expect("whole").adds = share;
        window
    };
    let channel = connect(&server).await;
    let newest = TupleServiceClient::new(channel.clone())
        .write(proto::WriteRequest {
            updates: vec![update(Operation::Touch, "doc:plan#viewer@group:all#member")],
            ..Default::default()
        })
        .await
        .expect("a zookie")
        .into_inner()
        .zookie;
    let run = Arc::new(Run {
        form,
        channel,
        windows: (0..WRITERS).map(window).collect(),
        over: AtomicBool::new(false),
        adds: AtomicU64::new(0),
        checks: AtomicU64::new(0),
        either: AtomicU64::new(0),
        told: AtomicU64::new(0),
        latencies: Mutex::default(),
    });
    for window in &run.windows {
        window.acknowledged.lock().expect("whole").zookie.clone_from(&newest);
    }
    let server = Arc::new(server);
    let (in_time, published) = published_within(&server, "0.1").await;
    let begun = Instant::now();
    let mut tasks = Vec::new();
    for writer in 0..WRITERS {
        let run = Arc::clone(&run);
        tasks.push(tokio::spawn(async move { run.replace(writer).await }));
    }
    for asker in 0..BATCHERS {
        let run = Arc::clone(&run);
        tasks.push(tokio::spawn(async move { run.ask_in_batches(asker).await }));
    }
    for asker in 0..SINGLES {
        let run = Arc::clone(&run);
        tasks.push(tokio::spawn(async move { run.ask_one_by_one(asker).await }));
    }
    let reader = tokio::spawn({
        let (run, server) = (Arc::clone(&run), Arc::clone(&server));
        async move { run.never_finish(&server).await }
    });
    let mut samples: Vec<Sample> = Vec::new();
    let mut next_line = Duration::ZERO;
    // A machine that has much else to do gets more time for the least that shows anything.
    let enough = || run.adds.load(Ordering::Relaxed) >= 100 && run.told.load(Ordering::Relaxed) >= 1;
    while (begun.elapsed() < form.length || (!enough() && begun.elapsed() < form.length + PATIENCE))
        && tasks.iter().all(|task| !task.is_finished())
    {
        sleep(Duration::from_secs(1).min(form.length / 8)).await;
        let now = sample(&server).await;
        samples.push(now);
        if begun.elapsed() >= next_line {
            next_line += (form.length / 20).max(Duration::from_secs(1));
            println!(
                "{:>4.0} s: {} MiB resident, graph {:.0} MiB, recent changes {:.0} MiB, ids {:.0} live {:.0} dead, {:.0} retired; {} replaced, {} checked",
                begun.elapsed().as_secs_f64(),
                now.resident / MIB,
                now.graph / 1_048_576.0,
                now.ring / 1_048_576.0,
                now.live,
                now.dead,
                now.retired,
                run.adds.load(Ordering::Relaxed),
                run.checks.load(Ordering::Relaxed),
            );
        }
    }
    let took = begun.elapsed();
    run.over.store(true, Ordering::Relaxed);
    for task in tasks {
        task.await.expect("every answer is right");
    }
    reader.abort();
    let (in_time, published) = {
        let (in_time_now, published_now) = published_within(&server, "0.1").await;
        (in_time_now - in_time, published_now - published)
    };
    let adds = run.adds.load(Ordering::Relaxed);
    let checks = run.checks.load(Ordering::Relaxed);
    let mut latencies = run.latencies.lock().expect("whole").clone();
    latencies.sort_unstable();
    let most = samples.iter().map(|sample| sample.resident).max().expect("samples");
    let per_second = |count: u64| fraction(count, 1) / took.as_secs_f64();
    println!(
        "{} members for {took:.0?}: {adds} replaced ({:.0}/s), {checks} checked ({:.0}/s, {} of them not judged), single Checks p50 {:?}, p99 {:?}, longest {:?}; {:.2} % of {published} revisions published within 0.1 s of their commit; the reader was told {} times; {} MiB resident after loading, {} MiB at most",
        form.members,
        per_second(adds),
        per_second(checks),
        run.either.load(Ordering::Relaxed),
        percentile(&latencies, 50),
        percentile(&latencies, 99),
        percentile(&latencies, 100),
        in_time / published * 100.0,
        run.told.load(Ordering::Relaxed),
        first.resident / MIB,
        most / MIB,
    );

    // Whoever goes leaves his id to whoever comes.
    let last = scrape_until(server.operations(), "the ids", |page| {
        let live = page.value("relata_memory_ids", &[("state", "live")]);
        (live - first.live).abs() < 0.5
    })
    .await;
    let dead = last.value("relata_memory_ids", &[("state", "dead")]);
    assert!(dead <= fraction(WRITERS, 1), "{dead} ids wait for {adds} newcomers that have come");
    assert!(adds >= 100, "{adds} members were replaced");
    // What is counted stays where it was. On top come recent changes, what the reader holds of a state
    // gone by, and his list itself, which is of everybody: a hundred bytes a member, and twice that
    // while one list ends and the next begins.
    let graph = last.value("relata_memory_bytes", &[("class", "graph")]);
    assert!(graph <= first.graph * 1.02, "{graph} bytes of graph, at first {}", first.graph);
    let listed = usize::try_from(form.members).expect("a number") * 200;
    let bound = first.resident + first.resident / 4 + listed + 256 * MIB;
    assert!(most <= bound, "the process took {} MiB", most / MIB);
    // And it does not creep: the second half takes no more than the first did.
    let (early, late) = samples.split_at(samples.len() / 2);
    let most_of = |samples: &[Sample]| samples.iter().map(|sample| sample.resident).max().unwrap_or_default();
    let (early, late) = (most_of(early), most_of(late));
    assert!(late <= early + early / 4 + 64 * MIB, "{} MiB became {} MiB", early / MIB, late / MIB);
    assert!(run.told.load(Ordering::Relaxed) > 0, "the reader was never told");
    assert!(run.either.load(Ordering::Relaxed) * 4 < checks, "most answers are judged");
    if form.full {
        assert!(in_time / published > 0.99, "the feed lags");
        let asked = fraction(form.checks, 1);
        assert!(per_second(adds) > 0.95 * fraction(ADDS, 1), "too few were replaced");
        assert!(per_second(checks) > 0.95 * asked, "too few questions were answered");
    }
    let server = Arc::into_inner(server);
    if let Some(server) = server {
        assert_eq!(server.stop(), 0);
    }
}

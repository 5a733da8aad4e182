//! **Cut connection at every step.** Three nodes on one PostgreSQL, each through a proxy that breaks
//! the connection before, within and after each message of a commit, in either direction, COMMIT
//! included; also so that COMMIT arrives long after its sender has seen the connection end.
//!
//! Without an idempotency key a client asks once: it must be told success, once and for all. With a
//! key it is impatient and asks one node after the other. Meanwhile readers ask for full
//! consistency. Afterwards the log decides: each acknowledged write is in it exactly once, under
//! the revision its client was told, revisions are gapless, and all answers are those of one
//! linear history: no answer is older than what was acknowledged, or read, before it was asked.
//!
//! First every step is taken once, then connections break at random under load for a few seconds;
//! `RELATA_SCENARIO_SECONDS` says for how many, and `RELATA_SCENARIO_SEED` repeats a choice.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use relata::config::DatastoreConfig;
use relata::datastore::postgres::{Postgres, PostgresSettings};
use relata::datastore::{Datastore, LogEntry};
use relata::metrics::Metrics;
use relata::proto;
use relata::proto::consistency::Requirement;
use relata::proto::permission_service_client::PermissionServiceClient;
use relata::proto::tuple_service_client::TupleServiceClient;
use relata::proto::update::Operation;
use relata::revision::{Revision, Zookie};
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

use crate::faults::{Cut, Moment, Proxy, Side, Trap};
use crate::grpc::{Running, consistency, question, update};
use crate::postgres_server::fresh_database;

const NODES: usize = 3;
/// What every commit begins with.
const BEGIN: &str = "BEGIN ISOLATION";
/// A round trip of these nodes at most, so that a connection that hangs is given up soon.
const ROUND_TRIP: Duration = Duration::from_secs(1);
/// How long a client with an idempotency key waits for one node.
const IMPATIENCE: Duration = Duration::from_millis(200);
/// How long a client may go on in vain.
const PATIENCE: Duration = Duration::from_mins(1);

/// What clients saw.
#[derive(Default)]
struct History {
    writes: Mutex<Vec<Written>>,
    reads: Mutex<Vec<ReadBack>>,
    /// Writes of which their client does not know whether they happened.
    unknown: AtomicU64,
    over: AtomicBool,
    next: AtomicU64,
}

struct Written {
    name: String,
    began: Instant,
    ended: Instant,
    revision: u64,
}

struct ReadBack {
    tuple: String,
    began: Instant,
    ended: Instant,
    revision: u64,
    there: bool,
}

struct World {
    url: String,
    proxies: Vec<Arc<Proxy>>,
    servers: Vec<Running>,
    history: Arc<History>,
}

impl World {
    async fn start() -> Option<Self> {
        let url = tokio::task::spawn_blocking(fresh_database).await.expect("a cluster")?;
        let (mut proxies, mut servers) = (Vec::new(), Vec::new());
        for _ in 0..NODES {
            let (proxy, through) = Proxy::before_database(&url);
            proxies.push(Arc::new(proxy));
            let server = Running::on_url(&through, |config| {
                if let DatastoreConfig::Postgres(settings) = &mut config.datastore {
                    settings.round_trip = ROUND_TRIP;
                }
            });
            servers.push(server.await);
        }
        servers[0].with_schema().await;
        Some(Self { url, proxies, servers, history: Arc::default() })
    }

    fn channels(&self) -> Vec<Channel> {
        self.servers.iter().map(|server| server.channel.clone()).collect()
    }

    fn writer(&self, home: usize, keyed: bool) -> Writer {
        let number = self.history.next.fetch_add(1, Ordering::SeqCst);
        let history = self.history.clone();
        Writer { channels: self.channels(), node: home, keyed, history, number, object: 0, writes: 0 }
    }

    fn readers(&self) -> Vec<tokio::task::JoinHandle<u64>> {
        let reader = |node: usize| {
            let (channel, history) = (self.channels()[node].clone(), self.history.clone());
            tokio::spawn(read(channel, history, node as u64))
        };
        (0..NODES).map(reader).collect()
    }
}

/// Turns one tuple after the other on and off.
struct Writer {
    channels: Vec<Channel>,
    node: usize,
    keyed: bool,
    history: Arc<History>,
    number: u64,
    object: u64,
    writes: u64,
}

/// The tuple that a writer's name stands for. Readers ask for those of the first objects.
fn tuple(number: u64, object: u64) -> String {
    format!("doc:{number}-{object}#granted@user:ann")
}

impl Writer {
    /// One write, until it is known what became of it.
    async fn write(&mut self) -> Result<(), Status> {
        let name = format!("{}-{}-{}", self.number, self.object, self.writes);
        let text = tuple(self.number, self.object);
        let change = if self.writes.is_multiple_of(2) {
            update(Operation::Create, &text)
        } else {
            proto::Update { must_exist: true, ..update(Operation::Delete, &text) }
        };
        let request = proto::WriteRequest {
            updates: vec![change],
            note: name.clone(),
            idempotency_key: if self.keyed { name.clone() } else { String::new() },
            ..Default::default()
        };
        let began = Instant::now();
        let answer = loop {
            let mut call = Request::new(request.clone());
            if self.keyed {
                call.set_timeout(IMPATIENCE);
            }
            let mut client = TupleServiceClient::new(self.channels[self.node].clone());
            match client.write(call).await {
                Ok(answer) => break Ok(answer.into_inner()),
                Err(status) => {
                    let known = [Code::Unavailable, Code::DeadlineExceeded, Code::Cancelled];
                    assert!(known.contains(&status.code()), "{name}: {status:?}");
                    assert!(began.elapsed() < PATIENCE, "{name}: {status:?}");
                    if !self.keyed {
                        break Err(status);
                    }
                    self.node = (self.node + 1) % NODES;
                }
            }
        };
        let answer = match answer {
            Ok(answer) => answer,
            Err(status) => {
                // Whether the tuple is there is not known: go on with another one.
                (self.object, self.writes) = (self.object + 1, 0);
                self.history.unknown.fetch_add(1, Ordering::SeqCst);
                return Err(status);
            }
        };
        assert!(self.keyed || !answer.replayed);
        let written = Written { name, began, ended: Instant::now(), revision: revision(&answer.zookie) };
        self.history.writes.lock().expect("no panic").push(written);
        self.writes += 1;
        Ok(())
    }
}

fn revision(zookie: &str) -> u64 {
    zookie.parse::<Zookie>().expect("a zookie").revision.0
}

/// Asks for full consistency until the history is over; how many questions were answered.
async fn read(channel: Channel, history: Arc<History>, seed: u64) -> u64 {
    let mut random = StdRng::seed_from_u64(seed);
    let mut answered = 0;
    while !history.over.load(Ordering::SeqCst) {
        let writers = history.next.load(Ordering::SeqCst).max(1);
        let tuple = tuple(random.random_range(0..writers), 0);
        let consistency = consistency(Requirement::Full(()));
        let request = proto::CheckRequest { consistency, ..question(&tuple) };
        let began = Instant::now();
        match PermissionServiceClient::new(channel.clone()).check(request).await {
            Ok(answer) => {
                let answer = answer.into_inner();
                let there = answer.verdict() == proto::Verdict::Allowed;
                let (ended, revision) = (Instant::now(), revision(&answer.zookie));
                history.reads.lock().expect("no panic").push(ReadBack {
                    tuple,
                    began,
                    ended,
                    revision,
                    there,
                });
                answered += 1;
            }
            Err(status) => {
                let known = [Code::Unavailable, Code::DeadlineExceeded, Code::Cancelled];
                assert!(known.contains(&status.code()), "{status:?}");
            }
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    answered
}

/// How many messages a commit takes, of the client and of the server, as seen by one that nothing
/// disturbs.
async fn messages_of_a_commit(world: &World) -> (usize, usize) {
    let mut writer = world.writer(0, false);
    // The first ones prepare their statements.
    for _ in 0..3 {
        writer.write().await.expect("committed");
    }
    world.proxies[0].record();
    writer.write().await.expect("committed");
    let recorded = world.proxies[0].recorded();
    let begin = recorded.iter().position(|seen| seen.text.contains(BEGIN)).expect("a commit");
    let connection = recorded[begin].connection;
    let of = |side| {
        let seen = recorded[begin..].iter();
        seen.filter(|seen| seen.connection == connection && seen.side == side).count()
    };
    let last = recorded.iter().rfind(|seen| seen.connection == connection && seen.side == Side::Client);
    assert!(last.is_some_and(|seen| seen.text.ends_with("COMMIT")), "{recorded:?}");
    (of(Side::Client), of(Side::Server))
}

/// Every place at which a commit can be cut.
fn steps(asked: usize, answered: usize) -> Vec<(Side, Moment, usize)> {
    let moments = [Moment::Before, Moment::Within, Moment::After];
    let mut steps: Vec<_> =
        (1..=asked).flat_map(|n| moments.map(|moment| (Side::Client, moment, n))).collect();
    steps.push((Side::Client, Moment::Late(Duration::from_millis(40)), asked));
    // After an answer and before the next one is the same.
    steps.extend((1..=answered).map(|n| (Side::Server, Moment::Before, n)));
    steps.push((Side::Server, Moment::After, answered));
    steps
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn cut_connection_at_every_step() {
    let Some(world) = World::start().await else { return };
    let (asked, answered) = messages_of_a_commit(&world).await;
    let readers = world.readers();

    let (started, long) = (Instant::now(), setting("RELATA_SCENARIO_SECONDS").is_some());
    let mut points = 0;
    for (side, moment, n) in steps(asked, answered) {
        // In the short form with a key at every other step.
        let keys = if long { vec![false, true] } else { vec![points % 2 == 1] };
        for keyed in keys {
            let node = points % NODES;
            points += 1;
            let sprung = world.proxies[node].set(Trap::at(side, moment).since(BEGIN).nth(n));
            let mut writer = world.writer(node, keyed);
            for _ in 0..2 {
                let written = writer.write().await;
                written.unwrap_or_else(|status| panic!("{moment:?} message {n} of the {side:?}: {status:?}"));
            }
            assert!(sprung.yet(), "{moment:?} message {n} of the {side:?}: nothing was cut");
        }
    }
    println!(
        "{points} cuts at {asked} messages of the client and {answered} of the server, {:?}",
        started.elapsed()
    );

    cut_at_random(&world).await;
    world.history.over.store(true, Ordering::SeqCst);
    for reader in readers {
        assert!(reader.await.expect("a reader") > 0, "a reader was never answered");
    }
    reckon(&world).await;
    for server in world.servers {
        server.stop().await;
    }
}

/// Writers with and without keys on every node, and connections that break at any step.
async fn cut_at_random(world: &World) {
    let seconds = setting("RELATA_SCENARIO_SECONDS").unwrap_or(2);
    let seed = setting("RELATA_SCENARIO_SEED").unwrap_or_else(rand::random);
    println!("connections break at random for {seconds} s, RELATA_SCENARIO_SEED={seed}");
    let over = Instant::now() + Duration::from_secs(seconds);
    let writers: Vec<_> = (0..2 * NODES)
        .map(|number| {
            let mut writer = world.writer(number % NODES, number < NODES);
            tokio::spawn(async move {
                while Instant::now() < over {
                    if let Err(status) = writer.write().await {
                        println!("not known: {status:?}");
                    }
                }
            })
        })
        .collect();
    let mut random = StdRng::seed_from_u64(seed);
    let (mut cuts, mut pending) = (0, HashMap::new());
    while Instant::now() < over {
        tokio::time::sleep(Duration::from_millis(random.random_range(5..60))).await;
        let node = random.random_range(0..NODES);
        let proxy = world.proxies[node].clone();
        if random.random_bool(0.02) {
            cuts += tokio::task::spawn_blocking(move || proxy.cut_all(Cut::Reset)).await.expect("cut");
            continue;
        }
        if pending.get(&node).is_some_and(|sprung: &crate::faults::Sprung| !sprung.yet()) {
            proxy.clear();
        } else {
            cuts += 1;
        }
        let side = if random.random_bool(0.5) { Side::Client } else { Side::Server };
        let moment = match random.random_range(0..4) {
            0 => Moment::Before,
            1 => Moment::Within,
            2 => Moment::After,
            _ => Moment::Late(Duration::from_millis(random.random_range(1..80))),
        };
        let cut = match random.random_range(0..10) {
            0 => Cut::Hang,
            1 | 2 => Cut::Close,
            _ => Cut::Reset,
        };
        let trap = Trap::at(side, moment).since(BEGIN).nth(random.random_range(1..25)).by(cut);
        pending.insert(node, proxy.set(trap));
    }
    for proxy in &world.proxies {
        proxy.clear();
        // What hung is over. Half a message may have been all that the database got of a transaction
        // that holds the lock: it waits for the other half for as long as the connection lasts.
        let proxy = proxy.clone();
        tokio::task::spawn_blocking(move || proxy.cut_all(Cut::Reset)).await.expect("cut");
    }
    for writer in writers {
        writer.await.expect("a writer");
    }
    let (written, unknown) =
        (world.history.writes.lock().expect("no panic").len(), world.history.unknown.load(Ordering::SeqCst));
    println!("about {cuts} cuts at random; {written} writes acknowledged, {unknown} unknown");
}

/// Holds what clients saw against the log.
async fn reckon(world: &World) {
    let log = log(&world.url).await;
    let reads = world.history.reads.lock().expect("no panic");
    let writes = world.history.writes.lock().expect("no panic");
    println!("{} revisions, {} reads", log.len(), reads.len());

    // Each write once, where its client was told.
    let mut logged: HashMap<&str, u64> = HashMap::new();
    for entry in log.iter().filter(|entry| !entry.note.is_empty()) {
        let twice = logged.insert(&entry.note, entry.revision.0);
        assert_eq!(twice, None, "`{}` was written twice, the second time as {}", entry.note, entry.revision);
    }
    for write in writes.iter() {
        assert_eq!(logged.get(write.name.as_str()), Some(&write.revision), "`{}`", write.name);
    }

    // Each answer is what the log says of its revision.
    let mut states: BTreeMap<String, BTreeMap<u64, bool>> = BTreeMap::new();
    for entry in &log {
        for change in &entry.changes {
            let states = states.entry(change.key.to_string()).or_default();
            states.insert(entry.revision.0, change.after.is_some());
        }
    }
    for read in reads.iter() {
        let states = states.get(&read.tuple);
        let there = states.and_then(|states| states.range(..=read.revision).next_back());
        let there = there.is_some_and(|(_, there)| *there);
        assert_eq!(read.there, there, "{} at {}", read.tuple, read.revision);
    }

    // The order of revisions is an order in which everything may have happened: whatever ended
    // before something else began comes before it.
    let mut moments: Vec<(Instant, bool, u64, &str)> = Vec::new();
    for write in writes.iter() {
        // A write is later than all that ended before: its revision is greater, so is one below.
        moments.push((write.began, true, write.revision - 1, &write.name));
        moments.push((write.ended, false, write.revision, &write.name));
    }
    for read in reads.iter() {
        moments.push((read.began, true, read.revision, "a read"));
        moments.push((read.ended, false, read.revision, "a read"));
    }
    moments.sort();
    let mut known = (0, "nothing");
    for (_, begins, revision, what) in moments {
        if begins {
            assert!(revision >= known.0, "{what} is of {revision}, after {} had seen {}", known.1, known.0);
        } else {
            known = known.max((revision, what));
        }
    }
}

async fn log(url: &str) -> Vec<LogEntry> {
    let settings = PostgresSettings::new(url.parse().expect("a URL"));
    let datastore = Postgres::connect(settings, Metrics::new()).await.expect("a connection");
    let store = datastore.store_named("default").await.expect("an answer").expect("a store").id;
    let mut log: Vec<LogEntry> = Vec::new();
    loop {
        // The datastore itself refuses a log with gaps.
        let from = Revision(log.len() as u64 + 1);
        let more = datastore.log(store, from, 1_000).await.expect("the log");
        if more.is_empty() {
            return log;
        }
        log.extend(more);
    }
}

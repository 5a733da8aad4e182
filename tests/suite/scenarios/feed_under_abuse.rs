//! **Feed under abuse.** Hints are lost, doubled and overtake one another, queries fail before and
//! after they have read, the log is trimmed between two looks at it, a server is parted from its
//! database, and a pooler in transaction mode lends out the database's sessions. Whatever a server
//! shows is what was there at the revision it names, staleness is refused after the bound, and
//! what was missed is caught up with exactly.
//!
//! `RELATA_SCENARIO_SECONDS` says how long each part goes on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use relata::config::DatastoreConfig;
use relata::datastore::Datastore;
use relata::datastore::faulty::{Fault, Faulty, HintFaults, Method, Moment};
use relata::datastore::postgres::{Postgres, PostgresSettings};
use relata::datastore::sqlite::Sqlite;
use relata::feed::{Feed, FeedError, FeedSettings, Replica};
use relata::metrics::Metrics;
use relata::proto;
use relata::proto::Verdict;
use relata::proto::consistency::Requirement;
use relata::proto::update::Operation;
use relata::revision::{Revision, WriteId, Zookie};
use tonic::{Code, Request, Status};

use crate::faults::{Cut, Gate, Proxy};
use crate::feed::harness::{Record, quick, soon};
use crate::feed::held;
use crate::grpc::{Running, consistency, question, reason, two_nodes, update};
use crate::pgbouncer::{Mode, PgBouncer};
use crate::postgres_server::fresh_database;

/// How long a part of the scenario goes on.
fn length(short: Duration) -> Duration {
    let seconds = std::env::var("RELATA_SCENARIO_SECONDS").ok();
    seconds.map_or(short, |text| Duration::from_secs(text.parse().expect("a number of seconds")))
}

/// The store as it was at each revision.
type States = BTreeMap<Revision, (WriteId, BTreeSet<String>)>;

/// What a replica showed, in the order in which it did.
type Shown = Vec<(Revision, WriteId, BTreeSet<String>)>;

/// Writes at random, and knows what is there.
struct Writer {
    record: Record,
    random: StdRng,
    there: BTreeSet<String>,
    states: States,
}

impl Writer {
    async fn write(&mut self) -> Revision {
        // One that is always new, so that there is a revision.
        let mut text = format!("+doc:new{}#owner@user:ann", self.states.len());
        for id in 0..self.random.random_range(0..4) {
            let sign = if self.random.random_bool(0.5) { "+" } else { "-" };
            let tuple = format!(
                "doc:{}#viewer@user:{}",
                self.random.random_range(0..10),
                4 * id + self.states.len() % 4
            );
            text.extend([" ", sign, &tuple]);
        }
        for update in text.split(' ') {
            let (sign, tuple) = update.split_at(1);
            if sign == "+" {
                self.there.insert(tuple.to_owned())
            } else {
                self.there.remove(tuple)
            };
        }
        let written = self.record.write(&text).await;
        self.states.insert(written.revision, (written.write_id, self.there.clone()));
        written.revision
    }
}

/// The tuples of a replica without their attributes, which are none here.
fn tuples(held: &BTreeSet<String>) -> BTreeSet<String> {
    held.iter().filter_map(|tuple| tuple.split(' ').next()).map(str::to_owned).collect()
}

/// Looks at a replica all the time and writes down each state it shows.
async fn observe(replica: Arc<Replica>, over: Arc<AtomicBool>) -> Shown {
    let mut shown: Shown = Vec::new();
    while !over.load(Ordering::Acquire) {
        match replica.published() {
            Ok(published) if shown.last().is_none_or(|(last, ..)| *last != published.revision) => {
                let tuples = tuples(&held(&published.snapshot));
                shown.push((published.revision, published.write_id, tuples));
            }
            Ok(_) | Err(FeedError::Reloading) => {}
            Err(other) => panic!("{other}"),
        }
        tokio::time::sleep(Duration::from_micros(200)).await;
    }
    shown
}

async fn hints_queries_and_the_log(own: Arc<dyn Datastore>, reads: Arc<dyn Datastore>) {
    let seed = std::env::var("RELATA_SCENARIO_SEED").ok().map(|text| text.parse().expect("a number"));
    let seed = seed.unwrap_or_else(rand::random);
    println!("seed {seed}");
    let record = Record::of(own).await;
    let store = record.store;
    let random = StdRng::seed_from_u64(seed);
    let mut writer = Writer { record, random, there: BTreeSet::new(), states: States::new() };
    writer.write().await;
    let faulty = Faulty::over(reads);
    let settings = FeedSettings { batch: 7, ..quick() };
    let feed = Feed::start(Arc::clone(&faulty) as Arc<dyn Datastore>, settings, Metrics::new());
    let replica = feed.replica(store).await.expect("a store");
    let over = Arc::new(AtomicBool::new(false));
    let observer = tokio::spawn(observe(Arc::clone(&replica), Arc::clone(&over)));

    faulty.disturb_hints(HintFaults { lost: 0.4, doubled: 0.4, overtaken: 0.4, seed });
    let chances = vec![
        (Method::Heads, Fault::Before, 0.05),
        (Method::Heads, Fault::After, 0.05),
        (Method::Log, Fault::Before, 0.1),
        (Method::Log, Fault::After, 0.1),
        (Method::Log, Fault::Delay(Duration::from_millis(4)), 0.2),
    ];
    faulty.at_random(seed, chances);
    let end = Instant::now() + length(Duration::from_millis(1_500));
    let (mut head, mut trimmed) = (Revision::ZERO, 0_u64);
    for round in 0_u32.. {
        for _ in 0..10 {
            head = writer.write().await;
            writer.record.datastore().notify(&[store]).await;
            tokio::time::sleep(Duration::from_millis(writer.random.random_range(0..4))).await;
        }
        if round % 3 == 0 {
            // A look at the log is about to begin. Before it does, what it would begin with is gone.
            let hold = faulty.hold(Method::Log, Moment::Before);
            // One that was under way already may show the write, and then there is nothing to look for.
            let reached = async {
                loop {
                    head = writer.write().await;
                    if tokio::time::timeout(Duration::from_millis(100), hold.reached(1)).await.is_ok() {
                        break;
                    }
                }
            };
            soon(reached).await;
            for _ in 0..12 {
                head = writer.write().await;
            }
            let upkeep = writer.record.datastore().upkeep();
            while upkeep.trim(store, Duration::ZERO, 10_000).await.expect("trimmed").more {}
            trimmed += 1;
            let loaded = faulty.calls(Method::Tuples);
            hold.release();
            soon(replica_reaches(&replica, head)).await;
            assert!(faulty.calls(Method::Tuples) > loaded, "a hole in the log was stepped over");
        }
        if Instant::now() > end {
            break;
        }
    }
    faulty.heal();
    soon(replica_reaches(&replica, head)).await;
    let published = replica.published().expect("serving");
    let (write_id, last) = &writer.states[&head];
    assert_eq!((published.revision, published.write_id), (head, *write_id));
    assert_eq!(tuples(&held(&published.snapshot)), *last, "what was missed is caught up with exactly");
    over.store(true, Ordering::Release);
    let shown = observer.await.expect("no panic");
    for (revision, write_id, tuples) in &shown {
        let (written, state) = &writer.states[revision];
        assert_eq!((write_id, tuples), (written, state), "at {revision}, seed {seed}");
    }
    assert!(shown.is_sorted_by_key(|(revision, ..)| *revision), "a replica went back");
    println!("{} revisions, {} of them seen, the log trimmed {trimmed} times", head.0, shown.len());
    assert!(shown.len() > 10 && trimmed > 0);
    feed.shutdown().await;
}

async fn replica_reaches(replica: &Replica, head: Revision) {
    while replica.published().map_or(Revision::ZERO, |published| published.revision) < head {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hints_queries_and_the_log_on_sqlite() {
    let datastore: Arc<dyn Datastore> = Arc::new(Sqlite::temporary(Metrics::new()).expect("a database"));
    hints_queries_and_the_log(Arc::clone(&datastore), datastore).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hints_queries_and_the_log_on_postgres() {
    let Some(url) = fresh_database() else { return };
    let node = async || {
        let settings = PostgresSettings::new(url.parse().expect("a URL"));
        let node = Postgres::connect(settings, Metrics::new()).await.expect("a connection");
        Arc::new(node) as Arc<dyn Datastore>
    };
    let (writes, reads) = (node().await, node().await);
    hints_queries_and_the_log(Arc::clone(&writes), Arc::clone(&reads)).await;
    reads.close().await;
    writes.close().await;
}

const TEXT: &str = "doc:1#owner@user:ann";

/// How old an answer may be.
const BOUND: Duration = Duration::from_millis(1_500);

fn revision(zookie: &str) -> u64 {
    zookie.parse::<Zookie>().expect("a zookie").revision.0
}

/// One question and what came of it.
struct Asked {
    begun: Instant,
    ended: Instant,
    full: bool,
    outcome: Result<(u64, Verdict), Status>,
}

/// Asks a server all the time, now and then for everything acknowledged.
async fn ask_on(server: Arc<Running>, over: Arc<AtomicBool>) -> Vec<Asked> {
    let mut all = Vec::new();
    while !over.load(Ordering::Acquire) {
        let full = all.len() % 8 == 7;
        let requirement = if full { Requirement::Full(()) } else { Requirement::MinimizeLatency(()) };
        let request = proto::CheckRequest { consistency: consistency(requirement), ..question(TEXT) };
        let mut request = Request::new(request);
        request.set_timeout(Duration::from_millis(250));
        let begun = Instant::now();
        let outcome = server.permissions().check(request).await;
        let outcome = outcome.map(|answer| (revision(&answer.get_ref().zookie), answer.get_ref().verdict()));
        all.push(Asked { begun, ended: Instant::now(), full, outcome });
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    all
}

/// Grants and revokes in turn; what holds at each revision.
async fn toggle(server: &Running, ledger: &mut BTreeMap<u64, Verdict>, times: usize) -> String {
    let mut last = String::new();
    for _ in 0..times {
        let granted = ledger.values().next_back() == Some(&Verdict::Allowed);
        let operation = if granted { Operation::Delete } else { Operation::Touch };
        last = server.write(vec![update(operation, TEXT)]).await.expect("written").zookie;
        ledger.insert(revision(&last), if granted { Verdict::Denied } else { Verdict::Allowed });
    }
    last
}

/// A server cannot reach its database, in both ways in which that happens, while another one
/// grants and revokes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_parted_from_its_database() {
    let url = tokio::task::spawn_blocking(fresh_database).await.expect("a cluster");
    let Some(url) = url else { return };
    let (proxy, through) = Proxy::before_database(&url);
    let other = Running::on_url(&url, |_| {}).await;
    other.with_schema().await;
    let mut ledger = BTreeMap::new();
    toggle(&other, &mut ledger, 4).await;
    let parted = Running::on_url(&through, |config| config.feed.max_staleness = BOUND).await;
    let parted = Arc::new(parted);
    parted.verdict(TEXT).await;
    let over = Arc::new(AtomicBool::new(false));
    let asking = tokio::spawn(ask_on(Arc::clone(&parted), Arc::clone(&over)));

    let mut closed = Vec::new();
    for gate in [Gate::BlackHole, Gate::Refuse] {
        proxy.gate(gate);
        if gate == Gate::Refuse {
            proxy.cut_all(Cut::Reset);
        }
        let from = Instant::now();
        let newest = toggle(&other, &mut ledger, 25).await;
        soon(async {
            // Long enough for many questions after the bound.
            while from.elapsed() < BOUND + Duration::from_millis(700) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
        closed.push((from, Instant::now()));
        proxy.gate(Gate::Open);
        let opened = Instant::now();
        let caught_up = soon(async {
            loop {
                let requirement = consistency(Requirement::AtLeast(newest.clone()));
                let request = proto::CheckRequest { consistency: requirement, ..question(TEXT) };
                if let Ok(answer) = parted.check(request).await {
                    return answer;
                }
            }
        });
        let answer = caught_up.await;
        assert_eq!(Some(&answer.verdict()), ledger.get(&revision(&answer.zookie)));
        println!("{gate:?}: caught up {:?} after the way was open", opened.elapsed());
    }
    over.store(true, Ordering::Release);
    let asked = asking.await.expect("no panic");
    judge(&asked, &closed, &ledger);
    drop(proxy);
    other.stop().await;
    Arc::into_inner(parted).expect("nobody else has it").stop().await;
}

fn judge(asked: &[Asked], closed: &[(Instant, Instant)], ledger: &BTreeMap<u64, Verdict>) {
    let (mut answers, mut within, mut stale) = (0, 0, 0);
    for one in asked {
        let parted = closed.iter().find(|(from, until)| one.begun >= *from && one.ended <= *until);
        match &one.outcome {
            Ok((revision, verdict)) => {
                answers += 1;
                assert_eq!(ledger.get(revision), Some(verdict), "at revision {revision}");
                if let Some((from, _)) = parted {
                    within += 1;
                    assert!(!one.full, "everything acknowledged was known without the database");
                    let age = one.begun - *from;
                    assert!(age <= BOUND, "answered {age:?} after the database was last there");
                }
            }
            Err(status) => {
                assert_ne!(status.code(), Code::Internal, "{status:?}");
                if reason(status) == "REPLICA_STALE" {
                    stale += 1;
                }
            }
        }
    }
    println!("{answers} answers, {within} while parted, {stale} refused as stale");
    assert!(within > 10 && stale > 10, "{within} within the bound, {stale} refused");
}

/// Two servers through a pooler that lends four sessions to their fifty connections, told nothing
/// of it, or told where the database is without it.
async fn through_a_pooler(direct: bool) {
    let url = tokio::task::spawn_blocking(fresh_database).await.expect("a cluster");
    let Some(url) = url else { return };
    let (_pooler, pooled) = PgBouncer::before(&url, Mode::Transaction, 4);
    let node = async || {
        Running::on_url(&pooled, |config| {
            if let (true, DatastoreConfig::Postgres(settings)) = (direct, &mut config.datastore) {
                settings.direct_url = Some(url.parse().expect("a URL"));
            }
        })
        .await
    };
    let nodes = [node().await, node().await];
    two_nodes::agree(nodes, length(Duration::from_millis(1_500))).await;

    // What one writes, the other shows although nobody asks it to look.
    let nodes = [node().await, node().await];
    let mut ledger = BTreeMap::new();
    toggle(&nodes[0], &mut ledger, 1).await;
    nodes[1].verdict(TEXT).await;
    let (mut lags, rounds) = (Vec::new(), 12);
    for _ in 0..rounds {
        let newest = revision(&toggle(&nodes[0], &mut ledger, 1).await);
        let begun = Instant::now();
        soon(async {
            loop {
                let answer = nodes[1].check(question(TEXT)).await.expect("an answer");
                let at = revision(&answer.zookie);
                let held = ledger.range(..=at).next_back().map_or(Verdict::Denied, |(_, verdict)| *verdict);
                assert_eq!(answer.verdict(), held, "at revision {at}");
                if at >= newest {
                    return;
                }
            }
        })
        .await;
        lags.push(begun.elapsed());
    }
    lags.sort();
    println!("direct {direct}: another server's write is seen after {:?} (median)", lags[rounds / 2]);
    for node in nodes {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn through_a_pooler_alone() {
    through_a_pooler(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn through_a_pooler_and_past_it() {
    through_a_pooler(true).await;
}

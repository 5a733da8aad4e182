//! One run: sets the scene, lets clients work while faults happen, and has everything judged.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::Settings;
use super::client::{Client, Shared, Written};
use super::node::{Address, Node};
use super::rows::Held;
use super::watcher::Watcher;
use super::writer::Writer;
use super::{reader, summary};
use crate::history::fact::{Fact, Relation, Subject};
use crate::history::journal::{Clock, History};
use crate::history::lineage::Log;
use crate::history::model::Viewing;
use crate::history::operation::{
    Answer, Asked, Demand, Filter, Freshness, Given, Moment, Operation, Question, Span, Update,
};
use crate::history::point::Point;
use crate::history::report::{Report, Rule};
use crate::history::{Bounds, judge};

/// How long a server may take to work again after a fault is over.
const RECOVERY: Duration = Duration::from_mins(1);
/// The clients that the director itself uses.
const COORDINATOR: u16 = 400;

/// Servers, their database, and what goes wrong with them. All of it blocks.
pub trait World: Send + 'static {
    fn nodes(&self) -> &[Node];
    /// Lets the next thing go wrong, and come right again. `false`: the run is over.
    fn round(&mut self, stage: &Stage) -> bool;
    /// All branches of the history, the last one up to its end, and what the database holds there.
    fn history(&mut self) -> (Vec<Log>, Held);
}

/// What a world has to do with the rest of the run.
pub struct Stage {
    pub clock: Clock,
    runtime: Handle,
    coordinator: Mutex<Coordinator>,
    events: Mutex<Vec<(Moment, String)>>,
    failures: Mutex<Vec<String>>,
}

struct Coordinator {
    client: Client,
    marks: u32,
}

impl Stage {
    /// Writes down what happens.
    pub fn tell(&self, event: &str) {
        let now = self.clock.now();
        if std::env::var_os("RELATA_CHAOS_ALOUD").is_some() {
            summary::say(&format!("{:8.2} s  {event}", seconds(now)));
        }
        self.events.lock().expect("no panic").push((now, event.to_owned()));
    }

    /// Waits until every server that runs answers with everything, and takes a write.
    pub fn settle(&self, nodes: &[Node]) {
        let begun = Instant::now();
        let mut coordinator = self.coordinator.lock().expect("no panic");
        for (index, node) in nodes.iter().enumerate().filter(|(_, node)| node.runs()) {
            let until = Instant::now() + RECOVERY;
            let worked = self.runtime.block_on(coordinator.works(index, until));
            if !worked {
                let failure = format!("{} did not work again within {RECOVERY:?}", node.name);
                self.tell(&failure);
                self.failures.lock().expect("no panic").push(failure);
            }
        }
        self.tell(&format!("    all servers work, {:.1} s later", begun.elapsed().as_secs_f64()));
    }

    /// Has a write acknowledged, by whichever server.
    pub fn write(&self) {
        let mut coordinator = self.coordinator.lock().expect("no panic");
        self.runtime.block_on(async {
            let begun = Instant::now();
            while begun.elapsed() < RECOVERY {
                if coordinator.write(true).await {
                    return;
                }
            }
        });
    }
}

impl Coordinator {
    /// Whether a server comes to answer and to write before a moment.
    async fn works(&mut self, node: usize, until: Instant) -> bool {
        let question = Question::Check(Fact::new(Relation::Viewer, 0, Subject::User(0)));
        let mut answered = false;
        while Instant::now() < until {
            self.client.home = node;
            answered = answered || self.client.ask(Freshness::Full, "", question.clone()).await.is_some();
            if answered && self.write(false).await {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        false
    }

    async fn write(&mut self, keyed: bool) -> bool {
        self.marks += 1;
        let mark = |number| {
            let number = u32::from(COORDINATOR) * 10_000_000 + number;
            Fact::new(Relation::Writer, number, Subject::User(0))
        };
        let updates = [
            Update { operation: Operation::Touch, fact: mark(self.marks) },
            Update { operation: Operation::Delete, fact: mark(self.marks - 1) },
        ];
        let demand = Demand::Tuples { updates: updates.into(), conditions: Box::default() };
        matches!(self.client.write(demand, keyed).await, Written::Done)
    }
}

pub fn seconds(moment: Moment) -> f64 {
    Duration::from_micros(moment.0).as_secs_f64()
}

/// Runs a world and judges it.
pub async fn run<W: World>(name: &'static str, settings: Settings, start: fn(&Settings, &Path, &Clock) -> W) {
    let directory = tempfile::Builder::new().prefix("relata-chaos-").tempdir().expect("a directory");
    let clock = Clock::start();
    let (path, its_clock, its_settings) = (directory.path().to_owned(), clock.clone(), settings.clone());
    let world = blocking(move || start(&its_settings, &path, &its_clock)).await;
    let nodes: Arc<[Arc<Address>]> = world.nodes().iter().map(|node| Arc::clone(&node.address)).collect();
    let shared = Arc::new(Shared::default());
    let client = |number: u16| Client::new(number, &nodes, settings.seed, &clock, &shared);

    let mut first = client(COORDINATOR + 1);
    while !matches!(first.write_schema(Viewing::Plain, None).await, Written::Done) {}
    let mut history = first.history;
    let stage = Stage {
        clock: clock.clone(),
        runtime: Handle::current(),
        coordinator: Mutex::new(Coordinator { client: client(COORDINATOR), marks: 0 }),
        events: Mutex::default(),
        failures: Mutex::default(),
    };
    // Every server has the schema before anybody asks.
    let (world, stage) = settled(world, stage).await;
    let mut tasks = JoinSet::new();
    let numbers = |from: u16, many: usize| (from..).take(many);
    for number in numbers(0, settings.writers) {
        let pace = settings.pace.0;
        tasks.spawn(Writer::new(client(number), u32::from(number), pace).write());
    }
    for number in numbers(100, settings.readers) {
        tasks.spawn(reader::read(client(number), settings.pace.1));
    }
    let (end, until) = watch::channel(None);
    let mut watchers = JoinSet::new();
    for number in numbers(300, nodes.len() + 1) {
        let mut watching = client(number);
        let wanders = usize::from(number) == 300 + nodes.len();
        watching.home = usize::from(number - 300) % nodes.len();
        watchers.spawn(Watcher::new(watching, wanders, until.clone()).watch());
    }

    let (world, stage) = blocking(move || {
        let mut world = world;
        while world.round(&stage) {}
        (world, stage)
    })
    .await;
    shared.over.store(true, Ordering::Relaxed);
    while let Some(part) = tasks.join_next().await {
        history.add(part.expect("a client that does not panic"));
    }
    let (world, stage) = settled(world, stage).await;
    let mut last = client(COORDINATOR + 2);
    let newest = everything(&mut last, nodes.len()).await;
    let Stage { coordinator, events, failures, .. } = stage;
    let mut failures = failures.into_inner().expect("no panic");
    end.send_replace(newest);
    let watched = async {
        let mut watched = Vec::new();
        while let Some(part) = watchers.join_next().await {
            watched.push(part.expect("a watcher that does not panic"));
        }
        watched
    };
    match tokio::time::timeout(RECOVERY, watched).await {
        Ok(watched) => watched.into_iter().for_each(|part| history.add(part)),
        Err(_elapsed) => failures.push(format!("a stream did not come to show {newest:?}")),
    }
    history.add(last.history);
    history.add(coordinator.into_inner().expect("no panic").client.history);

    let (world, logs, held) = blocking(move || {
        let mut world = world;
        let (logs, held) = world.history();
        (world, logs, held)
    })
    .await;
    let ended = clock.now();
    let logged: Vec<String> = world.nodes().iter().flat_map(panics).collect();
    let branches = logs.len();
    let (report, history) = blocking(move || {
        let mut report = conclude(&mut history, logs, held, ended);
        for failure in failures {
            report.break_rule(Rule::DidNotRecover, || failure);
        }
        for line in logged {
            report.break_rule(Rule::Defect, || line);
        }
        (report, history)
    })
    .await;
    let events = events.into_inner().expect("no panic");
    summary::print(name, &settings, &events, ended, branches, &history, &report);
    let violations = report.violations();
    if violations > 0 {
        let kept = directory.keep();
        drop(world);
        panic!("{violations} violations, seed {}; logs in {}\n{report}", settings.seed, kept.display());
    }
    blocking(move || drop(world)).await;
}

/// Waits until all servers work.
async fn settled<W: World>(world: W, stage: Stage) -> (W, Stage) {
    blocking(move || {
        stage.settle(world.nodes());
        (world, stage)
    })
    .await
}

/// Reads all tuples from every server; the newest revision that one of them named.
async fn everything(client: &mut Client, nodes: usize) -> Option<Point> {
    let mut newest = None;
    for node in 0..nodes {
        let begun = Instant::now();
        while begun.elapsed() < RECOVERY {
            client.home = node;
            if let Some(point) = client.ask(Freshness::Full, "", Question::Read(Filter::All)).await {
                newest = newest.max(Some(point));
                break;
            }
        }
    }
    newest
}

/// The judgement, the last tuples of the database included.
fn conclude(history: &mut History, mut logs: Vec<Log>, held: Held, ended: Moment) -> Report {
    let rewritten = rewritten(&logs, &held);
    if let Some(newest) = held.entries.last() {
        let mut facts = held.tuples;
        facts.sort_unstable();
        history.asked.push(Asked {
            client: COORDINATOR,
            process: None,
            span: Span { begun: ended, ended },
            freshness: Freshness::Full,
            question: Question::Read(Filter::All),
            answer: Answer::At(newest.point, Given::Facts(facts.into())),
        });
    }
    if let Some(log) = logs.last_mut() {
        log.live.ended = ended;
    }
    let mut report = judge(history, logs, Bounds::default());
    if let Some(what) = rewritten {
        report.break_rule(Rule::PastRewritten, || what);
    }
    report
}

/// Revisions of the last database that are not those that were read from the ones before it.
fn rewritten(logs: &[Log], held: &Held) -> Option<String> {
    let mut path = Vec::new();
    for log in logs {
        path.truncate(usize::try_from(log.fork).unwrap_or(usize::MAX));
        path.extend(&log.entries);
    }
    let same = path.len() == held.entries.len();
    let other = path.iter().zip(&held.entries).find(|(known, held)| **known != *held);
    match other {
        Some((known, held)) => Some(format!("{known:?} was read, and is {held:?} now")),
        None if !same => {
            Some(format!("{} revisions are known, {} are there", path.len(), held.entries.len()))
        }
        None => None,
    }
}

/// What a server logged of panics.
fn panics(node: &Node) -> Vec<String> {
    let log = std::fs::read_to_string(node.log()).unwrap_or_default();
    let lines = log.lines().filter(|line| line.contains("panicked"));
    lines.map(|line| format!("{} logged: {line}", node.name)).collect()
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.expect("no panic")
}

//! Three servers on a PostgreSQL with a replica, each reaching it through a proxy of its own.

use std::path::Path;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use sqlx::{Connection as _, PgConnection, Row as _};
use uuid::Uuid;

use super::Settings;
use super::director::{self, Stage};
use super::node::Node;
use super::plan::{Beside, Fault, Old, Plan, Replica, Who};
use super::rows::{CHANGES, Change, Held, REVISIONS, Revision, TUPLES, entries, fact};
use crate::faults::{Cut, Gate, Link, Moment as At, Proxy, Side, Target, Trap};
use crate::history::journal::Clock;
use crate::history::lineage::{Entry, Log};
use crate::history::operation::{Moment, Span};
use crate::postgres_server::{Cluster, Durability};

const NODES: usize = 3;
/// Commits of each server that break while commits break.
const BROKEN: usize = 3;

pub struct World {
    plan: Plan,
    random: StdRng,
    until: Instant,
    primary: Cluster,
    /// Absent only during a failover.
    replica: Option<Cluster>,
    database: String,
    nodes: Vec<Node>,
    /// Before the database, one for each server.
    ways: Vec<Proxy>,
    /// Branches that are over.
    logs: Vec<Log>,
    current: Current,
}

/// The branch that takes writes.
#[derive(Clone, Copy)]
struct Current {
    fork: u64,
    begun: Moment,
    synchronous: bool,
}

impl World {
    pub fn start(settings: &Settings, directory: &Path, clock: &Clock) -> Self {
        let primary = Cluster::start(Durability::Process);
        let url = primary.create_database();
        let database = url.trim_start_matches("postgres:///").split('?').next().expect("a name").to_owned();
        let (mut nodes, mut ways) = (Vec::new(), Vec::new());
        for index in 0..NODES {
            let (way, url) = Proxy::before_database(&url);
            let mut node = Node::new(format!("node-{index}"), url, directory);
            node.start();
            nodes.push(node);
            ways.push(way);
        }
        let replica = Some(primary.replica());
        Self {
            plan: Plan::new(settings.seed, NODES, settings.short),
            random: StdRng::seed_from_u64(settings.seed ^ 1),
            until: Instant::now() + settings.writing,
            primary,
            replica,
            database,
            nodes,
            ways,
            logs: Vec::new(),
            current: Current { fork: 0, begun: clock.now(), synchronous: false },
        }
    }

    fn happen(&mut self, fault: &Fault, stage: &Stage) {
        match fault {
            Fault::Kill { node, down } => {
                self.nodes[*node].kill();
                wait(*down);
                self.nodes[*node].start();
            }
            Fault::Restart { node } => {
                self.nodes[*node].stop();
                self.nodes[*node].start();
            }
            Fault::Pause { node, lasts } => {
                self.nodes[*node].pause();
                wait(*lasts);
                self.nodes[*node].go_on();
            }
            Fault::Cut { who } => self.cut(*who, Cut::Reset),
            Fault::BreakCommits { who, lasts } => self.break_commits(*who, *lasts),
            Fault::Slow { who, most, lasts } => {
                let link = slow(*most, &mut self.random);
                self.ways_of(*who).for_each(|way| way.link(link.clone()));
                wait(*lasts);
                self.ways_of(*who).for_each(|way| way.link(Link::default()));
            }
            Fault::Part { who, lasts } => self.close(Gate::BlackHole, *who, *lasts),
            Fault::Refuse { who, lasts } => {
                self.cut(*who, Cut::Close);
                self.close(Gate::Refuse, *who, *lasts);
            }
            Fault::CutClients { node } => {
                self.nodes[*node].front.cut_all(Cut::Reset);
            }
            Fault::SlowClients { node, most, lasts } => {
                let link = slow(*most, &mut self.random);
                self.nodes[*node].front.link(link);
                wait(*lasts);
                self.nodes[*node].front.link(Link::default());
            }
            Fault::RestartDatabase { in_order, down } => {
                if *in_order {
                    self.primary.stop_in_order();
                } else {
                    self.primary.stop();
                }
                wait(*down);
                self.primary.resume();
            }
            Fault::FailOver { replica, old, beside } => self.fail_over(*replica, *old, *beside, stage),
        }
    }

    fn ways_of(&self, who: Who) -> impl Iterator<Item = &Proxy> {
        self.ways.iter().enumerate().filter(move |(node, _)| who.includes(*node)).map(|(_, way)| way)
    }

    fn cut(&self, who: Who, cut: Cut) {
        for way in self.ways_of(who) {
            way.cut_all(cut);
        }
    }

    fn close(&self, gate: Gate, who: Who, lasts: Duration) {
        self.ways_of(who).for_each(|way| way.gate(gate));
        wait(lasts);
        self.ways_of(who).for_each(|way| way.gate(Gate::Open));
    }

    fn break_commits(&mut self, who: Who, lasts: Duration) {
        for node in (0..NODES).filter(|node| who.includes(*node)) {
            for _ in 0..BROKEN {
                let late = Duration::from_millis(self.random.random_range(20..2_500));
                let moments = [At::Before, At::Within, At::After, At::After, At::Late(late)];
                let cuts = [Cut::Reset, Cut::Close, Cut::Hang];
                let moment = moments[self.random.random_range(0..moments.len())];
                let cut = cuts[self.random.random_range(0..cuts.len())];
                let nth = self.random.random_range(1..4);
                let trap = Trap::at(Side::Client, moment).when(|message| message.says("COMMIT"));
                self.ways[node].set(trap.by(cut).nth(nth));
            }
        }
        wait(lasts);
        for way in &self.ways {
            way.clear();
            // What hung is over.
            way.cut_all(Cut::Reset);
        }
    }

    fn fail_over(&mut self, kind: Replica, old: Old, beside: Option<Beside>, stage: &Stage) {
        let replica = self.replica.take().expect("a replica");
        match kind {
            Replica::CutOff(lasts) => {
                replica.detach();
                wait(lasts);
            }
            Replica::Asynchronous => {}
            Replica::Synchronous => {
                self.primary.wait_for_replicas();
                // Once this one is acknowledged, the replica has all that came before.
                stage.write();
                wait(self.plan.calm());
            }
        }
        self.begin_beside(beside);
        self.primary.stop();
        let ended = stage.clock.now();
        if let Old::ReadOnly(lasts) = old {
            self.primary.demote();
            self.primary.resume();
            wait(lasts);
        }
        let begun = stage.clock.now();
        replica.promote();
        let target = Target::Unix(replica.socket());
        self.ways.iter().for_each(|way| way.lead_to(target.clone()));
        if old == Old::Gone {
            // Only to be read, and nobody is led to it.
            self.primary.demote();
            self.primary.resume();
        }
        let branch = Current { fork: 0, begun, synchronous: kind == Replica::Synchronous };
        let lost = self.part(&replica, branch, ended);
        self.primary = replica;
        stage.tell(&format!("    the new primary lacks {lost} revisions"));
        self.end_beside(beside);
        self.replica = Some(self.primary.replica());
    }

    /// Reads what the old primary had, and finds out where the new one parts from it. Returns how
    /// many revisions were lost.
    fn part(&mut self, replica: &Cluster, mut next: Current, ended: Moment) -> usize {
        let kept = held(&self.primary.url(&self.database), self.current.fork).entries;
        let now = held(&replica.url(&self.database), self.current.fork).entries;
        let same = kept.iter().zip(&now).take_while(|(old, new)| old.point == new.point).count();
        let lost = kept.len() - same;
        next.fork = self.current.fork + same as u64;
        let over = std::mem::replace(&mut self.current, next);
        self.logs.push(log(over, kept, ended));
        lost
    }

    fn begin_beside(&mut self, beside: Option<Beside>) {
        match beside {
            None => {}
            Some(Beside::Pause(node)) => self.nodes[node].pause(),
            Some(Beside::Part(node)) => self.ways[node].gate(Gate::BlackHole),
            Some(Beside::Kill(node)) => self.nodes[node].kill(),
        }
    }

    fn end_beside(&mut self, beside: Option<Beside>) {
        if beside.is_some() {
            wait(self.plan.calm());
        }
        match beside {
            None => {}
            Some(Beside::Pause(node)) => self.nodes[node].go_on(),
            Some(Beside::Part(node)) => self.ways[node].gate(Gate::Open),
            Some(Beside::Kill(node)) => self.nodes[node].start(),
        }
    }
}

impl director::World for World {
    fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    fn round(&mut self, stage: &Stage) -> bool {
        wait(self.plan.calm());
        let fault = self.plan.next();
        stage.tell(&fault.to_string());
        self.happen(&fault, stage);
        stage.settle(&self.nodes);
        Instant::now() < self.until
    }

    fn history(&mut self) -> (Vec<Log>, Held) {
        self.nodes.iter_mut().for_each(Node::stop);
        let held = held(&self.primary.url(&self.database), 0);
        let fork = usize::try_from(self.current.fork).expect("an index");
        let own: Vec<Entry> = held.entries.iter().skip(fork).cloned().collect();
        let mut logs = std::mem::take(&mut self.logs);
        logs.push(log(self.current, own, self.current.begun));
        (logs, held)
    }
}

fn log(branch: Current, entries: Vec<Entry>, ended: Moment) -> Log {
    let Current { fork, begun, synchronous } = branch;
    Log { fork, entries, live: Span { begun, ended }, synchronous }
}

fn slow(most: Duration, random: &mut StdRng) -> Link {
    Link { delay: (Duration::ZERO, most), seed: random.random(), ..Link::default() }
}

fn wait(pause: Duration) {
    std::thread::sleep(pause);
}

/// Reads a database past the servers: the log after a revision, and the tuples.
fn held(url: &str, after: u64) -> Held {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let mut connection = PgConnection::connect(url).await.expect("a database");
        let begin = sqlx::raw_sql("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY");
        begin.execute(&mut connection).await.expect("a transaction");
        let query = |sql: &str| sqlx::query(sqlx::AssertSqlSafe(sql.replace("{tables}", "relata.")));
        let from = i64::try_from(after).expect("a revision");
        let rows = query(REVISIONS).bind(from).fetch_all(&mut connection).await.expect("revisions");
        let revisions = rows.iter().map(|row| Revision {
            number: number(row.get(0)),
            write_id: *row.get::<Uuid, _>(1).as_bytes(),
            committed_at: row.get(2),
            note: row.get(3),
            schema: row.get(4),
            text: row.get(5),
        });
        let revisions = revisions.collect();
        let rows = query(CHANGES).bind(from).fetch_all(&mut connection).await.expect("changes");
        let changes = rows.iter().map(|row| Change {
            revision: number(row.get(0)),
            tuple: (row.get(1), row.get(2), row.get(3), row.get(4), row.get(5), row.get(6)),
            before: !row.get::<bool, _>(7),
            after: !row.get::<bool, _>(8),
        });
        let entries = entries(revisions, changes.collect());
        let rows = query(TUPLES).fetch_all(&mut connection).await.expect("tuples");
        let tuples = rows
            .iter()
            .map(|row| fact(&(row.get(0), row.get(1), row.get(2), row.get(3), row.get(4), row.get(5))));
        Held { entries, tuples: tuples.collect() }
    })
}

fn number(value: i64) -> u64 {
    u64::try_from(value).expect("a revision")
}

//! One server on a file: killed again and again, and the file set back to earlier copies.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use rusqlite::{Connection, Row};

use super::Settings;
use super::director::{self, Stage};
use super::node::Node;
use super::rows::{CHANGES, Change, Held, REVISIONS, Revision, TUPLES, Tuple, entries, fact};
use crate::history::journal::Clock;
use crate::history::lineage::{Entry, Log};
use crate::history::operation::{Moment, Span};

/// A file is set back at about one of so many kills, and copied at one of so many.
const ROLL_BACK: u32 = 5;
const COPY: u32 = 3;

pub struct World {
    random: StdRng,
    directory: PathBuf,
    nodes: Vec<Node>,
    kills: u32,
    left: u32,
    /// Branches that are over.
    logs: Vec<Log>,
    fork: u64,
    begun: Moment,
    /// A copy of the file as it was, if there is one of this branch.
    copy: Option<PathBuf>,
    copies: u32,
}

impl World {
    pub fn start(settings: &Settings, directory: &Path, clock: &Clock) -> Self {
        let folder = directory.join("record");
        fs::create_dir(&folder).expect("a directory");
        let record = format!("sqlite:{}", folder.join("relata.db").display());
        let mut node = Node::new("node".to_owned(), record, directory);
        node.start();
        Self {
            random: StdRng::seed_from_u64(settings.seed),
            directory: directory.to_owned(),
            nodes: vec![node],
            kills: 0,
            left: settings.kills,
            logs: Vec::new(),
            fork: 0,
            begun: clock.now(),
            copy: None,
            copies: 0,
        }
    }

    fn record(&self) -> PathBuf {
        self.directory.join("record")
    }

    /// What was on the disk when the server died.
    fn copy(&mut self) -> PathBuf {
        self.copies += 1;
        let folder = self.directory.join(format!("copy-{}", self.copies));
        copy(&self.record(), &folder);
        folder
    }

    /// Puts an earlier copy in the place of the file.
    fn roll_back(&mut self, earlier: &Path, stage: &Stage) {
        let ended = stage.clock.now();
        let now = self.copy();
        let lost = held(&now, self.fork).entries;
        fs::remove_dir_all(&now).expect("to remove a copy");
        fs::remove_dir_all(self.record()).expect("to remove the record");
        copy(earlier, &self.record());
        let kept = held(earlier, self.fork).entries;
        let live = Span { begun: self.begun, ended };
        let many = lost.len() - kept.len();
        stage.tell(&format!("    the file is set back by {many} revisions"));
        self.logs.push(Log { fork: self.fork, entries: lost, live, synchronous: false });
        self.fork += kept.len() as u64;
        self.begun = stage.clock.now();
    }
}

impl director::World for World {
    fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    fn round(&mut self, stage: &Stage) -> bool {
        std::thread::sleep(Duration::from_millis(self.random.random_range(50..1_500)));
        self.nodes[0].kill();
        self.kills += 1;
        stage.tell(&format!("the server is killed for the {}. time", self.kills));
        // The short form does each early.
        let early = self.left <= 6 && self.kills == 4;
        match self.copy.take() {
            Some(earlier) if early || self.random.random_ratio(1, ROLL_BACK) => {
                self.roll_back(&earlier, stage);
                fs::remove_dir_all(earlier).expect("to remove a copy");
            }
            earlier => {
                self.copy = earlier;
                if self.kills == 2 || self.random.random_ratio(1, COPY) {
                    let copy = self.copy();
                    if let Some(older) = self.copy.replace(copy) {
                        fs::remove_dir_all(older).expect("to remove a copy");
                    }
                }
            }
        }
        self.nodes[0].start();
        stage.settle(&self.nodes);
        self.kills < self.left
    }

    fn history(&mut self) -> (Vec<Log>, Held) {
        self.nodes.iter_mut().for_each(Node::stop);
        let held = held(&self.record(), 0);
        let fork = usize::try_from(self.fork).expect("an index");
        let own: Vec<Entry> = held.entries.iter().skip(fork).cloned().collect();
        let live = Span { begun: self.begun, ended: self.begun };
        let mut logs = std::mem::take(&mut self.logs);
        logs.push(Log { fork: self.fork, entries: own, live, synchronous: false });
        (logs, held)
    }
}

/// Copies the database file with its write-ahead log.
fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).expect("a directory");
    for name in ["relata.db", "relata.db-wal"] {
        if from.join(name).exists() {
            fs::copy(from.join(name), to.join(name)).expect("to copy a file");
        }
    }
}

/// Reads a copy past the server: the log after a revision, and the tuples. Opening it may write to
/// it, so what is kept is copied once more.
fn held(folder: &Path, after: u64) -> Held {
    let aside = folder.with_extension("read");
    copy(folder, &aside);
    let connection = Connection::open(aside.join("relata.db")).expect("a database");
    let from = i64::try_from(after).expect("a revision");
    let revisions = all(&connection, REVISIONS, &[&from], |row| {
        let write_id: Vec<u8> = row.get(1)?;
        Ok(Revision {
            number: number(row.get(0)?),
            write_id: write_id.try_into().expect("16 bytes"),
            committed_at: row.get(2)?,
            note: row.get(3)?,
            schema: row.get(4)?,
            text: row.get(5)?,
        })
    });
    let changes = all(&connection, CHANGES, &[&from], |row| {
        let (before, after): (bool, bool) = (row.get(7)?, row.get(8)?);
        Ok(Change { revision: number(row.get(0)?), tuple: tuple(row, 1)?, before: !before, after: !after })
    });
    let tuples = all(&connection, TUPLES, &[], |row| tuple(row, 0));
    drop(connection);
    fs::remove_dir_all(aside).expect("to remove a copy");
    Held { entries: entries(revisions, changes), tuples: tuples.iter().map(fact).collect() }
}

fn all<T>(
    connection: &Connection,
    sql: &str,
    parameters: &[&dyn rusqlite::ToSql],
    read: impl Fn(&Row<'_>) -> rusqlite::Result<T>,
) -> Vec<T> {
    let mut statement = connection.prepare(&sql.replace("{tables}", "")).expect("a statement");
    let rows = statement.query_map(parameters, |row| read(row)).expect("rows");
    rows.collect::<rusqlite::Result<_>>().expect("rows")
}

fn tuple(row: &Row<'_>, at: usize) -> rusqlite::Result<Tuple> {
    Ok((
        row.get(at)?,
        row.get(at + 1)?,
        row.get(at + 2)?,
        row.get(at + 3)?,
        row.get(at + 4)?,
        row.get(at + 5)?,
    ))
}

fn number(value: i64) -> u64 {
    u64::try_from(value).expect("a revision")
}

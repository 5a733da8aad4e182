//! The history as the databases have it: one log, or several that part where a failover lost
//! commits.
//!
//! ```text
//! branch 0   1 ─ 2 ─ 3 ─ 4 ─ 5          a primary, until it was replaced
//! branch 1           └── 4'─ 5'─ 6'     a replica that lacked 4 and 5, promoted
//! branch 2                    └── 6"…   and so on: each parts from the one before
//! ```
//!
//! The *path* of a branch is its log from the first revision on: that of branch 2 is 1 2 3 4' 5' 6".

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::ops::Range;

use super::fact::Fact;
use super::model::Viewing;
use super::operation::{Moment, Span};
use super::point::Point;
use super::report::{Report, Rule};

/// One revision of a log.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    pub point: Point,
    /// The write that made it, if its note names one.
    pub write: Option<u32>,
    /// In microseconds, by the database's clock.
    pub committed_at: i64,
    /// The schema it put in force, with the digest of its id.
    pub schema: Option<(Viewing, u64)>,
    /// In the order of the log. Whether the fact is there afterwards.
    pub changes: Box<[(Fact, bool)]>,
    /// Of everything that Watch shows of it.
    pub digest: u64,
}

/// What is shown of a revision, as one number.
pub fn digest(note: &str, committed_at: i64, schema_id: &str, changes: &[(Fact, bool)]) -> u64 {
    let mut hasher = DefaultHasher::new();
    (note, committed_at, schema_id, changes).hash(&mut hasher);
    hasher.finish()
}

/// The id of a schema, as one number.
pub fn schema_digest(id: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    id.hash(&mut hasher);
    hasher.finish()
}

/// What one database held alone.
#[derive(Debug, Clone)]
pub struct Log {
    /// The last revision it shares with the branch before; zero for the first.
    pub fork: u64,
    /// The revisions after that.
    pub entries: Vec<Entry>,
    /// From when until when clients' writes could come to be in it.
    pub live: Span,
    /// Whether its predecessor waited for it before it acknowledged: then nothing that anybody was
    /// told may be lost.
    pub synchronous: bool,
}

/// Where a revision stands among all branches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Index in [`Lineage::entries`].
    pub entry: usize,
    pub revision: u64,
    /// The branches on whose path it is.
    pub first: u16,
    pub last: u16,
}

impl Place {
    /// Whether it is another one's past, or that one itself.
    pub fn leads_to(&self, later: Self) -> bool {
        self.is_on(later.first) && self.revision <= later.revision
    }

    pub fn is_on(&self, branch: u16) -> bool {
        (self.first..=self.last).contains(&branch)
    }
}

/// One branch, in a lineage.
#[derive(Debug, Clone)]
pub struct Branch {
    pub fork: u64,
    /// Its own entries, as indices.
    pub entries: Range<usize>,
    pub live: Span,
    pub synchronous: bool,
}

/// All branches.
#[derive(Debug)]
pub struct Lineage {
    /// The empty store, then branch after branch.
    pub entries: Vec<Entry>,
    pub branches: Vec<Branch>,
    /// Where each entry stands.
    pub places: Vec<Place>,
    by_point: HashMap<Point, usize>,
}

impl Lineage {
    /// Puts the logs together, the oldest first, and sees that each is in order by itself.
    pub fn new(logs: Vec<Log>, report: &mut Report) -> Self {
        let empty = Entry {
            point: Point::ZERO,
            write: None,
            committed_at: i64::MIN,
            schema: None,
            changes: Box::default(),
            digest: 0,
        };
        let mut lineage =
            Self { entries: vec![empty], branches: Vec::new(), places: Vec::new(), by_point: HashMap::new() };
        // The entry of each revision on the path so far, and the branch it is lost with.
        let mut path = vec![0];
        let mut lasts = vec![u16::MAX];
        let mut firsts = vec![0];
        for (branch, log) in (0_u16..).zip(logs) {
            let kept = usize::try_from(log.fork).unwrap_or(usize::MAX).saturating_add(1);
            if kept > path.len() {
                report.break_rule(Rule::Gap, || {
                    format!(
                        "branch {branch} parts at {}, the one before ends at {}",
                        log.fork,
                        path.len() - 1
                    )
                });
            }
            for lost in path.drain(kept.min(path.len())..) {
                if let Some(last) = lasts.get_mut(lost) {
                    *last = branch - 1;
                }
            }
            let begin = lineage.entries.len();
            for entry in log.entries {
                lineage.check_order(&path, &entry, report);
                path.push(lineage.entries.len());
                lasts.push(u16::MAX);
                firsts.push(branch);
                lineage.entries.push(entry);
            }
            lineage.branches.push(Branch {
                fork: log.fork,
                entries: begin..lineage.entries.len(),
                live: log.live,
                synchronous: log.synchronous,
            });
        }
        let newest = u16::try_from(lineage.branches.len().saturating_sub(1)).unwrap_or(u16::MAX);
        for (entry, (first, last)) in firsts.into_iter().zip(lasts).enumerate() {
            let point = lineage.entries[entry].point;
            lineage.places.push(Place { entry, revision: point.revision, first, last: last.min(newest) });
            if lineage.by_point.insert(point, entry).is_some() {
                report.break_rule(Rule::WrittenTwice, || format!("two revisions are both {point}"));
            }
        }
        lineage
    }

    fn check_order(&self, path: &[usize], entry: &Entry, report: &mut Report) {
        let Some(before) = path.last().and_then(|before| self.entries.get(*before)) else { return };
        if entry.point.revision != before.point.revision + 1 {
            report.break_rule(Rule::Gap, || format!("{} follows {}", entry.point, before.point));
        }
        if entry.committed_at <= before.committed_at {
            report.break_rule(Rule::TimeStoodStill, || {
                let (at, earlier) = (entry.committed_at, before.committed_at);
                format!("{} was committed at {at}, {} before it at {earlier}", entry.point, before.point)
            });
        }
    }

    /// Where a revision stands; `None` if no database ever held it.
    pub fn place(&self, point: Point) -> Option<Place> {
        self.by_point.get(&point).and_then(|entry| self.places.get(*entry)).copied()
    }

    /// The branches that took writes at some moment of a span.
    pub fn live_during(&self, span: Span) -> impl Iterator<Item = u16> {
        let live = move |branch: &Branch| branch.live.begun <= span.ended && span.begun <= branch.live.ended;
        (0_u16..).zip(&self.branches).filter(move |(_, branch)| live(branch)).map(|(index, _)| index)
    }

    /// The newest branch that had begun by a moment.
    pub fn branch_at(&self, moment: Moment) -> u16 {
        let begun = self.branches.iter().filter(|branch| branch.live.begun <= moment).count();
        u16::try_from(begun.saturating_sub(1)).unwrap_or(u16::MAX)
    }
}

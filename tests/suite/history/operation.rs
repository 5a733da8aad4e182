//! What clients did and what they were told, compactly: a run keeps millions of these.

use std::time::Duration;

use super::fact::{Fact, Relation, Subject};
use super::model::{Model, Viewing};
use super::point::Point;

/// Microseconds since the run began, by the one clock of the recording process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Moment(pub u64);

/// When a call was made, and when its answer was there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    pub begun: Moment,
    pub ended: Moment,
}

/// One life of one server: from its start to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Process(pub u16);

/// A question that was answered.
#[derive(Debug, Clone, PartialEq)]
pub struct Asked {
    pub client: u16,
    /// Who answered, if that is known for sure.
    pub process: Option<Process>,
    pub span: Span,
    pub freshness: Freshness,
    pub question: Question,
    pub answer: Answer,
}

/// How fresh the answer had to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// The newest revision that the server has.
    Newest,
    AtLeast(Point),
    Exact(Point),
    /// Everything acknowledged before.
    Full,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Question {
    Check(Fact),
    Batch(Box<[Fact]>),
    /// The objects to which a user has a relation.
    Objects(Relation, u32),
    /// The users who have a relation to an object.
    Users(Relation, u32),
    Read(Filter),
}

/// Which stored facts are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filter {
    Of(Relation, u32),
    About(Subject),
    All,
}

impl Filter {
    pub fn matches(self, fact: Fact) -> bool {
        match self {
            Self::Of(relation, object) => (fact.relation, fact.object) == (relation, object),
            Self::About(subject) => fact.subject == subject,
            Self::All => true,
        }
    }
}

/// Refusals that say nothing, such as an unavailable server, are only counted.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    At(Point, Given),
    /// The zookie's write was lost.
    Lost,
    /// The zookie's revision is out of reach.
    OutOfRange,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Given {
    Verdict(bool),
    Verdicts(Box<[bool]>),
    /// Objects or users, sorted.
    Numbers(Box<[u32]>),
    /// Sorted.
    Facts(Box<[Fact]>),
}

impl Question {
    /// What the model says.
    pub fn answer(&self, model: &Model) -> Given {
        match self {
            Self::Check(fact) => Given::Verdict(model.holds(*fact)),
            Self::Batch(facts) => Given::Verdicts(facts.iter().map(|fact| model.holds(*fact)).collect()),
            Self::Objects(relation, user) => Given::Numbers(model.objects(*relation, *user).into()),
            Self::Users(relation, object) => Given::Numbers(model.users(*relation, *object).into()),
            Self::Read(filter) => Given::Facts(model.matching(*filter).into()),
        }
    }
}

/// A write: one that may come to be in the log once, however often it was tried.
#[derive(Debug, Clone, PartialEq)]
pub struct Write {
    pub client: u16,
    /// Names it in the log, unlike any other.
    pub number: u32,
    /// From the first attempt to the end of the last.
    pub span: Span,
    pub demand: Demand,
    /// Every acknowledgement; several attempts may have got one.
    pub acknowledged: Vec<Acknowledged>,
    pub refused: Option<Refused>,
    /// Whether there was an attempt of which nothing is known.
    pub untold: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Acknowledged {
    pub process: Option<Process>,
    pub span: Span,
    pub at: Point,
    /// Told to have been written by an earlier attempt.
    pub replayed: bool,
    /// The deadline of the call. Near it, a server no longer waits until it can show the write.
    pub patience: Duration,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Demand {
    Tuples {
        updates: Box<[Update]>,
        conditions: Box<[Condition]>,
    },
    /// Puts a schema in force, perhaps only if another is: the digest of that one's id.
    Schema {
        viewing: Viewing,
        replacing: Option<u64>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Update {
    pub operation: Operation,
    pub fact: Fact,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    Touch,
    /// Refused if the fact is there.
    Create,
    Delete,
    /// Refused if the fact is not there.
    Remove,
}

impl Operation {
    /// Whether the fact is there afterwards.
    pub fn leaves(self) -> bool {
        matches!(self, Self::Touch | Self::Create)
    }
}

/// Whether anybody has a relation to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Condition {
    pub relation: Relation,
    pub object: u32,
    pub somebody: bool,
}

impl Condition {
    pub fn holds(self, model: &Model) -> bool {
        model.subjects(self.relation, self.object).next().is_some() == self.somebody
    }
}

/// A refusal, and the attempt that got it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused {
    pub why: Refusal,
    pub span: Span,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    Exists,
    NotFound,
    Condition,
    SchemaChanged,
    /// The server or its database could not, and says that nothing was written.
    Unable,
}

impl Demand {
    /// Whether a refusal is right in a state.
    pub fn deserves(&self, why: Refusal, model: &Model) -> bool {
        let (updates, conditions) = match self {
            Self::Tuples { updates, conditions } => (updates, conditions),
            Self::Schema { replacing, .. } => {
                return why == Refusal::SchemaChanged
                    && replacing.is_some_and(|replaced| Some(replaced) != model.schema);
            }
        };
        let meets = |operation, present| {
            updates
                .iter()
                .any(|update| update.operation == operation && model.contains(update.fact) == present)
        };
        match why {
            Refusal::Exists => meets(Operation::Create, true),
            Refusal::NotFound => meets(Operation::Remove, false),
            Refusal::Condition => conditions.iter().any(|condition| !condition.holds(model)),
            Refusal::SchemaChanged => false,
            Refusal::Unable => true,
        }
    }

    /// The changes it makes to a state, sorted; `None` if it must be refused there.
    pub fn changes(&self, model: &Model) -> Option<Vec<(Fact, bool)>> {
        const REFUSALS: [Refusal; 4] =
            [Refusal::Exists, Refusal::NotFound, Refusal::Condition, Refusal::SchemaChanged];
        if REFUSALS.into_iter().any(|why| self.deserves(why, model)) {
            return None;
        }
        let Self::Tuples { updates, .. } = self else { return Some(Vec::new()) };
        let changed = updates.iter().map(|update| (update.fact, update.operation.leaves()));
        let mut made: Vec<_> = changed.filter(|(fact, present)| model.contains(*fact) != *present).collect();
        made.sort_unstable();
        Some(made)
    }
}

/// One Watch stream, from its first message to its end.
#[derive(Debug, Clone, PartialEq)]
pub struct Stream {
    pub client: u16,
    pub span: Span,
    /// Where the first message said it begins.
    pub start: Point,
    /// What was asked for; `None`: from now on.
    pub after: Option<Point>,
    pub shown: Vec<Shown>,
    pub end: End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// A revision, and the digest of what it was shown to be.
    Revision(Point, u64),
    Checkpoint(Point),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The reader left, or the server could not go on.
    Left,
    /// The history parted after this point.
    Forked(Point),
}

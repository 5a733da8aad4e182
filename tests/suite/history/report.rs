//! What was checked, and what was found.

use std::collections::BTreeMap;
use std::fmt;

/// Examples that are kept of each rule broken.
const EXAMPLES: usize = 12;

/// A promise, by what it looks like when it is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// Revisions are missing or out of order.
    Gap,
    /// A revision was committed no later than the one before.
    TimeStoodStill,
    /// A revision does not make exactly the changes that its write asked for.
    HalfApplied,
    /// A write is in one history more than once.
    WrittenTwice,
    /// A revision that no client asked for.
    Stranger,
    /// A write was acknowledged that no database holds.
    AcknowledgedAndLost,
    /// A write was acknowledged with the revision of another one.
    AcknowledgedElsewhere,
    /// Attempts with one idempotency key were told different results.
    RetriedToAnotherResult,
    /// A refused write is in the log all the same.
    RefusedAndWritten,
    /// A refusal that was right at no moment of the call.
    RefusedForNothing,
    /// A write begun after another was acknowledged comes before it.
    OutOfOrder,
    /// Something was lost although the replica was waited for.
    LostThoughSynchronous,
    /// An answer is not what the revision says that it names.
    WrongAnswer,
    /// An answer names a revision that no database ever held.
    NoSuchRevision,
    /// An answer names a revision whose write had not begun.
    FromTheFuture,
    /// The answer is older than the zookie asked for, or of another history.
    OlderThanAsked,
    /// The answer is not of exactly the revision asked for.
    AnotherRevision,
    /// A full answer lacks what was known before it was asked for.
    NotEverything,
    /// An answer without any wish is older than servers may be.
    Stale,
    /// A server answered at a revision and then at an earlier one.
    WentBack,
    /// A server answered from a history it had left.
    ReturnedToLostHistory,
    /// A zookie was said to be lost that is not.
    SaidToBeLost,
    /// A zookie of late was said to be out of reach.
    SaidToBeOutOfReach,
    /// A stream skips, repeats or reorders revisions, or mixes histories.
    StreamBroken,
    /// A stream shows a revision as other than it is.
    StreamWrong,
    /// A stream does not begin where it was asked to, or not with everything.
    StreamBegunElsewhere,
    /// A stream was ended for a fork that is not there, or not where it said.
    StreamSaidToFork,
    /// A database no longer has a revision that was read from it, or has another one.
    PastRewritten,
    /// A server did not come back to work after a fault was over.
    DidNotRecover,
    /// An answer that no server should give.
    Defect,
}

/// What the checker has to say of a history.
#[derive(Debug, Default)]
pub struct Report {
    broken: BTreeMap<Rule, (u64, Vec<String>)>,
    /// Operations checked, by kind.
    pub checked: BTreeMap<&'static str, u64>,
    /// What else is worth knowing, by name.
    pub seen: BTreeMap<&'static str, u64>,
}

impl Report {
    pub fn break_rule(&mut self, rule: Rule, what: impl FnOnce() -> String) {
        let (count, examples) = self.broken.entry(rule).or_default();
        *count += 1;
        if examples.len() < EXAMPLES {
            examples.push(what());
        }
    }

    /// Counts an operation that was held against the promises.
    pub fn check(&mut self, kind: &'static str, many: usize) {
        *self.checked.entry(kind).or_default() += many as u64;
    }

    pub fn see(&mut self, what: &'static str) {
        *self.seen.entry(what).or_default() += 1;
    }

    /// The rules that were broken, and how often.
    pub fn broken(&self) -> BTreeMap<Rule, u64> {
        self.broken.iter().map(|(rule, (count, _))| (*rule, *count)).collect()
    }

    pub fn violations(&self) -> u64 {
        self.broken.values().map(|(count, _)| count).sum()
    }

    pub fn operations(&self) -> u64 {
        self.checked.values().sum()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (rule, (count, examples)) in &self.broken {
            writeln!(f, "{rule:?}: {count}")?;
            for example in examples {
                writeln!(f, "    {example}")?;
            }
        }
        Ok(())
    }
}

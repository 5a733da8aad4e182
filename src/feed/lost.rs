//! What this node had and the database lost: the tags of revisions that were taken back.
//!
//! A zookie of a lost revision may have a number that the new branch has yet to reach. Nobody needs
//! to wait for that number to learn that the write is gone.

use std::collections::VecDeque;

use super::ring::Tags;
use crate::revision::Revision;

/// Branches that were left, the newest last; at most so many tags in all.
#[derive(Debug, Clone, Default)]
pub(super) struct Lost {
    branches: VecDeque<Branch>,
}

#[derive(Debug, Clone)]
struct Branch {
    /// The revision of the first tag.
    first: Revision,
    tags: Tags,
    /// The newest revision that is shared with what came instead; `None`: older than was held.
    fork: Option<Revision>,
}

/// A revision that is of no history any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LostRevision {
    /// The newest revision before it that was kept, if this node knew it.
    pub fork: Option<Revision>,
}

/// Branches remembered: a database that keeps losing its end is not remembered in full.
const BRANCHES: usize = 16;

impl Lost {
    /// With a branch that was left after `fork`; `tags` belong to the revisions up to `last`.
    pub(super) fn with(&self, fork: Option<Revision>, last: Revision, tags: Tags, capacity: usize) -> Self {
        let mut branches = self.branches.clone();
        // What an older branch grew from may be lost by now too.
        for branch in &mut branches {
            branch.fork = branch.fork.zip(fork).map(|(older, newer)| older.min(newer));
        }
        let first = Revision((last.0 + 1).saturating_sub(tags.len() as u64));
        branches.push_back(Branch { first, tags, fork });
        let mut held: usize = branches.iter().map(|branch| branch.tags.len()).sum();
        while branches.len() > BRANCHES || held > capacity {
            let Some(oldest) = branches.pop_front() else { break };
            held -= oldest.tags.len();
        }
        Self { branches }
    }

    /// Whether a revision was lost, as far as is remembered. Only to be asked about what memory
    /// does not have: a database may return to a branch that it had left.
    pub(super) fn revision(&self, revision: Revision, tag: [u8; 8]) -> Option<LostRevision> {
        let is_of = |branch: &Branch| {
            let at = revision.0.checked_sub(branch.first.0).and_then(|at| usize::try_from(at).ok());
            at.and_then(|at| branch.tags.get(at)) == Some(&tag)
        };
        let branch = self.branches.iter().rev().find(|branch| is_of(branch))?;
        Some(LostRevision { fork: branch.fork })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags(branch: u8, revisions: std::ops::RangeInclusive<u8>) -> Tags {
        revisions.map(|revision| [branch, revision, 0, 0, 0, 0, 0, 0]).collect()
    }

    fn check(lost: &Lost, branch: u8, revision: u8, expected: &str) {
        let found = lost.revision(Revision(revision.into()), [branch, revision, 0, 0, 0, 0, 0, 0]);
        let found = match found {
            None => "not lost".to_owned(),
            Some(LostRevision { fork: None }) => "lost".to_owned(),
            Some(LostRevision { fork: Some(fork) }) => format!("lost after {fork}"),
        };
        assert_eq!(found, expected, "{branch}/{revision}");
    }

    #[test]
    fn a_lost_revision_knows_what_was_kept_before_it() {
        let lost = Lost::default().with(Some(Revision(5)), Revision(9), tags(1, 6..=9), 100);
        check(&lost, 1, 6, "lost after 5");
        check(&lost, 1, 9, "lost after 5");
        for revision in [0, 5, 10] {
            check(&lost, 1, revision, "not lost");
        }
        check(&lost, 2, 7, "not lost");
        // The branch that came instead loses more than the first one did.
        let lost = lost.with(Some(Revision(3)), Revision(7), tags(2, 4..=7), 100);
        check(&lost, 1, 7, "lost after 3");
        check(&lost, 2, 7, "lost after 3");
        // And the next one less.
        let lost = lost.with(Some(Revision(6)), Revision(7), tags(3, 7..=7), 100);
        check(&lost, 1, 7, "lost after 3");
        check(&lost, 3, 7, "lost after 6");
        let lost = lost.with(None, Revision(8), tags(4, 1..=8), 100);
        check(&lost, 3, 7, "lost");
    }

    #[test]
    fn memory_is_bounded() {
        let mut lost = Lost::default();
        for branch in 0..40 {
            lost = lost.with(Some(Revision(5)), Revision(9), tags(branch, 6..=9), 1_000);
        }
        assert_eq!(lost.branches.len(), BRANCHES);
        check(&lost, 39, 9, "lost after 5");
        check(&lost, 23, 9, "not lost");
        lost = lost.with(Some(Revision(5)), Revision(9), tags(50, 6..=9), 8);
        assert_eq!(lost.branches.len(), 2);
        check(&lost, 50, 9, "lost after 5");
    }
}

//! The recent past of a store: what changed, and which history each revision belongs to.
//!
//! ```text
//!   revision   … 901  902 │ 903  904  905  906 = newest
//!   tags         ■    ■   │  ■    ■    ■    ■      eight bytes each: recognise zookies
//!   entries               │  ●────●────●────●      changes with states before and after: go back
//!                         └ base: the schema in force before the first entry
//! ```
//!
//! Part of every published state and frozen with it, like the snapshot.

use std::sync::Arc;

use super::error::FeedError;
use super::settings::FeedSettings;
use crate::datastore::{Change, LogEntry, SchemaId};
use crate::footprint;
use crate::revision::{Revision, WriteId};

/// The tags of consecutive revisions, the oldest first.
pub(super) type Tags = imbl::Vector<[u8; 8]>;

/// Recent log entries without a gap, the last one being the newest revision.
#[derive(Debug, Clone, Default)]
pub(super) struct Ring {
    newest: Revision,
    entries: imbl::Vector<Arc<LogEntry>>,
    /// In all entries.
    changes: usize,
    /// What all entries take.
    entry_bytes: usize,
    base: Option<SchemaId>,
    tags: Tags,
}

impl Ring {
    /// A ring without entries: the first one pushed follows `before`, where `base` is in force.
    pub(super) fn new(before: Revision, base: Option<SchemaId>) -> Self {
        let tags = match before {
            Revision::ZERO => imbl::Vector::unit(WriteId::NIL.tag()),
            _ => imbl::Vector::new(),
        };
        Self { newest: before, entries: imbl::Vector::new(), changes: 0, entry_bytes: 0, base, tags }
    }

    /// Appends the entry of the revision after the newest, and forgets the oldest beyond bounds.
    pub(super) fn push(&mut self, entry: Arc<LogEntry>, settings: &FeedSettings) {
        self.newest = entry.revision;
        self.changes += entry.changes.len();
        self.entry_bytes += bytes(&entry);
        self.tags.push_back(entry.write_id.tag());
        self.entries.push_back(entry);
        while self.changes > settings.ring_changes || self.entries.len() > settings.ring_revisions {
            let Some(oldest) = self.entries.pop_front() else { break };
            self.changes -= oldest.changes.len();
            self.entry_bytes -= bytes(&oldest);
            self.base = oldest.schema.or(self.base);
        }
        while self.tags.len() > settings.ring_revisions {
            self.tags.pop_front();
        }
    }

    /// Adds tags of revisions before the oldest one known here, up to the one before it.
    pub(super) fn know_older(&mut self, mut older: Tags, settings: &FeedSettings) {
        older.append(std::mem::take(&mut self.tags));
        self.tags = older;
        while self.tags.len() > settings.ring_revisions {
            self.tags.pop_front();
        }
    }

    /// Forgets everything after a revision that entries lead back to. Returns the tags of what is
    /// forgotten.
    pub(super) fn cut(&mut self, revision: Revision) -> Tags {
        let count = usize::try_from(self.newest.0.saturating_sub(revision.0)).unwrap_or(usize::MAX);
        let count = count.min(self.entries.len());
        let forgotten = self.entries.split_off(self.entries.len() - count);
        self.changes -= forgotten.iter().map(|entry| entry.changes.len()).sum::<usize>();
        self.entry_bytes -= forgotten.iter().map(|entry| bytes(entry)).sum::<usize>();
        self.newest = Revision(self.newest.0 - count as u64);
        self.tags.split_off(self.tags.len().saturating_sub(count))
    }

    /// How many entries and changes it holds, for a notion of its size.
    pub(super) fn len(&self) -> usize {
        self.entries.len() + self.changes
    }

    /// What it takes on the heap.
    pub(super) fn bytes(&self) -> usize {
        const TAG: usize = footprint::vector_element(size_of::<[u8; 8]>());
        self.entry_bytes + self.tags.len() * TAG
    }

    /// The newest revision.
    pub(super) fn newest(&self) -> Revision {
        self.newest
    }

    /// The revision before the oldest entry: the earliest state that can be gone back to.
    pub(super) fn before(&self) -> Revision {
        Revision(self.newest.0.saturating_sub(self.entries.len() as u64))
    }

    /// All tags, the last one being the newest revision's.
    pub(super) fn tags(&self) -> &Tags {
        &self.tags
    }

    /// The entry of a revision, if it is held.
    pub(super) fn entry(&self, revision: Revision) -> Option<&Arc<LogEntry>> {
        let at = revision.0.checked_sub(self.before().0 + 1)?;
        self.entries.get(usize::try_from(at).ok()?)
    }

    /// The write id of a revision whose entry is held.
    pub(super) fn write_id(&self, revision: Revision) -> Option<WriteId> {
        self.entry(revision).map(|entry| entry.write_id)
    }

    /// The tag of a revision's write id; `None`: unknown here.
    pub(super) fn tag(&self, revision: Revision) -> Option<[u8; 8]> {
        let back = usize::try_from(self.newest.0.checked_sub(revision.0)?).ok()?;
        self.tags.get(self.tags.len().checked_sub(back + 1)?).copied()
    }

    /// The entries after a revision, oldest first; `None`: they do not all lie in the ring.
    pub(super) fn after(
        &self,
        revision: Revision,
    ) -> Option<impl DoubleEndedIterator<Item = &Arc<LogEntry>>> {
        let skip = usize::try_from(revision.0.checked_sub(self.before().0)?).ok()?;
        (revision <= self.newest).then(|| (skip..self.entries.len()).filter_map(|at| self.entries.get(at)))
    }

    /// The schema in force at a revision.
    pub(super) fn schema_at(&self, revision: Revision) -> Result<Option<SchemaId>, FeedError> {
        let count = revision.0.checked_sub(self.before().0).and_then(|count| usize::try_from(count).ok());
        match count {
            Some(count) if revision <= self.newest => {
                let put = (0..count).rev().find_map(|at| self.entries.get(at)?.schema);
                Ok(put.or(self.base))
            }
            _ => Err(FeedError::OutOfRange { revision }),
        }
    }

    /// What to take back, newest first, to see an earlier revision: if few changes lie between, or
    /// the revision was the newest not long ago. The rule depends on the log alone, so that every
    /// node answers alike.
    pub(super) fn undo(
        &self,
        revision: Revision,
        settings: &FeedSettings,
    ) -> Result<Vec<Arc<LogEntry>>, FeedError> {
        let out_of_range = FeedError::OutOfRange { revision };
        let Some(after) = self.after(revision) else { return Err(out_of_range) };
        let undone: Vec<Arc<LogEntry>> = after.rev().cloned().collect();
        let changes: usize = undone.iter().map(|entry| entry.changes.len()).sum();
        let within_time = undone.first().zip(undone.last()).is_none_or(|(newest, oldest)| {
            newest.committed_at.saturating_since(oldest.committed_at) <= settings.reach_time
        });
        if changes <= settings.reach_changes || within_time { Ok(undone) } else { Err(out_of_range) }
    }

    /// Whether a ring this full allows every earlier revision the rule allows.
    pub(super) fn reaches(entries: &std::collections::VecDeque<LogEntry>, settings: &FeedSettings) -> bool {
        let changes: usize = entries.iter().map(|entry| entry.changes.len()).sum();
        let beyond_time = entries.front().zip(entries.back()).is_some_and(|(oldest, newest)| {
            newest.committed_at.saturating_since(oldest.committed_at) > settings.reach_time
        });
        changes > settings.ring_changes || (changes > settings.reach_changes && beyond_time)
    }
}

/// What an entry takes, and its place in the ring. Keys that were read share nothing.
pub(super) fn bytes(entry: &LogEntry) -> usize {
    const PLACE: usize = footprint::vector_element(size_of::<Arc<LogEntry>>());
    const HEAD: usize = footprint::allocation(size_of::<LogEntry>() + footprint::COUNTERS);
    let texts = footprint::shared_text(&entry.principal) + footprint::shared_text(&entry.note);
    let states = |change: &Change| {
        let states = [&change.before, &change.after];
        states.into_iter().flatten().map(footprint::attributes).sum::<usize>()
    };
    let changes = entry.changes.iter().map(|change| footprint::key(&change.key) + states(change));
    let list = footprint::allocation(entry.changes.capacity() * size_of::<Change>());
    PLACE + HEAD + texts + list + changes.sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Timestamp;
    use std::time::Duration;
    use uuid::Uuid;

    /// A revision committed at `second`, with so many changes.
    fn entry(revision: u64, second: i64, changes: usize, schema: Option<SchemaId>) -> Arc<LogEntry> {
        let change =
            Change { key: "doc:plan#viewer@user:ann".parse().expect("a tuple"), before: None, after: None };
        Arc::new(LogEntry {
            revision: Revision(revision),
            write_id: WriteId(Uuid::from_u128(revision.into())),
            committed_at: Timestamp::from_micros(second * 1_000_000),
            principal: "".into(),
            note: "".into(),
            schema,
            changes: vec![change; changes],
        })
    }

    fn settings() -> FeedSettings {
        FeedSettings {
            ring_changes: 10,
            ring_revisions: 100,
            reach_changes: 4,
            reach_time: Duration::from_secs(5),
            ..FeedSettings::default()
        }
    }

    fn undone(ring: &Ring, revision: u64) -> Option<Vec<u64>> {
        let entries = ring.undo(Revision(revision), &settings()).ok()?;
        Some(entries.iter().map(|entry| entry.revision.0).collect())
    }

    #[test]
    fn the_rule_of_reach_is_few_changes_or_little_time() {
        let mut ring = Ring::new(Revision::ZERO, None);
        for revision in 1..=6 {
            ring.push(entry(revision, i64::try_from(revision).expect("small") * 100, 2, None), &settings());
        }
        assert_eq!(undone(&ring, 6), Some(vec![]));
        assert_eq!(undone(&ring, 4), Some(vec![6, 5]), "four changes lie between");
        assert_eq!(undone(&ring, 3), None, "six, and long ago");
        assert_eq!(undone(&ring, 7), None, "not yet");
        for revision in 7..=9 {
            ring.push(entry(revision, 1_000, 2, None), &settings());
        }
        assert_eq!(undone(&ring, 6), Some(vec![9, 8, 7]), "six, a moment ago");
        assert_eq!(undone(&ring, 5), None);
    }

    #[test]
    fn what_falls_out_leaves_its_schema_and_its_tag() {
        let schema = |number| Some(SchemaId(ulid::Ulid(number)));
        let mut ring = Ring::new(Revision::ZERO, None);
        ring.push(entry(1, 0, 0, schema(1)), &settings());
        ring.push(entry(2, 0, 8, None), &settings());
        ring.push(entry(3, 0, 1, schema(3)), &settings());
        assert_eq!(ring.schema_at(Revision::ZERO).ok(), Some(None));
        assert_eq!(ring.schema_at(Revision(2)).ok(), Some(schema(1)));
        assert_eq!(ring.schema_at(Revision(3)).ok(), Some(schema(3)));
        assert!(ring.schema_at(Revision(4)).is_err());

        ring.push(entry(4, 0, 5, None), &settings());
        assert!(ring.schema_at(Revision(1)).is_err(), "no longer held");
        assert_eq!(ring.schema_at(Revision(2)).ok(), Some(schema(1)), "the base of what is held");
        assert!(ring.after(Revision(1)).is_none());
        assert_eq!(ring.after(Revision(2)).map(Iterator::count), Some(2));
        for revision in 0..=4 {
            let tag = WriteId(Uuid::from_u128(revision.into())).tag();
            assert_eq!(ring.tag(Revision(revision)), Some(tag));
        }
        assert_eq!(ring.tag(Revision(5)), None);
    }

    #[test]
    fn a_ring_that_starts_late_knows_nothing_earlier() {
        let mut ring = Ring::new(Revision(7), None);
        assert_eq!(ring.tag(Revision(7)), None);
        ring.push(entry(8, 0, 1, None), &settings());
        assert_eq!(ring.tag(Revision(8)), Some(WriteId(Uuid::from_u128(8)).tag()));
        assert_eq!(ring.tag(Revision(7)), None);
        assert_eq!(ring.tag(Revision(6)), None);
        assert_eq!(ring.after(Revision(7)).map(Iterator::count), Some(1));
        assert!(ring.after(Revision(6)).is_none());
    }
}

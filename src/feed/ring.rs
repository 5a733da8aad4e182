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

use std::collections::VecDeque;
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
    pub(super) fn push(&mut self, mut entry: LogEntry, settings: &FeedSettings) {
        // It stays for long, and is counted without spare room.
        entry.changes.shrink_to_fit();
        self.newest = entry.revision;
        self.changes += entry.changes.len();
        self.entry_bytes += bytes(&entry);
        self.tags.push_back(entry.write_id.tag());
        self.entries.push_back(Arc::new(entry));
        while self.changes > settings.ring_changes
            || self.entry_bytes > settings.ring_bytes
            || self.entries.len() > settings.ring_revisions
        {
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
}

/// Log entries on their way into a ring, the oldest first: no more than it has room for.
#[derive(Debug, Default)]
pub(super) struct Recent {
    entries: VecDeque<LogEntry>,
    changes: usize,
    bytes: usize,
    /// Whether there was one for which there is no room, so that nothing older counts.
    full: bool,
}

impl Recent {
    /// Adds the next newer entry, and forgets the oldest beyond bounds.
    pub(super) fn push_back(&mut self, entry: LogEntry, settings: &FeedSettings) {
        self.changes += entry.changes.len();
        self.bytes += bytes(&entry);
        self.entries.push_back(entry);
        while !self.fits(0, 0, settings) {
            let Some(oldest) = self.entries.pop_front() else { break };
            self.changes -= oldest.changes.len();
            self.bytes -= bytes(&oldest);
            self.full = true;
        }
    }

    /// Adds the next older entry, if there is room for it.
    pub(super) fn push_front(&mut self, entry: LogEntry, settings: &FeedSettings) {
        let (changes, bytes) = (entry.changes.len(), bytes(&entry));
        self.full |= !self.fits(changes, bytes, settings);
        if !self.full {
            self.changes += changes;
            self.bytes += bytes;
            self.entries.push_front(entry);
        }
    }

    fn fits(&self, changes: usize, bytes: usize, settings: &FeedSettings) -> bool {
        self.changes + changes <= settings.ring_changes && self.bytes + bytes <= settings.ring_bytes
    }

    /// Whether a ring of these allows every earlier revision the rule allows.
    pub(super) fn reaches(&self, settings: &FeedSettings) -> bool {
        let beyond_time = self.entries.front().zip(self.entries.back()).is_some_and(|(oldest, newest)| {
            newest.committed_at.saturating_since(oldest.committed_at) > settings.reach_time
        });
        self.full || (self.changes > settings.reach_changes && beyond_time)
    }

    /// What they take.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The oldest revision.
    pub(super) fn oldest(&self) -> Option<Revision> {
        self.entries.front().map(|entry| entry.revision)
    }

    /// All of them.
    pub(super) fn into_entries(self) -> VecDeque<LogEntry> {
        self.entries
    }
}

/// What an entry takes, and its place in the ring. Keys that were read share nothing. It depends on
/// what was written alone, so that every node remembers as far back.
fn bytes(entry: &LogEntry) -> usize {
    const PLACE: usize = footprint::vector_element(size_of::<Arc<LogEntry>>());
    const HEAD: usize = footprint::allocation(size_of::<LogEntry>() + footprint::COUNTERS);
    let texts = footprint::shared_text(&entry.principal) + footprint::shared_text(&entry.note);
    let states = |change: &Change| {
        let states = [&change.before, &change.after];
        states.into_iter().flatten().map(footprint::attributes).sum::<usize>()
    };
    let changes = entry.changes.iter().map(|change| footprint::key(&change.key) + states(change));
    let list = footprint::allocation(entry.changes.len() * size_of::<Change>());
    PLACE + HEAD + texts + list + changes.sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::{Context, Value};
    use crate::time::Timestamp;
    use crate::tuple::{Attributes, TupleCondition};
    use std::time::Duration;
    use uuid::Uuid;

    /// A revision committed at `second`, with so many changes.
    fn entry(revision: u64, second: i64, changes: usize, schema: Option<SchemaId>) -> LogEntry {
        let change =
            Change { key: "doc:plan#viewer@user:ann".parse().expect("a tuple"), before: None, after: None };
        LogEntry {
            revision: Revision(revision),
            write_id: WriteId(Uuid::from_u128(revision.into())),
            committed_at: Timestamp::from_micros(second * 1_000_000),
            principal: "".into(),
            note: "".into(),
            schema,
            changes: vec![change; changes],
        }
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

    /// Large contexts, of which few are as heavy as a hundred thousand plain changes.
    fn heavy(revision: u64) -> LogEntry {
        let text = "x".repeat(usize::try_from(revision * 7 % 10_000).expect("small"));
        let context = Context([("text".to_owned(), Value::String(text))].into());
        let mut entry = entry(revision, 0, 1, None);
        for change in &mut entry.changes {
            let condition =
                TupleCondition { name: "small".parse().expect("a name"), context: Arc::new(context.clone()) };
            change.after = Some(Attributes { condition: Some(condition), expires_at: None });
        }
        // As a list that grew has it.
        entry.changes.reserve(100);
        entry
    }

    #[test]
    fn a_ring_is_bounded_by_bytes_and_every_node_remembers_as_far_back() {
        const LAST: u64 = 2_000;
        let settings = FeedSettings { ring_changes: 100_000, ring_bytes: 1 << 20, ..FeedSettings::default() };
        let mut ring = Ring::new(Revision::ZERO, None);
        let mut most = 0;
        for revision in 1..=LAST {
            ring.push(heavy(revision), &settings);
            most = most.max(ring.entry_bytes);
            let held = ring.entries.iter().map(|entry| bytes(entry)).sum::<usize>();
            assert_eq!(ring.entry_bytes, held);
        }
        assert!((1 << 19..=1 << 20).contains(&most), "{most} bytes");
        assert!(ring.bytes() < (1 << 20) + 100_000, "tags are beside: {}", ring.bytes());
        assert!(ring.undo(Revision(LAST - 10), &settings).is_ok());
        assert!(ring.undo(ring.before(), &settings).is_ok(), "as far as it goes");
        assert!(ring.undo(Revision(ring.before().0 - 1), &settings).is_err(), "no further");

        // A node that begins in the middle and reads the rest backwards, as a load does it.
        let mut recent = Recent::default();
        for revision in LAST - 30..=LAST {
            recent.push_back(heavy(revision), &settings);
        }
        while !recent.reaches(&settings) {
            let older = recent.oldest().expect("some").0 - 1;
            recent.push_front(heavy(older), &settings);
        }
        assert!(recent.bytes() <= 1 << 20, "no more is kept than there is room for");
        let before = Revision(recent.oldest().expect("some").0 - 1);
        let mut loaded = Ring::new(before, None);
        for entry in recent.into_entries() {
            loaded.push(entry, &settings);
        }
        assert_eq!((loaded.before(), loaded.entry_bytes), (ring.before(), ring.entry_bytes));

        // One that reads more than fits while it loads keeps no more either.
        let mut recent = Recent::default();
        for revision in 1..=LAST {
            recent.push_back(heavy(revision), &settings);
            assert!(recent.bytes() <= 1 << 20);
        }
        assert!(recent.reaches(&settings), "nothing older is asked for");
        assert_eq!(recent.oldest(), Some(ring.before().next()));
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

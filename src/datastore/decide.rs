//! Decides a group of writes, in order, against the state read under the store's lock.
//!
//! One transaction serves many writes, yet each must fare as if it had been alone: it sees what
//! the writes before it did, and fails without harm to its neighbours. So nothing is executed
//! while deciding. [`Needs`] says what to read, [`decide`] plays the group over an overlay of
//! what was read ([`Found`]), and the [`Plan`] is the net effect, ready to be stored at once:
//!
//! ```text
//! group: CREATE a, then CREATE a again, then DELETE a, then TOUCH b
//! outcomes: revision 8, AlreadyExists, revision 9, revision 10
//! plan:     b upserted; nothing for a; log entries 8, 9, 10 with the states before and after
//! ```
//!
//! Both databases call this, so they cannot disagree.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use super::{
    Action, Change, Committed, Expectation, Head, Idempotency, Judged, LogEntry, Outcome, Precondition,
    SchemaId, StoredSchema, TupleFilter, Update, Write, WriteError,
};
use crate::revision::{Revision, WriteId};
use crate::time::Timestamp;
use crate::tuple::{Attributes, Tuple, TupleKey};

/// How long an idempotency key is remembered at least. A database may forget older ones.
pub const IDEMPOTENCY_KEPT: Duration = Duration::from_hours(24);

/// Tuples that are held against a new schema under the lock at most: writers wait meanwhile.
pub const UNJUDGED_AT_MOST: u32 = 1_000;

/// What must be read under the lock to decide a group. Every list is without duplicates.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Needs {
    /// Tuples that are written, or named whole by a precondition; in key order.
    pub keys: Vec<TupleKey>,
    /// Filters of which it must be known whether any live tuple matches.
    pub filters: Vec<TupleFilter>,
    /// Idempotency keys that may have been used.
    pub idempotency: Vec<Scope>,
    /// Revisions since which it must be known what was written.
    pub since: Vec<Revision>,
}

/// Where an idempotency key is unique: within what one principal writes to one store.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Scope {
    /// Who wrote.
    pub principal: Arc<str>,
    /// The key the client chose.
    pub key: Arc<str>,
}

/// What the first write with an idempotency key returned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remembered {
    /// Digest of that request.
    pub request: [u8; 32],
    /// The revision returned.
    pub revision: Revision,
    /// Its write id.
    pub write_id: WriteId,
    /// The schema made, by a schema write.
    pub schema: Option<SchemaId>,
}

/// What was read under the lock.
#[derive(Debug, Clone)]
pub struct Found {
    /// The database's clock, but never before `head.committed_at`: a tuple that was seen to
    /// expire stays expired although the clock was set back. Filters are judged at this moment.
    pub now: Timestamp,
    /// The newest revision and the schema in force.
    pub head: Head,
    /// Those of [`Needs::keys`] that are stored, expired ones included.
    pub tuples: HashMap<TupleKey, Attributes>,
    /// Those of [`Needs::filters`] that match a tuple that is live at `now`.
    pub matching: HashSet<TupleFilter>,
    /// Those of [`Needs::idempotency`] that have been used.
    pub remembered: HashMap<Scope, Remembered>,
    /// What was written since each of [`Needs::since`].
    pub since: HashMap<Revision, Since>,
}

/// What was written since a revision.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Since {
    /// The write id of that revision; `None` if it is not in the log.
    pub write_id: Option<WriteId>,
    /// Stored tuples that were written later; one more than [`UNJUDGED_AT_MOST`] stands for
    /// however many there are.
    pub tuples: Vec<Tuple>,
}

/// What became of a group, and what to store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// One for each write, in order.
    pub outcomes: Vec<Outcome>,
    /// The net effect.
    pub plan: Plan,
}

/// What a group leaves behind in the database.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// Tuples to insert or replace, in key order.
    pub upserts: Vec<Upsert>,
    /// Stored tuples to delete, in key order. Each one exists.
    pub deletes: Vec<TupleKey>,
    /// New revisions with their changes; a change's ordinal is its index.
    pub entries: Vec<LogEntry>,
    /// New schema versions. The last one is in force afterwards.
    pub schemas: Vec<StoredSchema>,
    /// Idempotency keys to remember.
    pub remembered: Vec<(Scope, Remembered)>,
}

/// A tuple as it is to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upsert {
    /// The tuple.
    pub tuple: Tuple,
    /// The revision that wrote it last.
    pub revision: Revision,
    /// The ordinal of its change in that revision.
    pub ordinal: u32,
}

impl Plan {
    /// Whether there is nothing to store: the transaction may be rolled back.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        // An upsert, a deletion or a schema never comes without its log entry.
        self.entries.is_empty() && self.remembered.is_empty()
    }
}

/// How long the preconditions of a group that no index serves may be looked at, all together. All
/// writers of the store wait meanwhile, on SQLite those of all stores.
pub const FILTERS_TIME: Duration = Duration::from_secs(1);

impl Needs {
    /// What a group depends on.
    #[must_use]
    pub fn of(group: &[Write]) -> Self {
        let mut keys = BTreeSet::new();
        let mut filters = HashSet::new();
        let mut idempotency = BTreeSet::new();
        let mut since = BTreeSet::new();
        for write in group {
            idempotency.extend(write.scope());
            let (updates, preconditions) = match &write.action {
                Action::Tuples { updates, preconditions, .. } => (updates, preconditions),
                Action::Schema { judged, .. } => {
                    since.extend(judged.as_ref().map(|judged| judged.revision));
                    continue;
                }
            };
            keys.extend(updates.iter().map(|update| update.key().clone()));
            for precondition in preconditions {
                match precondition.filter.exact() {
                    Some(key) => {
                        keys.insert(key);
                    }
                    None => {
                        filters.insert(precondition.filter.clone());
                    }
                }
            }
        }
        Self {
            keys: keys.into_iter().collect(),
            filters: filters.into_iter().collect(),
            idempotency: idempotency.into_iter().collect(),
            since: since.into_iter().collect(),
        }
    }
}

impl Write {
    /// Where its idempotency key is unique, if it has one.
    fn scope(&self) -> Option<Scope> {
        let Idempotency { key, .. } = self.idempotency.as_ref()?;
        Some(Scope { principal: self.principal.clone(), key: key.clone() })
    }
}

/// Decides each write of a group in order. The results equal those of the decided writes run
/// one after the other; a deferred write leaves no trace and is not remembered.
#[must_use]
pub fn decide(found: Found, group: &[Write]) -> Decision {
    let mut overlay = Overlay::new(found);
    let outcomes = group.iter().map(|write| overlay.run(write)).collect();
    Decision { outcomes, plan: overlay.into_plan() }
}

/// The state as the next write of the group sees it.
struct Overlay {
    now: Timestamp,
    head: Head,
    tuples: HashMap<TupleKey, Slot>,
    matching: HashSet<TupleFilter>,
    remembered: HashMap<Scope, Remembered>,
    since: HashMap<Revision, Since>,
    entries: Vec<LogEntry>,
    schemas: Vec<StoredSchema>,
    newly_remembered: Vec<(Scope, Remembered)>,
}

/// One tuple that the group touches.
#[derive(Default)]
struct Slot {
    stored: Option<Attributes>,
    current: Option<Attributes>,
    /// The change of this group that made `current`.
    written: Option<(Revision, u32)>,
}

/// Why a write does not succeed in this group.
enum Refusal {
    Failed(WriteError),
    Deferred,
}

impl From<WriteError> for Refusal {
    fn from(error: WriteError) -> Self {
        Self::Failed(error)
    }
}

impl Overlay {
    fn new(found: Found) -> Self {
        let slot =
            |stored: Attributes| Slot { current: Some(stored.clone()), stored: Some(stored), written: None };
        Self {
            now: found.now,
            head: found.head,
            tuples: found.tuples.into_iter().map(|(key, stored)| (key, slot(stored))).collect(),
            matching: found.matching,
            remembered: found.remembered,
            since: found.since,
            entries: Vec::new(),
            schemas: Vec::new(),
            newly_remembered: Vec::new(),
        }
    }

    fn run(&mut self, write: &Write) -> Outcome {
        match self.attempt(write) {
            Ok(committed) => Outcome::Committed(committed),
            Err(Refusal::Failed(error)) => Outcome::Failed(error),
            Err(Refusal::Deferred) => Outcome::Deferred,
        }
    }

    /// Everything that can refuse comes before anything is changed.
    fn attempt(&mut self, write: &Write) -> Result<Committed, Refusal> {
        if let Some(committed) = self.replay(write)? {
            return Ok(committed);
        }
        let (schema, changes) = match &write.action {
            Action::Tuples { updates, preconditions, validated_against } => {
                self.schema_is(*validated_against)?;
                for (index, precondition) in preconditions.iter().enumerate() {
                    self.holds(index, precondition)?;
                }
                for update in updates {
                    self.permits(update)?;
                }
                (None, self.change_tuples(write, updates))
            }
            Action::Schema { text, json, expected, judged } => {
                self.schema_is(*expected)?;
                if judged.as_ref().is_some_and(|judged| !self.all_allowed(judged)) {
                    return Err(WriteError::TuplesChanged.into());
                }
                (Some(self.change_schema(write, text, json)), 0)
            }
        };
        let committed = Committed {
            revision: self.head.revision,
            write_id: self.head.write_id,
            changes,
            replayed: false,
            schema,
        };
        self.remember(write, committed);
        Ok(committed)
    }

    /// The first result, if the idempotency key was used for the same request.
    fn replay(&self, write: &Write) -> Result<Option<Committed>, WriteError> {
        let (Some(idempotency), Some(scope)) = (&write.idempotency, write.scope()) else { return Ok(None) };
        match self.remembered.get(&scope) {
            None => Ok(None),
            Some(first) if first.request != idempotency.request => Err(WriteError::IdempotencyKeyReused),
            Some(first) => Ok(Some(Committed {
                revision: first.revision,
                write_id: first.write_id,
                changes: 0,
                replayed: true,
                schema: first.schema,
            })),
        }
    }

    fn remember(&mut self, write: &Write, result: Committed) {
        let (Some(idempotency), Some(scope)) = (&write.idempotency, write.scope()) else { return };
        let remembered = Remembered {
            request: idempotency.request,
            revision: result.revision,
            write_id: result.write_id,
            schema: result.schema,
        };
        self.remembered.insert(scope.clone(), remembered.clone());
        self.newly_remembered.push((scope, remembered));
    }

    fn schema_is(&self, wanted: Option<SchemaId>) -> Result<(), WriteError> {
        if wanted.is_some() && wanted != self.head.schema {
            return Err(WriteError::SchemaChanged { in_force: self.head.schema });
        }
        Ok(())
    }

    /// Whether a schema allows what was written since the stored tuples were held against it: by
    /// others before this group, and by the writes of this group before this one.
    fn all_allowed(&self, judged: &Judged) -> bool {
        let Some(since) = self.since.get(&judged.revision) else { return false };
        let write_id = if judged.revision == Revision::ZERO { Some(WriteId::NIL) } else { since.write_id };
        if write_id.is_none_or(|id| id.tag() != judged.tag) || since.tuples.len() > UNJUDGED_AT_MOST as usize
        {
            return false;
        }
        let written = |key: &TupleKey| self.tuples.get(key).is_some_and(|slot| slot.written.is_some());
        let allows = |tuple: &Tuple| !tuple.attributes.is_live_at(self.now) || judged.judge.allows(tuple);
        let stored = since.tuples.iter().filter(|tuple| !written(&tuple.key)).all(allows);
        let mut here = self.tuples.iter().filter(|(_, slot)| slot.written.is_some());
        stored
            && here.all(|(key, slot)| {
                slot.current.clone().is_none_or(|attributes| allows(&Tuple { key: key.clone(), attributes }))
            })
    }

    fn holds(&self, index: usize, precondition: &Precondition) -> Result<(), Refusal> {
        let matches = self.matches(&precondition.filter).ok_or(Refusal::Deferred)?;
        let expectation = precondition.expectation;
        let wanted = match expectation {
            Expectation::Match => true,
            Expectation::NoMatch => false,
        };
        if matches == wanted {
            Ok(())
        } else {
            Err(WriteError::PreconditionFailed { index, expectation }.into())
        }
    }

    /// Whether a live tuple matches. `None`: the group removed a tuple that did, and whether
    /// another one is left cannot be told before the group is stored.
    fn matches(&self, filter: &TupleFilter) -> Option<bool> {
        if let Some(key) = filter.exact() {
            return Some(self.live(&key));
        }
        let mut removed = false;
        for (key, slot) in &self.tuples {
            if slot.written.is_some() && filter.matches(key) {
                if is_live(slot.current.as_ref(), self.now) {
                    return Some(true);
                }
                removed |= is_live(slot.stored.as_ref(), self.now);
            }
        }
        match (self.matching.contains(filter), removed) {
            (false, _) => Some(false),
            (true, false) => Some(true),
            (true, true) => None,
        }
    }

    fn live(&self, key: &TupleKey) -> bool {
        self.tuples.get(key).is_some_and(|slot| is_live(slot.current.as_ref(), self.now))
    }

    fn permits(&self, update: &Update) -> Result<(), WriteError> {
        match update {
            Update::Create(tuple) if self.live(&tuple.key) => {
                Err(WriteError::AlreadyExists { key: tuple.key.clone() })
            }
            Update::Delete { key, must_exist: true } if !self.live(key) => {
                Err(WriteError::NotFound { key: key.clone() })
            }
            Update::Touch(_) | Update::Create(_) | Update::Delete { .. } | Update::Expire(_) => Ok(()),
        }
    }

    /// How many it changed.
    fn change_tuples(&mut self, write: &Write, updates: &[Update]) -> u32 {
        let revision = self.head.revision.next();
        let mut changes = Vec::with_capacity(updates.len());
        for update in updates {
            let key = update.key();
            let slot = self.tuples.entry(key.clone()).or_default();
            let after = match update {
                Update::Touch(tuple) | Update::Create(tuple) => Some(&tuple.attributes),
                Update::Expire(_) if is_live(slot.current.as_ref(), self.now) => continue,
                Update::Delete { .. } | Update::Expire(_) => None,
            };
            if slot.current.as_ref() == after {
                continue;
            }
            let before = std::mem::replace(&mut slot.current, after.cloned());
            slot.written = Some((revision, ordinal(changes.len())));
            changes.push(Change { key: key.clone(), before, after: after.cloned() });
        }
        let count = ordinal(changes.len());
        if !changes.is_empty() {
            self.advance(write, changes, None);
        }
        count
    }

    /// Schema ids grow although clocks differ and step back, so that the newest is the greatest.
    fn change_schema(&mut self, write: &Write, text: &Arc<str>, json: &Arc<str>) -> SchemaId {
        let millis = u64::try_from(self.now.as_micros() / 1000).unwrap_or(0);
        let fresh = ulid::Ulid::from_parts(millis, write.write_id.0.as_u128());
        let id = match self.head.schema {
            Some(SchemaId(last)) => SchemaId(fresh.max(ulid::Ulid(last.0.saturating_add(1)))),
            None => SchemaId(fresh),
        };
        self.advance(write, Vec::new(), Some(id));
        self.schemas.push(StoredSchema {
            id,
            revision: self.head.revision,
            written_at: self.head.committed_at,
            text: text.clone(),
            json: json.clone(),
        });
        id
    }

    /// Gives the write its revision.
    fn advance(&mut self, write: &Write, changes: Vec<Change>, schema: Option<SchemaId>) {
        let tick = self.head.committed_at.saturating_add(Duration::from_micros(1));
        self.head.revision = self.head.revision.next();
        self.head.write_id = write.write_id;
        self.head.committed_at = self.now.max(tick);
        self.head.schema = schema.or(self.head.schema);
        self.entries.push(LogEntry {
            revision: self.head.revision,
            write_id: write.write_id,
            committed_at: self.head.committed_at,
            principal: write.principal.clone(),
            note: write.note.clone(),
            schema,
            changes,
        });
    }

    fn into_plan(self) -> Plan {
        let mut upserts = Vec::new();
        let mut deletes = Vec::new();
        for (key, slot) in self.tuples {
            let Some((revision, ordinal)) = slot.written else { continue };
            match (slot.stored, slot.current) {
                (_, Some(attributes)) => {
                    upserts.push(Upsert { tuple: Tuple { key, attributes }, revision, ordinal });
                }
                (Some(_), None) => deletes.push(key),
                (None, None) => {}
            }
        }
        // In key order: pages are written once, and row locks are taken in one order.
        upserts.sort_unstable_by(|a, b| a.tuple.key.cmp(&b.tuple.key));
        deletes.sort_unstable();
        Plan {
            upserts,
            deletes,
            entries: self.entries,
            schemas: self.schemas,
            remembered: self.newly_remembered,
        }
    }
}

fn is_live(attributes: Option<&Attributes>, now: Timestamp) -> bool {
    attributes.is_some_and(|attributes| attributes.is_live_at(now))
}

/// An index as an ordinal. A write is far smaller than `u32::MAX`: it fits one message.
fn ordinal(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;

//! What a write costs a transaction, and how much one transaction takes.

use super::CommitterSettings;
use crate::context::{Context, Value};
use crate::datastore::{Action, Update, Write};
use crate::tuple::Tuple;

/// What a write costs a transaction.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Weight {
    /// Tuples it writes.
    pub(super) tuples: usize,
    /// Preconditions it makes.
    pub(super) preconditions: usize,
    /// Approximately.
    pub(super) bytes: usize,
}

impl Weight {
    pub(super) fn of(write: &Write) -> Self {
        const FIXED_BYTES: usize = 200;
        let (tuples, preconditions, bytes) = match &write.action {
            Action::Tuples { updates, preconditions, .. } => {
                (updates.len(), preconditions.len(), updates.iter().map(update_bytes).sum::<usize>())
            }
            Action::Schema { text, json, .. } => (1, 0, text.len() + json.len()),
        };
        let bytes = bytes + write.note.len() + (1 + preconditions) * FIXED_BYTES;
        Self { tuples, preconditions, bytes }
    }

    pub(super) fn add(&mut self, other: Self) {
        self.tuples += other.tuples;
        self.preconditions += other.preconditions;
        self.bytes += other.bytes;
    }

    pub(super) fn has_room_for(mut self, next: Self, settings: &CommitterSettings) -> bool {
        self.add(next);
        self.tuples + self.preconditions <= settings.group_tuples && self.bytes <= settings.group_bytes
    }
}

fn update_bytes(update: &Update) -> usize {
    const FIXED_BYTES: usize = 100;
    let key = update.key();
    let ids = key.object.id().as_str().len() + key.subject.id().len();
    let context = match update {
        Update::Touch(Tuple { attributes, .. }) | Update::Create(Tuple { attributes, .. }) => {
            attributes.condition.as_ref().map_or(0, |condition| context_bytes(&condition.context))
        }
        Update::Delete { .. } | Update::Expire(_) => 0,
    };
    FIXED_BYTES + ids + context
}

/// On the heap: contexts may be nested as deep as a message allows.
fn context_bytes(context: &Context) -> usize {
    const FIXED_BYTES: usize = 16;
    let mut bytes = 0;
    let mut rest: Vec<&Value> = Vec::new();
    for (name, value) in &context.0 {
        bytes += name.len();
        rest.push(value);
    }
    while let Some(value) = rest.pop() {
        bytes += FIXED_BYTES;
        match value {
            Value::Null | Value::Bool(_) | Value::Int(_) | Value::Uint(_) | Value::Double(_) => {}
            Value::String(text) => bytes += text.len(),
            Value::List(items) => rest.extend(items),
            Value::Map(entries) => {
                bytes += entries.keys().map(String::len).sum::<usize>();
                rest.extend(entries.values());
            }
        }
    }
    bytes
}

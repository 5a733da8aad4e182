//! What values cost on the heap, as close as can be told without asking the allocator.
//!
//! The byte budget of a node counts with these numbers. They are lower and upper bounds of
//! nothing; `tests/suite/memory` holds their sums against what the operating system says.

use crate::context::{Context, Value};
use crate::tuple::{Attributes, Object, Subject, TupleKey};

/// What an allocation of so many bytes takes: a word of the allocator's own, in steps of 16.
#[must_use]
pub const fn allocation(bytes: usize) -> usize {
    const LEAST: usize = 32;
    let taken = (bytes + size_of::<usize>()).next_multiple_of(16);
    if taken < LEAST { LEAST } else { taken }
}

/// What sharing a value costs beside it: two counters.
pub const COUNTERS: usize = 2 * size_of::<usize>();

/// A text behind a shared pointer.
#[must_use]
pub const fn shared_text(text: &str) -> usize {
    allocation(text.len() + COUNTERS)
}

/// An entry of a persistent ordered map whose keys and values take so many bytes. Nodes have room
/// for sixteen entries and hold eight after ascending insertion, as a load does it, and eleven after
/// random insertion; the map does not say how many it has.
#[must_use]
pub const fn ordered_entry(key: usize, value: usize) -> usize {
    const ROOM: usize = 16;
    let bounds = 2 * size_of::<usize>();
    let leaf = allocation(ROOM * (key + value) + bounds + COUNTERS);
    let branch =
        allocation(ROOM * key + (ROOM + 1) * size_of::<usize>() + 2 * bounds + size_of::<usize>() + COUNTERS);
    // Eight and a half in a leaf, and as many leaves in a branch.
    (leaf * 17 + branch * 2) * 2 / (17 * 17)
}

/// An element of a persistent vector: chunks of 64 that are full but for the last.
#[must_use]
pub const fn vector_element(element: usize) -> usize {
    element + element / 16
}

/// What a tuple's key holds on the heap when it shares nothing, as keys that were just read do.
#[must_use]
pub fn key(key: &TupleKey) -> usize {
    let object =
        |object: &Object| shared_text(object.object_type().as_str()) + shared_text(object.id().as_str());
    let subject = match &key.subject {
        Subject::Object(of) => object(of),
        Subject::Wildcard(name) => shared_text(name.as_str()),
        Subject::Userset(of, relation) => object(of) + shared_text(relation.as_str()),
    };
    object(&key.object) + shared_text(key.relation.as_str()) + subject
}

/// What attributes hold on the heap when they share nothing.
#[must_use]
pub fn attributes(attributes: &Attributes) -> usize {
    attributes.condition.as_ref().map_or(0, |condition| {
        shared_text(condition.name.as_str())
            + allocation(size_of::<Context>() + COUNTERS)
            + context(&condition.context)
    })
}

/// Values nest as deep as their sender likes, so the walk keeps its own stack.
fn context(context: &Context) -> usize {
    let mut bytes = map(context.0.len());
    let mut open: Vec<&Value> = Vec::new();
    for (name, value) in &context.0 {
        bytes += allocation(name.len());
        open.push(value);
    }
    while let Some(value) = open.pop() {
        match value {
            Value::Null | Value::Bool(_) | Value::Int(_) | Value::Uint(_) | Value::Double(_) => {}
            Value::String(text) => bytes += allocation(text.len()),
            Value::List(items) => {
                bytes += allocation(items.len() * size_of::<Value>());
                open.extend(items);
            }
            Value::Map(entries) => {
                bytes += map(entries.len());
                for (name, value) in entries {
                    bytes += allocation(name.len());
                    open.push(value);
                }
            }
        }
    }
    bytes
}

/// The nodes of a `BTreeMap` of values: leaves have room for eleven entries and are two thirds
/// full, and one in eight nodes leads to others.
const fn map(entries: usize) -> usize {
    const ROOM: usize = 11;
    const ENTRY: usize = size_of::<String>() + size_of::<Value>();
    const LEAF: usize = allocation(ROOM * ENTRY + COUNTERS);
    match entries {
        0 => 0,
        1..=ROOM => LEAF,
        _ => entries.div_ceil(7) * LEAF * 9 / 8,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_allocation_is_never_smaller_than_what_was_asked() {
        for (asked, taken) in [(0, 32), (1, 32), (24, 32), (25, 48), (40, 48), (41, 64), (1_000, 1_008)] {
            assert_eq!(allocation(asked), taken, "{asked}");
        }
    }

    #[test]
    fn a_context_nested_as_deep_as_a_request_may_bring_does_not_overflow_the_stack() {
        let deep = (0..30_000).fold(Value::Null, |inner, _| Value::List(vec![inner]));
        let context = Context([("deep".to_owned(), deep)].into());
        assert!(super::context(&context) >= 30_000 * allocation(size_of::<Value>()));
        // Dropping such a value recurses; no request brings one this deep.
        std::mem::forget(context);
    }
}

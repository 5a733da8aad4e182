//! Small random worlds, from a seed that a failing test prints.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};
use relata::datastore::{TupleFilter, Update};
use relata::tuple::{Attributes, RelationName, Tuple, TupleKey};

use super::fixture::key;

/// A source of random tuples, filters and updates.
pub struct World {
    pub random: StdRng,
}

const OBJECTS: &[&str] = &["doc:1", "doc:10", "doc:2", "doc:é", "dir:1", "dir:Z", "dir:a", "d:1"];
const RELATIONS: &[&str] = &["viewer", "owner", "Viewer"];
const SUBJECTS: &[&str] =
    &["user:a", "user:A", "user:*", "user:ü", "group:a", "group:a#member", "group:a#owner", "group:b#member"];

impl World {
    pub fn new(seed: u64) -> Self {
        println!("seed {seed}");
        Self { random: StdRng::seed_from_u64(seed) }
    }

    fn one(&mut self, of: &[&'static str]) -> &'static str {
        of.choose(&mut self.random).expect("not empty")
    }

    pub fn key(&mut self) -> TupleKey {
        key(&format!("{}#{}@{}", self.one(OBJECTS), self.one(RELATIONS), self.one(SUBJECTS)))
    }

    /// One to three updates of different tuples, of which some change nothing.
    pub fn updates(&mut self) -> Vec<Update> {
        let count = self.random.random_range(1..=3);
        let keys: std::collections::BTreeSet<_> = (0..count).map(|_| self.key()).collect();
        keys.into_iter().map(|key| self.update(key)).collect()
    }

    fn update(&mut self, key: TupleKey) -> Update {
        if self.random.random_bool(0.4) {
            return Update::Delete { key, must_exist: false };
        }
        let expires_at =
            self.random.random_bool(0.2).then(|| "2999-01-01T00:00:00Z".parse().expect("a time"));
        Update::Touch(Tuple { key, attributes: Attributes { condition: None, expires_at } })
    }

    /// The parts of a key that `given` has bits for.
    pub fn filter(key: &TupleKey, given: u8) -> TupleFilter {
        let given = |bit: u8| given & (1 << bit) != 0;
        TupleFilter {
            object_type: given(0).then(|| key.object.object_type().clone()),
            object_id: given(1).then(|| key.object.id().as_str().into()),
            relation: given(2).then(|| key.relation.clone()),
            subject_type: given(3).then(|| key.subject.subject_type().clone()),
            subject_id: given(4).then(|| key.subject.id().into()),
            subject_relation: given(5).then(|| key.subject.relation().cloned()),
        }
    }
}

/// The columns of a key, which it sorts by.
pub fn columns(key: &TupleKey) -> [&[u8]; 6] {
    [
        key.object.object_type().as_str().as_bytes(),
        key.object.id().as_str().as_bytes(),
        key.relation.as_str().as_bytes(),
        key.subject.subject_type().as_str().as_bytes(),
        key.subject.id().as_bytes(),
        key.subject.relation().map_or(b"", |relation: &RelationName| relation.as_str().as_bytes()),
    ]
}

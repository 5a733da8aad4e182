//! The slow and obvious judge: which tuples there are, and what follows from them. It shares no
//! code with what it judges.

use std::collections::{BTreeMap, BTreeSet, HashSet};

/// The state at one revision.
#[derive(Default)]
pub struct Model {
    /// Subjects by `object#relation`.
    stored: BTreeMap<String, BTreeSet<String>>,
}

impl Model {
    pub fn contains(&self, tuple: &str) -> bool {
        let (userset, subject) = parts(tuple);
        self.stored.get(userset).is_some_and(|subjects| subjects.contains(subject))
    }

    /// Stores or removes a tuple; whether that made a difference.
    pub fn put(&mut self, tuple: &str, present: bool) -> bool {
        let (userset, subject) = parts(tuple);
        if present {
            return self.stored.entry(userset.to_owned()).or_default().insert(subject.to_owned());
        }
        let Some(subjects) = self.stored.get_mut(userset) else { return false };
        let removed = subjects.remove(subject);
        if subjects.is_empty() {
            self.stored.remove(userset);
        }
        removed
    }

    /// How many subjects are stored for `object#relation`.
    pub fn stored(&self, userset: &str) -> usize {
        self.stored.get(userset).map_or(0, BTreeSet::len)
    }

    /// All tuples.
    pub fn tuples(&self) -> BTreeSet<String> {
        let of = |(userset, subjects): (&String, &BTreeSet<String>)| {
            subjects.iter().map(|subject| format!("{userset}@{subject}")).collect::<Vec<_>>()
        };
        self.stored.iter().flat_map(of).collect()
    }

    /// Whether the subject has the relation to the object.
    pub fn holds(&self, object: &str, relation: &str, subject: &str) -> bool {
        let direct = |relation: &str| self.reaches(object, relation, subject, &mut HashSet::new());
        match relation {
            "viewer" => (direct("granted") || direct("owner")) && !direct("blocked"),
            "reader" => direct("author"),
            stored => direct(stored),
        }
    }

    fn reaches(&self, object: &str, relation: &str, subject: &str, seen: &mut HashSet<String>) -> bool {
        let userset = format!("{object}#{relation}");
        let Some(subjects) = self.stored.get(&userset) else { return false };
        seen.insert(userset)
            && subjects.iter().any(|stored| {
                stored == subject
                    || stored
                        .split_once('#')
                        .is_some_and(|(object, relation)| self.reaches(object, relation, subject, seen))
            })
    }

    /// The objects of a type on which the subject has the relation.
    pub fn objects(&self, object_type: &str, relation: &str, subject: &str) -> BTreeSet<String> {
        let named = self.stored.keys().map(|userset| userset.split('#').next().unwrap_or_default());
        let of_type = named.filter(|object| object.split(':').next() == Some(object_type));
        of_type.filter(|object| self.holds(object, relation, subject)).map(str::to_owned).collect()
    }

    /// The users who have the relation to the object.
    pub fn users(&self, object: &str, relation: &str) -> BTreeSet<String> {
        let named: BTreeSet<&String> = self.stored.values().flatten().collect();
        let users = named.into_iter().filter(|subject| subject.starts_with("user:"));
        users.filter(|user| self.holds(object, relation, user)).cloned().collect()
    }
}

/// `object#relation` and the subject.
fn parts(tuple: &str) -> (&str, &str) {
    tuple.split_once('@').unwrap_or_else(|| panic!("`{tuple}` is not a tuple"))
}

#[test]
fn rules_are_followed_through_groups() {
    let mut model = Model::default();
    for tuple in [
        "group:a#member@group:b#member",
        "group:b#member@group:a#member",
        "group:b#member@user:ann",
        "group:b#member@user:bob",
        "doc:1#granted@group:a#member",
        "doc:1#blocked@user:bob",
        "doc:2#owner@user:bob",
    ] {
        assert!(model.put(tuple, true), "{tuple}");
    }
    assert_eq!(model.objects("doc", "viewer", "user:ann"), BTreeSet::from(["doc:1".to_owned()]));
    assert_eq!(model.objects("doc", "viewer", "user:bob"), BTreeSet::from(["doc:2".to_owned()]));
    assert_eq!(model.users("doc:1", "granted").len(), 2);
    assert!(!model.put("doc:2#owner@user:bob", true));
    assert!(model.put("doc:2#owner@user:bob", false) && !model.put("doc:2#owner@user:bob", false));
    assert!(!model.contains("doc:2#owner@user:bob") && model.stored("doc:2#owner") == 0);
}

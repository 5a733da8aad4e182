//! What must be true, computed from the stored facts alone. Shares no code with the server: it
//! keeps sets, and looks everything up each time.

use std::collections::{BTreeMap, BTreeSet};

use super::fact::Relation::{Auditor, Blocked, Granted, Member, Owner, Parent, Reader, Seen, Viewer, Writer};
use super::fact::{Fact, Relation, Subject};
use super::operation::Filter;

/// Which of the two schemas is in force: they differ in who may view.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Viewing {
    Plain,
    /// Auditors may view too.
    Audited,
}

impl Viewing {
    /// The schema to upload.
    pub fn schema(self) -> String {
        let auditors = match self {
            Self::Plain => "",
            Self::Audited => "auditor or ",
        };
        format!(
            "model
  schema 1.1

type user

type group
  relations
    define member: [user, group#member]

type folder
  relations
    define reader: [user, group#member]

type doc
  relations
    define parent: [folder]
    define owner: [user]
    define auditor: [user]
    define granted: [user, group#member]
    define blocked: [user, group#member]
    define viewer: ({auditors}granted or owner or reader from parent) but not blocked

type mark
  relations
    define writer: [user]
    define seen: writer
"
        )
    }

    /// The one whose text this is.
    pub fn of_schema(text: &str) -> Option<Self> {
        [Self::Plain, Self::Audited].into_iter().find(|viewing| viewing.schema().trim() == text.trim())
    }

    pub fn other(self) -> Self {
        match self {
            Self::Plain => Self::Audited,
            Self::Audited => Self::Plain,
        }
    }
}

/// The stored facts of one revision.
#[derive(Debug, Default, Clone)]
pub struct Model {
    stored: BTreeMap<(Relation, u32), BTreeSet<Subject>>,
    pub viewing: Option<Viewing>,
    /// The digest of the id of the schema in force.
    pub schema: Option<u64>,
}

impl Model {
    /// Stores or removes a fact; whether that changed anything.
    pub fn put(&mut self, fact: Fact, present: bool) -> bool {
        let place = (fact.relation, fact.object);
        if present {
            return self.stored.entry(place).or_default().insert(fact.subject);
        }
        let Some(subjects) = self.stored.get_mut(&place) else { return false };
        let removed = subjects.remove(&fact.subject);
        if subjects.is_empty() {
            self.stored.remove(&place);
        }
        removed
    }

    pub fn contains(&self, fact: Fact) -> bool {
        self.subjects(fact.relation, fact.object).any(|subject| subject == fact.subject)
    }

    /// The subjects stored for a relation of an object.
    pub fn subjects(&self, relation: Relation, object: u32) -> impl Iterator<Item = Subject> {
        self.stored.get(&(relation, object)).into_iter().flatten().copied()
    }

    /// Whether a user has a relation to an object, stored or not.
    pub fn holds(&self, fact: Fact) -> bool {
        let Fact { relation, object, subject } = fact;
        match relation {
            Member | Reader | Parent | Owner | Auditor | Granted | Blocked | Writer => {
                self.reaches(relation, object, subject)
            }
            Seen => self.reaches(Writer, object, subject),
            Viewer => self.may_view(object, subject),
        }
    }

    fn may_view(&self, object: u32, subject: Subject) -> bool {
        let audits = self.viewing == Some(Viewing::Audited) && self.reaches(Auditor, object, subject);
        let reads = |parent| match parent {
            Subject::Folder(folder) => self.reaches(Reader, folder, subject),
            Subject::User(_) | Subject::Members(_) => false,
        };
        (audits
            || self.reaches(Granted, object, subject)
            || self.reaches(Owner, object, subject)
            || self.subjects(Parent, object).any(reads))
            && !self.reaches(Blocked, object, subject)
    }

    /// Whether a subject is stored for a relation of an object, or is a member of a group that is.
    /// Groups may contain each other in circles.
    fn reaches(&self, relation: Relation, object: u32, subject: Subject) -> bool {
        let mut groups: Vec<u32> = Vec::new();
        let mut next = 0;
        let (mut relation, mut object) = (relation, object);
        loop {
            for stored in self.subjects(relation, object) {
                if stored == subject {
                    return true;
                }
                if let Subject::Members(group) = stored
                    && !groups.contains(&group)
                {
                    groups.push(group);
                }
            }
            let Some(group) = groups.get(next) else { return false };
            (relation, object) = (Member, *group);
            next += 1;
        }
    }

    /// The objects to which a user has a relation, in order.
    pub fn objects(&self, relation: Relation, user: u32) -> Vec<u32> {
        let object_type = relation.object_type();
        let known = self.stored.keys().filter(|(stored, _)| stored.object_type() == object_type);
        let known: BTreeSet<u32> = known.map(|(_, object)| *object).collect();
        let subject = Subject::User(user);
        known.into_iter().filter(|object| self.holds(Fact::new(relation, *object, subject))).collect()
    }

    /// The users who have a relation to an object, in order.
    pub fn users(&self, relation: Relation, object: u32) -> Vec<u32> {
        let named: BTreeSet<u32> =
            self.stored.values().flatten().filter_map(|subject| user(*subject)).collect();
        let holds = |user: &u32| self.holds(Fact::new(relation, object, Subject::User(*user)));
        named.into_iter().filter(holds).collect()
    }

    /// The stored facts that a filter matches, in order.
    pub fn matching(&self, filter: Filter) -> Vec<Fact> {
        let all = self.stored.iter().flat_map(|((relation, object), subjects)| {
            subjects.iter().map(|subject| Fact::new(*relation, *object, *subject))
        });
        all.filter(|fact| filter.matches(*fact)).collect()
    }
}

fn user(subject: Subject) -> Option<u32> {
    match subject {
        Subject::User(number) => Some(number),
        Subject::Members(_) | Subject::Folder(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(viewing: Viewing, facts: &[&str]) -> Model {
        let mut model = Model { viewing: Some(viewing), ..Model::default() };
        for fact in facts {
            assert!(model.put(Fact::parse(fact).expect(fact), true), "{fact}");
        }
        model
    }

    #[test]
    fn rules_are_followed_through_groups_and_folders() {
        let facts = [
            "group:g1#member@group:g2#member",
            "group:g2#member@group:g1#member",
            "group:g2#member@user:u1",
            "group:g2#member@user:u2",
            "doc:d1#granted@group:g1#member",
            "doc:d1#blocked@user:u2",
            "doc:d2#owner@user:u2",
            "doc:d3#parent@folder:f1",
            "folder:f1#reader@group:g1#member",
            "doc:d4#auditor@user:u1",
            "mark:m9#writer@user:u1",
        ];
        let plain = model(Viewing::Plain, &facts);
        assert_eq!(plain.objects(Viewer, 1), [1, 3]);
        assert_eq!(plain.objects(Viewer, 2), [2, 3]);
        assert_eq!(plain.objects(Seen, 1), [9]);
        assert_eq!(plain.users(Granted, 1), [1, 2]);
        assert_eq!(plain.users(Viewer, 1), [1]);
        assert_eq!(model(Viewing::Audited, &facts).objects(Viewer, 1), [1, 3, 4]);
    }

    #[test]
    fn a_change_that_changes_nothing_is_told() {
        let mut model = Model::default();
        let fact = Fact::parse("doc:d1#owner@user:u1").expect("a fact");
        assert!(!model.put(fact, false) && model.put(fact, true) && !model.put(fact, true));
        assert!(model.contains(fact) && model.put(fact, false) && !model.contains(fact));
        assert_eq!(model.matching(Filter::All), []);
    }
}

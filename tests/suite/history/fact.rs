//! The small world that a run is about: what may be stored and asked, and its text form.
//!
//! Objects and users are numbered, so that a fact takes a few bytes and millions of answers fit
//! into memory: document 7 is `doc:d7`, user 3 is `user:u3`.

use std::fmt;

/// A relation of one type. The first eight are stored, the others follow from them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Relation {
    Member,
    Reader,
    Parent,
    Owner,
    Auditor,
    Granted,
    Blocked,
    Writer,
    Viewer,
    Seen,
}

use Relation::{Auditor, Blocked, Granted, Member, Owner, Parent, Reader, Seen, Viewer, Writer};

impl Relation {
    pub const ALL: [Self; 10] =
        [Member, Reader, Parent, Owner, Auditor, Granted, Blocked, Writer, Viewer, Seen];

    /// The type whose objects have it.
    pub fn object_type(self) -> &'static str {
        match self {
            Member => "group",
            Reader => "folder",
            Parent | Owner | Auditor | Granted | Blocked | Viewer => "doc",
            Writer | Seen => "mark",
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Member => "member",
            Reader => "reader",
            Parent => "parent",
            Owner => "owner",
            Auditor => "auditor",
            Granted => "granted",
            Blocked => "blocked",
            Writer => "writer",
            Viewer => "viewer",
            Seen => "seen",
        }
    }

    pub fn named(object_type: &str, name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.object_type() == object_type && known.name() == name)
    }

    /// The object of that number, as `type:id`.
    pub fn object(self, number: u32) -> String {
        let object_type = self.object_type();
        format!("{object_type}:{}{number}", letter(object_type))
    }

    /// The number of an object given as `type:id`.
    pub fn number(self, object: &str) -> Option<u32> {
        let (object_type, id) = object.split_once(':')?;
        (object_type == self.object_type()).then(|| numbered(object_type, id)).flatten()
    }
}

/// Who a fact is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    User(u32),
    /// The members of a group.
    Members(u32),
    Folder(u32),
}

impl Subject {
    /// From `type:id` or `type:id#relation`.
    pub fn parse(text: &str) -> Option<Self> {
        let (object, relation) = text.split_once('#').unwrap_or((text, ""));
        let (object_type, id) = object.split_once(':')?;
        let number = numbered(object_type, id)?;
        match (object_type, relation) {
            ("user", "") => Some(Self::User(number)),
            ("group", "member") => Some(Self::Members(number)),
            ("folder", "") => Some(Self::Folder(number)),
            _ => None,
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(number) => write!(f, "user:u{number}"),
            Self::Members(number) => write!(f, "group:g{number}#member"),
            Self::Folder(number) => write!(f, "folder:f{number}"),
        }
    }
}

/// `object#relation@subject`: stored, or asked whether it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fact {
    pub relation: Relation,
    pub object: u32,
    pub subject: Subject,
}

impl Fact {
    pub fn new(relation: Relation, object: u32, subject: Subject) -> Self {
        Self { relation, object, subject }
    }

    /// From `object#relation@subject`.
    pub fn parse(text: &str) -> Option<Self> {
        let (userset, subject) = text.split_once('@')?;
        let (object, relation) = userset.split_once('#')?;
        Self::of(object, relation, subject)
    }

    /// From its three parts.
    pub fn of(object: &str, relation: &str, subject: &str) -> Option<Self> {
        let relation = Relation::named(object.split(':').next()?, relation)?;
        Some(Self { relation, object: relation.number(object)?, subject: Subject::parse(subject)? })
    }
}

impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { relation, object, subject } = self;
        write!(f, "{}#{}@{subject}", relation.object(*object), relation.name())
    }
}

/// What the ids of a type begin with.
fn letter(object_type: &str) -> char {
    object_type.chars().next().unwrap_or_default()
}

fn numbered(object_type: &str, id: &str) -> Option<u32> {
    id.strip_prefix(letter(object_type))?.parse().ok()
}

#[test]
fn facts_have_one_text() {
    for text in ["doc:d7#granted@group:g2#member", "mark:m0#seen@user:u31", "doc:d1#parent@folder:f4"] {
        assert_eq!(Fact::parse(text).map(|fact| fact.to_string()).as_deref(), Some(text));
    }
    for text in ["doc:7#granted@user:u1", "doc:d7#member@user:u1", "doc:d7#owner@user:d1", "doc:d7#owner"] {
        assert_eq!(Fact::parse(text), None, "{text}");
    }
}

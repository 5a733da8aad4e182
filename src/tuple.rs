//! Objects, relations, subjects and tuples, and their text form `object#relation@subject`
//! (Zanzibar paper §2.1).
//!
//! Text becomes one of these types at the edge and is never split again further in. Every
//! constructor enforces the id rules, so a value of these types is always well formed:
//! UTF-8 without whitespace, control characters or `#`; exactly one `:` between type and id.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::context::Context;
use crate::time::Timestamp;

/// Longest type name, in characters.
pub const MAX_TYPE_CHARS: usize = 254;
/// Longest relation or condition name, in characters.
pub const MAX_RELATION_CHARS: usize = 50;
/// Longest object (`type:id`), in characters.
pub const MAX_OBJECT_CHARS: usize = 256;
/// Longest subject (`type:id`, `type:*` or `type:id#relation`), in bytes.
pub const MAX_SUBJECT_BYTES: usize = 512;

/// Why a text is not an object, relation, subject or tuple.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each message names its fields")]
pub enum ParseError {
    /// A part that must not be empty is.
    #[error("{what} is empty")]
    Empty { what: &'static str },
    /// A part is longer than its bound.
    #[error("{what} is too long: {actual} {unit}, at most {limit} are allowed")]
    TooLong { what: &'static str, actual: usize, limit: usize, unit: &'static str },
    /// A part holds a character that ids may not hold.
    #[error("{what} `{}` holds {}, which is not allowed there", .text.escape_debug(), describe(*.character))]
    Forbidden { what: &'static str, text: String, character: char },
    /// The text does not have the shape of what it should be.
    #[error("`{}` is not {what}: {hint}", .text.escape_debug())]
    Shape { what: &'static str, text: String, hint: &'static str },
}

fn describe(character: char) -> String {
    match character {
        ' ' => "a space".to_owned(),
        c if c.is_control() || c.is_whitespace() => format!("U+{:04X}", u32::from(c)),
        c => format!("`{c}`"),
    }
}

fn forbidden(what: &'static str, text: &str, also: &[char]) -> Result<(), ParseError> {
    match text.chars().find(|c| c.is_whitespace() || c.is_control() || also.contains(c)) {
        Some(character) => Err(ParseError::Forbidden { what, text: clip(text), character }),
        None => Ok(()),
    }
}

fn bounded(what: &'static str, text: &str, limit: usize) -> Result<(), ParseError> {
    if text.is_empty() {
        return Err(ParseError::Empty { what });
    }
    let actual = text.chars().count();
    if actual > limit {
        return Err(ParseError::TooLong { what, actual, limit, unit: "characters" });
    }
    Ok(())
}

/// Error texts quote what was typed, but never at any length.
fn clip(text: &str) -> String {
    const SHOWN: usize = 80;
    let mut shown: String = text.chars().take(SHOWN).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $what:literal, $limit:expr, $also:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks and takes a name.
            ///
            /// # Errors
            /// [`ParseError`] if it is empty, too long or holds a forbidden character.
            pub fn new(text: &str) -> Result<Self, ParseError> {
                bounded($what, text, $limit)?;
                forbidden($what, text, &$also)?;
                Ok(Self(text.into()))
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }

        impl FromStr for $name {
            type Err = ParseError;

            fn from_str(text: &str) -> Result<Self, ParseError> {
                Self::new(text)
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    };
}

name!(
    /// The name of an object type, such as `document`.
    TypeName, "type", MAX_TYPE_CHARS, [':', '#', '@', '*']
);
name!(
    /// The name of a relation, such as `viewer`.
    RelationName, "relation", MAX_RELATION_CHARS, [':', '#', '@', '*']
);
name!(
    /// The name of a condition.
    ConditionName, "condition", MAX_RELATION_CHARS, [':', '#', '@', '*']
);
name!(
    /// The id part of an object, compared as bytes. Never `*`, which is the wildcard.
    ObjectId, "object id", MAX_OBJECT_CHARS, [':', '#']
);

/// An object, `type:id`: the thing protected.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Object {
    object_type: TypeName,
    id: ObjectId,
}

impl Object {
    /// Puts an object together.
    ///
    /// # Errors
    /// [`ParseError`] if the id is `*` or the whole is longer than [`MAX_OBJECT_CHARS`].
    pub fn new(object_type: TypeName, id: ObjectId) -> Result<Self, ParseError> {
        if id.as_str() == "*" {
            return Err(ParseError::Shape {
                what: "an object",
                text: format!("{object_type}:*"),
                hint: "the wildcard `*` stands for subjects only; name one object",
            });
        }
        let actual = object_type.as_str().chars().count() + 1 + id.as_str().chars().count();
        if actual > MAX_OBJECT_CHARS {
            return Err(ParseError::TooLong {
                what: "object",
                actual,
                limit: MAX_OBJECT_CHARS,
                unit: "characters",
            });
        }
        Ok(Self { object_type, id })
    }

    /// The type of the object.
    #[must_use]
    pub fn object_type(&self) -> &TypeName {
        &self.object_type
    }

    /// The id of the object within its type.
    #[must_use]
    pub fn id(&self) -> &ObjectId {
        &self.id
    }
}

impl FromStr for Object {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let (object_type, id) = split_type("an object", text)?;
        Self::new(TypeName::new(object_type)?, ObjectId::new(id)?)
    }
}

fn split_type<'a>(what: &'static str, text: &'a str) -> Result<(&'a str, &'a str), ParseError> {
    if text.is_empty() {
        return Err(ParseError::Empty { what: what.trim_start_matches("an ").trim_start_matches("a ") });
    }
    text.split_once(':').ok_or_else(|| ParseError::Shape {
        what,
        text: clip(text),
        hint: "write it as `type:id`",
    })
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.object_type, self.id)
    }
}

impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{self}`")
    }
}

/// Who is asked about: one object, every object of a type, or a userset.
///
/// Ordered by type, id and relation as bytes, like the columns it is stored in, so that sorting
/// in memory and sorting in a database agree.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Subject {
    /// `type:id`
    Object(Object),
    /// `type:*`: every object of the type, never usersets.
    Wildcard(TypeName),
    /// `type:id#relation`: whoever has the relation to the object.
    Userset(Object, RelationName),
}

impl Subject {
    /// The type of the object, wildcard or userset.
    #[must_use]
    pub fn subject_type(&self) -> &TypeName {
        match self {
            Self::Object(object) | Self::Userset(object, _) => object.object_type(),
            Self::Wildcard(subject_type) => subject_type,
        }
    }

    /// The id as stored: `*` for a wildcard.
    #[must_use]
    pub fn id(&self) -> &str {
        match self {
            Self::Object(object) | Self::Userset(object, _) => object.id().as_str(),
            Self::Wildcard(_) => "*",
        }
    }

    /// The relation of a userset.
    #[must_use]
    pub fn relation(&self) -> Option<&RelationName> {
        match self {
            Self::Userset(_, relation) => Some(relation),
            Self::Object(_) | Self::Wildcard(_) => None,
        }
    }
}

impl Ord for Subject {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.subject_type(), self.id(), self.relation()).cmp(&(
            other.subject_type(),
            other.id(),
            other.relation(),
        ))
    }
}

impl PartialOrd for Subject {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl FromStr for Subject {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        if text.len() > MAX_SUBJECT_BYTES {
            return Err(ParseError::TooLong {
                what: "subject",
                actual: text.len(),
                limit: MAX_SUBJECT_BYTES,
                unit: "bytes",
            });
        }
        let (object, relation) = match text.split_once('#') {
            Some((object, relation)) => (object, Some(RelationName::new(relation)?)),
            None => (text, None),
        };
        let (subject_type, id) = split_type("a subject", object)?;
        let subject_type = TypeName::new(subject_type)?;
        match (id, relation) {
            ("*", None) => Ok(Self::Wildcard(subject_type)),
            ("*", Some(_)) => Err(ParseError::Shape {
                what: "a subject",
                text: clip(text),
                hint: "a wildcard has no relation; write `type:*` or `type:id#relation`",
            }),
            (id, None) => Ok(Self::Object(Object::new(subject_type, ObjectId::new(id)?)?)),
            (id, Some(relation)) => {
                Ok(Self::Userset(Object::new(subject_type, ObjectId::new(id)?)?, relation))
            }
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Object(object) => write!(f, "{object}"),
            Self::Wildcard(subject_type) => write!(f, "{subject_type}:*"),
            Self::Userset(object, relation) => write!(f, "{object}#{relation}"),
        }
    }
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{self}`")
    }
}

/// What identifies a tuple: `object#relation@subject`. A store holds a key at most once.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TupleKey {
    /// The object the relation is on.
    pub object: Object,
    /// The relation.
    pub relation: RelationName,
    /// Who has it.
    pub subject: Subject,
}

impl FromStr for TupleKey {
    type Err = ParseError;

    /// Parses `object#relation@subject`. An object id may hold `@` and a subject may hold `#`;
    /// the first `#` and the first `@` after it are the separators.
    fn from_str(text: &str) -> Result<Self, ParseError> {
        let shape = || ParseError::Shape {
            what: "a tuple",
            text: clip(text),
            hint: "write it as `object#relation@subject`, for example `doc:plan#viewer@user:ann`",
        };
        let (object, rest) = text.split_once('#').ok_or_else(shape)?;
        let (relation, subject) = rest.split_once('@').ok_or_else(shape)?;
        Ok(Self { object: object.parse()?, relation: relation.parse()?, subject: subject.parse()? })
    }
}

impl fmt::Display for TupleKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}@{}", self.object, self.relation, self.subject)
    }
}

impl fmt::Debug for TupleKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{self}`")
    }
}

/// The condition a tuple carries: its name and the tuple's own part of the context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TupleCondition {
    /// The condition of the schema.
    pub name: ConditionName,
    /// Values the tuple fixes; they beat the request's.
    pub context: Arc<Context>,
}

/// What a tuple carries besides its key.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Attributes {
    /// The tuple counts only where this condition holds.
    pub condition: Option<TupleCondition>,
    /// The tuple counts while `now < expires_at`.
    pub expires_at: Option<Timestamp>,
}

impl Attributes {
    /// Whether the tuple carries nothing: the usual case.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.condition.is_none() && self.expires_at.is_none()
    }

    /// Whether the tuple has not expired at `now`.
    #[must_use]
    pub fn is_live_at(&self, now: Timestamp) -> bool {
        self.expires_at.is_none_or(|expires_at| now < expires_at)
    }
}

/// One stored fact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tuple {
    /// What identifies it.
    pub key: TupleKey,
    /// What it carries.
    pub attributes: Attributes,
}

impl From<TupleKey> for Tuple {
    fn from(key: TupleKey) -> Self {
        Self { key, attributes: Attributes::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) {
        let key: TupleKey = text.parse().expect("a tuple");
        assert_eq!(key.to_string(), text);
    }

    fn error<T: FromStr<Err = ParseError> + fmt::Debug>(text: &str) -> String {
        text.parse::<T>().expect_err("an error").to_string()
    }

    #[test]
    fn text_form_round_trips() {
        check("doc:plan#viewer@user:ann");
        check("doc:plan#viewer@user:*");
        check("doc:plan#viewer@group:eng#member");
        check("doc:a@b#viewer@user:ann@example.org");
    }

    #[test]
    fn keys_sort_as_their_columns_do() {
        let sorted = [
            "doc:1#viewer@group:*",
            "doc:1#viewer@group:a",
            "doc:1#viewer@group:a#member",
            "doc:1#viewer@group:a#owner",
            "doc:1#viewer@group:ab",
            "doc:1#viewer@user:!",
            "doc:1#viewer@user:*",
            "doc:1#viewer@user:A",
            "doc:1#viewer@user:a",
            "doc:1#viewer@user:é",
            "doc:10#viewer@user:a",
            "doc:2#viewer@user:a",
        ]
        .map(|text| text.parse::<TupleKey>().expect("a tuple"));
        assert!(sorted.is_sorted_by(|a, b| a < b));
    }

    #[test]
    fn each_mistake_is_named() {
        assert_eq!(error::<Object>("doc"), "`doc` is not an object: write it as `type:id`");
        assert_eq!(error::<Object>("doc:"), "object id is empty");
        assert_eq!(error::<Object>(":1"), "type is empty");
        assert_eq!(error::<Object>("a:b:c"), "object id `b:c` holds `:`, which is not allowed there");
        assert_eq!(error::<Object>("doc:a b"), "object id `a b` holds a space, which is not allowed there");
        assert_eq!(
            error::<Object>("doc:a\u{0}"),
            "object id `a\\0` holds U+0000, which is not allowed there"
        );
        assert!(error::<Object>("doc:*").contains("stands for subjects only"));
        assert!(error::<Subject>("user:*#member").contains("a wildcard has no relation"));
        assert!(error::<TupleKey>("doc:1").contains("object#relation@subject"));
        assert!(error::<Subject>(&format!("user:{}", "x".repeat(600))).contains("at most 512"));
        assert!(error::<Object>(&format!("doc:{}", "x".repeat(253))).contains("at most 256"));
    }
}

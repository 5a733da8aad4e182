//! What is told of one answer.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::redact::Redactor;
use crate::revision::Revision;
use crate::time::Timestamp;

/// Longest text of a caller that is written, in bytes: longer ones are no ids, and cut.
const MAX_TEXT_BYTES: usize = 600;

/// What was asked, as the caller wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "as the fields of the requests")]
pub enum Matter {
    Check { object: String, relation: String, subject: String },
    Batch { items: usize },
    Expand { object: String, relation: String },
    Objects { object_type: String, relation: String, subject: String },
    Subjects { object: String, relation: String, subject_type: String, subject_relation: String },
    Relations { object: String, subject: String },
}

impl Matter {
    /// The question as the command line asks it, with ids replaced if they are to be.
    #[must_use]
    pub fn question(&self, redactor: Option<&Redactor>) -> String {
        let node = |text: &str| shown(text, redactor);
        match self {
            Self::Check { object, relation, subject } => {
                format!("check {} {} {}", node(object), clipped(relation), node(subject))
            }
            Self::Batch { items } => format!("a batch of {items}"),
            Self::Expand { object, relation } => format!("expand {} {}", node(object), clipped(relation)),
            Self::Objects { object_type, relation, subject } => {
                format!("list-objects {} {} {}", node(subject), clipped(relation), clipped(object_type))
            }
            Self::Subjects { object, relation, subject_type, subject_relation } => {
                let relation_of = if subject_relation.is_empty() { "" } else { "#" };
                format!(
                    "list-subjects {} {} {}{relation_of}{}",
                    node(object),
                    clipped(relation),
                    clipped(subject_type),
                    clipped(subject_relation)
                )
            }
            Self::Relations { object, subject } => {
                format!("list-relations {} {}", node(object), node(subject))
            }
        }
    }

    fn fields(&self, redactor: Option<&Redactor>, line: &mut Map<String, Value>) {
        let mut put = |name: &str, value: String| line.insert(name.to_owned(), value.into());
        let node = |text: &str| shown(text, redactor);
        match self {
            Self::Check { object, relation, subject } => {
                put("object", node(object));
                put("relation", clipped(relation));
                put("subject", node(subject));
            }
            Self::Batch { items } => {
                line.insert("items".to_owned(), (*items).into());
            }
            Self::Expand { object, relation } => {
                put("object", node(object));
                put("relation", clipped(relation));
            }
            Self::Objects { object_type, relation, subject } => {
                put("object_type", clipped(object_type));
                put("relation", clipped(relation));
                put("subject", node(subject));
            }
            Self::Subjects { object, relation, subject_type, subject_relation } => {
                put("object", node(object));
                put("relation", clipped(relation));
                put("subject_type", clipped(subject_type));
                if !subject_relation.is_empty() {
                    put("subject_relation", clipped(subject_relation));
                }
            }
            Self::Relations { object, subject } => {
                put("object", node(object));
                put("subject", node(subject));
            }
        }
    }

    /// The same with texts that are too long to be ids cut, so that what waits to be written has a
    /// bound.
    #[must_use]
    pub fn bounded(self) -> Self {
        let cut = |text: String| if text.len() > MAX_TEXT_BYTES { clipped(&text) } else { text };
        match self {
            Self::Check { object, relation, subject } => {
                Self::Check { object: cut(object), relation: cut(relation), subject: cut(subject) }
            }
            Self::Batch { items } => Self::Batch { items },
            Self::Expand { object, relation } => {
                Self::Expand { object: cut(object), relation: cut(relation) }
            }
            Self::Objects { object_type, relation, subject } => Self::Objects {
                object_type: cut(object_type),
                relation: cut(relation),
                subject: cut(subject),
            },
            Self::Subjects { object, relation, subject_type, subject_relation } => Self::Subjects {
                object: cut(object),
                relation: cut(relation),
                subject_type: cut(subject_type),
                subject_relation: cut(subject_relation),
            },
            Self::Relations { object, subject } => {
                Self::Relations { object: cut(object), subject: cut(subject) }
            }
        }
    }
}

/// A text that is shared, of a length that can be written.
pub(super) fn cut(text: Arc<str>) -> Arc<str> {
    if text.len() <= MAX_TEXT_BYTES { text } else { clipped(&text).into() }
}

/// A text of the caller's, of a length that can be written.
fn clipped(text: &str) -> String {
    if text.len() <= MAX_TEXT_BYTES {
        return text.to_owned();
    }
    let mut end = MAX_TEXT_BYTES;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", text.get(..end).unwrap_or_default())
}

fn shown(text: &str, redactor: Option<&Redactor>) -> String {
    match redactor {
        // One that was cut is hashed as it was cut: it is no id.
        Some(redactor) => redactor.node(text),
        None => clipped(text),
    }
}

/// One answer, as it is written.
#[derive(Debug, Clone)]
pub struct Decision {
    /// When it was given.
    pub at: Timestamp,
    /// The id of the caller's trace.
    pub trace: Option<Arc<str>>,
    /// The method of the API.
    pub method: &'static str,
    /// The store, by name or id.
    pub store: Arc<str>,
    /// Who asked.
    pub principal: Arc<str>,
    /// Which item of a batch.
    pub item: Option<usize>,
    /// What was asked.
    pub matter: Matter,
    /// `allowed`, `denied`, `conditional`; `complete` for a list that came to its end; `error`; or
    /// `unanswered` if the caller went away or the deadline passed.
    pub answer: &'static str,
    /// Parameters that would have decided.
    pub missing: Vec<String>,
    /// How many results a list had.
    pub results: Option<u64>,
    /// The reason of an error.
    pub reason: Option<Cow<'static, str>>,
    /// The revision that was asked, if it came so far.
    pub revision: Option<Revision>,
    /// How long it took; of an item, how long its batch took.
    pub took: Duration,
}

impl Decision {
    /// The same with texts that are as long as ids can be at most: it may wait, with many others.
    #[must_use]
    pub fn bounded(self) -> Self {
        Self { matter: self.matter.bounded(), store: cut(self.store), ..self }
    }

    /// The line, without its end.
    #[must_use]
    pub fn line(&self, redactor: Option<&Redactor>) -> Value {
        let mut line = Map::new();
        let mut put = |name: &str, value: Value| line.insert(name.to_owned(), value);
        put("at", self.at.to_string().into());
        if let Some(trace) = &self.trace {
            put("trace", json!(**trace));
        }
        put("method", self.method.into());
        put("store", json!(*self.store));
        let principal = match redactor {
            Some(redactor) if !self.principal.is_empty() => redactor.hash(&self.principal),
            _ => self.principal.to_string(),
        };
        put("principal", principal.into());
        if let Some(item) = self.item {
            put("item", item.into());
        }
        self.matter.fields(redactor, &mut line);
        let mut put = |name: &str, value: Value| line.insert(name.to_owned(), value);
        put("answer", self.answer.into());
        if !self.missing.is_empty() {
            put("missing", json!(self.missing));
        }
        if let Some(results) = self.results {
            put("results", results.into());
        }
        if let Some(reason) = &self.reason {
            put("reason", json!(**reason));
        }
        if let Some(revision) = self.revision {
            put("revision", revision.0.into());
        }
        put("micros", u64::try_from(self.took.as_micros()).unwrap_or(u64::MAX).into());
        Value::Object(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decision() -> Decision {
        Decision {
            at: Timestamp::from_micros(1_800_000_000_000_000),
            trace: Some("4bf92f3577b34da6a3ce929d0e0e4736".into()),
            method: "Check",
            store: "default".into(),
            principal: "key:ci".into(),
            item: None,
            matter: Matter::Check {
                object: "doc:plan".to_owned(),
                relation: "viewer".to_owned(),
                subject: "group:eng#member".to_owned(),
            },
            answer: "conditional",
            missing: vec!["ip".to_owned()],
            results: None,
            reason: None,
            revision: Some(Revision(7)),
            took: Duration::from_micros(85),
        }
    }

    #[test]
    fn a_line_says_who_asked_what_and_what_was_answered() {
        assert_eq!(
            decision().line(None).to_string(),
            r#"{"at":"2027-01-15T08:00:00Z","trace":"4bf92f3577b34da6a3ce929d0e0e4736","method":"Check","store":"default","principal":"key:ci","object":"doc:plan","relation":"viewer","subject":"group:eng#member","answer":"conditional","missing":["ip"],"revision":7,"micros":85}"#
        );
    }

    #[test]
    fn a_redacted_line_names_nobody() {
        let redactor = Redactor::of(b"0123456789abcdef");
        let line = decision().line(Some(&redactor)).to_string();
        for id in ["plan", "eng", "key:ci"] {
            assert!(!line.contains(id), "`{id}` is in {line}");
        }
        assert!(line.contains("doc:~") && line.contains("#member") && line.contains("viewer"), "{line}");
        let question = decision().matter.question(Some(&redactor));
        assert!(!question.contains("plan") && question.starts_with("check doc:~"), "{question}");
    }

    #[test]
    fn a_text_that_is_no_id_is_cut() {
        let matter = Matter::Relations { object: "é".repeat(1 << 20), subject: "user:ann".to_owned() };
        let Matter::Relations { object, subject } = matter.bounded() else { panic!("another matter") };
        assert!(
            object.len() < MAX_TEXT_BYTES + 8 && object.capacity() <= 2 * MAX_TEXT_BYTES,
            "{}",
            object.len()
        );
        assert_eq!(subject, "user:ann");
        let long = Decision { store: "s".repeat(1 << 20).into(), ..decision() };
        assert!(long.bounded().line(None).to_string().len() < 2 * MAX_TEXT_BYTES);
    }
}

//! A small world written as text, for tests.

use std::sync::Arc;

use super::{Check, Limits, Memo, Progress, Scope, Verdict};
use crate::condition::Required;
use crate::context::Context;
use crate::graph::{Binding, Index, Ordinal, QuestionView, Snapshot, SubjectNode};
use crate::schema::{KindId, RelationId, Rules};
use crate::time::Timestamp;
use crate::tuple::{Attributes, Object, Subject, TupleCondition, TupleKey};

pub(crate) struct World {
    pub(crate) snapshot: Snapshot,
    pub(crate) view: QuestionView,
    pub(crate) rules: Arc<Rules>,
    pub(crate) context: Context,
    pub(crate) required: Required,
    pub(crate) limits: Limits,
}

impl World {
    /// A schema in its language, without the header, and tuples as text:
    /// `object#relation@subject`, then ` with condition` and ` {"its": "context"}`.
    pub(crate) fn new<T: AsRef<str>>(schema: &str, tuples: impl IntoIterator<Item = T>) -> Self {
        let text = format!("model\n  schema 1.1\n{schema}");
        let schema = crate::schema::parse(&text).unwrap_or_else(|error| panic!("{error}"));
        let rules = Arc::new(Rules::compile(&schema));
        let mut index = Index::new();
        for tuple in tuples {
            let (key, attributes) = tuple_of(tuple.as_ref());
            index.apply(&key, Some(&attributes)).expect("room");
        }
        let snapshot = index.snapshot();
        let binding = Arc::new(Binding::new(Arc::clone(&rules), &snapshot));
        Self {
            snapshot: snapshot.clone(),
            view: QuestionView::new(snapshot, binding, Timestamp::from_micros(0)),
            rules,
            context: Context::default(),
            required: Required::Deciding,
            limits: Limits::default(),
        }
    }

    pub(crate) fn with_context(mut self, json: &str) -> Self {
        self.context = json.parse().expect("a context");
        self
    }

    pub(crate) fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    pub(crate) fn scope(&self) -> Scope<'_, QuestionView> {
        Scope {
            rules: &self.rules,
            view: &self.view,
            context: &self.context,
            required: self.required,
            limits: &self.limits,
        }
    }

    pub(crate) fn object(&mut self, text: &str) -> Ordinal {
        self.view.object(&text.parse::<Object>().expect("an object"))
    }

    pub(crate) fn subject(&mut self, text: &str) -> SubjectNode {
        self.view.subject(&text.parse::<Subject>().expect("a subject")).expect("a kind of the schema")
    }

    pub(crate) fn relation(&self, object_type: &str, name: &str) -> RelationId {
        let object_type = self.rules.type_id(object_type).expect("a type");
        self.rules.relation_id(object_type, &name.parse().expect("a name")).expect("a relation")
    }

    /// `type` or `type#relation`.
    pub(crate) fn kind(&self, text: &str) -> KindId {
        let text = match text.split_once('#') {
            Some((subject_type, relation)) => format!("{subject_type}:x#{relation}"),
            None => format!("{text}:x"),
        };
        self.rules.kind_of(&text.parse().expect("a subject")).expect("a kind of the schema")
    }

    /// The question `object#relation@subject`.
    pub(crate) fn question(&mut self, text: &str) -> Check {
        let key: TupleKey = text.parse().expect("a question");
        let relation = self.relation(key.object.object_type().as_str(), key.relation.as_str());
        let object = self.view.object(&key.object);
        let subject = self.view.subject(&key.subject).expect("a kind of the schema");
        Check::new(object, relation, subject)
    }

    /// Asks in slices of 1, of 7 and in one piece, and with the memo of the question itself: the
    /// answer must be the same.
    pub(crate) fn check(&mut self, text: &str) -> String {
        let mut memo = Memo::new();
        let answers: Vec<String> = [1, 7, u64::MAX]
            .into_iter()
            .map(|slice| {
                memo = Memo::new();
                let question = self.question(text);
                self.ask(question, &mut memo, slice)
            })
            .collect();
        assert!(answers.iter().all(|answer| *answer == answers[0]), "{text}: {answers:?}");
        // What a search proved before it met a limit stays proved, so that asking again may help.
        if !answers[0].starts_with("error: the search exceeded") {
            let question = self.question(text);
            assert_eq!(self.ask(question, &mut memo, 1), answers[0], "{text} with its own memo");
        }
        answers[0].clone()
    }

    pub(crate) fn ask(&self, mut question: Check, memo: &mut Memo, slice: u64) -> String {
        loop {
            match question.run(&self.scope(), memo, &mut slice.clone()) {
                Progress::Suspended => {}
                Progress::Done(Err(error)) => return format!("error: {error}"),
                Progress::Done(Ok(answer)) => return written(&answer.verdict),
            }
        }
    }

    /// Compares answers with what is expected, line by line: `question → answer`.
    pub(crate) fn expect(&mut self, lines: &str) {
        for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let (question, expected) = line.split_once(" → ").expect("question → answer");
            assert_eq!(self.check(question.trim()), expected.trim(), "{question}");
        }
    }
}

pub(crate) fn written(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Allowed => "yes".to_owned(),
        Verdict::Denied => "no".to_owned(),
        Verdict::Conditional { missing } => format!("needs {}", missing.join(", ")),
    }
}

fn tuple_of(text: &str) -> (TupleKey, Attributes) {
    let (text, context) = match text.split_once(" {") {
        Some((text, context)) => (text, format!("{{{context}").parse().expect("a context")),
        None => (text, Context::default()),
    };
    let (key, condition) = match text.split_once(" with ") {
        Some((key, name)) => {
            let name = name.parse().expect("a condition");
            (key, Some(TupleCondition { name, context: Arc::new(context) }))
        }
        None => (text, None),
    };
    (key.parse().expect("a tuple"), Attributes { condition, expires_at: None })
}

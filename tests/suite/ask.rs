//! Asks the engine in process, in the words and error codes of OpenFGA's published cases.

use std::sync::Arc;

use relata::condition::Required;
use relata::context::Context;
use relata::engine::{Check, EngineError, Limits, ListObjects, ListSubjects, Memo, Progress, Scope, Verdict};
use relata::graph::{Binding, Index, QuestionView, SubjectNode};
use relata::schema::rules::TupleFault;
use relata::schema::{RelationId, Rules, SubjectKind};
use relata::time::Timestamp;
use relata::tuple::{Object, Subject, Tuple};

/// A schema and stored tuples.
pub struct World {
    rules: Arc<Rules>,
    binding: Arc<Binding>,
    snapshot: relata::graph::Snapshot,
}

/// What a question brings along.
pub struct Asked {
    pub contextual: Result<Vec<Tuple>, Failure>,
    pub context: Context,
    /// Fuel of one slice.
    pub slice: u64,
}

/// A refusal with its published number.
#[derive(Debug, Clone)]
pub struct Failure {
    pub code: u32,
    pub text: String,
}

fn failure(code: u32, text: impl std::fmt::Display) -> Failure {
    Failure { code, text: text.to_string() }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        let code = match &error {
            EngineError::DepthExceeded { .. } | EngineError::LimitExceeded { .. } => 2002,
            EngineError::Condition { .. } => 2000,
        };
        failure(code, error)
    }
}

/// Runs a search slice by slice.
pub fn run<T>(slice: u64, mut step: impl FnMut(&mut u64) -> Progress<T>) -> T {
    loop {
        if let Progress::Done(done) = step(&mut slice.clone()) {
            return done;
        }
    }
}

impl World {
    pub fn new(rules: Arc<Rules>, stored: &[Tuple]) -> Self {
        let mut index = Index::new();
        for tuple in stored {
            index.apply(&tuple.key, Some(&tuple.attributes)).unwrap();
        }
        let snapshot = index.snapshot();
        let binding = Arc::new(Binding::new(Arc::clone(&rules), &snapshot));
        Self { rules, binding, snapshot }
    }

    /// The view of one question; contextual tuples are validated as writes are.
    fn view(&self, asked: &Asked) -> Result<QuestionView, Failure> {
        let view =
            QuestionView::new(self.snapshot.clone(), Arc::clone(&self.binding), Timestamp::from_micros(0));
        let contextual = asked.contextual.clone()?;
        for tuple in &contextual {
            self.rules.validate(tuple).map_err(|error| failure(refusal(&error.fault), error))?;
        }
        Ok(view.with_contextual(&contextual))
    }

    fn relation(&self, object_type: &str, relation: &str, codes: (u32, u32)) -> Result<RelationId, Failure> {
        let type_id = self
            .rules
            .type_id(object_type)
            .ok_or_else(|| failure(codes.0, format!("no type {object_type}")))?;
        let name = relation.parse().map_err(|error| failure(codes.1, error))?;
        self.rules
            .relation_id(type_id, &name)
            .ok_or_else(|| failure(codes.1, format!("no relation {relation}")))
    }

    fn scope<'a>(
        &'a self,
        view: &'a QuestionView,
        asked: &'a Asked,
        limits: &'a Limits,
    ) -> Scope<'a, QuestionView> {
        Scope { rules: &self.rules, view, context: &asked.context, required: Required::All, limits }
    }

    pub fn check(&self, asked: &Asked, object: &str, relation: &str, subject: &str) -> Result<bool, Failure> {
        let object: Object = object.parse().map_err(|error| failure(2000, error))?;
        let relation = self.relation(object.object_type().as_str(), relation, (2000, 2000))?;
        let mut view = self.view(asked)?;
        let subject = subject_node(&mut view, subject)?;
        let object = view.object(&object);
        let limits = Limits::openfga();
        let scope = self.scope(&view, asked, &limits);
        let (mut memo, mut check) = (Memo::default(), Check::new(object, relation, subject));
        allowed(&run(asked.slice, |fuel| check.run(&scope, &mut memo, fuel))?.verdict)
    }

    pub fn list_objects(
        &self,
        asked: &Asked,
        subject: &str,
        relation: &str,
        object_type: &str,
    ) -> Result<Vec<String>, Failure> {
        let relation = self.relation(object_type, relation, (2021, 2022))?;
        let mut view = self.view(asked)?;
        let subject = subject_node(&mut view, subject)?;
        let limits = Limits::openfga();
        let scope = self.scope(&view, asked, &limits);
        let (mut memo, mut search) = (Memo::default(), ListObjects::new(subject, relation));
        run(asked.slice, |fuel| search.run(&scope, &mut memo, fuel))?;
        let mut objects = vec![];
        for found in search.take_found() {
            if allowed(&found.verdict)? {
                objects.push(relata::graph::View::object(&view, found.object).to_string());
            }
        }
        Ok(objects)
    }

    /// `filter` is `type` or `type#relation`. Exceptions to a wildcard are left out, as OpenFGA
    /// has no way to say them.
    pub fn list_subjects(
        &self,
        asked: &Asked,
        object: &str,
        relation: &str,
        filter: &str,
    ) -> Result<Vec<String>, Failure> {
        let object: Object = object.parse().map_err(|error| failure(2000, error))?;
        let relation = self.relation(object.object_type().as_str(), relation, (2021, 2022))?;
        let (subject_type, userset) = match filter.split_once('#') {
            Some((subject_type, userset)) => (subject_type, Some(userset)),
            None => (filter, None),
        };
        let type_id = self
            .rules
            .type_id(subject_type)
            .ok_or_else(|| failure(2021, format!("no type {subject_type}")))?;
        let kind = match userset {
            None => SubjectKind::Object(type_id),
            Some(userset) => SubjectKind::Userset(self.relation(subject_type, userset, (2021, 2022))?),
        };
        let mut view = self.view(asked)?;
        let object = view.object(&object);
        let limits = Limits::openfga();
        let scope = self.scope(&view, asked, &limits);
        let mut search = ListSubjects::new(object, relation, self.rules.kind_id(kind));
        run(asked.slice, |fuel| search.run(&scope, fuel))?;
        if search.met_uncertain() {
            return Err(failure(2000, "a tuple met lacks condition parameters"));
        }
        let mut subjects = vec![];
        for found in search.take_found() {
            if allowed(&found.verdict)? {
                subjects.push(scope.subject(found.subject).to_string());
            }
        }
        Ok(subjects)
    }
}

fn subject_node(view: &mut QuestionView, subject: &str) -> Result<SubjectNode, Failure> {
    let subject: Subject = subject.parse().map_err(|error| failure(2000, error))?;
    view.subject(&subject).ok_or_else(|| failure(2000, format!("no subject type {subject}")))
}

/// A verdict that depends on what is missing is an error there.
fn allowed(verdict: &Verdict) -> Result<bool, Failure> {
    match verdict {
        Verdict::Allowed => Ok(true),
        Verdict::Denied => Ok(false),
        Verdict::Conditional { missing } => Err(failure(2000, format!("missing {missing:?}"))),
    }
}

/// What a refused contextual tuple is called: a fault of its condition has a number of its own.
fn refusal(fault: &TupleFault) -> u32 {
    match fault {
        TupleFault::ConditionMissing { .. }
        | TupleFault::UnknownCondition { .. }
        | TupleFault::ConditionNotAllowed { .. }
        | TupleFault::Context { .. } => 2000,
        TupleFault::UnknownType { .. }
        | TupleFault::UnknownRelation { .. }
        | TupleFault::NotAssignable { .. }
        | TupleFault::SubjectNotAllowed { .. }
        | TupleFault::Implicit { .. } => 2027,
    }
}

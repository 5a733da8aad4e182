//! Runs the tests of a store file in process: the schema is compiled, the tuples are indexed, the
//! engine is asked, and no server is needed.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::path::PathBuf;
use std::sync::Arc;

use super::load::{CheckCase, Expected, ListObjectsCase, ListSubjectsCase, StoreFile, SubjectFilter, Test};
use crate::condition::Required;
use crate::context::Context;
use crate::engine::{
    Check, EngineError, Explain, Explanation, Limits, ListObjects, ListSubjects, Memo, Progress, Scope,
    Verdict, Work,
};
use crate::graph::{self, Binding, Index, IndexFull, QuestionView};
use crate::schema::{self, Diagnostics, RelationId, Rules, SubjectKind, TupleError};
use crate::time::Timestamp;
use crate::tuple::{Object, RelationName, Subject, Tuple, TypeName};

/// What came of the tests of one file.
#[derive(Debug)]
pub struct Report {
    /// One per test, in the order of the file.
    pub tests: Vec<TestReport>,
}

/// What came of one test.
#[derive(Debug)]
pub struct TestReport {
    /// Its name.
    pub name: String,
    /// Assertions that hold.
    pub passed: usize,
    /// Assertions that do not.
    pub failures: Vec<Mismatch>,
}

/// An assertion that does not hold.
#[derive(Debug)]
pub struct Mismatch {
    /// Line in the store file, counted from one.
    pub line: u64,
    /// What was asked, such as `check doc:plan viewer user:ann`.
    pub question: String,
    /// What the file expects.
    pub expected: String,
    /// What came out.
    pub actual: String,
    /// Why, for a check that was decided otherwise than expected.
    pub explanation: Option<Explanation>,
}

impl Report {
    /// Assertions that hold, and those that do not.
    #[must_use]
    pub fn totals(&self) -> (usize, usize) {
        self.tests
            .iter()
            .fold((0, 0), |(passed, failed), test| (passed + test.passed, failed + test.failures.len()))
    }
}

/// Why the tests of a file could not be run at all.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The schema has mistakes.
    #[error("{}: the schema is not valid", path.display())]
    Schema {
        /// The file it stands in.
        path: PathBuf,
        /// What is wrong with it.
        diagnostics: Diagnostics,
    },
    /// The schema does not allow a tuple.
    #[error("{}: tuple `{}`: {source}", path.display(), source.tuple)]
    Tuple {
        /// The store file.
        path: PathBuf,
        /// What is wrong with the tuple.
        source: Box<TupleError>,
    },
    /// More tuples than a graph can hold.
    #[error("{}: {source}", path.display())]
    Full {
        /// The store file.
        path: PathBuf,
        /// What is too much.
        source: IndexFull,
    },
}

/// Nodes of one explanation: a failed test is read by a person.
const MAX_EXPLAINED_NODES: usize = 40;

/// Runs every test. `now` is the moment of those that do not name one.
pub fn run(file: &StoreFile, now: Timestamp) -> Result<Report, RunError> {
    let schema = schema::parse(&file.model.text)
        .map_err(|diagnostics| RunError::Schema { path: file.model.path.clone(), diagnostics })?;
    let rules = Arc::new(Rules::compile(&schema));
    let full = |source| RunError::Full { path: file.path.clone(), source };
    let allowed = |tuple: &Tuple| {
        rules
            .validate(tuple)
            .map_err(|source| RunError::Tuple { path: file.path.clone(), source: Box::new(source) })
    };
    let mut index = Index::new();
    for tuple in &file.tuples {
        allowed(tuple)?;
        index.apply(&tuple.key, Some(&tuple.attributes)).map_err(full)?;
    }
    let snapshot = index.snapshot();
    let binding = Arc::new(Binding::new(Arc::clone(&rules), &snapshot));

    let mut tests = Vec::with_capacity(file.tests.len());
    for test in &file.tests {
        test.tuples.iter().try_for_each(allowed)?;
        let view = QuestionView::new(snapshot.clone(), Arc::clone(&binding), test.now.unwrap_or(now))
            .with_contextual(&test.tuples);
        tests.push(Run { rules: &rules, view, limits: Limits::default() }.test(test));
    }
    Ok(Report { tests })
}

/// One test, being run. Each question gets a view and a memo of its own, so that no answer can
/// rest on another's.
struct Run<'a> {
    rules: &'a Rules,
    view: QuestionView,
    limits: Limits,
}

/// What a question came to: what was expected if it holds, else why not.
type Outcome = Result<(), Box<Mismatch>>;

impl Run<'_> {
    fn test(&self, test: &Test) -> TestReport {
        let checks = test.checks.iter().map(|case| self.check(case));
        let objects = test.list_objects.iter().map(|case| self.list_objects(case));
        let subjects = test.list_subjects.iter().map(|case| self.list_subjects(case));
        let mut report = TestReport { name: test.name.clone(), passed: 0, failures: Vec::new() };
        for outcome in checks.chain(objects).chain(subjects) {
            match outcome {
                Ok(()) => report.passed += 1,
                Err(mismatch) => report.failures.push(*mismatch),
            }
        }
        report
    }

    fn scope<'s>(&'s self, view: &'s QuestionView, context: &'s Context) -> Scope<'s, QuestionView> {
        Scope { rules: self.rules, view, context, required: Required::Deciding, limits: &self.limits }
    }

    fn relation(&self, object_type: &TypeName, relation: &RelationName) -> Result<RelationId, String> {
        let type_id = self
            .rules
            .type_id(object_type.as_str())
            .ok_or_else(|| format!("the schema has no type `{object_type}`"))?;
        self.rules
            .relation_id(type_id, relation)
            .ok_or_else(|| format!("type `{object_type}` has no relation `{relation}`"))
    }

    fn check(&self, case: &CheckCase) -> Outcome {
        let mismatch = |actual: String, explanation| {
            Box::new(Mismatch {
                line: case.line,
                question: format!("check {} {} {}", case.object, case.relation, case.subject),
                expected: expected_word(case.expected).to_owned(),
                actual,
                explanation,
            })
        };
        match self.verdict(case) {
            Ok(Verdict::Allowed) if case.expected == Expected::Allowed => Ok(()),
            Ok(Verdict::Denied) if case.expected == Expected::Denied => Ok(()),
            Ok(Verdict::Conditional { .. }) if case.expected == Expected::Conditional => Ok(()),
            Ok(verdict) => Err(mismatch(verdict_text(&verdict), self.explain(case))),
            Err(error) => Err(mismatch(format!("an error: {error}"), None)),
        }
    }

    fn verdict(&self, case: &CheckCase) -> Result<Verdict, String> {
        let relation = self.relation(case.object.object_type(), &case.relation)?;
        let mut view = self.view.clone();
        let subject = view.subject(&case.subject).ok_or_else(|| self.no_such_subject(&case.subject))?;
        let check = Check::new(view.object(&case.object), relation, subject);
        let answer = check.finish(&self.scope(&view, &case.context), &mut Memo::new());
        answer.map(|answer| answer.verdict).map_err(|error| error.to_string())
    }

    fn explain(&self, case: &CheckCase) -> Option<Explanation> {
        let relation = self.relation(case.object.object_type(), &case.relation).ok()?;
        let mut view = self.view.clone();
        let subject = view.subject(&case.subject)?;
        let mut explain =
            Explain::new(view.object(&case.object), relation, subject).with_max_nodes(MAX_EXPLAINED_NODES);
        let scope = self.scope(&view, &case.context);
        loop {
            if let Progress::Done(explanation) = explain.run(&scope, &mut u64::MAX.clone()) {
                return explanation.ok();
            }
        }
    }

    fn list_objects(&self, case: &ListObjectsCase) -> Outcome {
        let found = self.objects(case);
        compare(found.map(|found| (found, None)), (&case.expected, None)).map_err(|(expected, actual)| {
            Box::new(Mismatch {
                line: case.line,
                question: format!("list-objects {} {} {}", case.subject, case.relation, case.object_type),
                expected,
                actual,
                explanation: None,
            })
        })
    }

    fn objects(&self, case: &ListObjectsCase) -> Result<BTreeSet<Object>, String> {
        let relation = self.relation(&case.object_type, &case.relation)?;
        let mut view = self.view.clone();
        let subject = view.subject(&case.subject).ok_or_else(|| self.no_such_subject(&case.subject))?;
        let scope = self.scope(&view, &case.context);
        let (mut list, mut memo) = (ListObjects::new(subject, relation), Memo::new());
        while let Progress::Suspended = finished(list.run(&scope, &mut memo, &mut u64::MAX.clone()))? {}
        let found = list
            .take_found()
            .into_iter()
            .map(|found| (graph::View::object(&view, found.object), found.verdict));
        definite(found.collect())
    }

    fn list_subjects(&self, case: &ListSubjectsCase) -> Outcome {
        let mut found = BTreeSet::new();
        let mut excluded = BTreeSet::new();
        let mut error = None;
        for filter in &case.filters {
            match self.subjects(case, filter) {
                Ok((some, exceptions)) => {
                    found.extend(some);
                    excluded.extend(exceptions);
                }
                Err(why) => error = Some(why),
            }
        }
        let kinds: Vec<String> = case.filters.iter().map(SubjectFilter::to_string).collect();
        let expected = (&case.expected.subjects, case.expected.excluded.as_ref());
        compare(error.map_or(Ok((found, Some(excluded))), Err), expected).map_err(|(expected, actual)| {
            Box::new(Mismatch {
                line: case.line,
                question: format!("list-subjects {} {} {}", case.object, case.relation, kinds.join(" ")),
                expected,
                actual,
                explanation: None,
            })
        })
    }

    /// The subjects of one kind that have the relation, and those excepted from a wildcard.
    fn subjects(
        &self,
        case: &ListSubjectsCase,
        filter: &SubjectFilter,
    ) -> Result<(BTreeSet<Subject>, BTreeSet<Subject>), String> {
        let relation = self.relation(case.object.object_type(), &case.relation)?;
        let subject_type = self
            .rules
            .type_id(filter.subject_type.as_str())
            .ok_or_else(|| format!("the schema has no type `{}`", filter.subject_type))?;
        let kind = match &filter.relation {
            None => SubjectKind::Object(subject_type),
            Some(relation) => SubjectKind::Userset(self.relation(&filter.subject_type, relation)?),
        };
        let mut view = self.view.clone();
        let object = view.object(&case.object);
        let scope = self.scope(&view, &case.context);
        let mut list = ListSubjects::new(object, relation, self.rules.kind_id(kind));
        while let Progress::Suspended = finished(list.run(&scope, &mut u64::MAX.clone()))? {}
        let found = list.take_found().into_iter().map(|found| (scope.subject(found.subject), found.verdict));
        let (excluded, found): (Vec<_>, Vec<_>) = found.partition(|(_, verdict)| *verdict == Verdict::Denied);
        Ok((definite(found)?, excluded.into_iter().map(|(subject, _)| subject).collect()))
    }

    fn no_such_subject(&self, subject: &Subject) -> String {
        match subject.relation().map(|relation| self.relation(subject.subject_type(), relation)) {
            Some(Err(why)) => why,
            Some(Ok(_)) | None => format!("the schema has no type `{}`", subject.subject_type()),
        }
    }
}

fn expected_word(expected: Expected) -> &'static str {
    match expected {
        Expected::Allowed => "allowed",
        Expected::Denied => "denied",
        Expected::Conditional => "conditional",
    }
}

fn verdict_text(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Allowed => "allowed".to_owned(),
        Verdict::Denied => "denied".to_owned(),
        Verdict::Conditional { missing } => format!("conditional, needs {}", missing.join(", ")),
    }
}

/// An error of a search in words; a search that is suspended goes on.
fn finished(progress: Progress<Result<Work, EngineError>>) -> Result<Progress<()>, String> {
    match progress {
        Progress::Suspended => Ok(Progress::Suspended),
        Progress::Done(outcome) => outcome.map(|_| Progress::Done(())).map_err(|error| error.to_string()),
    }
}

/// The items of a list. One that depends on a parameter is neither in it nor out of it, so the
/// test must supply the parameter.
fn definite<T: Ord + Display>(found: Vec<(T, Verdict)>) -> Result<BTreeSet<T>, String> {
    found
        .into_iter()
        .map(|(item, verdict)| match verdict {
            Verdict::Allowed | Verdict::Denied => Ok(item),
            Verdict::Conditional { missing } => {
                Err(format!("`{item}` depends on {}; give it in `context`", missing.join(", ")))
            }
        })
        .collect()
}

/// What a list holds, and what is excepted from it.
type Listed<T> = (BTreeSet<T>, Option<BTreeSet<T>>);

/// Whether a list holds what it should; if not, what was expected and what came out.
fn compare<T: Ord + Display>(
    found: Result<Listed<T>, String>,
    (expected, expected_excluded): (&BTreeSet<T>, Option<&BTreeSet<T>>),
) -> Result<(), (String, String)> {
    let wanted = listed(expected, expected_excluded);
    match found {
        Err(error) => Err((wanted, format!("an error: {error}"))),
        Ok((found, excluded)) => {
            // Exceptions count only where the test names them.
            let excluded = excluded.filter(|_| expected_excluded.is_some());
            if found == *expected && excluded.as_ref() == expected_excluded {
                return Ok(());
            }
            Err((wanted, listed(&found, excluded.as_ref())))
        }
    }
}

fn listed<T: Display>(items: &BTreeSet<T>, excluded: Option<&BTreeSet<T>>) -> String {
    let join = |items: &BTreeSet<T>| items.iter().map(T::to_string).collect::<Vec<_>>().join(", ");
    let all = if items.is_empty() { "none".to_owned() } else { join(items) };
    match excluded {
        Some(excluded) if !excluded.is_empty() => format!("{all} except {}", join(excluded)),
        Some(_) | None => all,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODEL: &str = "model: |\n  model\n    schema 1.1\n  type user\n  type doc\n    relations\n      define blocked: [user]\n      define viewer: [user, user:*] but not blocked\n";

    fn report(text: &str) -> Result<Report, RunError> {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("store.fga.yaml");
        std::fs::write(&path, format!("{MODEL}{text}")).expect("a file");
        run(&crate::store_file::load(&path).expect("a store file"), Timestamp::from_micros(0))
    }

    const TUPLES: &str = "tuples:\n- {user: 'user:ann', relation: viewer, object: 'doc:1'}\n- {user: 'user:*', relation: viewer, object: 'doc:2'}\n- {user: 'user:bad', relation: blocked, object: 'doc:2'}\n";

    #[test]
    fn what_holds_passes_and_what_does_not_is_told() {
        let report = report(&format!(
            "{TUPLES}tests:\n- name: right\n  check:\n  - {{user: 'user:ann', objects: ['doc:1', 'doc:2'], assertions: {{viewer: true}}}}\n  list_objects:\n  - {{user: 'user:ann', type: doc, assertions: {{viewer: ['doc:2', 'doc:1']}}}}\n  list_users:\n  - {{object: 'doc:1', user_filter: [{{type: user}}], assertions: {{viewer: {{users: ['user:ann']}}}}}}\n- name: wrong\n  check:\n  - {{user: 'user:bad', object: 'doc:2', assertions: {{viewer: true}}}}\n  - {{user: 'user:bad', object: 'doc:2', assertions: {{nonsense: true}}}}\n  list_objects:\n  - {{user: 'user:bob', type: doc, assertions: {{viewer: []}}}}\n  list_users:\n  - {{object: 'doc:2', user_filter: [{{type: user}}], assertions: {{viewer: {{users: ['user:*'], excluded_users: []}}}}}}\n"
        ))
        .expect("a report");
        assert_eq!(report.totals(), (4, 4));
        let told: Vec<_> = report.tests[1]
            .failures
            .iter()
            .map(|m| format!("{}: expected {}, got {}", m.question, m.expected, m.actual))
            .collect();
        assert_eq!(
            told,
            [
                "check doc:2 viewer user:bad: expected allowed, got denied",
                "check doc:2 nonsense user:bad: expected allowed, got an error: type `doc` has no relation `nonsense`",
                "list-objects user:bob viewer doc: expected none, got doc:2",
                "list-subjects doc:2 viewer user: expected user:*, got user:* except user:bad",
            ]
        );
    }

    #[test]
    fn the_tuples_of_a_test_are_its_own_and_now_can_be_set() {
        let report = report(
            "tests:\n- name: with\n  now: 1969-12-31T23:59:59Z\n  tuples:\n  - {user: 'user:ann', relation: viewer, object: 'doc:1', expires_at: '1970-01-01T00:00:00Z'}\n  check:\n  - {user: 'user:ann', object: 'doc:1', assertions: {viewer: true}}\n- name: expired\n  tuples:\n  - {user: 'user:ann', relation: viewer, object: 'doc:1', expires_at: '1970-01-01T00:00:00Z'}\n  check:\n  - {user: 'user:ann', object: 'doc:1', assertions: {viewer: false}}\n- name: without\n  check:\n  - {user: 'user:ann', object: 'doc:1', assertions: {viewer: false}}\n",
        )
        .expect("a report");
        assert_eq!(report.totals(), (3, 0), "{report:?}");
    }

    #[test]
    fn a_tuple_the_schema_forbids_is_named() {
        let error =
            report("tuples:\n- {user: 'doc:1', relation: viewer, object: 'doc:1'}\n").expect_err("refused");
        assert!(error.to_string().contains("doc:1#viewer@doc:1"), "{error}");
    }
}

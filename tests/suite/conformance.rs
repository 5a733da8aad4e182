//! OpenFGA's published server cases, asked of the engine with its profile: depth limit 25, every
//! declared condition parameter required.
//!
//! Each value and error assertion counts once; besides, every list is compared again as a stream
//! cut into slices of fuel, every listed result is checked to be allowed, and every test of one
//! stage is run a second time with its tuples passed as contextual ones.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;

use serde::Deserialize;

use relata::context::{Context, Value};
use relata::schema::Rules;
use relata::tuple::{Attributes, Subject, Tuple, TupleCondition};

use crate::ask::{Asked, Failure, World};
use crate::shared;

/// Cases whose published answer rests on OpenFGA's own meaning of a cycle through `but not`,
/// where the well-founded meaning differs: test name, question, reason.
const DEVIATIONS: &[(&str, &str, &str)] = &[];

#[derive(Deserialize)]
struct File {
    tests: Vec<Test>,
}

#[derive(Deserialize)]
struct Test {
    name: String,
    stages: Vec<Stage>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Stage {
    model: String,
    #[serde(default)]
    tuples: Option<Vec<Fact>>,
    #[serde(default)]
    check_assertions: Option<Vec<CheckAssertion>>,
    #[serde(default)]
    list_objects_assertions: Option<Vec<ListObjectsAssertion>>,
    #[serde(default)]
    list_users_assertions: Option<Vec<ListUsersAssertion>>,
}

#[derive(Deserialize, Clone)]
struct Fact {
    #[serde(default)]
    user: String,
    #[serde(default)]
    relation: String,
    #[serde(default)]
    object: String,
    #[serde(default)]
    condition: Option<FactCondition>,
}

#[derive(Deserialize, Clone)]
struct FactCondition {
    name: String,
    #[serde(default)]
    context: Option<BTreeMap<String, Json>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CheckAssertion {
    tuple: Fact,
    #[serde(default)]
    contextual_tuples: Option<Vec<Fact>>,
    #[serde(default)]
    context: Option<BTreeMap<String, Json>>,
    #[serde(default)]
    expectation: bool,
    #[serde(default)]
    error_code: u32,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListObjectsAssertion {
    request: ListObjectsRequest,
    #[serde(default)]
    contextual_tuples: Option<Vec<Fact>>,
    #[serde(default)]
    context: Option<BTreeMap<String, Json>>,
    #[serde(default)]
    expectation: Option<Vec<String>>,
    #[serde(default)]
    error_code: u32,
}

#[derive(Deserialize)]
struct ListObjectsRequest {
    user: String,
    #[serde(rename = "type")]
    object_type: String,
    relation: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListUsersAssertion {
    request: ListUsersRequest,
    #[serde(default)]
    contextual_tuples: Option<Vec<Fact>>,
    #[serde(default)]
    context: Option<BTreeMap<String, Json>>,
    #[serde(default)]
    expectation: Option<Vec<String>>,
    #[serde(default)]
    error_code: u32,
}

#[derive(Deserialize)]
struct ListUsersRequest {
    filters: Vec<String>,
    object: String,
    relation: String,
}

/// JSON with the numbers YAML has: integers of 64 bits and doubles, infinities included.
#[derive(Deserialize, Clone)]
#[serde(untagged)]
enum Json {
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    String(String),
    List(Vec<Json>),
    Map(BTreeMap<String, Json>),
    Null(()),
}

impl From<&Json> for Value {
    fn from(json: &Json) -> Self {
        match json {
            Json::Null(()) => Self::Null,
            Json::Bool(value) => Self::Bool(*value),
            Json::Int(value) => Self::Int(*value),
            Json::Uint(value) => Self::Uint(*value),
            Json::Double(value) => Self::Double(*value),
            Json::String(value) => Self::String(value.clone()),
            Json::List(items) => Self::List(items.iter().map(Self::from).collect()),
            Json::Map(entries) => {
                Self::Map(entries.iter().map(|(key, value)| (key.clone(), Self::from(value))).collect())
            }
        }
    }
}

fn context(values: Option<&BTreeMap<String, Json>>) -> Context {
    Context(values.into_iter().flatten().map(|(key, value)| (key.clone(), Value::from(value))).collect())
}

impl Fact {
    fn tuple(&self) -> Result<Tuple, Failure> {
        let malformed = |_| Failure { code: 2027, text: "malformed tuple".to_owned() };
        Ok(Tuple {
            key: relata::tuple::TupleKey {
                object: self.object.parse().map_err(malformed)?,
                relation: self.relation.parse().map_err(malformed)?,
                subject: self.user.parse().map_err(malformed)?,
            },
            attributes: Attributes {
                condition: match &self.condition {
                    None => None,
                    Some(condition) => Some(TupleCondition {
                        name: condition.name.parse().map_err(malformed)?,
                        context: Arc::new(context(condition.context.as_ref())),
                    }),
                },
                expires_at: None,
            },
        })
    }
}

/// What has been asked, and what disagreed.
#[derive(Default)]
struct Tally {
    values: u32,
    errors: u32,
    twins: u32,
    streamed: u32,
    rechecked: u32,
    deviations: u32,
    wrong: Vec<String>,
}

#[test]
fn openfga_server_cases() {
    let Some(root) = shared::conformance() else {
        println!("openfga_server_cases: the conformance data is absent; nothing was asked");
        return;
    };
    let mut tally = Tally::default();
    for name in ["consolidated_1_1_tests.yaml", "abac_tests.yaml"] {
        let path = root.join("openfga/openfga/assets/tests").join(name);
        let text = std::fs::read_to_string(&path).unwrap();
        let file: File = serde_saphyr::from_str_with_options(&text, options())
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        for test in &file.tests {
            run(test, false, &mut tally);
            let twin = test.stages.len() == 1
                && test.stages[0].tuples.as_ref().is_none_or(|tuples| tuples.len() <= 100);
            if twin {
                run(test, true, &mut tally);
            }
        }
    }
    println!(
        "openfga_server_cases: {} value and {} error assertions, {} asked again with contextual tuples, \
         {} lists asked again in slices, {} results checked again, {} known deviations, {} wrong",
        tally.values,
        tally.errors,
        tally.twins,
        tally.streamed,
        tally.rechecked,
        tally.deviations,
        tally.wrong.len()
    );
    assert!(tally.wrong.is_empty(), "{}", tally.wrong.join("\n"));
    assert_eq!(tally.values + tally.errors, 1_216);
}

/// The data has doubles out of range, which must arrive as infinities.
fn options() -> serde_saphyr::Options {
    serde_saphyr::options! { non_finite_float_policy: serde_saphyr::NonFiniteFloatPolicy::PassThrough }
}

/// One test: a store, and stage by stage a schema with more tuples. As a twin, the tuples are
/// passed with each question instead of being stored.
fn run(test: &Test, twin: bool, tally: &mut Tally) {
    let mut stored: Vec<Tuple> = vec![];
    for (number, stage) in test.stages.iter().enumerate() {
        let place = format!("{}{} stage {number}", test.name, if twin { " (contextual)" } else { "" });
        let schema = match relata::schema::parse(&stage.model) {
            Ok(schema) => schema,
            Err(diagnostics) => {
                tally.wrong.push(format!("{place}: the model does not parse:\n{diagnostics}"));
                return;
            }
        };
        let rules = Arc::new(Rules::compile(&schema));
        let facts = stage.tuples.as_deref().unwrap_or_default();
        let mut passed = vec![];
        for fact in facts {
            let tuple = fact.tuple().unwrap_or_else(|failure| panic!("{place}: {}", failure.text));
            if let Err(error) = rules.validate(&tuple) {
                tally.wrong.push(format!("{place}: the tuple {} is refused: {error}", tuple.key));
            }
            if twin { passed.push(tuple) } else { stored.push(tuple) }
        }
        let world = World::new(rules, &stored);
        let with = |more: &Option<Vec<Fact>>| -> Result<Vec<Tuple>, Failure> {
            let mut all = passed.clone();
            for fact in more.as_deref().unwrap_or_default() {
                let tuple = fact.tuple()?;
                all.retain(|other: &Tuple| other.key != tuple.key);
                all.push(tuple);
            }
            Ok(all)
        };

        for case in stage.check_assertions.as_deref().unwrap_or_default() {
            let asked = Asked {
                contextual: with(&case.contextual_tuples),
                context: context(case.context.as_ref()),
                slice: u64::MAX,
            };
            let question = format!("check {}#{}@{}", case.tuple.object, case.tuple.relation, case.tuple.user);
            let answer = world.check(&asked, &case.tuple.object, &case.tuple.relation, &case.tuple.user);
            let wanted = if case.error_code == 0 { Ok(case.expectation) } else { Err(case.error_code) };
            tally.compare(test, &place, &question, twin, &wanted, &answer.map_err(|failure| failure.code));
        }

        for case in stage.list_objects_assertions.as_deref().unwrap_or_default() {
            let ListObjectsRequest { user, object_type, relation } = &case.request;
            let question = format!("list objects {object_type} {relation} {user}");
            let wanted = wanted(case.error_code, case.expectation.as_ref());
            for slice in [u64::MAX, 7] {
                let asked = Asked {
                    contextual: with(&case.contextual_tuples),
                    context: context(case.context.as_ref()),
                    slice,
                };
                let answer = world.list_objects(&asked, user, relation, object_type);
                let answer = sorted(answer);
                if slice == u64::MAX {
                    tally.compare(test, &place, &question, twin, &wanted, &answer);
                } else {
                    tally.streamed += 1;
                    tally.same(&place, &format!("{question} in slices"), &wanted, &answer);
                }
                for object in answer.into_iter().flatten() {
                    tally.rechecked += 1;
                    let again = world.check(&asked, &object, relation, user).map_err(|failure| failure.code);
                    tally.same(&place, &format!("{question}: {object}"), &Ok(true), &again);
                }
            }
        }

        for case in stage.list_users_assertions.as_deref().unwrap_or_default() {
            let ListUsersRequest { filters, object, relation } = &case.request;
            let question = format!("list users {object} {relation} {filters:?}");
            let wanted = wanted(case.error_code, case.expectation.as_ref());
            for slice in [u64::MAX, 7] {
                let asked = Asked {
                    contextual: with(&case.contextual_tuples),
                    context: context(case.context.as_ref()),
                    slice,
                };
                let answer = sorted(world.list_subjects(&asked, object, relation, &filters[0]));
                if slice == u64::MAX {
                    tally.compare(test, &place, &question, twin, &wanted, &answer);
                } else {
                    tally.streamed += 1;
                    tally.same(&place, &format!("{question} in slices"), &wanted, &answer);
                }
                for subject in answer.into_iter().flatten() {
                    tally.rechecked += 1;
                    assert!(subject.parse::<Subject>().is_ok(), "{subject} is no subject");
                    let again =
                        world.check(&asked, object, relation, &subject).map_err(|failure| failure.code);
                    tally.same(&place, &format!("{question}: {subject}"), &Ok(true), &again);
                }
            }
        }
    }
}

fn wanted(error_code: u32, expectation: Option<&Vec<String>>) -> Result<Vec<String>, u32> {
    if error_code != 0 {
        return Err(error_code);
    }
    let mut expected = expectation.cloned().unwrap_or_default();
    expected.sort();
    Ok(expected)
}

fn sorted(answer: Result<Vec<String>, Failure>) -> Result<Vec<String>, u32> {
    let mut found = answer.map_err(|failure| failure.code)?;
    found.sort();
    let unique: BTreeSet<&String> = found.iter().collect();
    assert_eq!(unique.len(), found.len(), "a list holds a result twice: {found:?}");
    Ok(found)
}

impl Tally {
    fn compare<T: PartialEq + std::fmt::Debug>(
        &mut self,
        test: &Test,
        place: &str,
        question: &str,
        twin: bool,
        wanted: &Result<T, u32>,
        answer: &Result<T, u32>,
    ) {
        match (twin, wanted) {
            (true, _) => self.twins += 1,
            (false, Ok(_)) => self.values += 1,
            (false, Err(_)) => self.errors += 1,
        }
        if wanted != answer
            && DEVIATIONS.iter().any(|(name, asked, _)| *name == test.name && *asked == question)
        {
            self.deviations += 1;
            return;
        }
        self.same(place, question, wanted, answer);
    }

    fn same<T: PartialEq + std::fmt::Debug>(
        &mut self,
        place: &str,
        question: &str,
        wanted: &Result<T, u32>,
        answer: &Result<T, u32>,
    ) {
        if wanted != answer {
            let mut line = String::new();
            let _ = write!(line, "{place}: {question}: expected {wanted:?}, got {answer:?}");
            self.wrong.push(line);
        }
    }
}

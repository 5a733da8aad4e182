//! The schema language against the published test data of the OpenFGA language tools.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use relata::schema::{self, Diagnostics};
use serde::Deserialize;
use serde_json::Value;

use crate::shared;

/// A case of the published validation data.
#[derive(Debug, Deserialize)]
struct Case {
    name: String,
    dsl: String,
    #[serde(default)]
    expected_errors: Option<Vec<Expected>>,
    #[serde(default)]
    skip: bool,
}

#[derive(Debug, Deserialize)]
struct Expected {
    msg: String,
    line: Range,
    column: Range,
}

/// Counted from zero.
#[derive(Debug, Deserialize)]
struct Range {
    start: usize,
}

impl Case {
    fn expected(&self) -> &[Expected] {
        self.expected_errors.as_deref().unwrap_or(&[])
    }
}

fn cases(data: &Path, file: &str) -> Vec<Case> {
    let text = fs::read_to_string(data.join(file)).expect("a readable case file");
    serde_saphyr::from_str(&text).expect("cases")
}

/// Every place a diagnostic shows, from zero as the data counts.
fn places(diagnostics: &Diagnostics) -> BTreeSet<(usize, usize)> {
    diagnostics
        .items()
        .iter()
        .flat_map(|item| item.place.iter().chain(item.related.iter().map(|(_, place)| place)))
        .map(|place| (place.line - 1, place.column - 1))
        .collect()
}

/// Cases whose verdict differs from the published one on purpose.
const DEVIATIONS: &[(&str, &str)] = &[
    (
        "extraneous condition",
        "a condition that is not used is a warning: the published server accepts it, and a schema can be written step by step",
    ),
    (
        "unused condition whose name is a prefix of an earlier condition points at the correct line",
        "as above",
    ),
];

struct Tally {
    cases: usize,
    verdicts: usize,
    errors: usize,
    lines: usize,
    columns: usize,
    wrong: Vec<String>,
}

impl Tally {
    fn new() -> Self {
        Self { cases: 0, verdicts: 0, errors: 0, lines: 0, columns: 0, wrong: Vec::new() }
    }

    fn add(&mut self, case: &Case, found: &Diagnostics) {
        self.cases += 1;
        let agrees = case.expected().is_empty() != found.has_errors();
        let deviates = DEVIATIONS.iter().any(|(name, _)| *name == case.name.trim());
        self.verdicts += usize::from(agrees);
        if agrees == deviates {
            self.wrong.push(format!(
                "{}: expected {:?}\n{}\nfound {found}",
                case.name,
                case.expected(),
                case.dsl
            ));
        }
        let found = places(found);
        let lines: BTreeSet<usize> = found.iter().map(|(line, _)| *line).collect();
        for expected in case.expected() {
            self.errors += 1;
            self.lines += usize::from(lines.contains(&expected.line.start));
            let at = (expected.line.start, expected.column.start);
            self.columns += usize::from(found.contains(&at));
            if !found.contains(&at) && std::env::var_os("RELATA_SHOW_PLACES").is_some() {
                println!("{}: {} at {at:?}, found {found:?}", case.name, expected.msg);
            }
        }
    }

    fn report(&self, what: &str) {
        println!(
            "{what}: {} of {} verdicts agree; of {} published errors {} are reported in their line, {} at their column",
            self.verdicts, self.cases, self.errors, self.lines, self.columns
        );
        assert!(self.wrong.is_empty(), "{} verdicts differ:\n{}", self.wrong.len(), self.wrong.join("\n\n"));
    }
}

#[test]
fn syntax_validation_cases() {
    let Some(conformance) = shared::conformance() else { return };
    let data = conformance.join("openfga/language/tests/data");
    let mut tally = Tally::new();
    for case in cases(&data, "dsl-syntax-validation-cases.yaml") {
        // A text of good grammar may still use names that do not exist.
        let outcome = if case.expected().is_empty() {
            schema::parse_document(&case.dsl).map(drop)
        } else {
            schema::parse(&case.dsl).map(drop)
        };
        tally.add(&case, &outcome.err().unwrap_or_default());
    }
    assert_eq!(tally.cases, 81);
    tally.report("syntax cases");
}

#[test]
fn semantic_validation_cases() {
    let Some(conformance) = shared::conformance() else { return };
    let data = conformance.join("openfga/language/tests/data");
    let mut tally = Tally::new();
    let mut skipped = 0;
    for case in cases(&data, "dsl-semantic-validation-cases.yaml") {
        if case.skip {
            // The publishers do not run these either.
            skipped += 1;
            continue;
        }
        let found =
            schema::parse_with_warnings(&case.dsl).map_or_else(|found| found, |(_, warnings)| warnings);
        tally.add(&case, &found);
    }
    assert_eq!((tally.cases, skipped), (84, 7));
    tally.report("semantic cases");
}

fn transformer_cases(data: &Path) -> Vec<(String, String, Value)> {
    let mut found: Vec<_> = fs::read_dir(data.join("transformer"))
        .expect("transformer cases")
        .map(|entry| {
            let folder = entry.expect("an entry").path();
            let read = |name: &str| fs::read_to_string(folder.join(name)).expect("a readable file");
            let name = folder.file_name().expect("a name").to_string_lossy().into_owned();
            let json = serde_json::from_str(&read("authorization-model.json")).expect("JSON");
            (name, read("authorization-model.fga"), json)
        })
        .collect();
    found.sort_by(|a, b| a.0.cmp(&b.0));
    found
}

#[test]
fn transformer_cases_become_the_published_json_and_come_back() {
    let Some(conformance) = shared::conformance() else { return };
    let data = conformance.join("openfga/language/tests/data");
    let cases = transformer_cases(&data);
    assert_eq!(cases.len(), 29);
    for (name, text, json) in &cases {
        let document = schema::parse_document(text).unwrap_or_else(|found| panic!("{name}:\n{found}"));
        let written = schema::document_to_json(&document);
        assert_eq!(&written, json, "{name}: text to JSON");

        let read = schema::document_from_json(json).unwrap_or_else(|found| panic!("{name}:\n{found}"));
        let printed = schema::print_document(&read).unwrap_or_else(|error| panic!("{name}: {error}"));
        let again = schema::parse_document(&printed).unwrap_or_else(|found| panic!("{name}:\n{found}"));
        assert_eq!(&schema::document_to_json(&again), json, "{name}: JSON to text to JSON");
        if document.conditions.is_empty() {
            // Their files list conditions by name; everything else is spelt alike.
            assert_eq!(printed.trim_end(), text.trim_end(), "{name}: canonical text");
        }
    }
    println!("transformer cases: {} of {} become the published JSON and come back", cases.len(), cases.len());
}

/// A case of the published JSON data.
#[derive(Debug, Deserialize)]
struct JsonCase {
    name: String,
    json: String,
    #[serde(default = "yes")]
    valid: bool,
    #[serde(default)]
    expected_errors: Option<Vec<JsonError>>,
}

#[derive(Debug, Deserialize)]
struct JsonError {
    metadata: JsonMetadata,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct JsonMetadata {
    error_type: String,
}

const fn yes() -> bool {
    true
}

fn json_cases(data: &Path, file: &str) -> Vec<JsonCase> {
    let text = fs::read_to_string(data.join(file)).expect("a readable case file");
    serde_saphyr::from_str(&text).expect("cases")
}

#[test]
fn json_models_that_have_no_text_are_refused() {
    let Some(conformance) = shared::conformance() else { return };
    let data = conformance.join("openfga/language/tests/data");
    let cases = json_cases(&data, "json-syntax-transformer-validation-cases.yaml");
    assert_eq!(cases.len(), 6);
    for case in &cases {
        let json = serde_json::from_str(&case.json).expect("JSON");
        let document =
            schema::document_from_json(&json).unwrap_or_else(|found| panic!("{}:\n{found}", case.name));
        let printed = schema::print_document(&document);
        assert_eq!(printed.is_ok(), case.valid, "{}: {printed:?}", case.name);
    }
}

#[test]
fn json_validation_cases() {
    let Some(conformance) = shared::conformance() else { return };
    let data = conformance.join("openfga/language/tests/data");
    let cases = json_cases(&data, "json-validation-cases.yaml");
    assert_eq!(cases.len(), 5);
    for case in &cases {
        let json = serde_json::from_str(&case.json).expect("JSON");
        let found = schema::from_json(&json).err().unwrap_or_default();
        let kinds: Vec<&str> = found.items().iter().map(|item| item.kind.as_str()).collect();
        for expected in case.expected_errors.iter().flatten() {
            // Several modules in a file need modules first.
            let wanted = match expected.metadata.error_type.as_str() {
                "multiple-modules-in-file" => "modules-unsupported",
                other => other,
            };
            assert!(kinds.contains(&wanted), "{}: {found}", case.name);
        }
        assert_eq!(kinds.is_empty(), case.expected_errors.is_none(), "{}: {found}", case.name);
    }
}

/// The models of the published server tests.
#[derive(Debug, Deserialize)]
struct ServerTests {
    tests: Vec<ServerTest>,
}

#[derive(Debug, Deserialize)]
struct ServerTest {
    name: String,
    stages: Vec<Stage>,
}

#[derive(Debug, Deserialize)]
struct Stage {
    model: String,
}

#[test]
fn every_model_of_the_server_tests_is_accepted() {
    let Some(conformance) = shared::conformance() else { return };
    let mut models = 0;
    for file in ["consolidated_1_1_tests.yaml", "abac_tests.yaml"] {
        let text =
            fs::read_to_string(conformance.join("openfga/openfga/assets/tests").join(file)).expect("a file");
        // The data hold numbers beyond the range of a double, on purpose.
        let options = serde_saphyr::options! {
            non_finite_float_policy: serde_saphyr::NonFiniteFloatPolicy::PassThrough,
        };
        let tests: ServerTests = serde_saphyr::from_str_with_options(&text, options).expect("tests");
        for test in tests.tests {
            for stage in test.stages {
                models += 1;
                let schema =
                    schema::parse(&stage.model).unwrap_or_else(|found| panic!("{}:\n{found}", test.name));
                let printed = schema::print(&schema).expect("text");
                assert_eq!(
                    schema::parse(&printed).expect("a schema"),
                    schema,
                    "{}: print and parse",
                    test.name
                );
                let json = schema::to_json(&schema);
                assert_eq!(
                    schema::from_json(&json).expect("a schema"),
                    schema,
                    "{}: JSON and back",
                    test.name
                );
            }
        }
    }
    assert_eq!(models, 186);
    println!("server tests: all {models} models are accepted, and come back from text and JSON");
}

/// Texts made to hurt: each must be refused, or read, within this time even on a slow machine
/// and without optimisation; what is not linear takes minutes.
const PATIENCE: Duration = Duration::from_secs(20);

#[expect(clippy::format_push_string, reason = "a test that builds long texts once")]
fn hostile_texts() -> Vec<(&'static str, String)> {
    // Half of what is allowed: time that grows with the square shows, and the test stays short.
    const SIZE: usize = schema::MAX_TEXT_BYTES / 2;
    let head = "model\n  schema 1.1\ntype user\n  relations\n    define a: [user]\n";
    let fill = |unit: &str, room: usize| unit.repeat((SIZE - room) / unit.len());
    let definition = |open: &str, unit: &str, close: &str| {
        format!(
            "{head}    define x: {open}{}{close}\n",
            fill(unit, head.len() + open.len() + close.len() + 20)
        )
    };
    let numbered = |each: &dyn Fn(usize) -> String| {
        let mut text = String::from("model\n  schema 1.1\ntype user\n");
        for number in 0.. {
            let next = each(number);
            if text.len() + next.len() > SIZE - 100 {
                return text;
            }
            text.push_str(&next);
        }
        text
    };
    let chain = |number: usize| format!("define r{number}: r{}\n", number + 1);
    vec![
        ("a million bytes", "type user\n".repeat(104_858)),
        (
            "parentheses nested 10,000 deep",
            format!("{head}    define x: {}a{}\n", "(".repeat(10_000), ")".repeat(10_000)),
        ),
        ("only open parentheses", definition("", "(", "")),
        ("only closing parentheses", definition("", ")", "")),
        ("open lists", definition("", "[", "")),
        ("a list never closed", definition("[", "user,\n", "")),
        ("one long chain of the same", definition("a", " or a", "")),
        ("one long chain of others", definition("a", " or b", "")),
        ("mixed operators", definition("a", " or a and a but not a", "")),
        ("one long name", definition("", "x", "")),
        ("spaces", definition("", " ", "a")),
        ("lines that begin nothing", fill("x\n", 0)),
        ("lines of operators", format!("{head}{}", fill("or\n", head.len()))),
        ("blank lines", format!("{head}{}", fill("\n", head.len()))),
        ("lines after an open list", format!("{head}    define x: [\n{}", fill("\n", head.len() + 20))),
        ("definitions with open lists", format!("{head}{}", fill("define x: [\n", head.len()))),
        (
            "definitions with open lists and blank lines",
            format!("{head}{}", fill("define x: [\n\n\n\n", head.len())),
        ),
        ("conditions never closed", format!("{head}{}", fill("condition c(x: int) {\n", head.len()))),
        (
            "conditions with open strings",
            format!("{head}{}", fill("condition c(x: int) { \"\"\"\n", head.len())),
        ),
        ("conditions without a brace", format!("{head}{}", fill("condition\n\n", head.len()))),
        ("conditions over many lines", format!("{head}condition c(\n{}", fill("x\n", head.len() + 20))),
        ("braces", format!("{head}condition c(x: int) {{{}", fill("{", head.len() + 30))),
        ("quotes", format!("{head}condition c(x: int) {{{}", fill("'", head.len() + 30))),
        (
            "comments in an expression",
            format!("{head}condition c(x: int) {{{}}}", fill("x // y\n", head.len() + 30)),
        ),
        ("many types", numbered(&|number| format!("type t{number}\n"))),
        ("the same type", fill("type t\n", 0)),
        ("names that do not exist", format!("{head}{}", fill("define x: [userr]\n", head.len()))),
        (
            "a chain of relations that ends nowhere",
            format!("{head}{}", numbered(&chain).replacen("model\n  schema 1.1\ntype user\n", "", 1)),
        ),
        ("relations of a cycle", {
            let mut text = format!("{head}define r0: a or r1\n");
            for number in 1..7_000 {
                text += &format!("define r{number}: r{}\n", (number + 1) % 7_000);
            }
            text
        }),
        ("exclusions in a chain", {
            let mut text = format!("{head}define r0: a\n");
            for number in 1..5_000 {
                text += &format!("define r{number}: a but not r{}\n", number - 1);
            }
            text
        }),
        ("a tupleset of many types asked by many relations", {
            let mut text = String::from("model\n  schema 1.1\n");
            for number in 0..4_000 {
                text += &format!("type t{number}\nrelations\ndefine a: [t0]\n");
            }
            let types: Vec<String> = (0..4_000).map(|number| format!("t{number}")).collect();
            text += &format!("type z\nrelations\ndefine p: [{}]\n", types.join(","));
            for number in 0..3_000 {
                text += &format!("define b{number}: a from p\n");
            }
            text
        }),
    ]
}

#[test]
fn hostile_texts_are_answered_quickly() {
    // The stack of the least thread that may read a schema.
    let read = |text: String| {
        let thread = std::thread::Builder::new().stack_size(1 << 20);
        thread.spawn(move || schema::parse(&text)).expect("a thread").join().expect("no panic")
    };
    for (what, text) in hostile_texts() {
        let started = Instant::now();
        let outcome = read(text);
        let shown = outcome.as_ref().err().map(ToString::to_string).unwrap_or_default();
        let took = started.elapsed();
        assert!(took < PATIENCE, "{what} took {took:?}");
        assert!(shown.len() < 200_000, "{what}: {} bytes of diagnostics", shown.len());
        if std::env::var_os("RELATA_SHOW_TIMES").is_some() {
            println!("{what}: {took:?}, {}", shown.lines().next().unwrap_or("accepted"));
        }
    }
    let deep = read(hostile_texts().swap_remove(1).1).expect_err("too deep");
    assert!(deep.to_string().contains("parentheses are nested too deeply: at most 64 levels"), "{deep}");
    let large = read(hostile_texts().swap_remove(0).1).expect_err("too large");
    assert!(large.to_string().contains("1048580 bytes, at most 262144 are allowed"), "{large}");
}

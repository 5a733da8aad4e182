//! The schema language against the published test data of the OpenFGA language tools.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use relata::schema::{self, Diagnostics};
use serde::Deserialize;

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

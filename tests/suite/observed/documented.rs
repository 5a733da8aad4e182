//! What is exposed, documented, drawn and alerted on are the same metrics.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use relata::metrics::{MethodKind, Metrics, Vocabulary};

use super::exposition::Exposition;

const DOCUMENT: &str = "docs/operations/metrics.md";
const DASHBOARD: &str = "deploy/grafana/relata.json";
const ALERTS: &str = "deploy/prometheus/alerts.yaml";

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).expect(path)
}

/// Families as they are asked for: counters with `_total`, infos with `_info`, histograms without
/// the ends of their series.
fn exposed() -> BTreeSet<String> {
    let metrics = Metrics::of(&Vocabulary {
        methods: vec![
            ("a.B/One".to_owned(), MethodKind::Single),
            ("a.B/Many".to_owned(), MethodKind::Stream),
        ],
        reasons: vec!["REASON"],
    });
    let exposition = Exposition::parse(&metrics.encode()).expect("well-formed");
    let asked_for = |(name, family): (&String, &super::exposition::Family)| match family.kind.as_str() {
        "counter" => format!("{name}_total"),
        "info" => format!("{name}_info"),
        _ => name.clone(),
    };
    exposition.families.iter().map(asked_for).collect()
}

/// Everything in a text that looks like one of our metrics.
fn named(text: &str, exposed: &BTreeSet<String>) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let metrics = words.filter(|word| word.starts_with("relata_") || word.starts_with("process_"));
    metrics
        .map(|word| {
            let ends = ["_bucket", "_sum", "_count"].iter();
            let base = ends.filter_map(|end| word.strip_suffix(end)).find(|base| exposed.contains(*base));
            base.unwrap_or(word).to_owned()
        })
        .collect()
}

#[test]
fn every_metric_is_documented_and_drawn_and_no_other() {
    let exposed = exposed();
    assert!(exposed.len() > 60, "{exposed:?}");
    for place in [DOCUMENT, DASHBOARD] {
        let named = named(&read(place), &exposed);
        let missing: Vec<_> = exposed.difference(&named).collect();
        let unknown: Vec<_> = named.difference(&exposed).collect();
        assert!(missing.is_empty(), "{place} lacks {missing:#?}");
        assert!(unknown.is_empty(), "{place} names what is not exposed: {unknown:#?}");
    }
    let alerts = named(&read(ALERTS), &exposed);
    let unknown: Vec<_> = alerts.difference(&exposed).collect();
    assert!(unknown.is_empty() && alerts.len() > 10, "{ALERTS} names what is not exposed: {unknown:#?}");
}

#[test]
fn every_alert_is_documented_and_no_other() {
    let (alerts, document) = (read(ALERTS), read(DOCUMENT));
    let rules: BTreeSet<&str> =
        alerts.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    let rows: BTreeSet<&str> = document
        .lines()
        .filter_map(|line| line.strip_prefix("| `Relata"))
        .filter_map(|line| line.split('`').next())
        .collect();
    let rules: BTreeSet<&str> = rules.iter().filter_map(|rule| rule.strip_prefix("Relata")).collect();
    assert!(rules.len() > 10);
    assert_eq!(rules, rows);
}

#[test]
fn the_files_are_what_their_readers_take() {
    let dashboard: serde_json::Value = serde_json::from_str(&read(DASHBOARD)).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_u64().expect("an id")).collect();
    assert_eq!(ids.len(), panels.len(), "ids are unique");
    for panel in panels.iter().filter(|panel| panel["type"] != "row") {
        for target in panel["targets"].as_array().expect("questions") {
            let question = target["expr"].as_str().expect("a question");
            let balanced =
                |open: char, close: char| question.matches(open).count() == question.matches(close).count();
            assert!(balanced('(', ')') && balanced('{', '}') && balanced('[', ']'), "{question}");
        }
    }
    let alerts: serde_json::Value = serde_saphyr::from_str(&read(ALERTS)).expect("YAML");
    for rule in alerts["groups"][0]["rules"].as_array().expect("rules") {
        for field in ["alert", "expr", "labels", "annotations"] {
            assert!(!rule[field].is_null(), "{rule} lacks {field}");
        }
    }
}

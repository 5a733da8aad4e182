//! Any schema comes back from its text and from its JSON, and no text at all does any harm.

use proptest::prelude::*;

use crate::condition::ParameterType;
use crate::schema::ast::{
    Code, Condition, Document, Expression, Name, Parameter, Relation, Restriction, Subject, Type,
};
use crate::schema::diagnostic::Mistakes;
use crate::schema::resolve::resolve;
use crate::schema::{
    Diagnostics, Dialect, Schema, Style, from_json, parse, parse_document, parse_with_warnings, print,
    print_document, to_json,
};

const TYPES: [&str; 5] = ["user", "a.b/c", "e-f-", "_x", "type"];
const RELATIONS: [&str; 6] = ["viewer", "can_read.all", "x--y", "model", "as", "this_one"];
const CONDITIONS: [(&str, &str); 4] = [
    ("n < 10", "small"),
    ("s == '} # not a comment // nor this' &&\n    n > 1", "spans-lines"),
    ("s in l", "listed"),
    ("m[\"k\"] == \"\\\"\"", "in_map"),
];

/// A definition as a plan: numbers that pick among what exists.
#[derive(Debug, Clone)]
enum Plan {
    Base,
    Earlier(usize),
    From,
    Or(Vec<Plan>),
    And(Vec<Plan>),
    ButNot(Box<Plan>, Box<Plan>),
}

fn plan() -> impl Strategy<Value = Plan> {
    let leaf = prop_oneof![Just(Plan::Base), any::<usize>().prop_map(Plan::Earlier), Just(Plan::From)];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 2..4).prop_map(Plan::Or),
            prop::collection::vec(inner.clone(), 2..4).prop_map(Plan::And),
            (inner.clone(), inner).prop_map(|(a, b)| Plan::ButNot(Box::new(a), Box::new(b))),
        ]
    })
}

/// For each type, relations: a definition, whether direct members stand first in it and with
/// `or` or `and`, and which restrictions they have.
type Planned = Vec<Vec<(Plan, Option<bool>, Vec<(usize, usize, usize)>)>>;

fn planned() -> impl Strategy<Value = (Dialect, Planned)> {
    let dialect = prop_oneof![Just(Dialect::V1_0), Just(Dialect::V1_1), Just(Dialect::V1_2)];
    let restriction = (0..TYPES.len(), 0..3_usize, 0..=CONDITIONS.len());
    let relation = (plan(), prop::option::of(any::<bool>()), prop::collection::vec(restriction, 1..5));
    let relations = prop::collection::vec(relation, 0..RELATIONS.len());
    (dialect, prop::collection::vec(relations, TYPES.len()))
}

/// A document without mistakes: operands are relations defined before, so that none loops.
fn document(dialect: Dialect, planned: &Planned) -> Document {
    let types = TYPES
        .iter()
        .zip(planned)
        .map(|(type_name, plans)| {
            let mut relations = vec![
                direct("base", vec![(0, 0, 0)], dialect),
                direct("parent", (0..TYPES.len()).map(|at| (at, 0, 0)).collect(), dialect),
            ];
            for (name, (plan, first, restrictions)) in RELATIONS.iter().zip(plans) {
                let names: Vec<String> =
                    relations.iter().map(|relation| relation.name.text.clone()).collect();
                let rest = expression(plan, &names);
                let mut made = direct(name, restrictions.clone(), dialect);
                made.expression = match first {
                    None => {
                        made.restrictions.clear();
                        rest
                    }
                    Some(true) => Expression::Union(vec![Expression::This(0..0), rest]),
                    Some(false) => Expression::Exclusion {
                        base: Box::new(Expression::Intersection(vec![
                            Expression::This(0..0),
                            Expression::Computed(Name::unplaced("parent")),
                        ])),
                        subtract: Box::new(rest),
                    },
                };
                relations.push(made);
            }
            Type { name: Name::unplaced(type_name), relations }
        })
        .collect();
    let conditions = if dialect == Dialect::V1_0 { Vec::new() } else { conditions() };
    Document { dialect, types, conditions }
}

fn direct(name: &str, planned: Vec<(usize, usize, usize)>, dialect: Dialect) -> Relation {
    let mut restrictions: Vec<Restriction> = Vec::new();
    for (at, subject, condition) in planned {
        let made = Restriction {
            subject_type: Name::unplaced(TYPES[at]),
            subject: match subject {
                0 => Subject::Object,
                1 => Subject::Wildcard,
                _ => Subject::Userset(Name::unplaced("base")),
            },
            condition: CONDITIONS.get(condition.wrapping_sub(1)).map(|(_, name)| Name::unplaced(name)),
            span: 0..0,
        };
        if !restrictions.contains(&made) && dialect != Dialect::V1_0 {
            restrictions.push(made);
        }
    }
    Relation { name: Name::unplaced(name), expression: Expression::This(0..0), restrictions }
}

fn expression(plan: &Plan, names: &[String]) -> Expression {
    let distinct = |plans: &[Plan]| {
        let mut operands: Vec<Expression> = Vec::new();
        for plan in plans {
            let made = expression(plan, names);
            if !operands.contains(&made) {
                operands.push(made);
            }
        }
        operands
    };
    let chain = |plans: &[Plan], make: fn(Vec<Expression>) -> Expression| {
        let mut operands = distinct(plans);
        if operands.len() == 1 { operands.remove(0) } else { make(operands) }
    };
    match plan {
        Plan::Base => Expression::Computed(Name::unplaced("base")),
        Plan::Earlier(at) => Expression::Computed(Name::unplaced(&names[at % names.len()])),
        Plan::From => {
            Expression::From { computed: Name::unplaced("base"), tupleset: Name::unplaced("parent") }
        }
        Plan::Or(plans) => chain(plans, Expression::Union),
        Plan::And(plans) => chain(plans, Expression::Intersection),
        Plan::ButNot(base, subtract) => {
            let mut operands = distinct(&[(**base).clone(), (**subtract).clone()]);
            let subtract = operands.pop().expect("one at least");
            match operands.pop() {
                Some(base) => Expression::Exclusion { base: Box::new(base), subtract: Box::new(subtract) },
                None => subtract,
            }
        }
    }
}

fn conditions() -> Vec<Condition> {
    let parameters = [
        ("n", ParameterType::Int),
        ("s", ParameterType::String),
        ("l", ParameterType::List(Box::new(ParameterType::String))),
        ("m", ParameterType::Map(Box::new(ParameterType::String))),
    ];
    CONDITIONS
        .iter()
        .map(|(text, name)| Condition {
            name: Name::unplaced(name),
            parameters: parameters
                .iter()
                .map(|(name, declared)| Parameter {
                    name: Name::unplaced(name),
                    parameter_type: declared.clone(),
                })
                .collect(),
            code: Some(Code { text: (*text).to_owned(), origin: Vec::new() }),
        })
        .collect()
}

fn schema(document: &Document) -> Schema {
    let mut mistakes = Mistakes::default();
    let schema = resolve(document, &mut mistakes);
    schema.unwrap_or_else(|| panic!("{}", mistakes.finish(None)))
}

/// Whatever is reported stands in the text and can be shown.
fn is_sound(found: &Diagnostics, text: &str) {
    for item in found.items() {
        let place = item.place.as_ref().expect("a place");
        assert!(text.get(place.span.clone()).is_some(), "{item:?}");
        assert!(
            place.line >= 1
                && place.column >= 1
                && (place.end_line, place.end_column) >= (place.line, place.column)
        );
    }
    assert!(found.is_empty() || !found.render(Some("file"), Style::Colour).is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_schema_comes_back_from_its_text_and_its_json((dialect, planned) in planned()) {
        let schema = schema(&document(dialect, &planned));
        let text = print(&schema).expect("what the language can say");
        let read = parse(&text).unwrap_or_else(|found| panic!("{found}\nin\n{text}"));
        prop_assert_eq!(&read, &schema, "{}", text);
        prop_assert_eq!(print(&read).expect("text"), text);
        let json = to_json(&schema);
        let read = from_json(&json).unwrap_or_else(|found| panic!("{found}\nin\n{json:#}"));
        prop_assert_eq!(&read, &schema);
        prop_assert_eq!(to_json(&read), json);
    }

    #[test]
    fn a_damaged_schema_is_refused_or_read_but_never_harms(
        (dialect, planned) in planned(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), 0..4_usize, "[ \n\t#/(){}\\[\\]:,*<>\"'\\\\é\u{0}a]{0,3}"), 1..6),
    ) {
        let mut text = print(&schema(&document(dialect, &planned))).expect("text");
        for (at, removed, inserted) in damage {
            let characters: Vec<char> = text.chars().collect();
            let at = at.index(characters.len() + 1);
            let rest = characters.iter().skip(at + removed);
            text = characters.iter().take(at).chain(inserted.chars().collect::<Vec<_>>().iter()).chain(rest).collect();
        }
        match parse_with_warnings(&text) {
            Ok((schema, warnings)) => {
                is_sound(&warnings, &text);
                let printed = print(&schema).expect("a text has a text");
                prop_assert_eq!(parse(&printed).expect("a schema"), schema, "{}\nwas\n{}", printed, text);
            }
            Err(found) => {
                prop_assert!(found.has_errors());
                is_sound(&found, &text);
            }
        }
    }

    #[test]
    fn no_text_harms(words in prop::collection::vec(word(), 0..60)) {
        let text = words.concat();
        match parse_document(&text) {
            Ok(document) => {
                let printed = print_document(&document).expect("a text has a text");
                prop_assert!(parse_document(&printed).is_ok(), "{}\nwas\n{}", printed, text);
            }
            Err(found) => is_sound(&found, &text),
        }
        if let Err(found) = parse(&text) {
            is_sound(&found, &text);
        }
    }
}

fn word() -> impl Strategy<Value = String> {
    let known = prop::sample::select(vec![
        "model\n",
        "schema 1.1\n",
        "schema 1.0\n",
        "module x\n",
        "extend ",
        "type ",
        "user",
        "\n",
        "\n",
        "  ",
        " ",
        "relations\n",
        "define ",
        "a",
        "b",
        ": ",
        " as ",
        "self",
        "[",
        "]",
        "(",
        ")",
        " or ",
        " and ",
        " but not ",
        " from ",
        " with ",
        "condition c(",
        "x: int",
        ") {",
        "}",
        "'",
        "\"",
        "\"\"\"",
        "#",
        " # c",
        "//",
        ",",
        ":*",
        "é",
        "\r\n",
        "\t",
        "\u{feff}",
        "\u{2028}",
        "\u{0}",
    ]);
    prop_oneof![9 => known.prop_map(str::to_owned), 1 => any::<char>().prop_map(String::from)]
}

//! Random expressions: laws that hold for all of them.

use proptest::prelude::*;

use super::{FUEL, compile};
use crate::condition::{Condition, Outcome, Required};
use crate::context::{Context, Value};

const DECLARED: &str = "x: int, y: int, b: bool, c: bool, l: list<int>, m: map<int>, s: string, a: any";

/// Bool expressions over the parameters, which may divide by zero, overflow and index nowhere.
fn bools() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("b".to_owned()),
        Just("c".to_owned()),
        Just("true".to_owned()),
        Just("false".to_owned()),
        Just("bool(s)".to_owned()),
        Just("has(m.k)".to_owned()),
        Just("a == 1".to_owned()),
        Just("a.k == s".to_owned()),
        (ints(), comparisons(), ints()).prop_map(|(left, op, right)| format!("{left} {op} {right}")),
    ];
    leaf.prop_recursive(4, 24, 3, |inner| {
        let two = (inner.clone(), inner.clone());
        prop_oneof![
            two.clone().prop_map(|(left, right)| format!("({left} && {right})")),
            two.clone().prop_map(|(left, right)| format!("({left} || {right})")),
            two.clone().prop_map(|(left, right)| format!("({left}) == ({right})")),
            inner.clone().prop_map(|operand| format!("!({operand})")),
            (inner.clone(), two.clone())
                .prop_map(|(when, (then, otherwise))| format!("(({when}) ? ({then}) : ({otherwise}))")),
            inner.clone().prop_map(|body| format!("l.all(i, i > x || {body})")),
            inner.clone().prop_map(|body| format!("l.exists(i, i > y && {body})")),
            inner.clone().prop_map(|body| format!("[1, 2].exists_one(i, {body})")),
            inner.clone().prop_map(|body| format!("m.exists(k, m[k] == x && {body})")),
            inner.clone().prop_map(|body| format!("l.map(i, {body}, 1 / i) == [1]")),
            inner.prop_map(|body| format!("l.filter(i, {body}).size() == x")),
        ]
    })
}

fn ints() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("x".to_owned()),
        Just("y".to_owned()),
        Just("0".to_owned()),
        Just("9223372036854775807".to_owned()),
        Just("size(s)".to_owned()),
        Just("m.k".to_owned()),
        Just("l[x]".to_owned()),
    ];
    leaf.prop_recursive(2, 8, 2, |inner| {
        (inner.clone(), prop_oneof!["[+*/%-]"], inner)
            .prop_map(|(left, op, right)| format!("({left} {op} {right})"))
    })
}

fn comparisons() -> impl Strategy<Value = &'static str> {
    prop_oneof![Just("<"), Just("<="), Just("=="), Just("!="), Just(">"), Just(">=")]
}

/// A value for each parameter, sometimes of a wrong type.
fn values() -> impl Strategy<Value = Context> {
    let small = || prop_oneof![4 => (-2..3_i64).prop_map(Value::Int), 1 => Just(Value::Bool(true))];
    let truth = || any::<bool>().prop_map(Value::Bool);
    let list = prop::collection::vec(small(), 0..4).prop_map(Value::List);
    let map = prop::collection::btree_map("[kj]", small(), 0..3).prop_map(Value::Map);
    let text = prop_oneof![Just("true"), Just("k"), Just("")].prop_map(|text| Value::String(text.to_owned()));
    (small(), small(), truth(), truth(), list, map, text, small()).prop_map(|(x, y, b, c, l, m, s, a)| {
        let named = [("x", x), ("y", y), ("b", b), ("c", c), ("l", l), ("m", m), ("s", s), ("a", a)];
        Context(named.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
    })
}

fn only(context: &Context, keep: impl Fn(&str) -> bool) -> Context {
    Context(
        context
            .0
            .iter()
            .filter(|(name, _)| keep(name))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect(),
    )
}

fn compiled(expression: &str) -> Condition {
    compile(DECLARED, expression).unwrap_or_else(|errors| panic!("{expression}: {errors:?}"))
}

fn evaluate(condition: &Condition, tuple: &Context, request: &Context, fuel: u64) -> Outcome {
    let mut left = fuel;
    condition.evaluate(tuple, request, Required::Deciding, &mut left)
}

/// Of two faults, which one is met first may depend on what else is supplied.
fn same(one: &Outcome, other: &Outcome) -> bool {
    one == other || matches!((one, other), (Outcome::Error(_), Outcome::Error(_)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    /// Supplying what is missing leaves nothing missing, and what is not named cannot matter:
    /// a decision stays whatever is added.
    #[test]
    fn missing_names_what_decides(expression in bools(), all in values(), given in any::<u8>()) {
        let bit = |name: &str| all.0.keys().position(|key| key == name).unwrap_or(0);
        let some = only(&all, |name| given >> bit(name) & 1 == 1);
        let (condition, none) = (compiled(&expression), Context::default());
        let first = evaluate(&condition, &some, &none, FUEL);
        let complete = evaluate(&condition, &all, &none, FUEL);
        if let Outcome::Missing(names) = first {
            prop_assert!(!names.is_empty() && names.is_sorted());
            prop_assert!(names.iter().all(|name| some.value(name).is_none()), "{names:?} of {some:?}");
            let supplied = only(&all, |name| names.iter().any(|missing| missing == name));
            let second = evaluate(&condition, &some, &supplied, FUEL);
            prop_assert!(!matches!(second, Outcome::Missing(_)), "{expression}: {names:?} then {second:?}");
            prop_assert!(same(&second, &complete), "{expression}: {second:?} and {complete:?}");
        } else {
            prop_assert!(same(&first, &complete), "{expression}: {first:?} and {complete:?}");
        }
    }

    /// With less fuel the outcome is the same or the error that says so.
    #[test]
    fn fuel_changes_no_answer(expression in bools(), all in values(), fuel in 0..200_u64) {
        let (condition, none) = (compiled(&expression), Context::default());
        let full = evaluate(&condition, &all, &none, FUEL);
        let short = evaluate(&condition, &all, &none, fuel);
        let out_of_fuel = matches!(&short, Outcome::Error(error) if error.reason.contains("more work"));
        prop_assert!(out_of_fuel || short == full, "{expression}: {short:?} and {full:?}");
    }

    /// Any text compiles or is refused with spans within it.
    #[test]
    fn any_text_is_refused_or_compiled(text in prop_oneof![".{0,60}", "[xbls()\\[\\]{}.,:?!&|=<>+*/%'\"0-9 r-]{0,60}"]) {
        if let Err(errors) = compile(DECLARED, &text) {
            prop_assert!(!errors.is_empty());
            for error in errors {
                prop_assert!(text.get(error.span.clone()).is_some(), "{text:?}: {error:?}");
            }
        }
    }
}

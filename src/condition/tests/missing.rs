//! What is missing: exactly what could decide, in whatever order operands stand.

use super::{compiled, line, outcome};
use crate::condition::Required;
use crate::context::Context;

const DECLARED: &str = "x: int, y: int, b: bool, c: bool, l: list<int>, m: map<int>";

#[track_caller]
fn check(expression: &str, values: &str, expected: &str) {
    assert_eq!(outcome(DECLARED, expression, values), expected, "{expression} with {values}");
}

#[test]
fn a_decision_needs_nothing_else() {
    for (expression, expected) in [
        ("false && b", "false"),
        ("b && false", "false"),
        ("true || b", "true"),
        ("b || true", "true"),
        ("b && c", "missing b c"),
        ("b || c", "missing b c"),
        ("true && b", "missing b"),
        ("b || false", "missing b"),
        ("(b || true) && c", "missing c"),
        ("c && (true || b)", "missing c"),
        ("(b && false) || c", "missing c"),
        ("b && c && false", "false"),
        ("!b", "missing b"),
        ("!(b && false)", "true"),
        ("b == b", "missing b"),
    ] {
        check(expression, "{}", expected);
    }
}

#[test]
fn faults_give_way_to_what_might_decide() {
    for (expression, expected) in [
        ("b && 1 / x == 1", "missing b"),
        ("1 / x == 1 && b", "missing b"),
        ("b || 1 / x == 1", "missing b"),
        ("1 / x == 1 || b", "missing b"),
        ("1 / x == y", "error: division by zero in `1 / x`"),
        ("y == 1 / x", "error: division by zero in `1 / x`"),
        ("[y, 1 / x] == []", "error: division by zero in `1 / x`"),
        ("{'k': y, 'j': 1 / x} == {}", "error: division by zero in `1 / x`"),
        ("b ? 1 / x == 1 : 2 / x == 1", "error: division by zero in `1 / x`"),
        ("b ? 1 / x == 1 : c", "missing b c"),
        ("b ? c : 1 / x == 1", "missing b c"),
    ] {
        check(expression, r#"{"x": 0}"#, expected);
    }
}

#[test]
fn where_all_operands_are_needed_all_are_named() {
    for (expression, expected) in [
        ("x + y > 0", "missing x y"),
        ("x in [y, 1]", "missing x y"),
        ("x in l", "missing l x"),
        ("l[x] == y", "missing l x y"),
        ("m['k'] == m.j", "missing m"),
        ("has(m.k)", "missing m"),
        ("{'k': x}['k'] == 1", "missing x"),
        ("size([x, y]) == 2", "missing x y"),
        ("x == 1 && y == 1", "missing x y"),
    ] {
        check(expression, "{}", expected);
    }
    check("x + y > 0", r#"{"x": 1}"#, "missing y");
    check("x + y > 0", r#"{"x": 1, "y": 1}"#, "true");
}

#[test]
fn an_open_choice_needs_both_branches() {
    for (expression, expected) in [
        ("b ? x > 0 : y > 0", "missing b x y"),
        ("b ? true : y > 0", "missing b y"),
        ("true ? x > 0 : y > 0", "missing x"),
        ("false ? x > 0 : y > 0", "missing y"),
        ("b ? true : c ? x > 0 : y > 0", "missing b c x y"),
        ("b ? true : true ? x > 0 : y > 0", "missing b x"),
        ("b ? true : false", "missing b"),
    ] {
        check(expression, "{}", expected);
    }
}

#[test]
fn comprehensions_name_range_and_body() {
    for (expression, expected) in [
        ("l.all(a, a > x)", "missing l x"),
        ("l.exists(a, a > 0)", "missing l"),
        ("l.all(a, true || b)", "missing l"),
        ("l.all(a, a > 0 || b)", "missing b l"),
        ("l.exists_one(a, a == x)", "missing l x"),
        ("l.map(a, a + x) == []", "missing l x"),
        ("l.map(a, a > x, y) == []", "missing l x y"),
        ("l.map(a, false, y) == []", "missing l"),
        ("l.filter(a, a > x) == []", "missing l x"),
        ("l.all(a, m.exists(k, a > x))", "missing l m x"),
        ("l.all(a, 1 / 0 == a)", "missing l"),
        ("m.all(k, m[k] > x)", "missing m x"),
        ("[1, 2].all(a, a > x)", "missing x"),
        ("[1, 2].all(a, a > x && a > 1)", "false"),
        ("[1, 2].exists(a, a > x || a > 1)", "true"),
        ("[1, 2].exists(a, a > x || a > 2)", "missing x"),
        ("[1, 2].map(a, a > 1, x) == []", "missing x"),
        ("[1, 2].map(a, a > 2, x) == []", "true"),
        ("[1, 2].map(a, b, x) == []", "missing b x"),
        ("[0].map(a, b, 1 / a) == []", "missing b"),
        ("[].all(a, b)", "true"),
        ("[0, 1].filter(a, a / 0 == x) == []", "error: division by zero in `a / 0`"),
    ] {
        check(expression, "{}", expected);
    }
}

#[test]
fn a_wrong_value_matters_only_where_it_is_needed() {
    let wrong = r#"{"x": "one", "b": true}"#;
    let reason =
        "error: parameter `x` expects an int (integral, 64 bits with a sign), and was given the text \"one\"";
    check("b || x > 0", wrong, "true");
    check("x > 0 || b", wrong, "true");
    check("x > 0 && b", wrong, reason);
    check("x > 0 && c", wrong, "missing c");
    check("x + y > 0", wrong, reason);
    check("y + x > 0", wrong, reason);
}

#[test]
fn all_parameters_are_required_where_asked() {
    let condition = compiled("x: int, b: bool, a: any", "b || x > 0");
    let evaluated = |tuple: &str, request: &str, required| {
        let (tuple, request): (Context, Context) =
            (tuple.parse().expect("a context"), request.parse().expect("a context"));
        line(&condition.evaluate(&tuple, &request, required, &mut 1_000))
    };
    let all = |tuple: &str, request: &str| evaluated(tuple, request, Required::All);
    assert_eq!(evaluated("{}", r#"{"b": true}"#, Required::Deciding), "true");
    assert_eq!(all("{}", r#"{"b": true}"#), "missing a x");
    assert_eq!(all(r#"{"x": "one"}"#, "{}"), "missing a b");
    assert_eq!(all(r#"{"x": 1}"#, r#"{"b": true, "a": null, "other": 1}"#), "true");
    assert_eq!(
        all(r#"{"x": "one"}"#, r#"{"b": true, "a": null}"#),
        "error: parameter `x` expects an int (integral, 64 bits with a sign), and was given the text \"one\""
    );
}

#[test]
fn a_tuples_values_beat_the_requests() {
    let condition = compiled("x: int", "x == 1");
    let (one, two): (Context, Context) =
        (r#"{"x": 1}"#.parse().expect("a context"), r#"{"x": 2}"#.parse().expect("a context"));
    let evaluated = |tuple: &Context, request: &Context| {
        line(&condition.evaluate(tuple, request, Required::Deciding, &mut 100))
    };
    assert_eq!(evaluated(&one, &two), "true");
    assert_eq!(evaluated(&two, &one), "false");
    assert_eq!(evaluated(&Context::default(), &one), "true");
}

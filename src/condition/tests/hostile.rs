//! Expressions made to harm: none may take the process down, or more than its fuel.

use std::fmt::Write as _;
use std::thread;

use super::{compile, line};
use crate::condition::{Condition, MAX_EXPRESSION_BYTES, Outcome, ParameterType, Required};
use crate::context::{Context, Value};

/// A quarter of what threads have by default; unoptimised code takes the most.
const STACK_BYTES: usize = 512 * 1024;

/// What compiling says: the first message, or nothing if it compiles.
fn compiled_on_a_small_stack(declared: &'static str, expression: String) -> Option<String> {
    let run = move || match compile(declared, &expression) {
        Ok(condition) => {
            let values: Context = r#"{"b": true, "x": 1, "l": [1], "a": {}}"#.parse().expect("JSON");
            let _ = condition.evaluate(&values, &values, Required::Deciding, &mut 1_000_000);
            let _ = condition.evaluate(
                &Context::default(),
                &Context::default(),
                Required::Deciding,
                &mut 1_000_000,
            );
            None
        }
        Err(errors) => errors.first().map(|error| error.message.clone()),
    };
    let thread = thread::Builder::new().stack_size(STACK_BYTES).spawn(run).expect("a thread");
    thread.join().expect("no panic")
}

#[test]
fn four_kibibytes_of_anything() {
    let declared = "b: bool, x: int, l: list<int>, a: any";
    let fill = |unit: &str| unit.repeat(MAX_EXPRESSION_BYTES / unit.len());
    let wrap = |open: &str, inner: &str, close: &str| {
        let count = (MAX_EXPRESSION_BYTES - inner.len()) / (open.len() + close.len());
        format!("{}{inner}{}", open.repeat(count), close.repeat(count))
    };
    let nested = Some("brackets nest deeper than 32 levels".to_owned());
    let deep = Some("the expression nests deeper than 128 levels".to_owned());
    let after = |head: &str, unit: &str, tail: &str| {
        format!("{head}{}{tail}", unit.repeat((MAX_EXPRESSION_BYTES - head.len() - tail.len()) / unit.len()))
    };
    for (expression, expected) in [
        (fill("("), nested.clone()),
        (fill("["), nested.clone()),
        (fill("{"), nested.clone()),
        (fill("[{("), nested.clone()),
        (wrap("(", "b", ")"), nested.clone()),
        (wrap("l.all(a,", "b", ")"), nested.clone()),
        (wrap("l[", "x", "]"), nested.clone()),
        (after("x", "+1", "==1"), deep.clone()),
        (after("x", "-1", "==1"), deep.clone()),
        (after("b", "==b", ""), deep.clone()),
        (after("a", ".f", "==1"), deep.clone()),
        (after("a", "[0]", "==1"), deep.clone()),
        (after("l", "+l", "==l"), deep.clone()),
        (after("", "!", "b"), deep.clone()),
        (after("", "-", "x==1"), deep.clone()),
        (after("b", "&&b", ""), None),
        (after("b", "||b", ""), None),
        (after("b", "?b:b", ""), None),
        (after("", "b?b:", "b"), None),
        (after("x in [", "1,", "1]"), None),
        (after("", "x==1||", "b"), None),
        (fill(")"), Some("`)` closes nothing".to_owned())),
        (fill("'"), Some("`''''` is not expected".to_owned())),
        (fill("\\"), Some("`\\` is not expected here, but a value".to_owned())),
        (fill("//"), Some("the expression ends where a value is expected".to_owned())),
        (fill("\u{0}"), Some("`\u{0}` is not expected here, but a value".to_owned())),
        (fill("🦀"), Some("`🦀` is not expected here, but a value".to_owned())),
        (
            " ".repeat(MAX_EXPRESSION_BYTES + 1),
            Some("the expression takes 4097 bytes, more than 4096".to_owned()),
        ),
    ] {
        let shown: String = expression.chars().take(20).collect();
        let found = compiled_on_a_small_stack(declared, expression);
        if shown.starts_with("''") {
            assert!(found.is_some(), "{shown}");
        } else {
            assert_eq!(found, expected, "{shown}…");
        }
    }
}

#[test]
fn the_deepest_that_is_allowed_is_evaluated() {
    let brackets = format!("{}b{}", "(".repeat(32), ")".repeat(32));
    let calls = format!("{}b{}", "l.exists(a, ".repeat(32), ")".repeat(32));
    let mut mixed = "b".to_owned();
    for _ in 0..31 {
        mixed = format!("!!!(b ? {mixed} : b)");
    }
    for expression in
        [brackets, calls, format!("x{} == 127", "+1".repeat(126)), format!("{}b", "!".repeat(126)), mixed]
    {
        assert_eq!(
            compiled_on_a_small_stack("b: bool, x: int, l: list<int>", expression.clone()),
            None,
            "{expression}"
        );
    }
}

#[test]
fn a_deep_mistake_is_found_at_once() {
    // A parser that tried every alternative again at each level would try 2^31 of them.
    for (open, close) in
        [("l.exists(a, ", ")"), ("(", ")"), ("[", "]"), ("{1: ", "}"), ("string(", ")"), ("l[", "]")]
    {
        let expression = format!("{}b b{}", open.repeat(31), close.repeat(31));
        let found = compiled_on_a_small_stack("b: bool, l: list<int>", expression);
        assert_eq!(
            found.as_deref(),
            Some("`b` is not expected here, but an operator or a closing bracket"),
            "{open}"
        );
    }
}

#[test]
fn mistakes_are_counted_out() {
    let errors = compile("b: bool", &"bb||".repeat(1_000)[..3_998]).expect_err("unknown names");
    assert_eq!(errors.len(), 50);
    let long = "p".repeat(1 << 20);
    let parameters = vec![(long, ParameterType::Int); 100];
    let errors = Condition::compile("c".parse().expect("a name"), parameters, "true").expect_err("too many");
    assert_eq!(errors.len(), 1);
}

/// A list of this many ones, as `l`.
fn ones(count: usize) -> Context {
    let items = vec![Value::Int(1); count];
    Context([("l".to_owned(), Value::List(items))].into())
}

fn run(condition: &Condition, request: &Context, fuel: u64) -> (String, u64) {
    let mut left = fuel;
    let outcome = condition.evaluate(&Context::default(), request, Required::Deciding, &mut left);
    assert!(matches!(outcome, Outcome::Error(_)) || left > 0, "a value costs less than the fuel");
    (line(&outcome), fuel - left)
}

#[test]
fn nested_loops_run_out_of_fuel() {
    let condition = compile("l: list<int>", "l.all(a, l.all(b, a + b >= 0))").expect("a condition");
    let (outcome, spent) = run(&condition, &ones(1_000), 100_000);
    assert_eq!(outcome, "error: it needs more work than is allowed");
    assert_eq!(spent, 100_000);
    let (outcome, spent) = run(&condition, &ones(1_000), 10_000_000);
    assert_eq!(outcome, "true");
    assert!((5_000_000..10_000_000).contains(&spent), "{spent}");
}

#[test]
fn doubling_is_bounded() {
    let doubled = |what: &str, times: usize| {
        let mut expression = format!("[{what}]");
        for _ in 0..times {
            expression.push_str(".map(a, a + a)");
        }
        expression
    };
    let text = compile("s: string", &format!("{} == []", doubled("s", 24))).expect("a condition");
    let request: Context = r#"{"s": "0123456789abcdef"}"#.parse().expect("JSON");
    assert!(run(&text, &request, 1_000_000).0.contains("the text would be longer than 65536 bytes"));
    let list = compile("l: list<int>", &format!("{} == []", doubled("l", 24))).expect("a condition");
    assert!(run(&list, &ones(16), 1_000_000).0.contains("the list would have more than 65536 items"));
    assert_eq!(run(&list, &ones(16), 10_000).0, "error: it needs more work than is allowed");
}

#[test]
fn shared_structure_costs_as_if_it_were_not() {
    // Thirty levels of a list that holds the level below twice: 2^30 items to compare.
    let mut left = "[l]".to_owned();
    for _ in 0..30 {
        left.push_str(".map(a, [a, a])");
    }
    let condition = compile("l: list<int>", &format!("{left} == {left}")).expect("a condition");
    assert_eq!(run(&condition, &ones(1), 1_000_000).0, "error: it needs more work than is allowed");
}

#[test]
fn patterns_from_values_are_paid_for() {
    let condition =
        compile("s: string, l: list<int>", "l.exists(a, s.matches(s + string(a)))").expect("a condition");
    let mut request = ones(1_000);
    request.0.insert("s".to_owned(), Value::String("(a|b)*".repeat(20)));
    let (outcome, spent) = run(&condition, &request, 100_000);
    assert_eq!((outcome.as_str(), spent), ("error: it needs more work than is allowed", 100_000));
}

#[test]
fn long_texts_are_paid_for() {
    let mut expression = "s == ''".to_owned();
    for function in ["contains", "startsWith", "endsWith"] {
        let _ = write!(expression, " || s.{function}('y')");
    }
    let condition = compile("s: string", &expression).expect("a condition");
    let request = Context([("s".to_owned(), Value::String("x".repeat(1 << 20)))].into());
    let (outcome, spent) = run(&condition, &request, 1_000_000);
    assert_eq!(outcome, "false");
    assert!(spent >= 3 * (1 << 15), "{spent}");
}

#[test]
fn an_empty_tank_is_an_error_not_an_answer() {
    let condition = compile("b: bool", "b || true").expect("a condition");
    for fuel in 0..3 {
        let mut left = fuel;
        let outcome =
            condition.evaluate(&Context::default(), &Context::default(), Required::Deciding, &mut left);
        assert_eq!(line(&outcome), "error: it needs more work than is allowed", "{fuel}");
        assert_eq!(left, 0);
    }
}

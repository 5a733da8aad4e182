//! What a tuple may carry, and what the rest of the crate relies on.

use super::{compile, compiled, line};
use crate::condition::{Condition, ContextMismatch, ErrorCause, MAX_TUPLE_CONTEXT_BYTES, Outcome, Required};
use crate::context::Context;

fn refused(json: &str) -> Option<String> {
    let condition = compiled("cidr: string, limits: map<int>", "cidr == '' || 'a' in limits");
    let context: Context = json.parse().expect("a context");
    condition.validate_tuple_context(&context).err().map(|mismatch| mismatch.to_string())
}

#[test]
fn a_tuple_carries_declared_values() {
    assert_eq!(refused("{}"), None);
    assert_eq!(refused(r#"{"cidr": "10.0.0.0/8", "limits": {"a": 1, "b": "2"}}"#), None);
    assert_eq!(
        refused(r#"{"cdir": "10.0.0.0/8"}"#).as_deref(),
        Some("condition `c` has no parameter `cdir`: it has `cidr`, `limits`")
    );
    assert_eq!(
        refused(r#"{"limits": {"a": 1.5}}"#).as_deref(),
        Some(
            "condition `c`: parameter `limits[\"a\"]` expects an int (integral, 64 bits with a sign), and was given \
             the number 1.5"
        )
    );
    assert_eq!(
        refused(r#"{"limits": {"a\u0007": 1}}"#).as_deref(),
        Some("condition `c`: the value of `limits` holds the control character '\\u{7}'")
    );
}

#[test]
fn a_tuples_context_is_bounded() {
    let condition = compiled("s: string", "s == ''");
    let context =
        |len: usize| -> Context { format!(r#"{{"s": "{}"}}"#, "x".repeat(len)).parse().expect("JSON") };
    let overhead = context(30_000).encoded_len() - 30_000;
    assert_eq!(condition.validate_tuple_context(&context(MAX_TUPLE_CONTEXT_BYTES - overhead)), Ok(()));
    let mismatch = condition.validate_tuple_context(&context(MAX_TUPLE_CONTEXT_BYTES - overhead + 1));
    assert_eq!(
        mismatch,
        Err(ContextMismatch::TooLarge {
            condition: condition.name().clone(),
            bytes: MAX_TUPLE_CONTEXT_BYTES + 1,
            limit: MAX_TUPLE_CONTEXT_BYTES
        })
    );
}

#[test]
fn a_condition_tells_what_it_was_made_of() {
    let condition = compiled("x: int, l: list<string>", " x > 0 // positive");
    assert_eq!(condition.name().as_str(), "c");
    assert_eq!(condition.expression(), " x > 0 // positive");
    let parameters: Vec<_> =
        condition.parameters().iter().map(|(name, declared)| format!("{name}: {declared}")).collect();
    assert_eq!(parameters, ["x: int", "l: list<string>"]);
}

#[test]
fn a_condition_is_shared_between_threads() {
    fn shareable<T: Send + Sync>(_: &T) {}
    let condition = compiled("s: string", "s.matches('^a') || s in ['b', 'c']");
    shareable(&condition);
    std::thread::scope(|scope| {
        for text in ["abc", "b"] {
            let condition = &condition;
            scope.spawn(move || {
                let request: Context = format!(r#"{{"s": "{text}"}}"#).parse().expect("JSON");
                let outcome = condition.evaluate(&Context::default(), &request, Required::All, &mut 100);
                assert_eq!(outcome, Outcome::True);
            });
        }
    });
}

#[test]
fn errors_say_who_can_mend_them() {
    let condition = compiled("x: int", "1 / x == 1");
    let cause = |json: &str, fuel: u64| {
        let request: Context = json.parse().expect("JSON");
        let mut fuel = fuel;
        let outcome = condition.evaluate(&Context::default(), &request, Required::Deciding, &mut fuel);
        let Outcome::Error(error) = outcome else { panic!("{}", line(&outcome)) };
        (error.cause, error.to_string())
    };
    assert_eq!(
        cause(r#"{"x": 0}"#, 100),
        (ErrorCause::Expression, "condition `c` failed: division by zero in `1 / x`".to_owned())
    );
    assert_eq!(cause(r#"{"x": true}"#, 100).0, ErrorCause::Context);
    assert_eq!(
        cause(r#"{"x": 1}"#, 2),
        (ErrorCause::Fuel, "condition `c` failed: it needs more work than is allowed".to_owned())
    );
}

#[test]
fn fuel_pays_for_each_part_and_no_more() {
    let cost = |condition: &Condition, json: &str| {
        let request: Context = json.parse().expect("JSON");
        let mut fuel = 1_000_000;
        let outcome = condition.evaluate(&Context::default(), &request, Required::Deciding, &mut fuel);
        assert!(matches!(outcome, Outcome::True | Outcome::False), "{}", line(&outcome));
        1_000_000 - fuel
    };
    // The comparison, the parameter, its value, the constant.
    assert_eq!(cost(&compiled("x: int", "x < 100"), r#"{"x": 1}"#), 4);
    // A parameter is read once.
    assert_eq!(cost(&compiled("x: int", "x < 100 && x > 0"), r#"{"x": 1}"#), 8);
    // Constants are joined beforehand.
    assert_eq!(cost(&compiled("x: int", "x < 10 * 10 + 1"), r#"{"x": 1}"#), 4);
    // Each item is converted, visited and tested.
    let short = cost(&compiled("l: list<int>", "l.all(a, a > 0)"), r#"{"l": [1]}"#);
    let long = cost(&compiled("l: list<int>", "l.all(a, a > 0)"), r#"{"l": [1, 1, 1]}"#);
    assert_eq!(long - short, 2 * 5);
}

#[test]
fn compile_reports_declarations_and_expression_together() {
    let errors = compile("x: int, x: int", "y == 1").expect_err("two mistakes");
    let messages: Vec<_> = errors.iter().map(|error| error.message.as_str()).collect();
    assert_eq!(messages, ["parameter `x` is declared twice", "`y` is not a parameter of this condition"]);
}

//! What is bounded is accepted up to the bound and refused beyond it.

use super::{check_definition, with_definition};
use crate::schema::{MAX_NESTING, from_json, parse, print, to_json};

#[test]
fn exclusions_behind_one_another_are_bounded() {
    let chain = |length: usize| {
        let mut definition = String::from(": a");
        for number in 0..length {
            let before = if number == 0 { "x".to_owned() } else { format!("y{}", number - 1) };
            definition.push_str(&["\n    define y", &number.to_string(), ": b but not ", &before].concat());
        }
        definition
    };
    check_definition(&chain(32), &[]);
    check_definition(
        &chain(33),
        &[(
            "`y32` of type `doc` has more than 32 `but not` behind one another",
            "an `or` of what is excluded says the same in one step",
            "y32",
        )],
    );
    // A loop through an exclusion is one step, however often it could be followed.
    check_definition(": a or z\n    define y: b but not x\n    define z: c but not y", &[]);
}

#[test]
fn parentheses_nest_as_deep_as_is_allowed() {
    let nested = |depth: usize| format!(": {}a{}", "(".repeat(depth), ")".repeat(depth));
    check_definition(&nested(MAX_NESTING), &[]);
    check_definition(
        &nested(MAX_NESTING + 1),
        &[(
            "parentheses are nested too deeply: at most 64 levels are allowed",
            "give the inner part a relation of its own",
            "(",
        )],
    );
    let mut definition = "a".to_owned();
    for level in 0..MAX_NESTING {
        definition = format!("b {} ({definition})", if level % 2 == 0 { "and" } else { "or" });
    }
    let schema =
        parse(&with_definition(&format!(": {definition}"))).unwrap_or_else(|found| panic!("{found}"));
    assert_eq!(parse(&print(&schema).unwrap()).unwrap(), schema);
    assert_eq!(from_json(&to_json(&schema)).unwrap(), schema);
}

//! Mistakes in a condition: message, the text underlined, hint.

use super::compile;
use crate::condition::{Condition, ParameterType};

const DECLARED: &str = "x: int, u: uint, d: double, s: string, b: bool, t: timestamp, p: ipaddress, l: list<int>, \
                        m: map<string>, a: any";

/// Each mistake as `message @ underlined text (hint)`.
fn mistakes(expression: &str) -> Vec<String> {
    let errors = compile(DECLARED, expression).err().unwrap_or_default();
    let show = |error: crate::condition::ConditionError| {
        let underlined = expression.get(error.span.clone()).expect("a span of the expression").to_owned();
        let hint = error.hint.map(|hint| format!(" ({hint})")).unwrap_or_default();
        format!("{} @ {underlined}{hint}", error.message)
    };
    errors.into_iter().map(show).collect()
}

#[track_caller]
fn check(expression: &str, expected: &[&str]) {
    assert_eq!(mistakes(expression), expected, "{expression}");
}

#[test]
fn syntax() {
    for (expression, expected) in [
        ("", "the condition is empty @ "),
        ("  // nothing", "the expression ends where a value is expected @ "),
        ("x <", "the expression ends where a value is expected @ "),
        ("x = 1", "`=` is not expected here, but an operator or the end @ = (compare with `==`)"),
        ("b & b", "`&` is not expected here, but an operator or the end @ & (write `&&` for and)"),
        ("b and b", "`and` is not expected here, but an operator or the end @ and (write `&&`)"),
        ("not b", "`b` is not expected here, but an operator or the end @ b"),
        ("x + + 1", "`+` is not expected here, but a value @ +"),
        ("m.", "the expression ends where a name is expected @ "),
        ("m.1", "`1` is not expected here, but a name @ 1"),
        ("(x == 1", "`(` is never closed @ ( (add `)`)"),
        ("l[0) == 1", "`[` is never closed @ [ (add `]`)"),
        ("x == 1)", "`)` closes nothing @ )"),
        ("s == 'abc", "the text is never closed @ 'abc (end it with ' on the same line)"),
        ("s == 'a\nb'", "the text is never closed @ 'a (end it with ' on the same line)"),
        ("1a == 1", "`1a` is not expected here, but a value @ 1a"),
        (
            "x == 1 # one",
            "`#` is not expected here, but an operator or the end @ # (a comment begins with `//`)",
        ),
        ("[1 2] == l", "`2` is not expected here, but an operator or a closing bracket @ 2"),
        ("s == 'ü' ü", "`ü` is not expected here, but an operator or the end @ ü"),
    ] {
        check(expression, &[expected]);
    }
}

#[test]
fn literals() {
    check(
        r"s == 'a\q' || x == 9223372036854775808",
        &[
            r#"`\q` is not an escape @ \q (escapes are \n \t \" \' \\ and the like, \x41, \u00e4, \U0001f600, \101)"#,
            "`9223372036854775808` does not fit an int @ 9223372036854775808 (an int has 64 bits with a sign; \
             write an unsigned number as `18446744073709551615u`)",
        ],
    );
    for (expression, expected) in [
        (
            "t > timestamp('yesterday')",
            "\"yesterday\" is not a timestamp such as `2027-01-31T12:00:00Z` @ timestamp('yesterday')",
        ),
        ("duration('1 day') == null", "\"1 day\" is not a duration such as `1h30m` @ duration('1 day')"),
        (
            "p == ipaddress('10.0.0')",
            "\"10.0.0\" is not an ip address such as `192.0.2.1` @ ipaddress('10.0.0')",
        ),
        (
            "p.in_cidr('10.0.0.0/33')",
            "\"10.0.0.0/33\" is not a network such as `192.0.2.0/24` or `2001:db8::/32` @ p.in_cidr('10.0.0.0/33')",
        ),
        ("s.matches('a' + '(')", "\"a(\" is not a pattern: unclosed group @ s.matches('a' + '(')"),
        (
            "t.getHours('CET') == 1",
            "\"CET\" is not a zone: use `UTC` or an offset such as `+02:00` @ t.getHours('CET')",
        ),
        ("int('one') == 1", "\"one\" is not an int @ int('one')"),
    ] {
        check(expression, &[expected]);
    }
}

#[test]
fn names() {
    for (expression, expected) in [
        (
            "z == 1",
            "`z` is not a parameter of this condition @ z (declare it between the condition's parentheses)",
        ),
        ("True", "`True` is not a parameter of this condition @ True (did you mean `true`?)"),
        ("size == 1", "`size` is not a parameter of this condition @ size (`size` is a function: call it)"),
        (
            "l.all(i, j > 0)",
            "`j` is not a parameter of this condition @ j (declare it between the condition's parentheses)",
        ),
        (
            "l.all(i, i > 0) && i > 0",
            "`i` is not a parameter of this condition @ i (declare it between the condition's parentheses)",
        ),
        ("s.startswith('a')", "`startswith` is not a function @ startswith (did you mean `startsWith`?)"),
        ("s.frobnicate()", "`frobnicate` is not a function @ frobnicate"),
        ("s.length == 1", "`string` has no field `length` @ s.length"),
        (
            "s.size == 1",
            "`string` has no field `size` @ s.size (`size` is a function: call it, as in `x.size(…)`)",
        ),
    ] {
        check(expression, &[expected]);
    }
}

#[test]
fn types_of_operands() {
    for (expression, expected) in [
        (
            "x + 1",
            "a condition must come to `bool`, and this comes to `int` @ x + 1 (compare it with something, as in `x == 1`)",
        ),
        (
            "a.flag",
            "a condition must come to `bool`, and this comes to `any` @ a.flag (convert it, as in `bool(x)`, or compare it, as in `x == true`)",
        ),
        ("x && b", "`&&` takes `bool`, and this is `int` @ x (compare it, as in `x != 0`)"),
        ("b || s", "`||` takes `bool`, and this is `string` @ s"),
        ("!s", "`!` takes `bool`, and this is `string` @ s"),
        ("-u == 1", "`-` takes `int` or `double`, and this is `uint` @ u"),
        ("s < 5", "`<` does not take `string` and `int` @ s < 5 (a text becomes one by `int(\"…\")`)"),
        (
            "t < '2024'",
            "`<` does not take `timestamp` and `string` @ t < '2024' (a text becomes one by `timestamp(\"…\")`)",
        ),
        ("x + 1.5 > 1.0", "`+` does not take `int` and `double` @ x + 1.5 (convert one, as in `double(x)`)"),
        ("d % 2.0 == 1.0", "`%` does not take `double` and `double` @ d % 2.0"),
        ("p < p", "`<` does not take `ipaddress` and `ipaddress` @ p < p"),
        ("t + t == t", "`+` does not take `timestamp` and `timestamp` @ t + t"),
        ("x == null", "`==` does not take `int` and `null` @ x == null"),
        ("l == m", "`==` does not take `list<int>` and `map<string>` @ l == m"),
        ("'a' in l", "`in` does not take `string` and `list<int>` @ 'a' in l"),
        ("1 in m", "`in` does not take `int` and `map<string>` @ 1 in m"),
        ("x in x", "`in` does not take `int` and `int` @ x in x"),
        (
            "b ? x == 1 : s",
            "one branch is `bool` and the other is `string` @ x == 1 (both branches of `? :` need one type)",
        ),
        ("x ? b : b", "`? :` takes `bool`, and this is `int` @ x (compare it, as in `x != 0`)"),
        ("l['a'] == 1", "a list is indexed by `int`, not by `string` @ l['a']"),
        ("m[1] == 'a'", "the keys are `string`, and this is `int` @ m[1]"),
        ("x[1] == 1", "`int` has no items @ x[1]"),
        ("{1.5: 1} == {}", "a key may be `bool`, `int`, `uint` or `string`, not `double` @ 1.5"),
    ] {
        check(expression, &[expected]);
    }
}

#[test]
fn calls() {
    for (expression, expected) in [
        (
            "s.contains(x)",
            "there is no `string.contains(int)` @ s.contains(x) (there is `string.contains(string)`)",
        ),
        (
            "contains(s, s)",
            "there is no `contains(string, string)` @ contains(s, s) (there is `string.contains(string)`)",
        ),
        (
            "in_cidr(p, s)",
            "there is no `in_cidr(ipaddress, string)` @ in_cidr(p, s) (there is `ipaddress.in_cidr(string)`)",
        ),
        ("size(x) == 1", "there is no `size(int)` @ size(x) (there is `size(string or list or map)`)"),
        (
            "x.getHours() == 1",
            "there is no `int.getHours()` @ x.getHours() (there is `(timestamp or duration).getHours()` and \
             `timestamp.getHours(string)`)",
        ),
        ("l.all(x > 0)", "`all` is not called so @ l.all(x > 0) (write it as in `list.all(item, item > 0)`)"),
        ("all(l, b)", "`all` is not called so @ all(l, b) (write it as in `list.all(item, item > 0)`)"),
        (
            "l.all(1, b)",
            "the first argument of `all` names the item @ 1 (write it as in `list.all(item, item > 0)`)",
        ),
        ("x.exists(i, b)", "`exists` needs a list or a map, and this is `int` @ x"),
        ("l.all(i, i)", "`all` takes `bool`, and this is `int` @ i (compare it, as in `x != 0`)"),
        ("has(m)", "`has` takes a field @ has(m) (write `has(x.name)`)"),
        ("has(x.y)", "`int` has no field `y` @ has(x.y)"),
        (
            "l.map(i) == l",
            "`map` is not called so @ l.map(i) (write `list.map(item, value)` or `list.map(item, condition, value)`)",
        ),
    ] {
        check(expression, &[expected]);
    }
}

#[test]
fn every_mistake_is_reported_once() {
    check(
        "zz + 1 > s && l.all(i, i == s) && foo(zy)",
        &[
            "`zz` is not a parameter of this condition @ zz (declare it between the condition's parentheses)",
            "`>` does not take `int` and `string` @ zz + 1 > s (a text becomes one by `int(\"…\")`)",
            "`==` does not take `int` and `string` @ i == s (a text becomes one by `int(\"…\")`)",
            "`zy` is not a parameter of this condition @ zy (declare it between the condition's parentheses)",
            "`foo` is not a function @ foo",
        ],
    );
}

#[test]
fn declarations() {
    let declared = |names: &[&str]| {
        let parameters = names.iter().map(|name| ((*name).to_owned(), ParameterType::Int)).collect();
        let errors =
            Condition::compile("c".parse().expect("a name"), parameters, "true").err().unwrap_or_default();
        errors.into_iter().map(|error| error.message).collect::<Vec<_>>()
    };
    assert!(declared(&["x", "_y", "Z9", "type", "define"]).is_empty());
    assert_eq!(declared(&["x", "y", "x"]), ["parameter `x` is declared twice"]);
    assert_eq!(declared(&["a-b"]), ["an expression cannot read a parameter called `a-b`"]);
    assert_eq!(declared(&[""]), ["an expression cannot read a parameter called ``"]);
    assert_eq!(declared(&["9"]), ["an expression cannot read a parameter called `9`"]);
    assert_eq!(declared(&["in", "true"]).len(), 2);
    let names: Vec<_> = (0..65).map(|number| format!("p{number}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    assert_eq!(declared(&names), ["the condition has 65 parameters, more than 64"]);
    assert!(declared(&names[..64]).is_empty());
}

#[test]
fn published_conditions_compile() {
    for (declared, expression) in [
        ("_double: double", "_double != 0.0 && _double > 0.0"),
        (
            "_duration: duration",
            "_duration != null && _duration != duration(\"0s\") && _duration > duration(\"0s\")",
        ),
        ("_int: int", "_int != 0 && _int > 0"),
        ("_ipaddress: ipaddress", "_ipaddress != null &&  _ipaddress != ipaddress(\"192.0.0.1\")"),
        (
            "_liststring: list<string>",
            "\"1\" in _liststring && _liststring[0] != \"\" && _liststring[0] > \"\" && _liststring.exists(x, x > \"\") \
             && _liststring.exists_one(x, x > \"\") && _liststring.all(x, x > \"\")",
        ),
        (
            "_mapstring: map<string>",
            "\"key\" in _mapstring && _mapstring[\"key\"] != \"\"  && _mapstring[\"key\"] > \"\"",
        ),
        (
            "_string: string",
            "_string != \"\" && _string.startsWith(\"1\") && _string.endsWith(\"1\") && _string.contains(\"1\") \
             && _string.matches(\"[0-9]\")",
        ),
        (
            "_timestamp: timestamp",
            "_timestamp != null && _timestamp != timestamp(\"2019-01-01T00:00:00Z\") \
             && _timestamp > timestamp(\"2019-01-01T00:00:00Z\")",
        ),
        ("_uint: uint", "_uint != 0u && _uint > 0u"),
        ("cidr: string, user_ip: ipaddress", "\n  user_ip.in_cidr(cidr)\n"),
        (
            "current_time: timestamp, grant_duration: duration, grant_time: timestamp",
            "current_time < grant_time + grant_duration",
        ),
    ] {
        if let Err(errors) = compile(declared, expression) {
            panic!("{expression}: {errors:?}");
        }
    }
}

//! What each operator, function and macro means.

use super::{comes_to, outcome};

fn all_true(expressions: &[&str]) {
    for expression in expressions {
        comes_to(expression, "true");
    }
}

/// Faults of constants show only when evaluated, so an operand is hidden behind a parameter.
#[track_caller]
fn fails(expression: &str, reason: &str) {
    let found = outcome("i: int, u: uint, d: double, s: string, a: any", expression, VALUES);
    assert_eq!(found, format!("error: {reason}"), "{expression}");
}

const VALUES: &str = r#"{"i": 1, "u": 1, "d": 1.5, "s": "text", "a": {"k": [1, "x", null]}}"#;

#[track_caller]
fn with_values(expression: &str, expected: &str) {
    let found = outcome("i: int, u: uint, d: double, s: string, a: any", expression, VALUES);
    assert_eq!(found, expected, "{expression}");
}

#[test]
fn precedence_is_cels() {
    all_true(&[
        "true || false && false",
        "!false && true",
        "1 + 2 * 3 == 7",
        "(1 + 2) * 3 == 9",
        "10 - 3 - 2 == 5",
        "24 / 4 / 2 == 3",
        "7 % 4 * 2 == 6",
        "-2 * -3 == 6",
        "1 < 2 == true",
        "1 + 1 in [2]",
        "false ? false : true",
        "true ? true : 1 / 0 == 1",
        "false ? 1 == 1 : false ? 1 == 2 : true",
        "!!true",
        "- -1 == 1",
        "-1 - -1 == 0",
        "1 == 1 // one",
        "// first\n true\n// last",
    ]);
}

#[test]
fn integers_are_exact_and_checked() {
    all_true(&[
        "9223372036854775807 - 1 == 9223372036854775806",
        "-9223372036854775808 + 1 == -9223372036854775807",
        "0x10 == 16",
        "18446744073709551615u > 9223372036854775807u",
        "9007199254740993 != 9007199254740992",
        "-7 / 2 == -3",
        "-7 % 2 == -1",
        "7u % 4u == 3u",
        "3u * 2u - 1u + 1u == 6u",
        "7u / 2u == 3u",
    ]);
    fails("9223372036854775807 + i > 0", "the result does not fit an int in `9223372036854775807 + i`");
    fails("-9223372036854775808 - i > 0", "the result does not fit an int in `-9223372036854775808 - i`");
    fails(
        "9223372036854775807 * (i + 1) > 0",
        "the result does not fit an int in `9223372036854775807 * (i + 1)`",
    );
    fails(
        "-(-9223372036854775807 - i) > 0",
        "the result does not fit an int in `-(-9223372036854775807 - i)`",
    );
    fails("-9223372036854775808 / -i > 0", "the result does not fit an int in `-9223372036854775808 / -i`");
    fails("0u - u > 0u", "the result does not fit a uint in `0u - u`");
    fails("18446744073709551615u + u > 0u", "the result does not fit a uint in `18446744073709551615u + u`");
    fails("i / 0 == 1", "division by zero in `i / 0`");
    fails("i % (i - 1) == 1", "division by zero in `i % (i - 1)`");
    fails("u / 0u == 1u", "division by zero in `u / 0u`");
}

#[test]
fn doubles_are_ieee() {
    all_true(&[
        "0.1 + 0.2 != 0.3",
        "1.5 * 2.0 == 3.0",
        "1e3 == 1000.0",
        "1.0 / 0.0 > 1e308",
        "0.0 / 0.0 != 0.0 / 0.0",
        "!(0.0 / 0.0 < 1.0) && !(0.0 / 0.0 >= 1.0)",
        "-1.5 - .5 == -2.0",
    ]);
}

#[test]
fn numbers_compare_across_types() {
    all_true(&[
        "1 == 1.0",
        "1u == 1",
        "1 < 1.5",
        "1.5 < 2u",
        "-1 < 18446744073709551615u",
        "9007199254740993 > 9007199254740992.0",
        "1 in [1.0, 2.0]",
        "2u in {2: 'two'}",
    ]);
}

#[test]
fn texts_have_their_functions() {
    all_true(&[
        "'abc' + 'def' == 'abcdef'",
        "'a' < 'b' && 'Z' < 'a' && 'a' < 'ä'",
        "size('äöü') == 3 && 'äöü'.size() == 3",
        "'hello'.contains('ell') && !'hello'.contains('z')",
        "'hello'.startsWith('he') && !'hello'.startsWith('lo')",
        "'hello'.endsWith('lo') && !'hello'.endsWith('he')",
        "'a1b'.matches('[0-9]') && matches('abc', '^a.c$') && !'abc'.matches('^b')",
        r"'\u00e4' == 'ä' && r'\n' != '\n' && '''it's''' == 'it\'s'",
        "'' == \"\" && size('') == 0",
    ]);
    with_values("s.matches(s) && s.matches('^t') && 'text'.matches(s)", "true");
    fails("s.matches(s + '(')", "\"text(\" is not a pattern: unclosed group in `s.matches(s + '(')`");
}

#[test]
fn lists_and_maps_are_read() {
    all_true(&[
        "[1, 2][1] == 2",
        "size([1, 2, 3]) == 3 && [].size() == 0",
        "[1] + [2, 3] == [1, 2, 3]",
        "[[1], [2]] != [[1], [3]]",
        "2 in [1, 2] && !(3 in [1, 2]) && !(1 in [])",
        "'k' in {'k': 1} && !('l' in {'k': 1})",
        "{'a': 1, 'b': 2}['b'] == 2 && {'a': 1}.a == 1",
        "{1: 'one', 2u: 'two', true: 'yes', 's': 't'}[2] == 'two'",
        "{'b': 1, 'a': 2} == {'a': 2, 'b': 1}",
        "size({'a': 1}) == 1 && {} == {}",
        "has({'a': 1}.a) && !has({'a': 1}.b)",
        "{'in': 1}.in == 1",
        "[1, 'a', null, [true]] == [1, 'a', null, [true]]",
        "[1, 2,] == [1, 2] && {'a': 1,} == {'a': 1}",
    ]);
    fails("[1, 2][i + 1] == 1", "the list has 2 items, none at index 2 in `[1, 2][i + 1]`");
    fails("[1, 2][-i] == 1", "the list has 2 items, none at index -1 in `[1, 2][-i]`");
    fails("{'k': 1}[s] == 1", "the map has no key \"text\" in `{'k': 1}[s]`");
    fails("{i: 1, u: 2}[1] == 1", "the map has the key 1 twice in `{i: 1, u: 2}`");
}

#[test]
fn comprehensions_visit_items_or_keys() {
    all_true(&[
        "[1, 2].all(x, x > 0) && ![1, 2].all(x, x > 1) && [].all(x, false)",
        "[1, 2].exists(x, x > 1) && ![1, 2].exists(x, x > 2) && ![].exists(x, true)",
        "[1, 2].exists_one(x, x > 1) && ![1, 2].exists_one(x, x > 0) && [1].existsOne(x, true)",
        "[1, 2, 3].filter(x, x != 2) == [1, 3]",
        "[1, 2, 3].map(x, x * x) == [1, 4, 9]",
        "[1, 2, 3].map(x, x > 1, x * 10) == [20, 30]",
        "{'a': 1, 'b': 2}.all(k, k in ['a', 'b'])",
        "{'b': 1, 'a': 2}.map(k, k) == ['a', 'b']",
        "[1, 2].all(x, [3, 4].all(y, x < y))",
        "[1].all(x, [2].all(x, x == 2) && x == 1)",
        "[[1, 2], [3]].map(l, l.size()) == [2, 1]",
    ]);
}

#[test]
fn comprehensions_absorb_faults_that_cannot_decide() {
    all_true(&[
        "[0, 1].exists(x, 1 / x == 1) && [1, 0].exists(x, 1 / x == 1)",
        "![0, 2].all(x, 1 / x == 1) && ![2, 0].all(x, 1 / x == 1)",
    ]);
    comes_to("[0, 1].all(x, 1 / x == 1)", "error: division by zero in `1 / x`");
    comes_to("[0, 2].exists(x, 1 / x == 1)", "error: division by zero in `1 / x`");
    comes_to("[1, 0].exists_one(x, 1 / x == 1)", "error: division by zero in `1 / x`");
    comes_to("[1, 0].map(x, 1 / x) == []", "error: division by zero in `1 / x`");
    comes_to("[1, 0].filter(x, 1 / x == 1) == []", "error: division by zero in `1 / x`");
}

#[test]
fn faults_are_absorbed_in_both_orders() {
    let fault = "error: division by zero in `i / 0`";
    for (expression, expected) in [
        ("i / 0 == 1 || true", "true"),
        ("true || i / 0 == 1", "true"),
        ("i / 0 == 1 && false", "false"),
        ("false && i / 0 == 1", "false"),
        ("i / 0 == 1 || false", fault),
        ("false || i / 0 == 1", fault),
        ("i / 0 == 1 && true", fault),
        ("true && i / 0 == 1", fault),
        ("i == 1 ? true : i / 0 == 1", "true"),
        ("i == 1 ? i / 0 == 1 : true", fault),
        ("i / 0 == 1 ? true : true", fault),
    ] {
        with_values(expression, expected);
    }
}

#[test]
fn durations_and_moments_compute() {
    all_true(&[
        "duration('1h') + duration('30m') == duration('90m')",
        "duration('1h') - duration('90m') == duration('-30m') && duration('1s') < duration('1m')",
        "timestamp('2024-01-01T00:00:00Z') + duration('24h') == timestamp('2024-01-02T00:00:00Z')",
        "duration('24h') + timestamp('2024-01-01T00:00:00Z') == timestamp('2024-01-02T00:00:00Z')",
        "timestamp('2024-01-02T00:00:00Z') - timestamp('2024-01-01T00:00:00Z') == duration('24h')",
        "timestamp('2024-01-02T00:00:00Z') - duration('24h') == timestamp('2024-01-01T00:00:00Z')",
        "timestamp('2024-01-01T02:00:00+02:00') == timestamp('2024-01-01T00:00:00Z')",
        "timestamp('2024-02-29T10:20:30.5Z').getFullYear() == 2024",
        "timestamp('2024-02-29T10:20:30.5Z').getMonth() == 1",
        "timestamp('2024-02-29T10:20:30.5Z').getDate() == 29",
        "timestamp('2024-02-29T10:20:30.5Z').getDayOfMonth() == 28",
        "timestamp('2024-02-29T10:20:30.5Z').getDayOfWeek() == 4",
        "timestamp('2024-02-29T10:20:30.5Z').getDayOfYear() == 59",
        "timestamp('2024-02-29T10:20:30.5Z').getHours() == 10",
        "timestamp('2024-02-29T10:20:30.5Z').getMinutes() == 20",
        "timestamp('2024-02-29T10:20:30.5Z').getSeconds() == 30",
        "timestamp('2024-02-29T10:20:30.5Z').getMilliseconds() == 500",
        "timestamp('2024-02-29T10:20:30Z').getHours('+02:00') == 12",
        "timestamp('2024-02-29T23:20:30Z').getDate('01:00') == 1",
        "timestamp('2024-02-29T10:20:30Z').getHours('-08:30') == 1",
        "timestamp('2024-02-29T10:20:30Z').getHours('UTC') == 10",
        "duration('1h30m').getHours() == 1 && duration('1h30m').getMinutes() == 90",
        "duration('1.5s').getSeconds() == 1 && duration('1.5s').getMilliseconds() == 1500",
        "timestamp('9999-12-31T23:59:59Z') > timestamp('2024-01-01T00:00:00Z')",
    ]);
    let fault = |expression: &str, reason: &str| {
        let values = r#"{"t": "9999-12-31T00:00:00Z", "d": "48h", "z": "Mars"}"#;
        let found = outcome("t: timestamp, d: duration, z: string", expression, values);
        assert_eq!(found, format!("error: {reason}"), "{expression}");
    };
    fault("t + d > t", "the result does not fit a timestamp in `t + d`");
    fault(
        "t.getHours(z) == 1",
        "\"Mars\" is not a zone: use `UTC` or an offset such as `+02:00` in `t.getHours(z)`",
    );
}

#[test]
fn addresses_belong_to_networks() {
    all_true(&[
        "ipaddress('192.168.0.1').in_cidr('192.168.0.0/24')",
        "!ipaddress('192.168.1.0').in_cidr('192.168.0.0/24')",
        "ipaddress('192.168.0.1').in_cidr('192.168.0.77/24')",
        "ipaddress('2001:db8::1').in_cidr('2001:db8::/32')",
        "!ipaddress('192.168.0.1').in_cidr('::/0') && !ipaddress('::1').in_cidr('0.0.0.0/0')",
        "ipaddress('::ffff:10.0.0.1').in_cidr('10.0.0.0/8')",
        "ipaddress('10.0.0.1').in_cidr('::ffff:10.0.0.0/104')",
        "ipaddress('10.0.0.1') == ipaddress('::ffff:10.0.0.1') && ipaddress('10.0.0.1') != null",
    ]);
    let values = r#"{"a": "10.1.2.3", "n": "10.0.0.0/8", "b": "10.0.0.0"}"#;
    let declared = "a: ipaddress, n: string, b: string";
    assert_eq!(outcome(declared, "a.in_cidr(n)", values), "true");
    assert_eq!(
        outcome(declared, "a.in_cidr(b)", values),
        "error: \"10.0.0.0\" is not a network such as `192.0.2.0/24` or `2001:db8::/32` in `a.in_cidr(b)`"
    );
}

#[test]
fn conversions_are_checked() {
    all_true(&[
        "int('-12') == -12 && int(12u) == 12 && int(-1.9) == -1 && int(7) == 7",
        "int(timestamp('1970-01-01T00:01:00Z')) == 60",
        "uint('12') == 12u && uint(12) == 12u && uint(1.9) == 1u && uint(7u) == 7u",
        "double('1.5') == 1.5 && double(2) == 2.0 && double(2u) == 2.0 && double(1.5) == 1.5",
        "bool('true') && !bool('f') && bool(true)",
        "string(1) == '1' && string(1u) == '1' && string(true) == 'true' && string('s') == 's'",
        "string(1.0) == '1' && string(0.5) == '0.5' && string(123456.0) == '123456'",
        "string(1234567.0) == '1.234567e+06' && string(0.00001) == '1e-05' && string(1e21) == '1e+21'",
        "string(1.0 / 0.0) == '+Inf' && string(-1.0 / 0.0) == '-Inf' && string(0.0 / 0.0) == 'NaN'",
        "string(duration('1h30m')) == '5400s' && string(duration('-250ms')) == '-0.25s'",
        "string(timestamp('2024-01-01T01:00:00.5+01:00')) == '2024-01-01T00:00:00.5Z'",
        "string(ipaddress('::ffff:10.0.0.1')) == '10.0.0.1'",
        "timestamp(0) == timestamp('1970-01-01T00:00:00Z') && duration(duration('1s')) == duration('1s')",
        "dyn(1) == 1 && dyn('a') != 1",
    ]);
    fails("int(s) == 1", "\"text\" is not an int in `int(s)`");
    fails("int(d * 1e300) == 1", "the result does not fit an int in `int(d * 1e300)`");
    fails(
        "int(18446744073709551615u - u) == 1",
        "the result does not fit an int in `int(18446744073709551615u - u)`",
    );
    fails("uint(-i) == 1u", "the result does not fit a uint in `uint(-i)`");
    fails("uint(-d) == 1u", "the result does not fit a uint in `uint(-d)`");
    fails("uint(s) == 1u", "\"text\" is not a uint in `uint(s)`");
    fails("double(s) == 1.0", "\"text\" is not a double in `double(s)`");
    fails("bool(s)", "\"text\" is not a bool in `bool(s)`");
    fails("duration(s) == null", "\"text\" is not a duration such as `1h30m` in `duration(s)`");
    fails(
        "timestamp(s) == null",
        "\"text\" is not a timestamp such as `2027-01-31T12:00:00Z` in `timestamp(s)`",
    );
    fails(
        "timestamp(i * 9000000000000) == null",
        "the result does not fit a timestamp in `timestamp(i * 9000000000000)`",
    );
    fails("ipaddress(s) == null", "\"text\" is not an ip address such as `192.0.2.1` in `ipaddress(s)`");
}

#[test]
fn values_of_any_type_are_judged_when_evaluated() {
    for (expression, expected) in [
        ("a.k[0] == 1", "true"),
        ("a.k[0] + 0.5 == 1.5", "true"),
        ("a['k'][1] == 'x' && a.k[1] + 'y' == 'xy'", "true"),
        ("a.k[2] == null && a != null", "true"),
        ("has(a.k) && !has(a.l)", "true"),
        ("size(a.k) == 3 && a.k.size() == 3", "true"),
        ("a.k.exists(x, x == 'x') && a.all(key, key == 'k')", "true"),
        ("'x' in a.k && 1 in a.k && 'k' in a", "true"),
        ("a.k[0] == 'x'", "false"),
        ("[1, 2][a.k[0]] == 2", "true"),
        ("a.k[0] && true", "error: `&&` does not take (double) in `a.k[0] && true`"),
        ("!a.k[0]", "error: `!` does not take (double) in `!a.k[0]`"),
        ("a.k[0] < 'x'", "error: `<` does not take (double, string) in `a.k[0] < 'x'`"),
        ("a.k[0] + 1 == 2", "error: `+` does not take (double, int) in `a.k[0] + 1`"),
        ("a.k.l == 1", "error: `[]` does not take (list, string) in `a.k.l`"),
        ("a.l == 1", "error: the map has no key \"l\" in `a.l`"),
        ("has(a.k.l)", "error: `has` does not take (list) in `has(a.k.l)`"),
        (
            "a.k[0].startsWith('x')",
            "error: `startsWith` does not take (double, string) in `a.k[0].startsWith('x')`",
        ),
        ("a.k[0].in_cidr('::/0')", "error: `in_cidr` does not take (double) in `a.k[0].in_cidr('::/0')`"),
        ("a.k[0].getHours() == 1", "error: `getHours` does not take (double) in `a.k[0].getHours()`"),
        ("a.k[0].all(x, true)", "error: `all` does not take (double) in `a.k[0].all(x, true)`"),
        ("duration('1h').getHours('UTC') == a.k", "never compiled"),
    ] {
        if expected != "never compiled" {
            with_values(expression, expected);
        }
    }
}

#[test]
fn null_is_compared_where_it_may_be() {
    let values = r#"{"d": "1s", "t": "2024-01-01T00:00:00Z", "p": "::1", "a": null}"#;
    let declared = "d: duration, t: timestamp, p: ipaddress, a: any";
    let expression = "d != null && t != null && p != null && a == null && null == null && !(d == null)";
    assert_eq!(outcome(declared, expression, values), "true");
}

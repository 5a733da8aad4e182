//! What the language accepts and how it refuses: message, hint and the text underlined.

use super::*;

mod json;
mod limits;
mod round_trip;

/// What is reported of a text: message, hint and the text underlined, in order.
fn reported(text: &str) -> Vec<(String, String, String)> {
    let found = parse_with_warnings(text).map_or_else(|found| found, |(_, warnings)| warnings);
    found
        .items()
        .iter()
        .map(|item| {
            let span = item.place.clone().expect("a place").span;
            (item.message.clone(), item.hint.clone().unwrap_or_default(), text[span].to_owned())
        })
        .collect()
}

#[track_caller]
fn check(text: &str, expected: &[(&str, &str, &str)]) {
    let found = reported(text);
    let found: Vec<(&str, &str, &str)> = found.iter().map(|(a, b, c)| (&**a, &**b, &**c)).collect();
    assert_eq!(found, expected, "of\n{text}");
}

/// Checks what is reported of a definition `define x: …` beside the relations `a`, `b`, `c` and
/// `parent`.
#[track_caller]
fn check_definition(definition: &str, expected: &[(&str, &str, &str)]) {
    check(&with_definition(definition), expected);
}

fn with_definition(definition: &str) -> String {
    format!(
        "model\n  schema 1.1\ntype user\ntype doc\n  relations\n    define a: [user]\n    define b: [user]\n    \
         define c: [user]\n    define parent: [doc]\n    define x{definition}\n"
    )
}

#[track_caller]
fn rewrite(definition: &str) -> Rewrite {
    let schema = parse(&with_definition(definition)).unwrap_or_else(|found| panic!("{found}"));
    schema.relation("doc", "x").expect("the relation").rewrite.clone()
}

fn computed(name: &str) -> Rewrite {
    Rewrite::Computed(name.parse().expect("a name"))
}

#[test]
fn operators_and_parentheses() {
    let (a, b, c) = (|| computed("a"), || computed("b"), || computed("c"));
    let but_not = |base, subtract| Rewrite::Exclusion { base: Box::new(base), subtract: Box::new(subtract) };
    assert_eq!(rewrite(": a"), a());
    assert_eq!(rewrite(":((a))"), a());
    assert_eq!(rewrite(": a or b or c"), Rewrite::Union(vec![a(), b(), c()]));
    assert_eq!(rewrite(": a and b and c"), Rewrite::Intersection(vec![a(), b(), c()]));
    assert_eq!(rewrite(": a but not b"), but_not(a(), b()));
    assert_eq!(rewrite(": a or (b and c)"), Rewrite::Union(vec![a(), Rewrite::Intersection(vec![b(), c()])]));
    assert_eq!(rewrite(": (a or b) or c"), Rewrite::Union(vec![Rewrite::Union(vec![a(), b()]), c()]));
    assert_eq!(rewrite(": ([user] or b) but not c"), but_not(Rewrite::Union(vec![Rewrite::This, b()]), c()));
    let from =
        Rewrite::TupleToUserset { tupleset: "parent".parse().unwrap(), computed: "a".parse().unwrap() };
    assert_eq!(rewrite(": a from parent or b"), Rewrite::Union(vec![from, b()]));
}

#[test]
fn restrictions_of_every_form() {
    let text = "model\n  schema 1.1\ntype user\ntype group\n  relations\n    define member: [user]\ntype doc\n  relations\n    \
                define x: [\n      user, # people\n\n      // everybody\n      user:*,group#member,\n      user with c , user:* with c,\n      \
                group#member with c\n    ]\ncondition c(n: int) { n == 1 }\n";
    let schema = parse(text).unwrap_or_else(|found| panic!("{found}"));
    let restrictions = &schema.relation("doc", "x").unwrap().restrictions;
    let subjects: Vec<_> =
        restrictions.iter().map(|item| (&item.subject, item.condition.is_some())).collect();
    let member = RestrictionSubject::Userset("member".parse().unwrap());
    let (object, wildcard) = (RestrictionSubject::Object, RestrictionSubject::Wildcard);
    assert_eq!(
        subjects,
        [
            (&object, false),
            (&wildcard, false),
            (&member, false),
            (&object, true),
            (&wildcard, true),
            (&member, true)
        ]
    );
}

#[test]
fn dialect_1_0_with_and_without_header() {
    let body = "type user\ntype folder\nrelations\n  define owner as self\n  define parent as self\n  \
                define viewer as self or owner or viewer from parent\ntype doc\nrelations\n  \
                define can_read as owner or viewer from parent\n  define owner as self\n  define parent as self\n";
    let bare = parse(body).unwrap_or_else(|found| panic!("{found}"));
    assert_eq!(bare.dialect, Dialect::V1_0);
    assert!(
        matches!(&bare.relation("folder", "viewer").unwrap().rewrite, Rewrite::Union(all) if all.len() == 3)
    );
    let headed = parse(&format!("model\n  schema 1.0\n{body}")).unwrap_or_else(|found| panic!("{found}"));
    assert_eq!(bare, headed);
    assert_eq!(parse(&print(&bare).unwrap()).unwrap(), bare);
    assert_eq!(from_json(&to_json(&bare)).unwrap(), bare);
}

#[test]
fn a_header_may_be_left_out_where_the_dialect_is_evident() {
    let schema = parse("type user\n  relations\n    define friend: [user]\n").unwrap();
    assert_eq!(schema.dialect, Dialect::V1_1);
    check(
        "type user\n",
        &[(
            "the schema version is missing",
            "begin the file with the lines `model` and `schema 1.1`",
            "type",
        )],
    );
    check(
        "",
        &[("the schema version is missing", "begin the file with the lines `model` and `schema 1.1`", "")],
    );
}

#[test]
fn comments_spaces_and_line_ends() {
    let plain = parse("model\n  schema 1.2\ntype user\n  relations\n    define a: [user]\n").unwrap();
    let dressed = "\u{feff}# ID: 1\r\n\r\nmodel # here\r\n\tschema 1.2   // there\r\n# between\r\n  type user\t# x\r\nrelations\r\n  \
                   // all\r\n  define a:[user]# not a comment\r\n";
    check(
        dressed,
        &[("expected the end of the line, found `#`", "a comment needs a space before its `#`", "#")],
    );
    assert_eq!(parse(&dressed.replace("]#", "] #")).unwrap(), plain);
}

#[test]
fn names() {
    let text = "model\n  schema 1.1\ntype a/b\ntype _.a_/_b._\ntype a--b-\ntype model\n  relations\n    define type: [a/b, model]\n    \
                define as: type or schema\n    define schema: [_.a_/_b._, a--b-]\n";
    parse(text).unwrap_or_else(|found| panic!("{found}"));
    check(
        "model\n  schema 1.1\ntype a//b\ntype 1a\ntype a.b-\ntype é\ntype self\ntype in\n",
        &[
            ("`a//b` cannot name a type: it holds `//`", "a comment needs a space before it", "a//b"),
            ("`1a` cannot name a type: it begins with `1`", "names begin with a letter or `_`", "1a"),
            (
                "`a.b-` cannot name a type: its separators do not stand singly",
                "`.` and `/` stand singly between letters, digits or `_`",
                "a.b-",
            ),
            ("`é` cannot name a type: it begins with `é`", "names begin with a letter or `_`", "é"),
            (
                "a type cannot be named `self`",
                "`self` and `this` stand for the direct members of a relation",
                "self",
            ),
            ("`in` is a word of the language and cannot name a type", "", "in"),
        ],
    );
    let long = "x".repeat(51);
    check_definition(
        &format!(": [user]\n    define {long}: a"),
        &[("the name of this relation is too long: 51 characters, at most 50 are allowed", "", &long)],
    );
}

#[test]
fn names_that_do_not_exist() {
    check_definition(": aa", &[("relation `aa` does not exist on type `doc`", "did you mean `a`?", "aa")]);
    check_definition(
        ": user",
        &[(
            "relation `user` does not exist on type `doc`",
            "`user` is a type: to let its objects be members, write `[user]` first",
            "user",
        )],
    );
    check_definition(
        ": [usr, doc#d, user with e]",
        &[
            ("type `usr` does not exist", "did you mean `user`?", "usr"),
            ("relation `d` does not exist on type `doc`", "", "doc#d"),
            ("condition `e` does not exist", "", "e"),
        ],
    );
    check_definition(
        ": a from parnt",
        &[("relation `parnt` does not exist on type `doc`", "did you mean `parent`?", "a from parnt")],
    );
    check_definition(
        ": aparent from parent",
        &[(
            "`parent` names objects of type `doc`, which has no relation `aparent`",
            "did you mean `parent`?",
            "aparent from parent",
        )],
    );
    check_definition(
        ": self or a",
        &[(
            "relation `self` does not exist on type `doc`",
            "write the types that may be written directly instead, for example `[user]`",
            "self",
        )],
    );
}

#[test]
fn what_may_follow_from() {
    let direct = "it must name objects directly, as in `define parent: [folder]`";
    for (tupleset, why) in [
        ("[doc] or a", "it is derived from other relations"),
        ("[doc, doc:*]", "it allows a wildcard"),
        ("[doc, doc#a]", "it allows usersets"),
    ] {
        check_definition(
            &format!(": {tupleset}\n    define y: a from x"),
            &[(&format!("`x` cannot follow `from`: {why}"), direct, "x")],
        );
    }
}

#[test]
fn operators_gone_wrong() {
    check_definition(
        ": a or b and c",
        &[(
            "`or` and `and` cannot be mixed without parentheses",
            "put parentheses around one of them, such as `(a or b) and c`",
            "and",
        )],
    );
    check_definition(
        ": a but not b but not c",
        &[(
            "two `but not` need parentheses",
            "write `a but not (b or c)`, or `a but not (b but not c)`",
            "but not",
        )],
    );
    check_definition(
        ": a but  not b",
        &[("`but  not` is not an operator", "write `but not` with exactly one space", "but  not")],
    );
    for (wrong, meant) in [("||", "or"), ("&&", "and"), ("AND", "and"), ("except", "but not")] {
        check_definition(
            &format!(": a {wrong} b"),
            &[(
                &format!("expected `or`, `and` or `but not`, found `{wrong}`"),
                &format!("did you mean `{meant}`?"),
                wrong,
            )],
        );
    }
    check_definition(
        ": a or",
        &[(
            "expected a relation or type restrictions, found the end of the line",
            "`or` needs a relation after it",
            "",
        )],
    );
    check_definition(
        ": or a",
        &[(
            "expected a relation or type restrictions, found `or`",
            "an operator stands between two relations",
            "or",
        )],
    );
    check_definition(
        ": a\n      or b",
        &[(
            "expected `or`, `and`, `but not` or the end of the line, found a line break",
            "a definition stands on one line; only a list in `[]` may span lines",
            "\n",
        )],
    );
    check_definition(
        ": (a or b",
        &[(
            "expected `or`, `and`, `but not` or `)`, found the end of the line",
            "a parenthesis is still open",
            "",
        )],
    );
    check_definition(
        ": a or b)",
        &[("expected the end of the line, found `)`", "this parenthesis was never opened", ")")],
    );
    check_definition(
        "",
        &[(
            "expected `:`, found the end of the line",
            "a relation needs a definition, for example `define viewer: [user]`",
            "",
        )],
    );
    check_definition(
        ":",
        &[(
            "expected a relation or type restrictions, found the end of the line",
            "a relation needs a definition, for example `define viewer: [user]`",
            "",
        )],
    );
}

#[test]
fn restrictions_gone_wrong() {
    let misplaced = "type restrictions may stand only at the beginning of a definition, once";
    check_definition(": a or [user]", &[(misplaced, "begin the definition with it", "[user]")]);
    check_definition(": [user] or [doc]", &[(misplaced, "put all types into the first list", "[doc]")]);
    check_definition(
        ": []",
        &[("expected a type, found `]`", "a list names at least one type, for example `[user]`", "]")],
    );
    check_definition(": [user,]", &[("expected a type, found `]`", "no comma follows the last type", "]")]);
    check_definition(
        ": [user:*:*]",
        &[("expected `,` or `]`, found `:`", "a wildcard stands alone: `type:*`", ":")],
    );
    check_definition(
        ": [user, user]",
        &[("`user` is twice in the restrictions of `x`", "remove one of them", "user")],
    );
    check_definition(": a or a", &[("`a` is twice in the definition of `x`", "remove one of them", "a")]);
}

#[test]
fn dialects_do_not_mix() {
    check_definition(
        " as self",
        &[(
            "`as` belongs to schema 1.0, but this file is written in 1.1",
            "write `:`, and `[type, …]` instead of `self`",
            "as",
        )],
    );
    check(
        "type user\nrelations\n  define a as self\n  define b: a\n  define c as [user]\n",
        &[
            (
                "`:` belongs to schema 1.1, but this file is written in 1.0",
                "write `as`, or declare `schema 1.1` and type restrictions",
                ":",
            ),
            (
                "type restrictions belong to schema 1.1, but this file is written in 1.0",
                "write `self`, or declare `schema 1.1` and write `:` instead of `as`",
                "[user]",
            ),
        ],
    );
}

#[test]
fn declarations_out_of_place() {
    check(
        "model\ntype user\n",
        &[("expected `schema` after `model`, found `type`", "write `schema 1.1`", "type")],
    );
    check(
        "model\n  schema 2\n",
        &[("`2` is not a known schema version", "known are `1.0`, `1.1` and `1.2`", "2")],
    );
    check(
        "model\n  schema 1.1\ntype user\n  define a: [user]\n  relations\nmodel\ntype x\n  relations\nextend type user\n",
        &[
            ("`relations` is missing before the first `define`", "put a line `relations` above", "define"),
            ("`relations` may stand only once in a type", "", "relations"),
            ("`model` may stand only at the beginning of a file, once", "", "model"),
            ("`relations` without a `define`", "define a relation, or leave the line out", "relations"),
            ("`extend` may be used only in a module", "add the relations to the type itself", "user"),
        ],
    );
    check(
        "model\n  schema 1.1\nrelations\n  define a: b\ntyp user\nfoo\nbar\n",
        &[
            ("`relations` belongs to a type", "put a line `type NAME` above", "relations"),
            ("`typ` does not begin a declaration", "did you mean `type`?", "typ"),
            (
                "`foo` does not begin a declaration",
                "a line begins with `type`, `relations`, `define` or `condition`",
                "foo",
            ),
        ],
    );
    check(
        "module core\ntype user\n",
        &[(
            "modules are not accepted yet",
            "combine the modules into one file that begins with `model` and `schema 1.2`",
            "module",
        )],
    );
}

#[test]
fn duplicates_show_both_places() {
    let text = "model\n  schema 1.1\ntype user\ntype user\n  relations\n    define a: [user]\n    define a: [user]\n";
    check(
        text,
        &[
            ("type `user` is defined twice", "remove or rename one of them", "user"),
            ("relation `a` of type `user` is defined twice", "remove or rename one of them", "a"),
        ],
    );
    let found = parse(text).unwrap_err();
    let related: Vec<_> = found.items().iter().map(|item| item.related.as_ref().unwrap().1.line).collect();
    assert_eq!(related, [3, 6]);
}

#[test]
fn relations_nobody_can_have() {
    let no_entry =
        |name: &str| format!("nobody can ever have `{name}` on `doc`: its definition has no entry point");
    let looped = |name: &str| {
        format!("nobody can ever have `{name}` on `doc`: its definition only leads around in a loop")
    };
    let types = "let one relation of the loop name types, for example `[user]`";
    check_definition(
        ": y\n    define y: z\n    define z: y",
        &[(&looped("x"), types, "x"), (&looped("y"), types, "y"), (&looped("z"), types, "z")],
    );
    check_definition(
        ": x from parent",
        &[(
            &no_entry("x"),
            "let it name types that may be written directly, for example `define x: [user] or …`",
            "x",
        )],
    );
    check_definition(": [doc#x] or a", &[]);
    check_definition(": a or y\n    define y: b or x", &[]);
    check_definition(
        ": a but not y\n    define y: b but not x",
        &[(&looped("x"), types, "x"), (&looped("y"), types, "y")],
    );
    // A mistake in a relation is not reported again where the relation is used.
    check_definition(
        ": nowhere\n    define y: x",
        &[("relation `nowhere` does not exist on type `doc`", "", "nowhere")],
    );
}

fn with_condition(condition: &str) -> String {
    format!(
        "model\n  schema 1.1\ntype user\n  relations\n    define a: [user with c]\ncondition c{condition}\n"
    )
}

#[test]
fn expressions_are_kept_without_comments() {
    let expression = |condition: &str| {
        let schema = parse(&with_condition(condition)).unwrap_or_else(|found| panic!("{found}"));
        schema.condition("c").unwrap().expression().to_owned()
    };
    assert_eq!(expression("(x: int) { x < 10  }"), "x < 10");
    assert_eq!(expression("( x : int , y:list < string > ) {x<10}"), "x<10");
    assert_eq!(expression("(x: string) { x == '}' }"), "x == '}'");
    assert_eq!(expression("(x: string) { x == '#a' || x == 'a #b // c' }"), "x == '#a' || x == 'a #b // c'");
    assert_eq!(
        expression("(x: int) {\n  # small\n  x < 10 && // and\n    x > 1 # large\n\n}"),
        "x < 10 &&\n    x > 1"
    );
    assert_eq!(expression(r#"(x: string) { x == r"\" || x == "\"}" }"#), r#"x == r"\" || x == "\"}""#);
}

#[test]
fn conditions_gone_wrong() {
    let braces = "other tools end the condition at the first `}`; compare the parts of the map one by one";
    check(
        &with_condition("(x: int) { {1: 2}[1] == x }"),
        &[("braces cannot be used in an expression", braces, "{")],
    );
    check(&with_condition("(x: int) { }"), &[("the expression of `c` is empty", "", "{")]);
    check(&with_condition("(x: int) { x == 1"), &[("the expression of `c` has no closing `}`", "", "{")]);
    check(
        &with_condition("(x: int)"),
        &[(
            "the condition `c` has no expression",
            "put it in braces on the same line: `{ parameter == \"value\" }`",
            "",
        )],
    );
    check(
        &with_condition("() { true }"),
        &[("expected a parameter, found `)`", "a condition has at least one parameter", ")")],
    );
    check(
        &with_condition("(x: int,) { true }"),
        &[("expected a parameter, found `)`", "no comma follows the last parameter", ")")],
    );
    check(
        &with_condition("(\n  x: int) { true }"),
        &[("expected a parameter, found a line break", "the parameters stand on one line", "\n")],
    );
    check(
        &with_condition("(x: any, y: list, z: map<map>, u: int<int>) { true }"),
        &[
            (
                "the type `any` exists only in the JSON form of a schema",
                "declare what the parameter is",
                "any",
            ),
            ("`list` needs the type of its items", "for example `list<string>`", "list"),
            (
                "`map` is not a type that items can have",
                "one of `bool`, `string`, `int`, `uint`, `double`, `duration`, `timestamp`, `ipaddress`",
                "map",
            ),
            ("the type `int` has no items", "only `list<…>` and `map<…>` have items", "int"),
        ],
    );
    check(
        &with_condition("(x: int, x: int, map: int, y-z: int) { true }"),
        &[
            ("parameter `x` of condition `c` is declared twice", "", "x"),
            ("`map` is a word of the language and cannot name a parameter", "", "map"),
            (
                "`y-z` cannot name a parameter: it holds `-`, which is subtraction in an expression",
                "use `_`",
                "y-z",
            ),
        ],
    );
    check(
        &with_condition("(x: int) { x == 1 } type late"),
        &[
            ("nothing may follow the `}` that ends a condition", "begin a new line", "type"),
            ("types come before conditions", "move the conditions to the end of the file", "type"),
        ],
    );
    check(
        &with_condition(
            "(x: int) { x == 1 }\ncondition d(x: int) { x == 2 }\ncondition c(x: int) { x == 3 }",
        ),
        &[
            (
                "condition `d` is not used",
                "require it somewhere, for example `[user with d]`, or remove it",
                "d",
            ),
            ("condition `c` is defined twice", "remove or rename one of them", "c"),
        ],
    );
}

#[test]
fn every_mistake_is_reported_once_and_in_order() {
    let text = "model\n  schema 1.1\ntype user extra\n  relations\n    defne a: [user]\n    define b: a or\n    define c: b and ghost\n\
                condition k(x: nothing) { x == 1 }\n";
    let found = reported(text);
    let underlined: Vec<&str> = found.iter().map(|(_, _, text)| &**text).collect();
    assert_eq!(underlined, ["extra", "defne", "", "ghost", "nothing"]);
}

#[test]
fn a_rendering_shows_the_line_and_the_hint() {
    let found = parse(&with_definition(": a or b and c")).unwrap_err();
    let expected = "\
error[invalid-syntax]: `or` and `and` cannot be mixed without parentheses
  --> line 10, column 22
   |
10 |     define x: a or b and c
   |                 --   ^^^
   |                 the other operator
   = hint: put parentheses around one of them, such as `(a or b) and c`
";
    assert_eq!(found.to_string(), expected);
    let coloured = found.render(Some("doc.fga"), Style::Colour);
    assert!(coloured.contains("doc.fga:10:22") && coloured.contains("\u{1b}["));

    let found = parse("model\n  schema 1.1\ntype user\ntype user\n").unwrap_err();
    let expected = "\
error[duplicated-error]: type `user` is defined twice
 --> line 4, column 6
  |
4 | type user
  |      ^^^^
  = first defined here:
 --> line 3, column 6
  |
3 | type user
  |      ^^^^
  = hint: remove or rename one of them
";
    assert_eq!(found.to_string(), expected);
}

#[test]
fn a_long_line_is_cut_around_the_mistake() {
    let (before, after) = (" ".repeat(500), "é".repeat(500));
    let text = with_definition(&format!(": a or{before}ghost # {after}"));
    let found = parse(&text).unwrap_err();
    let item = found.items().iter().find(|item| item.message.contains("ghost")).expect("the mistake");
    let rendered = found.render_one(item, None, Style::Plain);
    assert!(rendered.lines().all(|line| line.chars().count() < 140), "{rendered}");
    let lines: Vec<&str> = rendered.lines().collect();
    let column = |line: &str, wanted: char| line.chars().position(|c| c == wanted).expect("shown");
    assert_eq!(column(lines[3], 'g'), column(lines[4], '^'), "{rendered}");
}

#[test]
fn a_mistake_in_an_expression_is_underlined_in_the_file() {
    let underlined = |condition: &str| -> Vec<(String, usize)> {
        let text = with_condition(condition);
        let found = parse(&text).expect_err("a mistake");
        let place = |item: &Diagnostic| item.place.clone().expect("a place");
        assert!(found.items().iter().all(|item| item.kind == Kind::InvalidCondition), "{found}");
        found.items().iter().map(|item| (text[place(item).span].to_owned(), place(item).line)).collect()
    };
    // Comments are cut before the expression is compiled; places still count in the file.
    let found =
        underlined("(x: int) {\n  # é\n  x < 10 && // and\n    gone == 'a # b' # here\n    || lost\n}");
    assert_eq!(found, [("gone".to_owned(), 9), ("lost".to_owned(), 10)]);
    assert_eq!(underlined("(x: int) { x }"), [("x".to_owned(), 6)]);
    assert_eq!(underlined("(x: int) { x == }").len(), 1);
}

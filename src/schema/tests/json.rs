//! What only the JSON form can say, and get wrong.

use crate::schema::{from_json, parse, print};

#[test]
fn json_says_which_definition_is_wrong() {
    let json = serde_json::json!({
        "schema_version": "1.1",
        "unknown": "is ignored",
        "type_definitions": [
            { "type": "user" },
            {
                "type": "doc",
                "relations": {
                    "a": { "this": {} },
                    "b": { "union": { "child": [{ "computed_userset": { "relation": "ghost" } }] } },
                    "c": {},
                    "d": { "computedUserset": { "object": "", "relation": "a" } },
                },
                "metadata": { "relations": {
                    "a": { "directly_related_user_types": [{ "type": "user", "condition": "" }, { "type": "user", "wildcard": {}, "relation": "x" }] },
                    "d": { "directly_related_user_types": [{ "type": "user" }] },
                } },
            },
        ],
        "conditions": { "k": { "name": "k", "expression": "true", "parameters": { "x": { "type_name": "TYPE_NAME_LIST" } } } },
    });
    let found = from_json(&json).unwrap_err();
    let found: Vec<_> = found
        .items()
        .iter()
        .map(|item| (item.within.as_deref().unwrap_or(""), item.message.as_str()))
        .collect();
    assert_eq!(
        found,
        [
            ("relation doc#a", "the restriction to `user` has a wildcard and the relation `x`"),
            ("relation doc#c", "a relation has no rewrite"),
            ("condition k", "`list` needs exactly one type for what is in it, as in `list<string>`"),
            ("relation doc#b", "relation `ghost` does not exist on type `doc`"),
            ("relation doc#d", "relation `d` has type restrictions but no direct members"),
        ]
    );
    assert!(from_json(&json).unwrap_err().to_string().contains("--> in relation doc#c\n"));
}

#[test]
fn json_puts_direct_members_first_and_refuses_what_has_no_text() {
    let model = |rewrite: serde_json::Value| {
        let json = serde_json::json!({
            "schema_version": "1.1",
            "type_definitions": [
                { "type": "user" },
                {
                    "type": "doc",
                    "relations": { "a": { "this": {} }, "x": rewrite },
                    "metadata": { "relations": {
                        "a": { "directly_related_user_types": [{ "type": "user" }] },
                        "x": { "directly_related_user_types": [{ "type": "user" }] },
                    } },
                },
            ],
        });
        from_json(&json).unwrap_or_else(|found| panic!("{found}"))
    };
    let (this, a) =
        (serde_json::json!({ "this": {} }), serde_json::json!({ "computedUserset": { "relation": "a" } }));
    let schema =
        model(serde_json::json!({ "union": { "child": [a, { "intersection": { "child": [a, this] } }] } }));
    assert!(print(&schema).unwrap().contains("define x: ([user] and a) or a\n"));
    assert_eq!(parse(&print(&schema).unwrap()).unwrap(), schema);

    let schema = model(serde_json::json!({ "difference": { "base": a, "subtract": this } }));
    assert_eq!(
        print(&schema).unwrap_err().to_string(),
        "relation `x` of type `doc` cannot be written in the schema language: its direct members must stand first \
         in its definition, once"
    );
}

//! Check on the corners of the semantics.

use crate::engine::testing::World;

const SHARING: &str = "
type user
type group
  relations
    define member: [user, user:*, group#member]
type folder
  relations
    define parent: [folder]
    define viewer: [user, group#member] or viewer from parent
type doc
  relations
    define parent: [folder]
    define owner: [user]
    define viewer: [user, user:*, group#member] or owner or viewer from parent
    define blocked: [user, user:*, group#member]
    define signed: [user, group#member]
    define reader: viewer but not blocked
    define editor: viewer and signed
    define special: (viewer but not blocked) and signed
";

#[test]
fn direct_computed_nested_and_through_parents() {
    World::new(
        SHARING,
        [
            "group:all#member@group:eng#member",
            "group:eng#member@user:ann",
            "folder:root#viewer@group:all#member",
            "folder:sub#parent@folder:root",
            "doc:1#parent@folder:sub",
            "doc:1#owner@user:bob",
        ],
    )
    .expect(
        "doc:1#viewer@user:ann → yes
         doc:1#viewer@user:bob → yes
         doc:1#viewer@user:cem → no
         doc:1#viewer@group:eng#member → yes
         doc:1#viewer@folder:root#viewer → yes
         doc:1#owner@user:ann → no
         doc:2#viewer@user:ann → no",
    );
}

#[test]
fn a_userset_contains_itself() {
    World::new(SHARING, ["doc:1#parent@folder:f", "doc:1#blocked@user:x"]).expect(
        "doc:1#viewer@doc:1#viewer → yes
         doc:1#viewer@doc:1#owner → yes
         doc:1#owner@doc:1#viewer → no
         doc:1#viewer@folder:f#viewer → yes
         doc:1#reader@doc:1#viewer → yes
         doc:1#reader@doc:1#blocked → no
         doc:1#blocked@doc:1#blocked → yes
         doc:9#viewer@doc:9#viewer → yes",
    );
}

#[test]
fn wildcards_cover_objects_never_usersets_and_are_subjects_of_their_own() {
    World::new(
        SHARING,
        [
            "doc:1#viewer@user:*",
            "doc:1#blocked@user:ann",
            "doc:2#viewer@user:ann",
            "doc:3#viewer@group:g#member",
            "group:g#member@user:*",
            "doc:4#viewer@user:*",
            "doc:4#blocked@user:*",
        ],
    )
    .expect(
        "doc:1#viewer@user:zoe → yes
         doc:1#viewer@user:* → yes
         doc:1#viewer@group:g#member → no
         doc:1#reader@user:ann → no
         doc:1#reader@user:zoe → yes
         doc:1#reader@user:* → yes
         doc:2#viewer@user:* → no
         doc:3#viewer@user:zoe → yes
         doc:3#viewer@user:* → yes
         doc:4#reader@user:zoe → no
         doc:4#reader@user:* → no",
    );
}

#[test]
fn and_needs_all_and_but_not_excludes() {
    World::new(
        SHARING,
        [
            "doc:1#viewer@group:a#member",
            "doc:1#signed@group:b#member",
            "doc:1#blocked@group:c#member",
            "group:a#member@user:a",
            "group:a#member@user:ab",
            "group:b#member@user:ab",
            "group:a#member@user:abc",
            "group:b#member@user:abc",
            "group:c#member@user:abc",
        ],
    )
    .expect(
        "doc:1#editor@user:a → no
         doc:1#editor@user:ab → yes
         doc:1#editor@user:abc → yes
         doc:1#special@user:a → no
         doc:1#special@user:ab → yes
         doc:1#special@user:abc → no
         doc:1#reader@user:abc → no
         doc:1#editor@group:a#member → no",
    );
}

#[test]
fn a_cycle_adds_nothing() {
    World::new(
        SHARING,
        [
            "group:a#member@group:b#member",
            "group:b#member@group:c#member",
            "group:c#member@group:a#member",
            "group:c#member@user:ann",
            "folder:x#parent@folder:y",
            "folder:y#parent@folder:x",
            "folder:y#viewer@group:a#member",
        ],
    )
    .expect(
        "group:a#member@user:ann → yes
         group:b#member@user:ann → yes
         group:a#member@user:bob → no
         group:a#member@group:a#member → yes
         folder:x#viewer@user:ann → yes
         folder:x#viewer@user:bob → no",
    );
}

const NEGATIVE: &str = "
type user
type node
  relations
    define next: [node]
    define ban: [user]
    define win: [user, node#win] but not lose
    define lose: [user, node#lose] or win from next
    define odd: [user] but not (ban or odd from next)
";

/// Through a `but not` the meaning is the well-founded model; what stays undefined is denied.
#[test]
fn a_cycle_through_an_exclusion_is_well_founded() {
    World::new(
        NEGATIVE,
        [
            // A chain: c is odd, b is not since c is, a is.
            "node:a#odd@user:u",
            "node:b#odd@user:u",
            "node:c#odd@user:u",
            "node:a#next@node:b",
            "node:b#next@node:c",
            // A paradox: p is odd unless p is odd.
            "node:p#odd@user:u",
            "node:p#next@node:p",
            // Two that exclude each other: undefined.
            "node:q#odd@user:u",
            "node:r#odd@user:u",
            "node:q#next@node:r",
            "node:r#next@node:q",
            // Undefined, but t excludes it for certain.
            "node:s#odd@user:u",
            "node:s#next@node:s",
            "node:s#next@node:t",
            "node:t#odd@user:u",
        ],
    )
    .expect(
        "node:c#odd@user:u → yes
         node:b#odd@user:u → no
         node:a#odd@user:u → yes
         node:p#odd@user:u → no
         node:q#odd@user:u → no
         node:r#odd@user:u → no
         node:s#odd@user:u → no
         node:t#odd@user:u → yes
         node:a#odd@user:x → no",
    );
}

#[test]
fn length_is_no_obstacle() {
    let n = 100_000;
    let mut tuples: Vec<String> =
        (0..n).map(|i| format!("group:{i}#member@group:{}#member", (i + 1) % n)).collect();
    tuples.extend((0..n).map(|i| format!("folder:{i}#parent@folder:{}", i + 1)));
    tuples.push(format!("folder:{n}#viewer@group:0#member"));
    tuples.push(format!("group:{}#member@user:ann", n / 2));
    let world = &mut World::new(SHARING, tuples);
    for (question, expected) in [
        ("group:0#member@user:ann", "yes"),
        ("group:7#member@user:bob", "no"),
        ("folder:0#viewer@user:ann", "yes"),
        ("folder:0#viewer@user:bob", "no"),
    ] {
        let question_ = world.question(question);
        let answer = world.ask(question_, &mut crate::engine::Memo::new(), 1_000);
        assert_eq!(answer, expected, "{question}");
    }
}

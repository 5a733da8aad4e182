//! Uncertain things: carried through the algebra, and named when they decide.

use crate::condition::Required;
use crate::engine::testing::World;

const SCHEMA: &str = "
type user
type group
  relations
    define member: [user, user with office, group#member, group#member with office]
type doc
  relations
    define viewer: [user, user with office, user with quiet, user:* with office, group#member]
    define blocked: [user, user with quiet]
    define reader: viewer but not blocked
    define both: viewer and blocked
condition office(ip: string) {
  ip == \"10.0.0.1\"
}
condition quiet(hour: int, factor: int) {
  hour > 20 || hour / factor > 100
}
";

fn world(tuples: &[&str], context: &str) -> World {
    World::new(SCHEMA, tuples).with_context(context)
}

#[test]
fn what_is_missing_is_named_only_where_it_decides() {
    let tuples = [
        "doc:1#viewer@user:ann with office",
        "doc:1#viewer@group:g#member",
        "group:g#member@user:bob with office",
        "group:g#member@user:cem",
        "doc:1#blocked@user:cem with quiet",
        "doc:2#viewer@user:ann with office",
        "doc:2#viewer@group:g#member",
        "group:g#member@user:ann",
        "doc:3#viewer@user:dan with office",
        "doc:3#blocked@user:dan with quiet",
    ];
    world(&tuples, "{}").expect(
        "doc:1#viewer@user:ann → yes
         doc:3#viewer@user:dan → needs ip
         doc:1#viewer@user:bob → needs ip
         doc:1#reader@user:cem → needs factor, hour
         doc:3#reader@user:dan → needs factor, hour, ip
         doc:3#both@user:dan → needs factor, hour, ip
         doc:1#both@user:ann → no
         doc:1#both@user:bob → no",
    );
    world(&tuples, r#"{"ip": "10.0.0.1"}"#).expect(
        "doc:3#viewer@user:dan → yes
         doc:3#reader@user:dan → needs factor, hour
         doc:1#viewer@user:bob → yes",
    );
    world(&tuples, r#"{"ip": "10.0.0.2", "hour": 21}"#).expect(
        "doc:3#viewer@user:dan → no
         doc:3#reader@user:dan → no
         doc:1#reader@user:cem → no",
    );
}

#[test]
fn a_tuples_own_context_wins() {
    world(
        &[
            r#"doc:1#viewer@user:ann with office {"ip": "10.0.0.1"}"#,
            r#"doc:2#viewer@user:ann with office {"ip": "10.9.9.9"}"#,
        ],
        r#"{"ip": "10.0.0.2"}"#,
    )
    .expect(
        "doc:1#viewer@user:ann → yes
         doc:2#viewer@user:ann → no",
    );
}

#[test]
fn an_error_counts_only_where_it_contributes() {
    let tuples = [
        "doc:1#viewer@user:ann with quiet",
        "doc:2#viewer@user:ann with quiet",
        "doc:2#viewer@group:g#member",
        "group:g#member@user:ann",
        "doc:3#viewer@user:ann",
        "doc:3#blocked@user:ann with quiet",
        "doc:4#blocked@user:ann with quiet",
        "doc:5#viewer@user:ann with office",
        "doc:5#blocked@user:ann with quiet",
    ];
    let mut world = world(&tuples, r#"{"hour": 5, "factor": 0}"#);
    world.expect(
        "doc:2#viewer@user:ann → yes
         doc:4#reader@user:ann → no
         doc:4#both@user:ann → no",
    );
    for (question, tuple) in [
        ("doc:1#viewer@user:ann", "doc:1#viewer@user:ann"),
        ("doc:3#reader@user:ann", "doc:3#blocked@user:ann"),
        // An error beats what is missing.
        ("doc:5#reader@user:ann", "doc:5#blocked@user:ann"),
    ] {
        let answer = world.check(question);
        assert!(answer.starts_with(&format!("error: tuple `{tuple}`: condition `quiet` failed")), "{answer}");
    }
}

#[test]
fn all_parameters_may_be_required() {
    let tuples = ["doc:1#viewer@user:ann with quiet"];
    let mut world = world(&tuples, r#"{"hour": 21}"#);
    assert_eq!(world.check("doc:1#viewer@user:ann"), "yes");
    world.required = Required::All;
    assert_eq!(world.check("doc:1#viewer@user:ann"), "needs factor");
}

#[test]
fn a_conditional_wildcard_is_a_conditional_subject() {
    world(&["doc:1#viewer@user:* with office", "doc:1#blocked@user:ann"], "{}").expect(
        "doc:1#viewer@user:zoe → needs ip
         doc:1#viewer@user:* → needs ip
         doc:1#reader@user:ann → no
         doc:1#reader@user:zoe → needs ip",
    );
}

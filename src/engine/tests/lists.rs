//! Lists on the corners of the semantics.

use crate::engine::testing::{World, written};
use crate::engine::{ListObjects, ListRelations, ListSubjects, Memo, Progress};

const SCHEMA: &str = "
type user
type group
  relations
    define member: [user, group#member]
type folder
  relations
    define viewer: [user, group#member]
type doc
  relations
    define parent: [folder]
    define public: [user:*]
    define listed: [user, user:*, group#member, user with small, user:* with small]
    define blocked: [user, user:*, user with small]
    define viewer: listed but not blocked
    define both: public and listed
    define editor: (listed and viewer from parent) but not blocked
condition small(n: int) {
  n < 10
}
";

fn subjects(world: &mut World, userset: &str, kind: &str) -> String {
    let (object, relation) = userset.split_once('#').expect("object#relation");
    let relation = world.relation(object.split(':').next().expect("a type"), relation);
    let (object, kind) = (world.object(object), world.kind(kind));
    let mut answers: Vec<Vec<String>> = Vec::new();
    for slice in [1, 7, u64::MAX] {
        let mut list = ListSubjects::new(object, relation, kind);
        let mut found = Vec::new();
        let end = loop {
            let progress = list.run(&world.scope(), &mut slice.clone());
            found.extend(list.take_found());
            if let Progress::Done(end) = progress {
                break end;
            }
        };
        if let Err(error) = end {
            return format!("error: {error}");
        }
        let mut lines: Vec<String> = found
            .iter()
            .map(|one| match written(&one.verdict).as_str() {
                "yes" => world.scope().subject(one.subject).to_string(),
                "no" => format!("not {}", world.scope().subject(one.subject)),
                needs => format!("{} {needs}", world.scope().subject(one.subject)),
            })
            .collect();
        lines.sort();
        answers.push(lines);
    }
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    answers[0].join(", ")
}

fn objects(world: &mut World, subject: &str, relation: &str) -> String {
    let (object_type, relation) = relation.split_once('#').expect("type#relation");
    let (subject, relation) = (world.subject(subject), world.relation(object_type, relation));
    let mut answers: Vec<Vec<String>> = Vec::new();
    for slice in [1, 7, u64::MAX] {
        let (mut list, mut memo, mut found) = (ListObjects::new(subject, relation), Memo::new(), Vec::new());
        loop {
            let progress = list.run(&world.scope(), &mut memo, &mut slice.clone());
            found.extend(list.take_found());
            if let Progress::Done(end) = progress {
                end.expect("complete");
                break;
            }
        }
        let mut lines: Vec<String> = found
            .iter()
            .map(|one| {
                use crate::graph::View;
                let object = world.view.object(one.object);
                match written(&one.verdict).as_str() {
                    "yes" => object.to_string(),
                    needs => format!("{object} {needs}"),
                }
            })
            .collect();
        lines.sort();
        answers.push(lines);
    }
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    answers[0].join(", ")
}

#[test]
fn a_wildcard_is_listed_with_the_named_and_its_exceptions() {
    let world = &mut World::new(
        SCHEMA,
        [
            "doc:1#listed@user:*",
            "doc:1#listed@user:ann",
            "doc:1#blocked@user:bob",
            "doc:1#blocked@user:cem with small",
            "doc:2#listed@user:*",
            "doc:2#listed@user:ann",
            "doc:2#blocked@user:*",
        ],
    );
    assert_eq!(subjects(world, "doc:1#viewer", "user"), "not user:bob, user:*, user:ann, user:cem needs n");
    assert_eq!(subjects(world, "doc:2#viewer", "user"), "");
    assert_eq!(subjects(world, "doc:2#listed", "user"), "user:*, user:ann");
}

#[test]
fn wildcards_intersect() {
    let world = &mut World::new(
        SCHEMA,
        ["doc:1#public@user:*", "doc:1#listed@user:*", "doc:2#public@user:*", "doc:2#listed@user:ann"],
    );
    assert_eq!(subjects(world, "doc:1#both", "user"), "user:*");
    assert_eq!(subjects(world, "doc:2#both", "user"), "user:ann");
}

#[test]
fn a_conditional_wildcard_is_conditional_for_everybody_it_covers() {
    let world = &mut World::new(
        SCHEMA,
        ["doc:1#listed@user:* with small", "doc:1#listed@user:ann", "doc:1#blocked@user:bob"],
    );
    assert_eq!(subjects(world, "doc:1#viewer", "user"), "not user:bob, user:* needs n, user:ann");
}

#[test]
fn usersets_are_listed_where_they_are_met_and_contain_themselves() {
    let world = &mut World::new(
        SCHEMA,
        ["doc:1#listed@group:a#member", "group:a#member@group:b#member", "group:b#member@user:ann"],
    );
    assert_eq!(subjects(world, "doc:1#listed", "group#member"), "group:a#member, group:b#member");
    assert_eq!(subjects(world, "group:b#member", "group#member"), "group:b#member");
    assert_eq!(subjects(world, "doc:1#listed", "doc#listed"), "doc:1#listed");
    assert_eq!(subjects(world, "doc:1#viewer", "doc#listed"), "doc:1#listed");
    assert_eq!(subjects(world, "doc:1#listed", "user"), "user:ann");
    assert_eq!(subjects(world, "doc:1#listed", "folder"), "");
}

#[test]
fn objects_are_found_through_drivers_and_verified() {
    let world = &mut World::new(
        SCHEMA,
        [
            "doc:1#listed@user:*",
            "doc:1#parent@folder:f",
            "folder:f#viewer@group:g#member",
            "group:g#member@user:ann",
            "group:g#member@user:bob",
            "doc:2#listed@user:ann",
            "doc:3#parent@folder:f",
            "doc:4#listed@group:g#member",
            "doc:4#parent@folder:f",
            "doc:4#blocked@user:bob",
            "doc:5#listed@user:ann with small",
            "doc:5#parent@folder:f",
        ],
    );
    assert_eq!(objects(world, "user:ann", "doc#editor"), "doc:1, doc:4, doc:5 needs n");
    assert_eq!(objects(world, "user:bob", "doc#editor"), "doc:1");
    assert_eq!(objects(world, "user:zoe", "doc#editor"), "");
    assert_eq!(objects(world, "user:zoe", "doc#listed"), "doc:1");
    assert_eq!(objects(world, "user:*", "doc#listed"), "doc:1");
    assert_eq!(objects(world, "group:g#member", "doc#listed"), "doc:4");
    assert_eq!(objects(world, "group:g#member", "folder#viewer"), "folder:f");
    assert_eq!(objects(world, "doc:9#viewer", "doc#viewer"), "doc:9");
}

#[test]
fn relations_come_in_the_order_of_the_schema() {
    let world = &mut World::new(SCHEMA, ["doc:1#listed@user:ann", "doc:1#blocked@user:ann with small"]);
    let (object, subject) = (world.object("doc:1"), world.subject("user:ann"));
    let object_type = world.rules.type_id("doc").expect("a type");
    let mut list = ListRelations::new(&world.rules, object, object_type, subject);
    let Progress::Done(Ok(found)) = list.run(&world.scope(), &mut Memo::new(), &mut u64::MAX.clone()) else {
        panic!("complete");
    };
    let found: Vec<String> = found
        .iter()
        .map(|one| format!("{} {}", world.rules.relation(one.relation).name, written(&one.verdict)))
        .collect();
    assert_eq!(found, ["listed yes", "blocked needs n", "viewer needs n"]);
}

/// A set per goal would be a square of the chain's length; shared sets are one.
#[test]
fn long_chains_and_cycles_share_their_subjects() {
    let n = 20_000;
    let mut tuples: Vec<String> =
        (0..n).map(|i| format!("group:{i}#member@group:{}#member", (i + 1) % n)).collect();
    tuples.extend((0..1_000).map(|i| format!("group:7#member@user:{i}")));
    tuples.push("doc:1#listed@group:0#member".to_owned());
    let world = &mut World::new(SCHEMA, tuples);
    let (object, relation, kind) =
        (world.object("doc:1"), world.relation("doc", "listed"), world.kind("user"));
    let mut list = ListSubjects::new(object, relation, kind);
    let Progress::Done(Ok(work)) = list.run(&world.scope(), &mut u64::MAX.clone()) else {
        panic!("complete")
    };
    assert_eq!(list.take_found().len(), 1_000);
    assert!(work.fuel < 200_000, "{work:?}");

    let (subject, listed) = (world.subject("user:5"), world.relation("doc", "listed"));
    let mut list = ListObjects::new(subject, listed);
    let Progress::Done(Ok(work)) = list.run(&world.scope(), &mut Memo::new(), &mut u64::MAX.clone()) else {
        panic!("complete");
    };
    assert_eq!(list.take_found().len(), 1);
    assert!(work.fuel < 200_000, "{work:?}");
}

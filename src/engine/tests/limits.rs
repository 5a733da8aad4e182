//! Bounds end a search with an error that names them, never with a wrong answer.

use crate::engine::testing::{World, written};
use crate::engine::{EngineError, Expand, LimitKind, Limits, ListObjects, ListSubjects, Memo, Progress};

const SCHEMA: &str = "
type user
type group
  relations
    define member: [user, group#member]
type folder
  relations
    define parent: [folder]
    define viewer: [user] or viewer from parent
type doc
  relations
    define blocked: [user]
    define allowed: [user, group#member]
    define viewer: allowed but not blocked
    define mixed: alias
    define alias: viewer or blocked
";

/// Groups 0 to n nested in a row: `doc:1` allows the first, the last holds `user:ann`.
fn chain(groups: u32) -> Vec<String> {
    let mut tuples: Vec<String> =
        (1..groups).map(|i| format!("group:{}#member@group:{i}#member", i - 1)).collect();
    tuples.push("doc:1#allowed@group:0#member".to_owned());
    tuples.push(format!("group:{}#member@user:ann", groups - 1));
    tuples
}

#[test]
fn twenty_four_hops_are_followed_and_the_twenty_fifth_is_an_error() {
    let limit = "error: the answer depends on more than 24 nested usersets and tuplesets";
    let mut near = World::new(SCHEMA, chain(24)).with_limits(Limits::openfga());
    let mut far = World::new(SCHEMA, chain(25)).with_limits(Limits::openfga());
    for question in ["doc:1#allowed@user:ann", "doc:1#viewer@user:ann", "doc:1#mixed@user:ann"] {
        assert_eq!(near.check(question), "yes", "computed relations are free: {question}");
        assert_eq!(far.check(question), limit, "{question}");
    }
    assert_eq!(near.check("doc:1#viewer@user:bob"), "no");
    assert_eq!(far.check("doc:1#viewer@user:bob"), limit);

    let folders = |n: u32| (0..n).map(|i| format!("folder:{i}#parent@folder:{}", i + 1));
    let granted = |n: u32| std::iter::once(format!("folder:{n}#viewer@user:ann"));
    let mut near = World::new(SCHEMA, folders(24).chain(granted(24))).with_limits(Limits::openfga());
    let mut far = World::new(SCHEMA, folders(25).chain(granted(25))).with_limits(Limits::openfga());
    assert_eq!(near.check("folder:0#viewer@user:ann"), "yes");
    assert_eq!(far.check("folder:0#viewer@user:ann"), limit);
    assert_eq!(far.with_limits(Limits::default()).check("folder:0#viewer@user:ann"), "yes");
}

/// A goal met first by a long way and then by a short one counts from the short one.
#[test]
fn the_shortest_way_counts() {
    let mut tuples = chain(24);
    tuples.push("group:23#member@group:x#member".to_owned());
    tuples.push("group:x#member@group:y#member".to_owned());
    tuples.push("group:y#member@user:bob".to_owned());
    let mut world = World::new(SCHEMA, &tuples).with_limits(Limits::openfga());
    assert!(world.check("doc:1#viewer@user:bob").starts_with("error"));
    tuples.push("doc:1#allowed@group:20#member".to_owned());
    let mut world = World::new(SCHEMA, &tuples).with_limits(Limits::openfga());
    assert_eq!(world.check("doc:1#viewer@user:bob"), "yes");
}

/// An answer that is certain either way is given although something lies too deep.
#[test]
fn depth_matters_only_where_the_answer_depends_on_it() {
    let mut tuples = chain(60);
    tuples.push("doc:1#blocked@user:bob".to_owned());
    tuples.push("doc:1#allowed@user:cem".to_owned());
    let mut world = World::new(SCHEMA, tuples).with_limits(Limits::openfga());
    assert_eq!(world.check("doc:1#viewer@user:bob"), "no");
    assert_eq!(world.check("doc:1#viewer@user:cem"), "yes");
    assert_eq!(world.check("doc:1#alias@user:bob"), "yes");
}

fn exceeded(world: &mut World) -> LimitKind {
    let (scope, mut memo) = (world.question("doc:1#viewer@user:nobody"), Memo::new());
    match scope.finish(&world.scope(), &mut memo) {
        Err(EngineError::LimitExceeded { limit, work, .. }) => {
            assert!(work.fuel > 0);
            limit
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn each_limit_is_named() {
    let tuples = chain(1_000);
    let world = |limits| World::new(SCHEMA, &tuples).with_limits(limits);
    let default = Limits::default;
    assert_eq!(exceeded(&mut world(Limits { fuel: 500, ..default() })), LimitKind::Fuel);
    assert_eq!(exceeded(&mut world(Limits { goals: 500, ..default() })), LimitKind::Goals);
    assert_eq!(exceeded(&mut world(Limits { edges: 500, ..default() })), LimitKind::Edges);
    assert_eq!(exceeded(&mut world(Limits { bytes: 10_000, ..default() })), LimitKind::Bytes);
}

/// Whatever the limit, the answer is right or an error, and the error is the same for any slice.
#[test]
fn a_limit_never_changes_an_answer() {
    let tuples = chain(20);
    for fuel in 0..200 {
        let mut world = World::new(SCHEMA, &tuples).with_limits(Limits { fuel, ..Limits::default() });
        for (question, expected) in [("doc:1#viewer@user:ann", "yes"), ("doc:1#viewer@user:bob", "no")] {
            let answer = world.check(question);
            assert!(
                answer == expected || answer.starts_with("error: the search exceeded"),
                "{fuel}: {answer}"
            );
        }
    }
}

#[test]
fn lists_end_with_an_error_when_there_are_too_many_results() {
    let mut tuples: Vec<String> = (0..50).map(|i| format!("doc:{i}#allowed@user:ann")).collect();
    tuples.extend((0..50).map(|i| format!("doc:1#allowed@user:{i}")));
    let mut world =
        World::new(SCHEMA, tuples).with_limits(Limits { results: 20, leaf: 30, ..Limits::default() });
    let is_cut =
        |error| matches!(error, EngineError::LimitExceeded { limit: LimitKind::Results, allowed: 20, .. });
    let is_too_large =
        |error| matches!(error, EngineError::LimitExceeded { limit: LimitKind::Leaf, allowed: 30, .. });
    let relation = world.relation("doc", "allowed");
    let (object, subject, kind) = (world.object("doc:1"), world.subject("user:ann"), world.kind("user"));

    let mut objects = ListObjects::new(subject, relation);
    let Progress::Done(Err(error)) = objects.run(&world.scope(), &mut Memo::new(), &mut u64::MAX.clone())
    else {
        panic!("too many");
    };
    assert!(is_cut(error));
    assert_eq!(objects.take_found().len(), 20);

    let mut subjects = ListSubjects::new(object, relation, kind);
    let Progress::Done(Err(error)) = subjects.run(&world.scope(), &mut u64::MAX.clone()) else {
        panic!("too many")
    };
    assert!(is_cut(error));
    assert_eq!(subjects.take_found().len(), 20);

    let Progress::Done(Err(error)) = Expand::new(object, relation).run(&world.scope(), &mut u64::MAX.clone())
    else {
        panic!("too many");
    };
    assert!(is_too_large(error));
}

/// A relation whose tuples have all expired, or are of a condition that its schema has dropped,
/// is work for whoever asks until they are swept away.
#[test]
fn tuples_that_do_not_count_are_work() {
    let mut tuples: Vec<String> =
        (0..500).map(|i| format!("doc:1#allowed@group:{i}#member with gone")).collect();
    tuples.extend((0..500).map(|i| format!("doc:{i}#allowed@user:ann with gone")));
    tuples.push("doc:1#allowed@group:500#member".to_owned());
    tuples.push("group:500#member@user:bob".to_owned());
    let mut world = World::new(SCHEMA, &tuples);
    assert_eq!(world.check("doc:1#allowed@user:bob"), "yes");
    assert_eq!(world.check("doc:1#allowed@user:ann"), "no");

    let mut world = World::new(SCHEMA, &tuples).with_limits(Limits { edges: 400, ..Limits::default() });
    let is_cut =
        |error| matches!(error, EngineError::LimitExceeded { limit: LimitKind::Edges, allowed: 400, .. });
    let answer = world.check("doc:1#allowed@user:bob");
    assert!(answer.starts_with("error: the search exceeded its limit of 400 tuples"), "{answer}");
    let relation = world.relation("doc", "allowed");
    let (object, subject) = (world.object("doc:1"), world.subject("user:ann"));
    let Progress::Done(Err(error)) =
        ListObjects::new(subject, relation).run(&world.scope(), &mut Memo::new(), &mut u64::MAX.clone())
    else {
        panic!("too much");
    };
    assert!(is_cut(error));
    let Progress::Done(Err(error)) = Expand::new(object, relation).run(&world.scope(), &mut u64::MAX.clone())
    else {
        panic!("too much");
    };
    assert!(is_cut(error));
}

/// `ListSubjects` looks at everything, so what lies too deep is an error.
#[test]
fn subjects_too_deep_are_an_error() {
    let mut world = World::new(SCHEMA, chain(25)).with_limits(Limits::openfga());
    let (object, relation, kind) =
        (world.object("doc:1"), world.relation("doc", "viewer"), world.kind("user"));
    let Progress::Done(outcome) =
        ListSubjects::new(object, relation, kind).run(&world.scope(), &mut u64::MAX.clone())
    else {
        panic!("in one piece");
    };
    assert_eq!(outcome.expect_err("too deep"), EngineError::DepthExceeded { limit: 25 });
}

/// Many gates subtract by a proof of their own that is found before a region they share runs dry.
/// What is false of the region must still be found out once, not once per gate.
#[test]
fn a_shared_subtract_is_explored_about_once() {
    let schema = "
type user
type group
  relations
    define member: [user, group#member]
type folder
  relations
    define parent: [folder]
    define listed: [user]
    define banned: [group#member]
    define viewer: (listed but not banned) or viewer from parent
";
    let (gates, region) = (100, 1_000);
    let mut tuples: Vec<String> =
        (0..region).map(|i| format!("group:hub#member@group:wide{i}#member")).collect();
    // Deep enough that the user is met only after most of the region.
    for i in 0..gates {
        tuples.push(format!("folder:{i}#parent@folder:{}", i + 1));
        tuples.push(format!("folder:{i}#listed@user:ann"));
        tuples.push(format!("folder:{i}#banned@group:hub#member"));
        tuples.push(format!("folder:{i}#banned@group:a{i}#member"));
        tuples.push(format!("group:a{i}#member@group:b{i}#member"));
        tuples.push(format!("group:b{i}#member@group:c{i}#member"));
        tuples.push(format!("group:c{i}#member@user:ann"));
    }
    let mut world = World::new(schema, tuples);
    let question = world.question("folder:0#viewer@user:ann");
    let answer = question.finish(&world.scope(), &mut Memo::new()).expect("an answer");
    assert_eq!(written(&answer.verdict), "no");
    assert!(answer.work.fuel < 30_000, "{:?}, and {} per gate if nothing is learnt", answer.work, region * 2);
}

/// Relations that each stand for all the others: as many goals as there are, and not as many as
/// there are ways around.
#[test]
fn a_ring_of_relations_costs_each_goal_once() {
    const RELATIONS: usize = 30;
    let mut schema = "type user\ntype doc\n  relations\n    define held: [user]\n".to_owned();
    for at in 0..RELATIONS {
        let others: Vec<String> =
            (0..RELATIONS).filter(|other| *other != at).map(|other| format!("r{other}")).collect();
        let last = if at == RELATIONS - 1 { " or held" } else { "" };
        let line = format!("    define r{at}: {}{last}\n", others.join(" or "));
        schema.push_str(&line);
    }
    for (subject, expected) in [("user:ann", "yes"), ("user:bob", "no")] {
        for at in [0, RELATIONS / 2, RELATIONS - 1] {
            let mut world = World::new(&schema, ["doc:1#held@user:ann", "doc:2#held@user:cem"]);
            let question = world.question(&format!("doc:1#r{at}@{subject}"));
            let answer = question.finish(&world.scope(), &mut Memo::new()).expect("an answer");
            assert_eq!(written(&answer.verdict), expected, "r{at} of {subject}");
            assert!(answer.work.goals < 100, "r{at} of {subject}: {:?}", answer.work);
        }
    }
}

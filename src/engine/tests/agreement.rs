//! On random worlds the searches agree with each other: lists with Check, the fast path with the
//! slow one, shared memos with fresh ones, any slice size with any other.

use std::collections::BTreeMap;
use std::sync::Arc;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use crate::condition::Required;
use crate::context::Context;
use crate::engine::testing::{World, written};
use crate::engine::{
    Check, Explain, Finding, Limits, ListObjects, ListRelations, ListSubjects, Memo, Progress,
};
use crate::graph::{Binding, Index, Ordinal, QuestionView, SubjectNode};
use crate::schema::rules::testing::{
    but_not, computed, intersection, relation, schema, this, through, union, unpruned,
};
use crate::schema::{RelationId, Rewrite, Rules, Schema, SubjectKind};
use crate::time::Timestamp;
use crate::tuple::{Object, Subject, Tuple, TupleCondition, TupleKey};

const TYPES: [&str; 2] = ["a", "b"];
const RELATIONS: [&str; 4] = ["r0", "r1", "r2", "r3"];
const OBJECTS: [&str; 3] = ["1", "2", "3"];
const USERS: [&str; 3] = ["x", "y", "z"];

/// Conditions whose outcome depends on nothing, on `n`, and on division by zero.
const CONDITIONS: &str = "model\n  schema 1.1\ntype user\n\
    condition yes(n: int) {\n  true\n}\n\
    condition no(n: int) {\n  false\n}\n\
    condition large(n: int) {\n  n > 10\n}\n\
    condition odd(m: int) {\n  m % 2 == 1\n}\n";

fn rewrite(random: &mut StdRng, depth: u32) -> Rewrite {
    let operands = |random: &mut StdRng| {
        (0..random.random_range(2..=3)).map(|_| rewrite(random, depth - 1)).collect::<Vec<_>>()
    };
    match random.random_range(0..if depth == 0 { 5 } else { 10 }) {
        0 | 1 => this(),
        2 | 3 => computed(RELATIONS.choose(random).expect("one")),
        4 => through(RELATIONS.choose(random).expect("one"), "parent"),
        5 | 6 => union(operands(random)),
        7 | 8 => intersection(operands(random)),
        _ => but_not(rewrite(random, depth - 1), rewrite(random, depth - 1)),
    }
}

pub(super) fn random_schema(random: &mut StdRng) -> Schema {
    let conditions = crate::schema::parse(CONDITIONS).expect("conditions").conditions;
    let with = |random: &mut StdRng, base: &str| match random.random_range(0..8) {
        0 => vec![format!("{base} with large"), base.to_owned()],
        1 => vec![format!("{base} with odd"), base.to_owned(), format!("{base} with yes")],
        2 => vec![format!("{base} with no"), base.to_owned()],
        _ => vec![base.to_owned()],
    };
    let mut types = vec![("user", Vec::new())];
    for object_type in TYPES {
        let parent = TYPES.choose(random).expect("one");
        let parents = with(random, parent);
        let parents: Vec<&str> = parents.iter().map(String::as_str).collect();
        let mut relations = vec![relation("parent", this(), &parents)];
        for name in RELATIONS {
            let mut restrictions = with(random, "user");
            if random.random_bool(0.3) {
                restrictions.extend(with(random, "user:*"));
            }
            for _ in 0..random.random_range(0..3) {
                let userset = format!(
                    "{}#{}",
                    TYPES.choose(random).expect("one"),
                    RELATIONS.choose(random).expect("one")
                );
                restrictions.extend(with(random, &userset));
            }
            let restrictions: Vec<&str> = restrictions.iter().map(String::as_str).collect();
            relations.push(relation(name, rewrite(random, 2), &restrictions));
        }
        types.push((object_type, relations));
    }
    Schema { conditions, ..schema(types) }
}

fn random_tuples(random: &mut StdRng, rules: &Rules) -> Vec<Tuple> {
    let mut tuples = Vec::new();
    for _ in 0..random.random_range(0..24) {
        let relation = rules.relations().choose(random).expect("one");
        let Some(way) = relation.allowed.choose(random) else { continue };
        let name = |id: u16| rules.types()[usize::from(id)].clone();
        let id = OBJECTS.choose(random).expect("one");
        let subject = match rules.subject_kind(way.kind) {
            SubjectKind::Object(kind) if name(kind.0).as_str() == "user" => {
                format!("user:{}", USERS.choose(random).expect("one"))
            }
            SubjectKind::Object(kind) => format!("{}:{id}", name(kind.0)),
            SubjectKind::Wildcard(kind) => format!("{}:*", name(kind.0)),
            SubjectKind::Userset(userset) => {
                let userset = rules.relation(userset);
                format!("{}:{id}#{}", name(userset.object_type.0), userset.name)
            }
        };
        let object = format!("{}:{}", name(relation.object_type.0), OBJECTS.choose(random).expect("one"));
        let key: TupleKey = format!("{object}#{}@{subject}", relation.name).parse().expect("a tuple");
        let mut tuple = Tuple::from(key);
        tuple.attributes.condition = way.condition.map(|id| {
            let name = rules.conditions()[usize::from(id.0)].name().clone();
            let json = if random.random_bool(0.2) { r#"{"n": 20}"# } else { "{}" };
            let json = if name.as_str() == "odd" { "{}" } else { json };
            TupleCondition { name, context: Arc::new(json.parse().expect("a context")) }
        });
        tuples.push(tuple);
    }
    tuples
}

pub(super) fn random_world(random: &mut StdRng) -> World {
    let rules = Arc::new(Rules::compile(&random_schema(random)));
    let mut index = Index::new();
    for tuple in random_tuples(random, &rules) {
        index.apply(&tuple.key, Some(&tuple.attributes)).expect("room");
    }
    let snapshot = index.snapshot();
    let binding = Arc::new(Binding::new(Arc::clone(&rules), &snapshot));
    let context: &str = ["{}", r#"{"n": 5}"#, r#"{"n": 15, "m": 3}"#].choose(random).expect("one");
    World {
        snapshot: snapshot.clone(),
        view: QuestionView::new(snapshot, binding, Timestamp::from_micros(0)),
        rules,
        context: context.parse::<Context>().expect("a context"),
        required: if random.random_bool(0.3) { Required::All } else { Required::Deciding },
        limits: Limits::default(),
    }
}

/// Every subject worth asking about, one that nothing names among them.
pub(super) fn subjects(world: &mut World) -> Vec<(String, SubjectNode)> {
    let mut texts: Vec<String> =
        USERS.iter().chain(&["nobody", "*"]).map(|user| format!("user:{user}")).collect();
    for (object_type, id) in TYPES.iter().flat_map(|one| OBJECTS.iter().map(move |id| (one, id))) {
        texts.extend(RELATIONS.iter().map(|relation| format!("{object_type}:{id}#{relation}")));
        texts.push(format!("{object_type}:{id}"));
    }
    texts
        .into_iter()
        .map(|text| {
            let subject: Subject = text.parse().expect("a subject");
            (text, world.view.subject(&subject).expect("a kind"))
        })
        .collect()
}

pub(super) fn objects(world: &mut World) -> Vec<(String, Ordinal, Vec<RelationId>)> {
    let mut found = Vec::new();
    for (object_type, id) in TYPES.iter().flat_map(|one| OBJECTS.iter().map(move |id| (one, id))) {
        let text = format!("{object_type}:{id}");
        let object: Object = text.parse().expect("an object");
        let type_id = world.rules.type_id(object_type).expect("a type");
        let relations = world.rules.relations_of(type_id).collect();
        found.push((text, world.view.object(&object), relations));
    }
    found
}

fn agree(seed: u64) {
    let random = &mut StdRng::seed_from_u64(seed);
    let mut world = random_world(random);
    let subjects = subjects(&mut world);
    let objects = objects(&mut world);
    let slice = *[1, 7, u64::MAX].choose(random).expect("one");
    let mut verdicts: BTreeMap<(Ordinal, RelationId, SubjectNode), String> = BTreeMap::new();

    for (subject_text, subject) in &subjects {
        let mut shared = Memo::new();
        for (object_text, object, relations) in &objects {
            let mut held = Vec::new();
            for relation in relations {
                let check = || Check::new(*object, *relation, *subject);
                let fresh = world.ask(check(), &mut Memo::new(), u64::MAX);
                let again = world.ask(check(), &mut shared, slice);
                let name = &world.rules.relation(*relation).name;
                let slow = world.ask(check().exhaustive(&world.rules), &mut Memo::new(), slice);
                assert!(
                    fresh == slow || (fresh.starts_with("error") && slow.starts_with("error")),
                    "seed {seed}: {object_text}#{name}@{subject_text}: {fresh}, slowly {slow}"
                );
                assert_eq!(fresh, again, "seed {seed}: {object_text}#{name}@{subject_text}, shared memo");
                if random.random_bool(0.05) {
                    explain(&world, Explain::new(*object, *relation, *subject), slice, &fresh);
                }
                if fresh != "no" {
                    held.push((*relation, fresh.clone()));
                }
                verdicts.insert((*object, *relation, *subject), fresh);
            }
            let object_type = world.rules.relation(relations[0]).object_type;
            let list = ListRelations::new(&world.rules, *object, object_type, *subject);
            let listed = list_relations(&world, list, slice);
            match held.iter().find(|(_, verdict)| verdict.starts_with("error")) {
                Some((_, error)) => {
                    assert_eq!(listed, Err(error.clone()), "seed {seed}: {object_text}@{subject_text}");
                }
                None => assert_eq!(listed, Ok(held), "seed {seed}: {object_text}@{subject_text}"),
            }
        }
    }
    for (subject_text, subject) in &subjects {
        // What lists have found out must not change what is answered after them.
        let mut memo = Memo::new();
        for relation in
            (0..world.rules.relations().len()).map(|id| RelationId(u16::try_from(id).expect("few")))
        {
            let mut expected: Vec<(Ordinal, String)> = verdicts
                .iter()
                .filter(|((_, of, by), verdict)| *of == relation && by == subject && *verdict != "no")
                .map(|((object, ..), verdict)| (*object, verdict.clone()))
                .collect();
            expected.sort();
            let listed = list_objects(&world, ListObjects::new(*subject, relation), &mut memo, slice);
            let name = &world.rules.relation(relation).name;
            for (object_text, object, relations) in &objects {
                if relations.contains(&relation) {
                    let checked = world.ask(Check::new(*object, relation, *subject), &mut memo, slice);
                    let expected = &verdicts[&(*object, relation, *subject)];
                    assert_eq!(
                        checked, *expected,
                        "seed {seed}: {object_text}#{name}@{subject_text}, after the list"
                    );
                }
            }
            match (expected.iter().any(|(_, verdict)| verdict.starts_with("error")), listed) {
                (true, listed) => assert!(listed.is_err(), "seed {seed}: {name} of {subject_text}"),
                (false, listed) => {
                    assert_eq!(listed, Ok(expected), "seed {seed}: objects {name} of {subject_text}");
                }
            }
        }
    }
    let mut kinds: Vec<_> = subjects.iter().map(|(_, subject)| subject.kind).collect();
    kinds.retain(|kind| !matches!(world.rules.subject_kind(*kind), SubjectKind::Wildcard(_)));
    kinds.sort();
    kinds.dedup();
    let nobody = world.subject("user:nobody");
    let everybody = world.subject("user:*");
    for (object_text, object, relations) in &objects {
        for (relation, kind) in
            relations.iter().flat_map(|relation| kinds.iter().map(move |kind| (relation, kind)))
        {
            let name = &world.rules.relation(*relation).name;
            let place = format!("seed {seed}: subjects of {object_text}#{name}, kind {kind:?}");
            let verdict = |subject: &SubjectNode| {
                verdicts.get(&(*object, *relation, *subject)).map_or("no", String::as_str)
            };
            let relevant = subjects.iter().filter(|(_, subject)| {
                subject.kind == *kind || (*kind == nobody.kind && subject.kind == everybody.kind)
            });
            if relevant.clone().any(|(_, subject)| verdict(subject).starts_with("error")) {
                // An error need not be met: nobody may be listed who depends on it.
                continue;
            }
            let listed =
                list_subjects(&world, ListSubjects::new(*object, *relation, *kind), slice).expect(&place);
            assert_eq!(verdict(&nobody), verdict(&everybody), "{place}: the wildcard stands for the unnamed");
            for (text, subject) in relevant {
                let expected = verdict(subject);
                let rest = listed.get(&everybody).map_or("no", String::as_str);
                let found = listed
                    .get(subject)
                    .map_or(if *kind == nobody.kind { rest } else { "no" }, String::as_str);
                assert_eq!(found, expected, "{place}: {text}");
            }
        }
    }
}

/// The explanation's answer is the Check's, every tuple it names exists, and a proof ends in
/// tuples and usersets that contain themselves.
fn explain(world: &World, mut explain: Explain, slice: u64, expected: &str) {
    let explanation = loop {
        match explain.run(&world.scope(), &mut slice.clone()) {
            Progress::Suspended => {}
            Progress::Done(Ok(explanation)) => break explanation,
            Progress::Done(Err(error)) => return assert_eq!(format!("error: {error}"), expected),
        }
    };
    let text = format!("{explanation:#?}");
    assert_eq!(written(&explanation.answer.verdict), expected, "{text}");
    let root = match expected {
        "yes" => Finding::Allowed,
        "no" => Finding::Denied,
        _ => Finding::Conditional,
    };
    let nodes = &explanation.nodes;
    assert_eq!(nodes[0].finding, root, "{text}");
    assert!(!explanation.truncated, "{text}");
    for (at, node) in nodes.iter().enumerate() {
        assert!(at == 0 || (node.parent as usize) < at, "{text}");
        if let Some(tuple) = &node.tuple {
            assert_eq!(world.snapshot.tuple(&tuple.key).as_ref(), Some(&tuple.attributes), "{text}");
        }
        let is_leaf = !nodes.iter().enumerate().any(|(child, one)| child > 0 && one.parent as usize == at);
        if node.finding == Finding::Allowed && is_leaf && node.same_as.is_none() {
            assert!(node.reason.contains("stored tuple") || node.reason.contains("itself"), "{text}");
        }
        if node.finding == Finding::Conditional && is_leaf && node.same_as.is_none() {
            assert!(!node.missing.is_empty(), "{text}");
        }
    }
    let mut missing: Vec<String> = nodes.iter().flat_map(|node| node.missing.clone()).collect();
    missing.sort();
    missing.dedup();
    if root == Finding::Conditional {
        assert_eq!(format!("needs {}", missing.join(", ")), expected, "{text}");
    }
}

fn list_relations(
    world: &World,
    mut list: ListRelations,
    slice: u64,
) -> Result<Vec<(RelationId, String)>, String> {
    let mut memo = Memo::new();
    loop {
        if let Progress::Done(found) = list.run(&world.scope(), &mut memo, &mut slice.clone()) {
            let found = found.map_err(|error| format!("error: {error}"))?;
            return Ok(found.into_iter().map(|one| (one.relation, written(&one.verdict))).collect());
        }
    }
}

fn list_objects(
    world: &World,
    mut list: ListObjects,
    memo: &mut Memo,
    slice: u64,
) -> Result<Vec<(Ordinal, String)>, String> {
    let mut found = Vec::new();
    loop {
        let progress = list.run(&world.scope(), memo, &mut slice.clone());
        found.extend(list.take_found().into_iter().map(|one| (one.object, written(&one.verdict))));
        if let Progress::Done(end) = progress {
            end.map_err(|error| format!("error: {error}"))?;
            found.sort();
            return Ok(found);
        }
    }
}

fn list_subjects(
    world: &World,
    mut list: ListSubjects,
    slice: u64,
) -> Result<BTreeMap<SubjectNode, String>, String> {
    let mut found = BTreeMap::new();
    loop {
        let progress = list.run(&world.scope(), &mut slice.clone());
        for one in list.take_found() {
            assert!(found.insert(one.subject, written(&one.verdict)).is_none(), "found twice");
        }
        if let Progress::Done(end) = progress {
            end.map_err(|error| format!("error: {error}"))?;
            return Ok(found);
        }
    }
}

/// A depth limit turns answers into errors and nothing else, whatever was asked before.
fn shallow(seed: u64) {
    let random = &mut StdRng::seed_from_u64(seed);
    let mut world = random_world(random);
    let (subjects, objects) = (subjects(&mut world), objects(&mut world));
    let slice = *[1, 7, u64::MAX].choose(random).expect("one");
    let depth = Some(random.random_range(1..5));
    for (subject_text, subject) in &subjects {
        let mut shared = Memo::new();
        for (object_text, object, relations) in &objects {
            for relation in relations {
                let check = || Check::new(*object, *relation, *subject);
                world.limits.depth = None;
                let deep = world.ask(check(), &mut Memo::new(), u64::MAX);
                world.limits.depth = depth;
                let fresh = world.ask(check(), &mut Memo::new(), u64::MAX);
                let again = world.ask(check(), &mut shared, slice);
                let name = &world.rules.relation(*relation).name;
                let place = format!("seed {seed}, depth {depth:?}: {object_text}#{name}@{subject_text}");
                assert_eq!(fresh, again, "{place}, shared memo");
                assert!(
                    fresh == deep || fresh.starts_with("error"),
                    "{place}: {fresh}, without limit {deep}"
                );
                if random.random_bool(0.05) {
                    explain(&world, Explain::new(*object, *relation, *subject), slice, &fresh);
                }
            }
        }
    }
}

/// Leaving out by type what cannot matter changes no answer.
#[test]
fn pruning_changes_nothing() {
    for seed in 0..worlds() {
        let mut world = random_world(&mut StdRng::seed_from_u64(seed));
        // The schema is the first thing drawn from a seed.
        let schema = random_schema(&mut StdRng::seed_from_u64(seed));
        let (pruned, whole) = (Arc::clone(&world.rules), Arc::new(unpruned(&schema)));
        let (subjects, objects) = (subjects(&mut world), objects(&mut world));
        for (subject_text, subject) in &subjects {
            for (object_text, object, relations) in &objects {
                for relation in relations {
                    let mut ask = |rules: &Arc<Rules>| {
                        world.rules = Arc::clone(rules);
                        world.ask(Check::new(*object, *relation, *subject), &mut Memo::new(), u64::MAX)
                    };
                    let place = format!("seed {seed}: {object_text}, {relation:?}, {subject_text}");
                    assert_eq!(ask(&pruned), ask(&whole), "{place}");
                }
            }
        }
    }
}

#[test]
fn depth_limits_only_turn_answers_into_errors() {
    for seed in 0..worlds() {
        shallow(seed);
    }
}

#[test]
fn searches_agree_on_random_worlds() {
    for seed in 0..worlds() {
        agree(seed);
    }
}

/// How many worlds: few unless asked for more.
fn worlds() -> u64 {
    std::env::var("RELATA_WORLDS").ok().and_then(|text| text.parse().ok()).unwrap_or(20)
}

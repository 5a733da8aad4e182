//! Laws of the graph, on random histories: against a list of tuples that knows nothing of ids.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;

use super::{Binding, Index, Met, Ordinal, QuestionView, Snapshot, View};
use crate::context::{Context, Value};
use crate::schema::{self, RelationId, Rules, SubjectKind};
use crate::time::Timestamp;
use crate::tuple::{Attributes, Subject, Tuple, TupleCondition, TupleKey};

const SCHEMA: &str = "model
  schema 1.1
type user
type group
  relations
    define member: [user, user:*, group#member, user with office]
type doc
  relations
    define parent: [doc]
    define owner: [user]
    define viewer: [user with office, group#member, group#member with office, user:* with home] or owner
condition office(x: int) {
  x < 10
}
condition home(x: int) {
  x > 10
}
";

/// The restrictions above once more, as (relation, kind of subject, condition).
const ALLOWED: &[(&str, &str, &str)] = &[
    ("group#member", "user", ""),
    ("group#member", "user:*", ""),
    ("group#member", "group#member", ""),
    ("group#member", "user", "office"),
    ("doc#parent", "doc", ""),
    ("doc#owner", "user", ""),
    ("doc#viewer", "user", "office"),
    ("doc#viewer", "group#member", ""),
    ("doc#viewer", "group#member", "office"),
    ("doc#viewer", "user:*", "home"),
];

const NOW: i64 = 100;

/// A store as a list: what every structure here must agree with.
type Model = BTreeMap<TupleKey, Attributes>;

/// A tuple and its state after a change.
type Step = (TupleKey, Option<Attributes>);

fn rules() -> Arc<Rules> {
    Arc::new(Rules::compile(&schema::parse(SCHEMA).expect("a schema")))
}

/// Tuples over few ids, so that histories meet themselves; some of them the schema forbids.
fn key() -> impl Strategy<Value = TupleKey> {
    let object = prop_oneof!["doc:[a-c]", "group:[a-c]", "folder:[a-b]"];
    let relation = prop_oneof![Just("member"), Just("viewer"), Just("owner"), Just("parent"), Just("extra")];
    let subject = prop_oneof![
        3 => "user:[a-c]",
        1 => Just("user:*".to_owned()),
        2 => "group:[a-c]#member",
        1 => "doc:[a-c]",
        1 => "doc:[a-c]#viewer",
        1 => Just("group:*".to_owned()),
    ];
    (object, relation, subject).prop_map(|(object, relation, subject)| {
        format!("{object}#{relation}@{subject}").parse().expect("a tuple")
    })
}

fn attributes() -> impl Strategy<Value = Attributes> {
    let value = prop_oneof![
        Just(Value::Int(1)),
        Just(Value::Double(f64::NAN)),
        Just(Value::Double(0.0)),
        Just(Value::Double(-0.0)),
        Just(Value::List(vec![Value::Map(BTreeMap::new()), Value::Null])),
    ];
    let condition = (prop_oneof![Just("office"), Just("home"), Just("gone")], value);
    let condition = prop_oneof![3 => Just(None), 2 => condition.prop_map(Some)];
    let expiry = prop_oneof![4 => Just(None), 1 => (NOW - 1..=NOW + 1).prop_map(Some)];
    (condition, expiry).prop_map(|(condition, expiry)| Attributes {
        condition: condition.map(|(name, value)| TupleCondition {
            name: name.parse().expect("a condition"),
            context: Arc::new(Context([("x".to_owned(), value)].into())),
        }),
        expires_at: expiry.map(Timestamp::from_micros),
    })
}

fn history() -> impl Strategy<Value = Vec<Step>> {
    let after = prop_oneof![2 => attributes().prop_map(Some), 1 => Just(None)];
    prop::collection::vec((key(), after), 0..60)
}

fn contextual() -> impl Strategy<Value = Vec<Tuple>> {
    prop::collection::vec((key(), attributes()), 0..6)
        .prop_map(|tuples| tuples.into_iter().map(|(key, attributes)| Tuple { key, attributes }).collect())
}

fn step(model: &mut Model, (key, after): &Step) {
    match after {
        Some(attributes) => model.insert(key.clone(), attributes.clone()),
        None => model.remove(key),
    };
}

/// Text forms, because a NaN does not equal itself.
fn text(key: &TupleKey, attributes: &Attributes) -> String {
    format!("{key} {attributes:?}")
}

fn assert_holds(snapshot: &Snapshot, model: &Model) {
    let stored: BTreeSet<String> =
        snapshot.tuples().map(|tuple| text(&tuple.key, &tuple.attributes)).collect();
    let expected: BTreeSet<String> = model.iter().map(|(key, attributes)| text(key, attributes)).collect();
    assert_eq!(stored, expected);
    assert_eq!(snapshot.len(), model.len());
    for (key, attributes) in model {
        let found = snapshot.tuple(key).map(|found| text(key, &found));
        assert_eq!(found, Some(text(key, attributes)));
    }
    let named: BTreeSet<String> = model
        .keys()
        .flat_map(|key| [Some(&key.object), node(&key.subject)])
        .flatten()
        .map(ToString::to_string)
        .collect();
    assert_eq!(snapshot.objects(), named.len(), "objects that no tuple names are forgotten");
}

fn node(subject: &Subject) -> Option<&crate::tuple::Object> {
    match subject {
        Subject::Object(object) | Subject::Userset(object, _) => Some(object),
        Subject::Wildcard(_) => None,
    }
}

/// What a question may see of a model, in text: key and attributes of every live, allowed tuple.
fn visible(model: &Model) -> BTreeSet<String> {
    model
        .iter()
        .filter(|(key, attributes)| {
            let relation = format!("{}#{}", key.object.object_type(), key.relation);
            let kind = match &key.subject {
                Subject::Object(object) => object.object_type().to_string(),
                Subject::Wildcard(name) => format!("{name}:*"),
                Subject::Userset(object, relation) => format!("{}#{relation}", object.object_type()),
            };
            let condition = attributes.condition.as_ref().map_or("", |condition| condition.name.as_str());
            let live = attributes.expires_at.is_none_or(|end| NOW < end.as_micros());
            live && ALLOWED.contains(&(relation.as_str(), kind.as_str(), condition))
        })
        .map(|(key, attributes)| text(key, attributes))
        .collect()
}

/// Everything a view shows, read in each of the three ways and from every place a scan can resume.
fn assert_shows(view: &mut QuestionView, model: &Model) {
    let expected = visible(model);
    let rules = Arc::clone(view.rules());
    let ids = ["a", "b", "c", "z"];
    let mut objects = Vec::new();
    for name in rules.types() {
        for id in ids {
            let object = format!("{name}:{id}").parse().expect("an object");
            objects.push((name.clone(), QuestionView::object(view, &object)));
        }
    }
    let (mut probed, mut from_objects, mut from_subjects) =
        (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for (id, relation) in rules.relations().iter().enumerate() {
        let relation_id = RelationId(u16::try_from(id).expect("few relations"));
        let object_type = &rules.types()[usize::from(relation.object_type.0)];
        for (_, object) in objects.iter().filter(|(name, _)| name == object_type) {
            for kind in 0..rules.kind_count() {
                let kind = crate::schema::KindId(u16::try_from(kind).expect("few kinds"));
                let (subject_type, make): (_, fn(_, _) -> Subject) = match rules.subject_kind(kind) {
                    SubjectKind::Object(id) => (id, |object, _| Subject::Object(object)),
                    SubjectKind::Userset(id) => {
                        let relation = &rules.relations()[usize::from(id.0)];
                        (relation.object_type, |object, relation: Option<_>| {
                            Subject::Userset(object, relation.expect("of a userset"))
                        })
                    }
                    SubjectKind::Wildcard(id) => (id, |object: crate::tuple::Object, _| {
                        Subject::Wildcard(object.object_type().clone())
                    }),
                };
                let userset = match rules.subject_kind(kind) {
                    SubjectKind::Userset(id) => Some(rules.relations()[usize::from(id.0)].name.clone()),
                    SubjectKind::Object(_) | SubjectKind::Wildcard(_) => None,
                };
                let subject_type = &rules.types()[usize::from(subject_type.0)];
                let tell = |view: &QuestionView, object: Ordinal, subject: Subject, edge: super::Edge| {
                    let key = TupleKey {
                        object: View::object(view, object),
                        relation: relation.name.clone(),
                        subject,
                    };
                    let carried = edge.attributes.map(|id| view.attributes(id).clone());
                    text(&key, &carried.unwrap_or_default())
                };

                for id in ids {
                    let object_name = format!("{subject_type}:{id}").parse().expect("an object");
                    let subject = make(object_name, userset.clone());
                    let node = view.subject(&subject).expect("a kind of the schema");
                    assert_eq!(node.kind, kind);
                    if let Some(edge) = view.probe(*object, relation_id, node) {
                        assert_eq!(edge.node, node.node);
                        probed.insert(tell(view, *object, subject.clone(), edge));
                    }
                    let held: Vec<_> =
                        view.holders(node, relation_id, Ordinal(0)).filter_map(Met::edge).collect();
                    assert!(held.is_sorted_by(|one, next| one.node < next.node));
                    for (skipped, edge) in held.iter().enumerate() {
                        from_subjects.insert(tell(view, edge.node, subject.clone(), *edge));
                        let rest: Vec<_> =
                            view.holders(node, relation_id, edge.node).filter_map(Met::edge).collect();
                        assert_eq!(rest, held[skipped..]);
                    }
                }

                let members: Vec<_> =
                    view.members(*object, relation_id, kind, Ordinal(0)).filter_map(Met::edge).collect();
                assert!(members.is_sorted_by(|one, next| one.node < next.node));
                for (skipped, edge) in members.iter().enumerate() {
                    let named = match rules.subject_kind(kind) {
                        SubjectKind::Wildcard(_) => format!("{subject_type}:z").parse().expect("an object"),
                        SubjectKind::Object(_) | SubjectKind::Userset(_) => View::object(view, edge.node),
                    };
                    from_objects.insert(tell(view, *object, make(named, userset.clone()), *edge));
                    let rest: Vec<_> =
                        view.members(*object, relation_id, kind, edge.node).filter_map(Met::edge).collect();
                    assert_eq!(rest, members[skipped..]);
                }
            }
        }
    }
    assert_eq!(probed, expected, "probe");
    assert_eq!(from_objects, expected, "members");
    assert_eq!(from_subjects, expected, "holders");
}

fn view(snapshot: &Snapshot) -> QuestionView {
    let binding = Arc::new(Binding::new(rules(), snapshot));
    QuestionView::new(snapshot.clone(), binding, Timestamp::from_micros(NOW))
}

fn over(model: &Model, contextual: &[Tuple]) -> Model {
    let mut model = model.clone();
    for tuple in contextual {
        model.insert(tuple.key.clone(), tuple.attributes.clone());
    }
    model
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    /// Fed step by step = built whole; a later change never touches an earlier snapshot.
    #[test]
    fn snapshots_are_what_was_applied_and_stay_so(history in history()) {
        let (mut index, mut model) = (Index::new(), Model::new());
        let mut past = vec![(index.snapshot(), model.clone())];
        for change in &history {
            index.apply(&change.0, change.1.as_ref()).expect("room");
            step(&mut model, change);
            past.push((index.snapshot(), model.clone()));
        }
        for (snapshot, model) in &past {
            assert_holds(snapshot, model);
        }
        let mut whole = Index::new();
        for (key, attributes) in &model {
            whole.apply(key, Some(attributes)).expect("room");
        }
        assert_holds(&whole.snapshot(), &model);
    }

    /// A load that reads any mixture of earlier and later states, and then replays all changes,
    /// ends where the history ends.
    #[test]
    fn replaying_changes_over_a_mixed_state_is_exact(history in history(), mixed in any::<u64>()) {
        let (mut index, mut model, mut seen) = (Index::new(), Model::new(), Model::new());
        for (at, change) in history.iter().enumerate() {
            step(&mut model, change);
            if mixed >> (at % 64) & 1 == 1 {
                step(&mut seen, change);
            }
        }
        for (key, attributes) in &seen {
            index.apply(key, Some(attributes)).expect("room");
        }
        for (key, after) in &history {
            index.apply(key, after.as_ref()).expect("room");
        }
        assert_holds(&index.snapshot(), &model);
    }

    /// A view shows the live, allowed tuples and nothing else, with and without contextual ones,
    /// which are seen exactly as if they were stored.
    #[test]
    fn a_view_shows_what_is_live_and_allowed(history in history(), contextual in contextual()) {
        let (mut index, mut model) = (Index::new(), Model::new());
        for change in &history {
            index.apply(&change.0, change.1.as_ref()).expect("room");
            step(&mut model, change);
        }
        let snapshot = index.snapshot();
        assert_shows(&mut view(&snapshot), &model);
        assert_shows(&mut view(&snapshot).with_contextual(&contextual), &over(&model, &contextual));
    }

    /// A snapshot with the changes after z undone shows what the snapshot at z showed, whichever
    /// way contextual tuples are added.
    #[test]
    fn undoing_changes_leads_back(
        history in history(),
        back in any::<prop::sample::Index>(),
        contextual in contextual(),
    ) {
        let (mut index, mut model) = (Index::new(), Model::new());
        let back = back.index(history.len() + 1);
        let (mut befores, mut then) = (Vec::new(), Model::new());
        for (at, change) in history.iter().enumerate() {
            if at == back {
                then = model.clone();
            }
            befores.push((change.0.clone(), model.get(&change.0).cloned()));
            index.apply(&change.0, change.1.as_ref()).expect("room");
            step(&mut model, change);
        }
        if back == history.len() {
            then = model.clone();
        }
        let undone = || befores[back..].iter().rev().map(|(key, before)| (key, before.as_ref()));
        let snapshot = index.snapshot();
        assert_shows(&mut view(&snapshot).with_undo(undone()), &then);
        let then = over(&then, &contextual);
        assert_shows(&mut view(&snapshot).with_undo(undone()).with_contextual(&contextual), &then);
        assert_shows(&mut view(&snapshot).with_contextual(&contextual).with_undo(undone()), &then);
    }
}

#[test]
fn a_binding_of_an_older_snapshot_is_renewed() {
    let mut index = Index::new();
    let empty = index.snapshot();
    let binding = Arc::new(Binding::new(rules(), &empty));
    let key: TupleKey = "doc:a#owner@user:a".parse().expect("a tuple");
    index.apply(&key, Some(&Attributes::default())).expect("room");
    let mut view = QuestionView::new(index.snapshot(), binding, Timestamp::from_micros(NOW));
    assert_shows(&mut view, &Model::from([(key, Attributes::default())]));
}

#[test]
fn unknown_objects_of_a_question_have_ordinals_of_their_own() {
    let mut index = Index::new();
    let key: TupleKey = "doc:a#owner@user:a".parse().expect("a tuple");
    index.apply(&key, Some(&Attributes::default())).expect("room");
    let mut view = view(&index.snapshot());
    let (known, one, other) = (
        QuestionView::object(&mut view, &"doc:a".parse().expect("an object")),
        QuestionView::object(&mut view, &"doc:x".parse().expect("an object")),
        QuestionView::object(&mut view, &"doc:y".parse().expect("an object")),
    );
    assert!(known < other && other < one, "counted down from the top");
    assert_eq!(QuestionView::object(&mut view, &"doc:x".parse().expect("an object")), one);
    assert_eq!(View::object(&view, other).to_string(), "doc:y");
    assert_eq!(view.subject(&"planet:mars".parse().expect("a subject")), None);
    assert_eq!(view.subject(&"user:a#member".parse().expect("a subject")), None);
}

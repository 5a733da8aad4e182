//! Expand and Explain, as a person reads them.

use crate::engine::testing::World;
use crate::engine::{Expand, Explain, Finding, Limits, Progress, UsersetNode, UsersetTree};

const SCHEMA: &str = "
type user
type group
  relations
    define member: [user, group#member]
type folder
  relations
    define parent: [folder]
    define viewer: [user, group#member] or viewer from parent
type doc
  relations
    define parent: [folder]
    define owner: [user, user with weekday]
    define blocked: [user]
    define signed: [user]
    define viewer: ([user, user:*] or owner or viewer from parent) but not blocked
    define editor: viewer and signed
condition weekday(day: string) {
  day != \"sunday\"
}
";

const TUPLES: [&str; 10] = [
    "doc:1#parent@folder:sub",
    "doc:1#parent@folder:other",
    "folder:sub#parent@folder:root",
    "folder:root#viewer@group:eng#member",
    "group:eng#member@user:ann",
    "group:eng#member@user:bob",
    "doc:1#blocked@user:bob",
    "doc:1#owner@user:cem with weekday",
    "doc:1#signed@user:ann",
    "doc:1#viewer@user:dan",
];

fn world() -> World {
    World::new(SCHEMA, TUPLES)
}

/// One line per node, indented.
fn tree(tree: &UsersetTree, depth: usize, lines: &mut Vec<String>) {
    let indent = "  ".repeat(depth);
    let mut push = |text: String| lines.push(format!("{indent}{text}"));
    match &tree.node {
        UsersetNode::Leaf(tuples) => {
            let tuples: Vec<String> = tuples
                .iter()
                .map(|tuple| match &tuple.attributes.condition {
                    None => tuple.key.subject.to_string(),
                    Some(condition) => format!("{} with {}", tuple.key.subject, condition.name),
                })
                .collect();
            push(format!("leaf {}", tuples.join(", ")));
        }
        UsersetNode::Computed(userset) => push(format!("computed {userset}")),
        UsersetNode::TupleToUserset { tupleset, computed } => {
            let computed: Vec<String> = computed.iter().map(ToString::to_string).collect();
            push(format!("{} from {tupleset}", computed.join(", ")));
        }
        UsersetNode::Union(operands) | UsersetNode::Intersection(operands) => {
            push(
                if matches!(tree.node, UsersetNode::Union(_)) { "union" } else { "intersection" }.to_owned(),
            );
            for operand in operands {
                self::tree(operand, depth + 1, lines);
            }
        }
        UsersetNode::Difference { base, subtract } => {
            push("difference".to_owned());
            self::tree(base, depth + 1, lines);
            self::tree(subtract, depth + 1, lines);
        }
    }
}

fn expand(world: &mut World, object: &str, relation: &str) -> String {
    let object_ = world.object(object);
    let relation = world.relation(object.split(':').next().expect("a type"), relation);
    let trees: Vec<UsersetTree> = [1, 7, u64::MAX]
        .into_iter()
        .map(|slice| {
            let mut search = Expand::new(object_, relation);
            loop {
                if let Progress::Done(found) = search.run(&world.scope(), &mut slice.clone()) {
                    return found.expect("within limits");
                }
            }
        })
        .collect();
    assert!(trees.iter().all(|tree| *tree == trees[0]), "any slice");
    let mut lines = Vec::new();
    tree(&trees[0], 0, &mut lines);
    lines.join("\n")
}

#[test]
fn expand_shows_one_level_as_it_was_written() {
    let world = &mut world();
    assert_eq!(
        expand(world, "doc:1", "viewer"),
        "difference\n\
         \x20 union\n\
         \x20   leaf user:dan\n\
         \x20   computed doc:1#owner\n\
         \x20   folder:sub#viewer, folder:other#viewer from doc:1#parent\n\
         \x20 computed doc:1#blocked"
    );
    assert_eq!(expand(world, "doc:1", "owner"), "leaf user:cem with weekday");
    assert_eq!(
        expand(world, "doc:1", "editor"),
        "intersection\n  computed doc:1#viewer\n  computed doc:1#signed"
    );
    assert_eq!(expand(world, "doc:nowhere", "owner"), "leaf ");
}

/// One line per node, indented: finding, goal, reason.
fn explain(world: &mut World, question: &str) -> String {
    let key: crate::tuple::TupleKey = question.parse().expect("a question");
    let relation = world.relation(key.object.object_type().as_str(), key.relation.as_str());
    let (object, subject) = (world.object(&key.object.to_string()), world.subject(&key.subject.to_string()));
    let mut search = Explain::new(object, relation, subject);
    let explanation = loop {
        if let Progress::Done(found) = search.run(&world.scope(), &mut 3) {
            break found.expect("an answer");
        }
    };
    let mut lines = Vec::new();
    // Depth first, as a tree is printed.
    let mut open = vec![(0, 0)];
    while let Some((at, depth)) = open.pop() {
        let node = &explanation.nodes[at];
        let finding = match node.finding {
            Finding::Allowed => "+",
            Finding::Denied => "-",
            Finding::Conditional => "?",
        };
        let missing =
            if node.missing.is_empty() { String::new() } else { format!(" [{}]", node.missing.join(", ")) };
        lines.push(format!("{}{finding} {}: {}{missing}", "  ".repeat(depth), node.goal, node.reason));
        let children = explanation.nodes.iter().enumerate().skip(1).rev();
        open.extend(
            children.filter(|(_, child)| child.parent as usize == at).map(|(child, _)| (child, depth + 1)),
        );
    }
    lines.join("\n")
}

#[test]
fn what_is_allowed_is_proved() {
    assert_eq!(
        explain(&mut world(), "doc:1#editor@user:ann"),
        "+ doc:1#editor: asked\n\
         \x20 + doc:1#signed: operand of `and`\n\
         \x20   + doc:1#signed@user:ann: stored tuple\n\
         \x20 + doc:1#viewer: operand of `and`\n\
         \x20   + doc:1#(owner or direct viewer or viewer from parent): base of `but not`\n\
         \x20     + folder:sub#viewer: through a stored tuple\n\
         \x20       + folder:root#viewer: through a stored tuple\n\
         \x20         + group:eng#member: through a stored tuple\n\
         \x20           + group:eng#member@user:ann: stored tuple\n\
         \x20   - doc:1#blocked: the subtract does not hold"
    );
}

#[test]
fn what_is_denied_says_what_was_tried() {
    assert_eq!(
        explain(&mut world(), "doc:1#editor@user:bob"),
        "- doc:1#editor: asked\n\
         \x20 - doc:1#signed: first operand of `and` that fails: no tuple leads to the subject"
    );
    assert_eq!(
        explain(&mut world(), "doc:1#viewer@user:bob"),
        "- doc:1#viewer: asked\n\
         \x20 + doc:1#blocked: excluded by `but not`\n\
         \x20   + doc:1#blocked@user:bob: stored tuple"
    );
}

#[test]
fn what_is_conditional_names_the_tuples() {
    assert_eq!(
        explain(&mut world(), "doc:1#viewer@user:cem"),
        "? doc:1#viewer: asked\n\
         \x20 ? doc:1#(owner or direct viewer or viewer from parent): base of `but not`\n\
         \x20   ? doc:1#owner: alternative\n\
         \x20     ? doc:1#owner@user:cem: the tuple's condition lacks parameters [day]"
    );
    let sunday = &mut world().with_context(r#"{"day": "sunday"}"#);
    assert_eq!(
        explain(sunday, "doc:1#owner@user:cem"),
        "- doc:1#owner: asked\n\
         \x20 - doc:1#owner@user:cem: the tuple's condition does not hold"
    );
}

/// Two groups that contain each other do not prove each other.
#[test]
fn a_proof_never_rests_on_itself() {
    let tuples =
        ["group:a#member@group:b#member", "group:b#member@group:a#member", "group:b#member@user:ann"];
    for limits in [Limits::default(), Limits::openfga()] {
        let world = &mut World::new(SCHEMA, tuples).with_limits(limits);
        assert_eq!(
            explain(world, "group:a#member@user:ann"),
            "+ group:a#member: asked\n\
             \x20 + group:b#member: through a stored tuple\n\
             \x20   + group:b#member@user:ann: stored tuple"
        );
        assert_eq!(
            explain(world, "group:a#member@user:bob"),
            "- group:a#member: asked\n\
             \x20 - group:b#member: through a stored tuple\n\
             \x20   - group:a#member: through a stored tuple"
        );
    }
}

#[test]
fn a_long_explanation_is_cut_and_says_so() {
    let tuples: Vec<String> = (0..50).map(|i| format!("group:{i}#member@group:{}#member", i + 1)).collect();
    let world = &mut World::new(SCHEMA, tuples);
    let (object, subject) = (world.object("group:0"), world.subject("user:ann"));
    let relation = world.relation("group", "member");
    let Progress::Done(Ok(explanation)) =
        Explain::new(object, relation, subject).with_max_nodes(10).run(&world.scope(), &mut u64::MAX.clone())
    else {
        panic!("an answer");
    };
    assert!(explanation.truncated);
    assert_eq!(explanation.nodes.len(), 10);
}

//! An explanation as a tree, whether a server gave it or the engine in this process.

use super::output::Output;
use super::tree::Tree;
use super::wire;
use crate::engine::{self, Finding};
use crate::proto::{self, Verdict};
use crate::store_file::tuple_text;

/// One node, as it is drawn.
struct Node {
    parent: u32,
    verdict: Verdict,
    goal: String,
    reason: String,
    tuple: Option<String>,
    missing: Vec<String>,
    explained_above: bool,
}

/// The lines of an explanation that a server gave.
pub fn answered(explanation: &proto::Explanation, out: &Output) -> Vec<String> {
    let nodes = explanation.nodes.iter().map(|node| Node {
        parent: node.parent,
        verdict: node.verdict(),
        goal: node.goal.clone(),
        reason: node.reason.clone(),
        tuple: node.tuple.as_ref().map(wire::tuple_text),
        missing: node.missing.clone(),
        explained_above: node.same_as.is_some(),
    });
    lines(nodes, explanation.truncated, out)
}

/// The lines of an explanation that the engine gave.
pub fn found(explanation: &engine::Explanation, out: &Output) -> Vec<String> {
    let nodes = explanation.nodes.iter().map(|node| Node {
        parent: node.parent,
        verdict: match node.finding {
            Finding::Allowed => Verdict::Allowed,
            Finding::Denied => Verdict::Denied,
            Finding::Conditional => Verdict::Conditional,
        },
        goal: node.goal.clone(),
        reason: node.reason.clone(),
        tuple: node.tuple.as_ref().map(tuple_text::print),
        missing: node.missing.clone(),
        explained_above: node.same_as.is_some(),
    });
    lines(nodes, explanation.truncated, out)
}

fn lines(nodes: impl Iterator<Item = Node>, truncated: bool, out: &Output) -> Vec<String> {
    let mut tree = Tree::default();
    for (number, node) in nodes.enumerate() {
        let parent = usize::try_from(node.parent).ok().filter(|parent| *parent < number);
        tree.add(parent, label(number, &node, out));
    }
    let mut lines = tree.lines();
    if truncated {
        lines.push(out.faint("… more was tried than is shown"));
    }
    lines
}

/// A node on one line: its mark, what it asks, and why it is so.
fn label(number: usize, node: &Node, out: &Output) -> String {
    let (goal, reason) = match &node.tuple {
        // A goal that is a tuple is shown with what the tuple carries.
        Some(tuple) if tuple.starts_with(&node.goal) => (tuple.as_str(), node.reason.clone()),
        Some(tuple) => (node.goal.as_str(), with_tuple(&node.reason, tuple)),
        // The root is the question itself.
        None if number == 0 => (node.goal.as_str(), String::new()),
        None => (node.goal.as_str(), node.reason.clone()),
    };
    let mut text = format!("{} {goal}", out.mark(node.verdict));
    if !reason.is_empty() {
        text = format!("{text}  {}", out.faint(&reason));
    }
    if !node.missing.is_empty() {
        text = format!("{text}  needs {}", node.missing.join(", "));
    }
    if node.explained_above {
        text = format!("{text}  {}", out.faint("(explained above)"));
    }
    text
}

/// `through a stored tuple: …` with the tuple where it is spoken of.
fn with_tuple(reason: &str, tuple: &str) -> String {
    match reason.split_once(" tuple") {
        Some((kind, rest)) => format!("{kind} tuple {tuple}{rest}"),
        None => format!("{reason} {tuple}"),
    }
}

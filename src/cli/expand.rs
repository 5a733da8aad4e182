//! `relata expand`: the rule of a relation with the stored tuples as its leaves.

use clap::Args;
use serde_json::{Value as Json, json};

use super::connect::Connection;
use super::exit::{Exit, Failure};
use super::output::{Format, Output};
use super::question::Question;
use super::settings::Settings;
use super::tree::Tree;
use super::wire;
use crate::proto::{self, UsersetTree, userset_tree::Node};

/// Show one level of how a relation comes about, with the stored tuples as leaves.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  relata expand doc:plan viewer
  relata expand doc:plan viewer --output json")]
pub struct Expand {
    /// Object, `type:id`.
    object: String,
    /// Relation.
    relation: String,
    #[command(flatten)]
    question: Question,
}

impl Expand {
    pub(super) async fn run(self, settings: &Settings, out: &mut Output) -> Result<Exit, Failure> {
        let request = proto::ExpandRequest {
            store: settings.store.clone(),
            consistency: self.question.consistency(),
            contextual_tuples: self.question.contextual_tuples()?,
            schema_id: self.question.schema_id,
            object: self.object,
            relation: self.relation,
        };
        let connection = Connection::open(settings).await?;
        let answer = connection.permissions().expand(connection.request(request)).await?.into_inner();
        let root = wire::required(answer.tree, "tree")?;
        match out.format {
            Format::Table => drawn(&root).lines().into_iter().try_for_each(|line| out.line(line))?,
            Format::Json | Format::Jsonl => {
                out.json(&json!({ "tree": tree_json(&root), "zookie": answer.zookie }))?;
            }
        }
        Ok(Exit::Success)
    }
}

/// The tree as lines. Messages nest at most 100 deep, which the decoder sees to; a worklist
/// costs no more than recursion.
fn drawn(root: &UsersetTree) -> Tree {
    let mut tree = Tree::default();
    let mut open = vec![(None, root, "")];
    while let Some((parent, node, role)) = open.pop() {
        let here = tree.add(parent, format!("{role}{}", label(node)));
        match &node.node {
            Some(Node::Leaf(leaf)) => {
                for tuple in &leaf.tuples {
                    tree.add(Some(here), subject_text(tuple));
                }
            }
            Some(Node::TupleToUserset(through)) => {
                for userset in &through.computed {
                    tree.add(Some(here), userset.as_str());
                }
            }
            Some(Node::Union(operands) | Node::Intersection(operands)) => {
                open.extend(operands.operands.iter().rev().map(|operand| (Some(here), operand, "")));
            }
            Some(Node::Difference(difference)) => {
                let parts = [(difference.subtract.as_deref(), "but not: "), (difference.base.as_deref(), "")];
                open.extend(parts.into_iter().filter_map(|(part, role)| Some((Some(here), part?, role))));
            }
            Some(Node::Computed(_)) | None => {}
        }
    }
    tree
}

fn label(node: &UsersetTree) -> String {
    match &node.node {
        Some(Node::Leaf(leaf)) if leaf.tuples.is_empty() => format!("{} directly: nobody", node.userset),
        Some(Node::Leaf(_)) => format!("{} directly", node.userset),
        Some(Node::Computed(userset)) => userset.clone(),
        Some(Node::TupleToUserset(through)) if through.computed.is_empty() => {
            format!("through {}: nothing", through.tupleset)
        }
        Some(Node::TupleToUserset(through)) => format!("through {}", through.tupleset),
        Some(Node::Union(_)) => format!("{}: any of", node.userset),
        Some(Node::Intersection(_)) => format!("{}: all of", node.userset),
        Some(Node::Difference(_)) => format!("{}: the first but not the second", node.userset),
        None => node.userset.clone(),
    }
}

/// The subject of a leaf with what its tuple carries.
fn subject_text(tuple: &proto::Tuple) -> String {
    let text = wire::tuple_text(tuple);
    let key = wire::key_text(tuple);
    format!("{}{}", tuple.subject, text.strip_prefix(&key).unwrap_or_default())
}

/// The tree as JSON, nested as the API nests it.
fn tree_json(node: &UsersetTree) -> Json {
    let many = |operands: &[UsersetTree]| operands.iter().map(tree_json).collect::<Json>();
    let part = |part: &Option<Box<UsersetTree>>| part.as_deref().map(tree_json);
    let (kind, value) = match &node.node {
        Some(Node::Leaf(leaf)) => ("leaf", leaf.tuples.iter().map(wire::tuple_json).collect()),
        Some(Node::Computed(userset)) => ("computed", json!(userset)),
        Some(Node::TupleToUserset(through)) => {
            ("tuple_to_userset", json!({ "tupleset": through.tupleset, "computed": through.computed }))
        }
        Some(Node::Union(operands)) => ("union", many(&operands.operands)),
        Some(Node::Intersection(operands)) => ("intersection", many(&operands.operands)),
        Some(Node::Difference(difference)) => {
            ("difference", json!({ "base": part(&difference.base), "subtract": part(&difference.subtract) }))
        }
        None => ("none", Json::Null),
    };
    json!({ "userset": node.userset, kind: value })
}

//! Asks a slow question once more, to find out where its work goes.
//!
//! The same engine decides the same question at the same revision, over a view that counts the tuples
//! it hands out by relation. It is bounded by a fraction of what a question may cost: of one that
//! costs more, the beginning shows where the rest went.

use std::cell::Cell;
use std::fmt::Write as _;
use std::sync::Arc;

use super::witness::Trail;
use crate::engine::{
    EngineError, Explain, Explanation, ExplanationNode, Finding, Limits, ListObjects, ListRelations,
    ListSubjects, Memo, Progress, Scope,
};
use crate::graph::{AttributesId, Edge, Met, Ordinal, SubjectNode, View};
use crate::schema::{KindId, RelationId, Rules, TypeId};
use crate::server::journal::{Outline, Redactor, Retold};
use crate::tuple::{Attributes, Object, Tuple};

/// What asking once more may cost: a twentieth of what a question may.
const FUEL: u64 = 1_000_000;
/// Memory of its tables, in bytes.
const BYTES: u64 = 64 << 20;
/// Nodes of the explanation.
const NODES: usize = 30;
/// Relations that are named.
const RELATIONS: usize = 5;

/// How a question is asked again.
#[derive(Debug, Clone, Copy)]
pub(super) enum Replay {
    Check {
        object: Ordinal,
        relation: RelationId,
        subject: SubjectNode,
    },
    Objects {
        subject: SubjectNode,
        relation: RelationId,
    },
    Subjects {
        object: Ordinal,
        relation: RelationId,
        kind: KindId,
    },
    Relations {
        object: Ordinal,
        object_type: TypeId,
        subject: SubjectNode,
    },
    /// Not at all: one level of rewriting has no search behind it.
    Nothing,
}

/// A question that is to be asked again.
pub(super) struct Again {
    pub(super) trail: Arc<Trail>,
    pub(super) replay: Replay,
}

impl Retold for Again {
    fn outline(self: Box<Self>, redactor: Option<&Redactor>) -> Outline {
        let scope = self.trail.question.scope();
        let limits = Limits { fuel: FUEL, bytes: BYTES, ..scope.limits.clone() };
        let counted = Counted::over(scope.view, scope.rules);
        let scope = Scope {
            rules: scope.rules,
            view: &counted,
            context: scope.context,
            required: scope.required,
            limits: &limits,
        };
        let explanation = match self.replay {
            Replay::Check { object, relation, subject } => {
                explained(&scope, Explain::new(object, relation, subject), redactor)
            }
            Replay::Objects { subject, relation } => {
                let (mut list, mut memo) = (ListObjects::new(subject, relation), Memo::new());
                run_out(|fuel| done(list.run(&scope, &mut memo, fuel)))
            }
            Replay::Subjects { object, relation, kind } => {
                let mut list = ListSubjects::new(object, relation, kind);
                run_out(|fuel| done(list.run(&scope, fuel)))
            }
            Replay::Relations { object, object_type, subject } => {
                let mut list = ListRelations::new(scope.rules, object, object_type, subject);
                let mut memo = Memo::new();
                run_out(|fuel| done(list.run(&scope, &mut memo, fuel)))
            }
            Replay::Nothing => String::new(),
        };
        Outline { explanation, work: counted.most(scope.rules) }
    }
}

fn done<T>(progress: Progress<Result<T, EngineError>>) -> Result<(), EngineError> {
    match progress {
        Progress::Done(outcome) => outcome.map(drop),
        // The limit on fuel ends it before the fuel does.
        Progress::Suspended => Ok(()),
    }
}

/// Runs a list again. It has no tree: what it looked at says it.
fn run_out(list: impl FnOnce(&mut u64) -> Result<(), EngineError>) -> String {
    let mut fuel = u64::MAX;
    list(&mut fuel).err().as_ref().map_or_else(String::new, cut)
}

fn cut(error: &EngineError) -> String {
    match error {
        EngineError::LimitExceeded { .. } => format!("cut short: {error}; `work` is of that part"),
        EngineError::DepthExceeded { .. } | EngineError::Condition { .. } => "ends with an error".to_owned(),
    }
}

fn explained<V: View>(scope: &Scope<'_, V>, explain: Explain, redactor: Option<&Redactor>) -> String {
    let mut explain = explain.with_max_nodes(NODES);
    let mut fuel = u64::MAX;
    match explain.run(scope, &mut fuel) {
        Progress::Done(Ok(explanation)) => tree(&explanation, redactor),
        Progress::Done(Err(error)) => cut(&error),
        Progress::Suspended => String::new(),
    }
}

/// The tree, a line for each node, indented by its depth.
fn tree(explanation: &Explanation, redactor: Option<&Redactor>) -> String {
    let mut text = String::new();
    let mut depths: Vec<usize> = Vec::with_capacity(explanation.nodes.len());
    for (index, node) in explanation.nodes.iter().enumerate() {
        let parent = usize::try_from(node.parent).ok().filter(|parent| *parent < index);
        let depth = parent.and_then(|parent| depths.get(parent)).map_or(0, |depth| depth + 1);
        depths.push(depth);
        // Writing to a string does not fail.
        let _ = writeln!(text, "{:indent$}{}", "", line(node, redactor), indent = 2 * depth);
    }
    if explanation.truncated {
        text.push('…');
    }
    text.trim_end().to_owned()
}

fn line(node: &ExplanationNode, redactor: Option<&Redactor>) -> String {
    let word = match node.finding {
        Finding::Allowed => "allowed",
        Finding::Denied => "denied",
        Finding::Conditional => "conditional",
    };
    let goal = match (redactor, node.goal.split_once('#')) {
        (None, _) => node.goal.clone(),
        (Some(redactor), Some((object, rule))) => match rule.split_once('@') {
            Some((rule, subject)) => {
                format!("{}#{rule}@{}", redactor.node(object), redactor.node(subject))
            }
            None => format!("{}#{rule}", redactor.node(object)),
        },
        (Some(redactor), None) => redactor.node(&node.goal),
    };
    let tuple = node.tuple.as_ref().map_or(String::new(), |tuple| format!(" {}", stored(tuple, redactor)));
    format!("{word} {goal}: {}{tuple}", node.reason)
}

fn stored(tuple: &Tuple, redactor: Option<&Redactor>) -> String {
    let key = &tuple.key;
    match redactor {
        None => key.to_string(),
        Some(redactor) => {
            let (object, subject) = (key.object.to_string(), key.subject.to_string());
            format!("{}#{}@{}", redactor.node(&object), key.relation, redactor.node(&subject))
        }
    }
}

/// A view that counts what it is asked for, by relation.
struct Counted<'a, V> {
    view: &'a V,
    tuples: Vec<Cell<u64>>,
}

impl<'a, V: View> Counted<'a, V> {
    fn over(view: &'a V, rules: &Rules) -> Self {
        Self { view, tuples: vec![Cell::new(0); rules.relations().len()] }
    }

    fn count(&self, RelationId(relation): RelationId) {
        if let Some(count) = self.tuples.get(usize::from(relation)) {
            count.set(count.get().saturating_add(1));
        }
    }

    /// The relations most of whose tuples were looked at.
    fn most(&self, rules: &Rules) -> String {
        let mut counts: Vec<(u64, String)> = self
            .tuples
            .iter()
            .zip(rules.relations())
            .filter(|(count, _)| count.get() > 0)
            .map(|(count, relation)| {
                let of = rules.types().get(usize::from(relation.object_type.0));
                let of = of.map_or(String::new(), ToString::to_string);
                (count.get(), format!("{of}#{}", relation.name))
            })
            .collect();
        counts.sort_by(|(one, a), (other, b)| other.cmp(one).then_with(|| a.cmp(b)));
        let named: Vec<String> =
            counts.iter().take(RELATIONS).map(|(count, name)| format!("{name} {count}")).collect();
        named.join(", ")
    }
}

impl<V: View> View for Counted<'_, V> {
    fn probe(&self, object: Ordinal, relation: RelationId, subject: SubjectNode) -> Option<Edge> {
        self.count(relation);
        self.view.probe(object, relation, subject)
    }

    fn members(
        &self,
        object: Ordinal,
        relation: RelationId,
        kind: KindId,
        from: Ordinal,
    ) -> impl Iterator<Item = Met> {
        self.view.members(object, relation, kind, from).inspect(move |_| self.count(relation))
    }

    fn holders(
        &self,
        subject: SubjectNode,
        relation: RelationId,
        from: Ordinal,
    ) -> impl Iterator<Item = Met> {
        self.view.holders(subject, relation, from).inspect(move |_| self.count(relation))
    }

    fn attributes(&self, id: AttributesId) -> &Attributes {
        self.view.attributes(id)
    }

    fn object(&self, ordinal: Ordinal) -> Object {
        self.view.object(ordinal)
    }
}

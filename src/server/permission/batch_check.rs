//! `BatchCheck`: many questions at one revision.

use std::collections::HashMap;
use std::iter::Enumerate;
use std::vec::IntoIter;

use super::question::{Asked, Question, wire_verdict};
use super::witness::Witness;
use crate::engine::{Check, CheckAnswer, EngineError, Memo, Progress};
use crate::graph::{Ordinal, SubjectNode};
use crate::metrics::Search;
use crate::proto;
use crate::schema::RelationId;
use crate::server::call::Call;
use crate::server::convert::at_most;
use crate::server::journal::Matter;
use crate::server::node::Node;
use crate::server::search::{Meter, Slice};
use crate::server::status::{Error, Reason};
use crate::server::{convert, search};

/// What reading one item costs: about as much as so many goals.
const ITEM_FUEL: u64 = 5;

pub(super) async fn batch_check(
    node: &Node,
    call: &Call,
    request: proto::BatchCheckRequest,
) -> Result<proto::BatchCheckResponse, Error> {
    at_most("items", request.items.len(), node.config().limits.batch_items, "items")?;
    if request.items.is_empty() {
        return Err(Error::field("items", Reason::InvalidField, "nothing to check"));
    }
    let mut witness = Witness::begin(node, call, Matter::Batch { items: request.items.len() });
    // Reading the items takes them apart.
    let items = if witness.wants_items() { request.items.clone() } else { Vec::new() };
    let outcome = answer(node, call, request, &mut witness).await;
    match &outcome {
        Ok(answer) => witness.items(items, &answer.results),
        Err(error) => witness.end(Err(error)),
    }
    outcome
}

async fn answer(
    node: &Node,
    call: &Call,
    request: proto::BatchCheckRequest,
    witness: &mut Witness,
) -> Result<proto::BatchCheckResponse, Error> {
    let replica = node.replica(call).await?;
    let asked = Asked {
        consistency: request.consistency,
        schema_id: request.schema_id,
        context: request.context,
        contextual_tuples: request.contextual_tuples,
    };
    let mut question = Question::new(node, call, &replica, asked).await?;
    let zookie = std::mem::take(&mut question.zookie);
    witness.at(&question);

    let mut batch = Batch::new(request.items);
    let meter = Meter::new(node, call, replica.store(), Search::BatchCheck);
    let (results, costliest) = search::run(meter, move |fuel| batch.run(&mut question, fuel)).await?;
    witness.costliest(costliest);
    Ok(proto::BatchCheckResponse { results, zookie })
}

#[derive(Debug, Clone, Copy)]
struct Goal {
    object: Ordinal,
    relation: RelationId,
    subject: SubjectNode,
}

fn goal(question: &mut Question, item: &proto::BatchCheckItem) -> Result<Goal, Error> {
    let (object, relation) =
        question.goal(&convert::object(&item.object)?, &convert::relation(&item.relation)?)?;
    let subject = question.subject(&convert::subject(&item.subject)?)?;
    Ok(Goal { object, relation, subject })
}

/// An error of one item: the batch goes on.
fn failed(error: &Error) -> proto::BatchCheckResult {
    let row = error.row();
    let error = proto::ItemError {
        code: row.code.into(),
        reason: row.reason.as_str().to_owned(),
        message: row.message.into_owned(),
    };
    proto::BatchCheckResult { error: Some(error), ..Default::default() }
}

fn answered(answer: Result<CheckAnswer, EngineError>) -> proto::BatchCheckResult {
    match answer {
        Ok(answer) => {
            let (verdict, missing) = wire_verdict(answer.verdict);
            proto::BatchCheckResult { verdict: verdict.into(), missing, error: None }
        }
        Err(error) => failed(&Error::Engine(error)),
    }
}

/// All items, those of one subject together: they share what is known of it.
struct Batch {
    /// Items still to be read, with their indexes.
    unread: Enumerate<IntoIter<proto::BatchCheckItem>>,
    /// By subject, in the order of their first mention.
    groups: Vec<Vec<(usize, Goal)>>,
    by_subject: HashMap<SubjectNode, usize>,
    memo: Memo,
    running: Option<(usize, Check)>,
    results: Vec<proto::BatchCheckResult>,
    /// The item that cost most, and its fuel. Those that were found out on the way cost nothing.
    costliest: Option<(usize, u64)>,
}

/// What became of the items, and which of them cost most.
type Answered = (Vec<proto::BatchCheckResult>, Option<(usize, u64)>);

impl Batch {
    fn new(items: Vec<proto::BatchCheckItem>) -> Self {
        Self {
            results: vec![proto::BatchCheckResult::default(); items.len()],
            unread: items.into_iter().enumerate(),
            groups: Vec::new(),
            by_subject: HashMap::new(),
            memo: Memo::new(),
            running: None,
            costliest: None,
        }
    }

    /// Reading thousands of names takes its time too, so it is part of the search.
    fn run(&mut self, question: &mut Question, fuel: &mut u64) -> Slice<Answered> {
        while *fuel > 0 {
            let Some((index, item)) = self.unread.next() else { break };
            *fuel = fuel.saturating_sub(ITEM_FUEL);
            match goal(question, &item) {
                Ok(goal) => self.add(index, goal),
                Err(error) => self.put(index, failed(&error)),
            }
        }
        if self.unread.len() > 0 {
            return Progress::Suspended;
        }
        let scope = question.scope();
        loop {
            let Some((index, mut check)) = self.running.take().or_else(|| self.next()) else {
                return Progress::Done(Ok((std::mem::take(&mut self.results), self.costliest)));
            };
            match check.run(&scope, &mut self.memo, fuel) {
                Progress::Done(answer) => {
                    self.weigh(index, &answer);
                    self.put(index, answered(answer));
                }
                Progress::Suspended => {
                    self.running = Some((index, check));
                    return Progress::Suspended;
                }
            }
        }
    }

    fn weigh(&mut self, index: usize, answer: &Result<CheckAnswer, EngineError>) {
        let fuel = match answer {
            Ok(answer) => answer.work.fuel,
            Err(EngineError::LimitExceeded { work, .. }) => work.fuel,
            Err(EngineError::DepthExceeded { .. } | EngineError::Condition { .. }) => 0,
        };
        if self.costliest.is_none_or(|(_, most)| fuel > most) {
            self.costliest = Some((index, fuel));
        }
    }

    fn put(&mut self, index: usize, result: proto::BatchCheckResult) {
        if let Some(place) = self.results.get_mut(index) {
            *place = result;
        }
    }

    fn add(&mut self, index: usize, goal: Goal) {
        let group = *self.by_subject.entry(goal.subject).or_insert(self.groups.len());
        match self.groups.get_mut(group) {
            Some(items) => items.push((index, goal)),
            None => self.groups.push(vec![(index, goal)]),
        }
    }

    /// The next item: the last one of the last group. A group that is done takes its memo along,
    /// so that memory holds what is known of one subject and not of thousands.
    fn next(&mut self) -> Option<(usize, Check)> {
        loop {
            if let Some((index, Goal { object, relation, subject })) = self.groups.last_mut()?.pop() {
                return Some((index, Check::new(object, relation, subject)));
            }
            self.groups.pop();
            self.memo = Memo::new();
        }
    }
}

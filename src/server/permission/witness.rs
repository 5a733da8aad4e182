//! Sees a question from its beginning to its end, however it ends, and tells the journal.
//!
//! A witness that is dropped before it was told of an end has seen a question that was given up: its
//! caller went away, or its deadline passed. Those are the ones worth hearing of.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::question::Question;
use super::replay::{Again, Replay};
use crate::proto;
use crate::revision::Revision;
use crate::server::call::Call;
use crate::server::journal::{Decision, Journal, Matter, Retold, SlowQuestion};
use crate::server::machine;
use crate::server::node::Node;
use crate::server::status::Error;

/// A question that is asked, and what its search has used so far.
pub(super) struct Trail {
    pub(super) question: Question,
    fuel: AtomicU64,
}

impl Trail {
    /// Runs a slice of a search, and takes note of what it used.
    pub(super) fn follow<T>(&self, fuel: &mut u64, slice: impl FnOnce(&Question, &mut u64) -> T) -> T {
        let allowed = *fuel;
        let outcome = slice(&self.question, fuel);
        self.fuel.fetch_add(allowed.saturating_sub(*fuel), Ordering::Relaxed);
        outcome
    }
}

/// What an answer came to.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub(super) word: &'static str,
    pub(super) missing: Vec<String>,
    pub(super) results: Option<u64>,
}

impl Answer {
    pub(super) fn verdict(verdict: i32, missing: &[String]) -> Self {
        let word = match proto::Verdict::try_from(verdict) {
            Ok(proto::Verdict::Allowed) => "allowed",
            Ok(proto::Verdict::Denied) => "denied",
            Ok(proto::Verdict::Conditional) => "conditional",
            Ok(proto::Verdict::Unspecified) | Err(_) => "error",
        };
        Self { word, missing: missing.to_vec(), results: None }
    }

    /// A list that came to its end.
    pub(super) fn complete(results: usize) -> Self {
        Self { word: "complete", missing: Vec::new(), results: u64::try_from(results).ok() }
    }
}

/// Sees one question.
pub(super) struct Witness {
    /// Absent where nobody wants to know, and after the end.
    journal: Option<Arc<Journal>>,
    method: &'static str,
    store: Arc<str>,
    principal: Arc<str>,
    trace: Option<Arc<str>>,
    pub(super) matter: Matter,
    begun: Instant,
    waited: Option<Duration>,
    /// How long a list was searched, without the time its reader took.
    searched: Option<Duration>,
    revision: Option<Revision>,
    again: Option<(Arc<Trail>, Replay)>,
    results: usize,
    costliest: Option<(usize, u64)>,
}

impl Witness {
    /// Of a question that begins now.
    pub(super) fn begin(node: &Node, call: &Call, matter: Matter) -> Self {
        let journal = Some(node.journal()).filter(|journal| journal.is_wanted()).cloned();
        Self {
            journal,
            method: call.method,
            store: call.store().cloned().unwrap_or_default(),
            principal: Arc::clone(&call.principal),
            trace: call.trace.clone(),
            matter,
            begun: Instant::now(),
            waited: None,
            searched: None,
            revision: None,
            again: None,
            results: 0,
            costliest: None,
        }
    }

    /// Whether each item of a batch is to be told of.
    pub(super) fn wants_items(&self) -> bool {
        self.journal.as_ref().is_some_and(|journal| journal.decisions.is_some())
    }

    /// Takes note that the store is in memory and has the revision.
    pub(super) fn at(&mut self, question: &Question) {
        self.waited = Some(self.begun.elapsed());
        self.revision = Some(question.pin.revision);
    }

    /// As [`Self::at`], and how the question can be asked again.
    pub(super) fn follows(&mut self, question: Question, replay: Replay) -> Arc<Trail> {
        self.at(&question);
        let trail = Arc::new(Trail { question, fuel: AtomicU64::new(0) });
        if self.journal.as_ref().is_some_and(|journal| journal.slow.is_some()) {
            self.again = Some((Arc::clone(&trail), replay));
        }
        trail
    }

    /// Takes note of how long a list was searched for its next results, and how many there were.
    pub(super) fn found(&mut self, took: Duration, results: usize) {
        self.results += results;
        self.searched = Some(self.searched.unwrap_or_default() + took);
    }

    /// Takes note of the item of a batch that cost most.
    pub(super) fn costliest(&mut self, item: Option<(usize, u64)>) {
        self.costliest = item;
    }

    /// Goes on with what went well; otherwise the question was refused.
    pub(super) fn pass<T>(self, outcome: Result<T, Error>) -> Result<(Self, T), Error> {
        match outcome {
            Ok(value) => Ok((self, value)),
            Err(error) => {
                self.end(Err(&error));
                Err(error)
            }
        }
    }

    /// The question was answered, or refused.
    pub(super) fn end(mut self, outcome: Result<Answer, &Error>) {
        self.tell(outcome);
    }

    /// A list came to its end.
    pub(super) fn complete(mut self) {
        let results = self.results;
        self.tell(Ok(Answer::complete(results)));
    }

    /// A batch was answered, item by item.
    pub(super) fn items(mut self, items: Vec<proto::BatchCheckItem>, results: &[proto::BatchCheckResult]) {
        let took = self.begun.elapsed();
        if let Some(journal) = &self.journal
            && let Some(decisions) = &journal.decisions
        {
            for (index, (item, result)) in items.into_iter().zip(results).enumerate() {
                if !decisions.wants() {
                    continue;
                }
                let proto::BatchCheckItem { object, relation, subject, .. } = item;
                let mut answer = Answer::verdict(result.verdict, &result.missing);
                let refused = result.error.as_ref();
                if refused.is_some() {
                    answer.word = "error";
                }
                let matter = Matter::Check { object, relation, subject };
                let reason = refused.map(|error| error.reason.clone().into());
                decisions.take(self.decision(matter, answer, reason, took, Some(index)));
            }
        }
        let answer = Answer::complete(results.len());
        self.slow(&answer, took);
        self.journal = None;
    }

    fn tell(&mut self, outcome: Result<Answer, &Error>) {
        if self.journal.is_none() {
            return;
        }
        let took = self.begun.elapsed();
        let (answer, reason) = match outcome {
            Ok(answer) => (answer, None),
            Err(error) => {
                (Answer { word: "error", ..Answer::default() }, Some(error.row().reason.as_str().into()))
            }
        };
        self.slow(&answer, self.searched.unwrap_or(took));
        let Some(journal) = self.journal.take() else { return };
        if let Some(decisions) = &journal.decisions
            && !matches!(self.matter, Matter::Expand { .. })
            && decisions.wants()
        {
            let matter = std::mem::replace(&mut self.matter, Matter::Batch { items: 0 });
            decisions.take(self.decision(matter, answer, reason, took, None));
        }
    }

    fn decision(
        &self,
        matter: Matter,
        answer: Answer,
        reason: Option<Cow<'static, str>>,
        took: Duration,
        item: Option<usize>,
    ) -> Decision {
        Decision {
            at: machine::now(),
            trace: self.trace.clone(),
            method: self.method,
            store: Arc::clone(&self.store),
            principal: Arc::clone(&self.principal),
            item,
            matter,
            answer: answer.word,
            missing: answer.missing,
            results: answer.results,
            reason,
            revision: self.revision,
            took,
        }
    }

    /// Tells of it if it took too long.
    fn slow(&mut self, answer: &Answer, took: Duration) {
        let Some(journal) = self.journal.clone() else { return };
        let Some(slow) = &journal.slow else { return };
        if !slow.is_slow(took) {
            return;
        }
        let again = self.again.take();
        let fuel = again.as_ref().map_or(0, |(trail, _)| trail.fuel.load(Ordering::Relaxed));
        let question = SlowQuestion {
            method: self.method,
            store: Arc::clone(&self.store),
            principal: Arc::clone(&self.principal),
            trace: self.trace.clone(),
            matter: self.matter.clone().bounded(),
            answer: answer.word,
            took,
            waited: self.waited,
            fuel,
            revision: self.revision,
            costliest: self.costliest,
        };
        let again = again.filter(|(_, replay)| !matches!(replay, Replay::Nothing));
        slow.take(
            question,
            again.map(|(trail, replay)| Box::new(Again { trail, replay }) as Box<dyn Retold>),
        );
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.tell(Ok(Answer { word: "unanswered", ..Answer::default() }));
    }
}

//! A warning for each question that took too long, with where the time and the work went.
//!
//! Why a search was long is not collected while it runs: that would cost every question something. It
//! is asked once more instead, after the answer has gone out, by one thread of the lowest priority,
//! within a fraction of what a question may cost. So a slow question is logged a moment after it
//! was answered, and a flood of them costs one thread that gives way to everybody else.

use std::fmt;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::JournalError;
use super::decision::{Matter, cut};
use super::redact::Redactor;
use crate::metrics::Metrics;
use crate::revision::Revision;

/// Slow questions that wait to be looked into. Each holds a snapshot.
const WAITING: usize = 8;
/// How long one may wait; after that it is logged without, so that its snapshot is let go.
const PATIENCE: Duration = Duration::from_secs(30);
/// Lines in a second; more are counted, and the next line says how many.
const LINES_PER_SECOND: u32 = 10;

/// A question that took too long.
#[derive(Debug)]
pub struct SlowQuestion {
    /// The method of the API.
    pub method: &'static str,
    /// The store, by name or id.
    pub store: Arc<str>,
    /// Who asked.
    pub principal: Arc<str>,
    /// The caller's trace.
    pub trace: Option<Arc<str>>,
    /// What was asked.
    pub matter: Matter,
    /// What was answered, as the decision log has it.
    pub answer: &'static str,
    /// How long it took.
    pub took: Duration,
    /// How long until the store was in memory and had the revision; absent if it did not come so far.
    pub waited: Option<Duration>,
    /// What the search used, as far as it came.
    pub fuel: u64,
    /// The revision that was asked.
    pub revision: Option<Revision>,
    /// Of a batch: the item that cost most, and what it cost.
    pub costliest: Option<(usize, u64)>,
}

/// What asking once more found out.
#[derive(Debug, Default)]
pub struct Outline {
    /// The tree behind the answer, or why there is none.
    pub explanation: String,
    /// Tuples looked at by relation, the most first.
    pub work: String,
}

/// Asks a question once more.
pub trait Retold: Send {
    /// Where its work goes, within bounds.
    fn outline(self: Box<Self>, redactor: Option<&Redactor>) -> Outline;
}

struct Job {
    question: SlowQuestion,
    again: Box<dyn Retold>,
    since: Instant,
}

/// Finds slow questions out.
pub struct SlowLog {
    limit: Duration,
    redactor: Option<Arc<Redactor>>,
    queue: SyncSender<Job>,
    pace: Mutex<Pace>,
    metrics: Arc<Metrics>,
}

impl fmt::Debug for SlowLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SlowLog").field("limit", &self.limit).finish_non_exhaustive()
    }
}

impl SlowLog {
    pub(super) fn start(
        limit: Duration,
        redactor: Option<Arc<Redactor>>,
        metrics: Arc<Metrics>,
    ) -> Result<Self, JournalError> {
        let (queue, waiting) = sync_channel(WAITING);
        let thread = thread::Builder::new().name("slow-questions".to_owned());
        let used = redactor.clone();
        // It ends with the last sender.
        thread.spawn(move || look_into(&waiting, used.as_deref())).map_err(JournalError::Start)?;
        Ok(Self { limit, redactor, queue, pace: Mutex::default(), metrics })
    }

    /// Whether so long is too long.
    #[must_use]
    pub fn is_slow(&self, took: Duration) -> bool {
        took >= self.limit
    }

    /// Logs a slow question, if there is a way to ask it again after looking into it.
    pub fn take(&self, question: SlowQuestion, again: Option<Box<dyn Retold>>) {
        self.metrics.journal.slow_questions.inc();
        let admitted = self.pace.lock().unwrap_or_else(PoisonError::into_inner).admit(Instant::now());
        let Some(left_out) = admitted else { return };
        if left_out > 0 {
            tracing::warn!(left_out, "more slow questions than are logged");
        }
        let without = |question: &SlowQuestion, why: &str| {
            let outline = Outline { explanation: why.to_owned(), work: String::new() };
            write(question, &outline, self.redactor.as_deref());
        };
        let Some(again) = again else { return without(&question, "") };
        match self.queue.try_send(Job { question, again, since: Instant::now() }) {
            Ok(()) => {}
            Err(TrySendError::Full(job) | TrySendError::Disconnected(job)) => {
                without(&job.question, "not looked into: too many slow questions at once");
            }
        }
    }
}

/// How many lines were written in this second.
#[derive(Debug, Default)]
struct Pace {
    second: Option<Instant>,
    lines: u32,
    left_out: u64,
}

impl Pace {
    /// Whether a line may be written, and then how many were left out before it.
    fn admit(&mut self, now: Instant) -> Option<u64> {
        if self.second.is_none_or(|second| now.duration_since(second) >= Duration::from_secs(1)) {
            self.second = Some(now);
            self.lines = 0;
        }
        if self.lines >= LINES_PER_SECOND {
            self.left_out += 1;
            return None;
        }
        self.lines += 1;
        Some(std::mem::take(&mut self.left_out))
    }
}

fn look_into(waiting: &Receiver<Job>, redactor: Option<&Redactor>) {
    give_way();
    while let Ok(Job { question, again, since }) = waiting.recv() {
        let outline = if since.elapsed() > PATIENCE {
            let explanation = "not looked into in time: too many slow questions at once".to_owned();
            Outline { explanation, work: String::new() }
        } else {
            again.outline(redactor)
        };
        write(&question, &outline, redactor);
    }
}

/// Lets all other threads of the process go first. On Linux a thread has a niceness of its own;
/// elsewhere it is the process's, and stays as it is.
fn give_way() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::nice(19) {
        tracing::debug!(%error, "slow questions are looked into at the usual priority");
    }
}

fn write(question: &SlowQuestion, outline: &Outline, redactor: Option<&Redactor>) {
    let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let principal = match redactor {
        Some(redactor) if !question.principal.is_empty() => redactor.hash(&question.principal),
        _ => question.principal.to_string(),
    };
    let (costliest, costliest_fuel) = question.costliest.unzip();
    tracing::warn!(
        method = question.method,
        store = &*cut(Arc::clone(&question.store)),
        principal,
        trace = question.trace.as_deref(),
        question = question.matter.question(redactor),
        answer = question.answer,
        elapsed_ms = millis(question.took),
        waited_ms = question.waited.map(millis),
        fuel = question.fuel,
        revision = question.revision.map(|revision| revision.0),
        costliest_item = costliest,
        costliest_fuel,
        work = outline.work,
        explanation = outline.explanation,
        "a slow question"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_a_pace_and_those_left_out_are_told() {
        let mut pace = Pace::default();
        let begun = Instant::now();
        let admitted = (0..25).filter_map(|_| pace.admit(begun)).count();
        assert_eq!(admitted, usize::try_from(LINES_PER_SECOND).expect("small"));
        assert_eq!(pace.admit(begun + Duration::from_millis(999)), None);
        assert_eq!(pace.admit(begun + Duration::from_secs(1)), Some(16));
        assert_eq!(pace.admit(begun + Duration::from_secs(1)), Some(0));
    }
}

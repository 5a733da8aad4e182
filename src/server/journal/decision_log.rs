//! A line for each answer, written by a thread of its own from a queue with a bound.
//!
//! Whoever answers only puts the answer into the queue. When the disk is full, the pipe blocked, or
//! the thread slower than the answers come, answers are left out: the next line that gets through says
//! how many, and a metric counts them.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::task::AbortHandle;

use super::JournalError;
use super::decision::Decision;
use super::redact::Redactor;
use super::settings::{DecisionLogSettings, DecisionPlace};
use super::sink::{Sink, Unwritten};
use crate::metrics::Metrics;
use crate::server::machine;

/// Bytes written at once, at most about.
const CHUNK_BYTES: usize = 256 << 10;
/// How often a thread without work looks whether it is to end, or to tell what was left out.
const IDLE: Duration = Duration::from_millis(250);
/// How often the server's log says that lines cannot be written.
const COMPLAINTS: Duration = Duration::from_mins(1);

/// Takes answers, and writes them elsewhere.
pub struct DecisionLog {
    ratio: f64,
    queue: SyncSender<Decision>,
    shared: Arc<Shared>,
    /// Ends when the thread does.
    ended: Mutex<Receiver<()>>,
    /// Hears the signal to open the file anew.
    hearing: Option<AbortHandle>,
}

/// What the thread and those who answer share.
#[derive(Debug)]
struct Shared {
    metrics: Arc<Metrics>,
    /// Left out since a line last said so.
    lost: AtomicU64,
    renew: AtomicBool,
    closing: AtomicBool,
}

impl fmt::Debug for DecisionLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DecisionLog").field("ratio", &self.ratio).finish_non_exhaustive()
    }
}

impl DecisionLog {
    pub(super) fn start(
        settings: &DecisionLogSettings,
        redactor: Option<Arc<Redactor>>,
        metrics: Arc<Metrics>,
    ) -> Result<Self, JournalError> {
        let sink = Sink::open(settings.place.clone()).map_err(|source| match &settings.place {
            DecisionPlace::File(path) => JournalError::Open { path: path.clone(), source },
            DecisionPlace::Stdout => JournalError::Start(source),
        })?;
        let shared = Arc::new(Shared {
            metrics,
            lost: AtomicU64::new(0),
            renew: AtomicBool::new(false),
            closing: AtomicBool::new(false),
        });
        let (queue, waiting) = sync_channel(settings.queue);
        let (ending, ended) = sync_channel(1);
        let writer = Writer { waiting, sink, redactor, shared: Arc::clone(&shared), complained: None };
        let thread = thread::Builder::new().name("decision-log".to_owned());
        thread
            .spawn(move || {
                writer.run();
                // Nobody may wait for it.
                let _ = ending.try_send(());
            })
            .map_err(JournalError::Start)?;
        let hearing = match settings.place {
            DecisionPlace::Stdout => None,
            DecisionPlace::File(_) => hear(&shared),
        };
        Ok(Self { ratio: settings.ratio, queue, shared, ended: Mutex::new(ended), hearing })
    }

    /// Whether the next answer is one of those to be written.
    #[must_use]
    pub fn wants(&self) -> bool {
        self.ratio >= 1.0 || rand::random::<f64>() < self.ratio
    }

    /// Takes an answer, or leaves it out when too many wait.
    pub fn take(&self, decision: Decision) {
        if self.queue.try_send(decision.bounded()).is_err() {
            self.shared.lose(1);
        }
    }

    /// Has what waits written, for at most so long. Blocks.
    pub(super) fn close(&self, patience: Duration) {
        if let Some(hearing) = &self.hearing {
            hearing.abort();
        }
        self.shared.closing.store(true, Ordering::Relaxed);
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        if ended.recv_timeout(patience) == Err(RecvTimeoutError::Timeout) {
            tracing::warn!("the decision log could not be written to its end");
        }
    }
}

impl Shared {
    fn lose(&self, lines: u64) {
        self.lost.fetch_add(lines, Ordering::Relaxed);
        self.metrics.journal.decisions_lost.inc_by(lines);
    }
}

/// Opens the file anew at SIGHUP, as tools expect that rotate logs.
#[cfg(unix)]
fn hear(shared: &Arc<Shared>) -> Option<AbortHandle> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut hangups = match signal(SignalKind::hangup()) {
        Ok(hangups) => hangups,
        Err(error) => {
            tracing::warn!(%error, "SIGHUP is not heard; a decision log that is moved away is noticed all the same");
            return None;
        }
    };
    let shared = Arc::clone(shared);
    let hearing = async move {
        while hangups.recv().await.is_some() {
            shared.renew.store(true, Ordering::Relaxed);
        }
    };
    Some(tokio::spawn(hearing).abort_handle())
}

#[cfg(not(unix))]
fn hear(_: &Arc<Shared>) -> Option<AbortHandle> {
    None
}

/// The thread.
struct Writer {
    waiting: Receiver<Decision>,
    sink: Sink,
    redactor: Option<Arc<Redactor>>,
    shared: Arc<Shared>,
    complained: Option<Instant>,
}

impl Writer {
    fn run(mut self) {
        loop {
            // Before the wait: what came until then is written before the thread ends.
            let closing = self.shared.closing.load(Ordering::Relaxed);
            let first = match self.waiting.recv_timeout(if closing { Duration::ZERO } else { IDLE }) {
                Ok(decision) => Some(decision),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return self.write(&[], 0),
            };
            let idle = first.is_none();
            let (text, lines) = self.chunk(first);
            self.write(&text, lines);
            if closing && idle {
                return;
            }
        }
    }

    /// What waits, as text, until it is enough for one write.
    fn chunk(&self, first: Option<Decision>) -> (Vec<u8>, u64) {
        let (mut text, mut lines) = (Vec::new(), 0);
        let mut next = first;
        while let Some(decision) = next {
            text.extend_from_slice(decision.line(self.redactor.as_deref()).to_string().as_bytes());
            text.push(b'\n');
            lines += 1;
            if text.len() >= CHUNK_BYTES {
                break;
            }
            next = self.waiting.try_recv().ok();
        }
        (text, lines)
    }

    /// Writes a chunk, and before it how many were left out since the last one.
    fn write(&mut self, text: &[u8], lines: u64) {
        let lost = self.shared.lost.swap(0, Ordering::Relaxed);
        if lost == 0 && lines == 0 {
            return;
        }
        if self.shared.renew.swap(false, Ordering::Relaxed) {
            self.sink.let_go();
        }
        if lost > 0 {
            let line = format!("{}\n", json!({ "at": machine::now().to_string(), "lost": lost }));
            if let Err(unwritten) = self.sink.write(line.as_bytes()) {
                // These are counted already, and told of later.
                self.shared.lost.fetch_add(lost, Ordering::Relaxed);
                if lines > 0 {
                    self.shared.lose(lines);
                }
                return self.complain(&unwritten);
            }
        }
        if text.is_empty() {
            return;
        }
        let unwritten = self.sink.write(text).err();
        let missed = unwritten.as_ref().map_or(0, |unwritten| unwritten.lines);
        self.shared.metrics.journal.decisions_written.inc_by(lines.saturating_sub(missed));
        if let Some(unwritten) = unwritten {
            self.shared.lose(missed);
            self.complain(&unwritten);
        }
    }

    fn complain(&mut self, unwritten: &Unwritten) {
        let now = Instant::now();
        if self.complained.is_some_and(|last| now.duration_since(last) < COMPLAINTS) {
            return;
        }
        self.complained = Some(now);
        let error = &unwritten.error;
        tracing::warn!(%error, "the decision log cannot be written; answers are left out of it, and counted");
    }
}

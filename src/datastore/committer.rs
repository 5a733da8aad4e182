//! Committers: writes wait in a queue per store and leave it in groups.
//!
//! While one transaction is under way, the writes that arrive wait, and the next transaction
//! takes all of them, so the cost of a commit is shared by as many writes as there are. A store
//! without waiting writes has no task and costs nothing.
//!
//! ```text
//! Committers::write ─▶ queue of the store ─▶ group (≤ 1,000 tuples) ─▶ Datastore::commit
//!        ▲                  │ deadline passed, caller gone: leaves           │
//!        └── answer ◀───────┴──────────────── deferred: first in the next ◀──┘
//! ```
//!
//! A group is committed by a task of its own: a caller that goes away takes back a write that
//! still waits, and never one that is being committed. What happens to a group when the database
//! fails is told in [`mod@group`]; until that has come to an end, no later write of the store is
//! begun.

mod group;
mod weight;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};

use self::group::Group;
use self::weight::Weight;
use super::{Committed, Datastore, DatastoreError, Write, WriteError};
use crate::metrics::{Metrics, WriteOutcome};
use crate::revision::StoreId;
use crate::trace::{self, Kind, Parent, Span};

/// How much waits and how much is committed at once.
#[derive(Debug, Clone)]
pub struct CommitterSettings {
    /// Writes of one store that may wait, default 4,096. More are refused at once, which a
    /// client can handle better than an answer after its deadline.
    pub queued_writes: usize,
    /// Approximate bytes of waiting writes over all stores, default 64 MiB. No store has more than
    /// four times what is left of them, so that none keeps the others out.
    pub queued_bytes: usize,
    /// Tuples of one transaction, preconditions counted like tuples, default 1,000. Larger
    /// transactions hold the store's lock longer without committing more per second.
    pub group_tuples: usize,
    /// Approximate bytes of one transaction, default 4 MiB.
    pub group_bytes: usize,
    /// Shortest time between two notifications, default 3 ms; the first goes out at once.
    pub notify_interval: Duration,
    /// How long a group that could not be committed waits for its second repetition, default
    /// 10 ms; the first is made at once, each later one after twice the time.
    pub repeat_after: Duration,
    /// The longest wait between two repetitions, default 1 s. It bounds how long after the end of
    /// an outage a waiting write notices, and how often an absent database is asked.
    pub repeat_at_most: Duration,
}

impl Default for CommitterSettings {
    fn default() -> Self {
        Self {
            queued_writes: 4_096,
            queued_bytes: 64 << 20,
            group_tuples: 1_000,
            group_bytes: 4 << 20,
            notify_interval: Duration::from_millis(3),
            repeat_after: Duration::from_millis(10),
            repeat_at_most: Duration::from_secs(1),
        }
    }
}

/// Why a write did not succeed.
#[derive(Debug, Clone, thiserror::Error)]
#[expect(missing_docs, reason = "each message names its fields")]
pub enum CommitError {
    /// The write was decided, and refused. Nobody else's fault; retrying gives the same result
    /// unless the tuples change.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// It alone is larger than a transaction may be.
    #[error("the write is too large: {tuples} tuples, at most {limit} are committed at once")]
    TooLarge { tuples: usize, limit: usize },
    /// Too much waits already. Nothing was written; retry later.
    #[error("too many writes are waiting")]
    QueueFull,
    /// The deadline passed while the write waited. Nothing was written.
    #[error("the deadline passed before the write could be begun")]
    DeadlinePassed,
    /// The database failed, and went on failing until the deadline if it might have recovered.
    /// Nothing was written, except for [`DatastoreError::OutcomeUnknown`].
    #[error(transparent)]
    Datastore(Arc<DatastoreError>),
    /// The server is stopping. Nothing was written.
    #[error("the server is stopping")]
    ShuttingDown,
}

/// The committers of all stores of one node.
#[derive(Debug, Clone)]
pub struct Committers {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    datastore: Arc<dyn Datastore>,
    settings: CommitterSettings,
    metrics: Arc<Metrics>,
    /// Where groups are committed, whoever's runtime the callers are on.
    runtime: Handle,
    state: Mutex<State>,
    /// The number of stores with a running task; shutdown waits for zero.
    running: watch::Sender<usize>,
}

#[derive(Debug, Default)]
struct State {
    /// Stores with a running task, which owns the entry and removes it when it is empty.
    queues: HashMap<StoreId, VecDeque<Waiting>>,
    queued_writes: usize,
    queued_bytes: usize,
    next_ticket: u64,
    closed: bool,
    /// Stores that other nodes have not been told of yet.
    unannounced: BTreeSet<StoreId>,
    announcing: bool,
}

impl State {
    /// Whether a store would have more than four times the bytes that are left to others.
    fn floods(&self, store: StoreId, more: usize, settings: &CommitterSettings) -> bool {
        const SHARE: usize = 4;
        let queue = self.queues.get(&store).into_iter().flatten();
        let own = queue.map(|waiting| waiting.caller.weight.bytes).sum::<usize>() + more;
        let free = settings.queued_bytes.saturating_sub(self.queued_bytes + more);
        own > free.saturating_mul(SHARE)
    }
}

/// A write in the queue.
#[derive(Debug)]
struct Waiting {
    write: Write,
    caller: Caller,
}

/// Who waits for a write, and until when.
#[derive(Debug)]
struct Caller {
    ticket: u64,
    weight: Weight,
    deadline: Instant,
    /// The call, if it is recorded, and its span of waiting until it is taken out of the queue.
    call: Option<Parent>,
    queued: Option<Span>,
    /// Absent once answered.
    answer: Option<oneshot::Sender<Answer>>,
}

type Answer = Result<Committed, CommitError>;

impl Caller {
    /// Whether somebody still wants to know.
    fn waits(&self) -> bool {
        self.answer.as_ref().is_some_and(|answer| !answer.is_closed())
    }

    /// The first answer counts. A caller that has gone away is not told: what was written stands.
    fn answer(&mut self, metrics: &Metrics, answer: Answer) {
        let Some(waiting) = self.answer.take() else { return };
        metrics.record.writes.of(outcome(&answer)).inc();
        let _ = waiting.send(answer);
    }
}

/// How a write ended, for the metrics.
fn outcome(answer: &Answer) -> WriteOutcome {
    match answer {
        Ok(Committed { replayed: true, .. }) => WriteOutcome::Replayed,
        Ok(_) => WriteOutcome::Committed,
        Err(CommitError::Write(WriteError::SchemaChanged { .. })) => WriteOutcome::SchemaChanged,
        Err(CommitError::Write(_)) => WriteOutcome::Refused,
        Err(CommitError::TooLarge { .. }) => WriteOutcome::TooLarge,
        Err(CommitError::QueueFull) => WriteOutcome::QueueFull,
        Err(CommitError::DeadlinePassed) => WriteOutcome::Abandoned,
        Err(CommitError::Datastore(error)) if matches!(**error, DatastoreError::OutcomeUnknown(_)) => {
            WriteOutcome::Unknown
        }
        Err(CommitError::Datastore(_) | CommitError::ShuttingDown) => WriteOutcome::Failed,
    }
}

impl Committers {
    /// Committers over a datastore. Their tasks run on the runtime this is called on.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    #[must_use]
    pub fn new(datastore: Arc<dyn Datastore>, settings: CommitterSettings, metrics: Arc<Metrics>) -> Self {
        let shared = Shared {
            datastore,
            settings,
            metrics,
            runtime: Handle::current(),
            state: Mutex::default(),
            running: watch::Sender::new(0),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Commits a write with whatever else waits for the store. Once it is being committed, the
    /// outcome is awaited although the deadline has passed, and is the same if nobody waits. A
    /// database that fails is tried again until the deadline.
    pub async fn write(
        &self,
        store: StoreId,
        write: Write,
        deadline: Instant,
    ) -> Result<Committed, CommitError> {
        let (mut answered, place) = match self.enqueue(store, write, deadline) {
            Ok(queued) => queued,
            Err(refused) => {
                let answer = Err(refused);
                self.shared.metrics.record.writes.of(outcome(&answer)).inc();
                return answer;
            }
        };
        tokio::select! {
            biased;
            answer = &mut answered => return received(answer),
            () = tokio::time::sleep_until(deadline.into()) => {}
        }
        if place.leave() {
            return Err(CommitError::DeadlinePassed);
        }
        received(answered.await)
    }

    /// How many writes of a store wait to be begun; `None` if none waits and none is under way.
    #[must_use]
    pub fn waiting(&self, store: StoreId) -> Option<usize> {
        self.shared.state().queues.get(&store).map(VecDeque::len)
    }

    /// Refuses new writes and waits until those that are queued have been answered.
    pub async fn close(&self) {
        self.shared.state().closed = true;
        // An error would mean that the sender is gone, and `self` holds it.
        let _ = self.shared.running.subscribe().wait_for(|running| *running == 0).await;
    }

    fn enqueue(
        &self,
        store: StoreId,
        write: Write,
        deadline: Instant,
    ) -> Result<(oneshot::Receiver<Answer>, Place), CommitError> {
        let weight = Weight::of(&write);
        let settings = &self.shared.settings;
        if weight.tuples > settings.group_tuples {
            return Err(CommitError::TooLarge { tuples: weight.tuples, limit: settings.group_tuples });
        }
        let (answer, answered) = oneshot::channel();
        let mut state = self.shared.state();
        if state.closed {
            return Err(CommitError::ShuttingDown);
        }
        let waiting = state.queues.get(&store).map_or(0, VecDeque::len);
        // A write that finds nothing waiting may exceed the bytes, or it could never be written.
        let bytes = state.queued_bytes + weight.bytes;
        let too_many_bytes = state.queued_bytes > 0
            && (bytes > settings.queued_bytes
                || (bytes > settings.queued_bytes / 2 && state.floods(store, weight.bytes, settings)));
        if waiting >= settings.queued_writes || too_many_bytes {
            return Err(CommitError::QueueFull);
        }
        let ticket = state.next_ticket;
        state.next_ticket += 1;
        let idle = !state.queues.contains_key(&store);
        let queue = state.queues.entry(store).or_default();
        let answer = Some(answer);
        let call = trace::current();
        let queued = call.as_ref().map(|call| call.child(Kind::Internal, "commit.queue"));
        let caller = Caller { ticket, weight, deadline, call, queued, answer };
        queue.push_back(Waiting { write, caller });
        self.shared.count(&mut state, 1, weight.bytes);
        // Counted before the lock is released, so that `close` cannot miss it.
        let running = idle.then(|| Running::begin(self.shared.clone(), store));
        drop(state);
        if let Some(running) = running {
            self.shared.runtime.spawn(serve(running));
        }
        Ok((answered, Place { shared: self.shared.clone(), store, ticket }))
    }
}

fn received(answer: Result<Answer, oneshot::error::RecvError>) -> Answer {
    // Unanswered only if the committing task was destroyed, with its runtime or by a panic.
    let lost = || DatastoreError::OutcomeUnknown(anyhow::anyhow!("the committing task is gone"));
    answer.unwrap_or_else(|_| Err(CommitError::Datastore(Arc::new(lost()))))
}

/// A caller's place in a queue, given up when the caller goes away.
#[derive(Debug)]
struct Place {
    shared: Arc<Shared>,
    store: StoreId,
    ticket: u64,
}

impl Place {
    /// Takes the write back; `false` if it has left the queue already.
    fn leave(&self) -> bool {
        let mut state = self.shared.state();
        let Some(queue) = state.queues.get_mut(&self.store) else { return false };
        // Tickets ascend: what is put back at the front was taken from there.
        let place = queue.binary_search_by_key(&self.ticket, |waiting| waiting.caller.ticket);
        let Some(left) = place.ok().and_then(|index| queue.remove(index)) else { return false };
        self.shared.discount(&mut state, 1, left.caller.weight.bytes);
        self.shared.metrics.record.writes.of(WriteOutcome::Abandoned).inc();
        true
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.leave();
    }
}

impl Shared {
    /// Held for a few lines, never across an await. A panic while it is held leaves counts that
    /// are at worst a little off.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes begin to wait.
    fn count(&self, state: &mut State, writes: usize, bytes: usize) {
        state.queued_writes += writes;
        state.queued_bytes += bytes;
        self.show(state);
    }

    /// Writes no longer wait.
    fn discount(&self, state: &mut State, writes: usize, bytes: usize) {
        state.queued_writes -= writes;
        state.queued_bytes -= bytes;
        self.show(state);
    }

    fn show(&self, state: &State) {
        let gauge = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        self.metrics.record.commit_queue_writes.set(gauge(state.queued_writes));
        self.metrics.record.commit_queue_bytes.set(gauge(state.queued_bytes));
    }

    /// Whether the server is stopping.
    fn is_closed(&self) -> bool {
        self.state().closed
    }

    /// The next group of a store, `None` when nothing waits; then the queue is gone.
    fn take(&self, store: StoreId) -> Option<Vec<Waiting>> {
        let mut state = self.state();
        let queue = state.queues.get_mut(&store)?;
        let now = Instant::now();
        let mut group: Vec<Waiting> = Vec::new();
        let mut load = Weight::default();
        let (mut writes, mut bytes) = (0, 0);
        while let Some(Waiting { caller: next, .. }) = queue.front() {
            let wanted = next.deadline > now && next.waits();
            if wanted && !group.is_empty() && !load.has_room_for(next.weight, &self.settings) {
                break;
            }
            let Some(mut next) = queue.pop_front() else { break };
            next.caller.queued = None;
            writes += 1;
            bytes += next.caller.weight.bytes;
            if wanted {
                load.add(next.caller.weight);
                group.push(next);
            } else {
                next.caller.answer(&self.metrics, Err(CommitError::DeadlinePassed));
            }
        }
        self.discount(&mut state, writes, bytes);
        if group.is_empty() {
            state.queues.remove(&store);
            return None;
        }
        let record = &self.metrics.record;
        record.commit_group_writes.observe(group.len() as u64);
        record.commit_group_tuples.observe((load.tuples + load.preconditions) as u64);
        Some(group)
    }

    /// Puts back writes that the group could not decide, before all others.
    fn put_back(&self, store: StoreId, deferred: Vec<Waiting>) {
        if deferred.is_empty() {
            return;
        }
        let bytes = deferred.iter().map(|waiting| waiting.caller.weight.bytes).sum();
        let mut state = self.state();
        self.count(&mut state, deferred.len(), bytes);
        let queue = state.queues.entry(store).or_default();
        for waiting in deferred.into_iter().rev() {
            queue.push_front(waiting);
        }
    }
}

/// Commits the groups of one store until nothing waits.
async fn serve(mut running: Running) {
    while let Some(group) = running.shared.take(running.store) {
        let deferred = Group::of(group).commit(&running.shared, running.store).await;
        running.shared.put_back(running.store, deferred);
    }
    running.finished = true;
}

/// Counts a running task. If the task dies, by a panic or with its runtime, the writes it leaves
/// are dropped, which answers their callers.
struct Running {
    shared: Arc<Shared>,
    store: StoreId,
    /// The queue has been removed, and may exist anew with a task of its own.
    finished: bool,
}

impl Running {
    fn begin(shared: Arc<Shared>, store: StoreId) -> Self {
        shared.running.send_modify(|running| *running += 1);
        Self { shared, store, finished: false }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.finished {
            let mut state = self.shared.state();
            let orphans = state.queues.remove(&self.store).unwrap_or_default();
            let bytes = orphans.iter().map(|waiting| waiting.caller.weight.bytes).sum();
            self.shared.discount(&mut state, orphans.len(), bytes);
        }
        self.shared.running.send_modify(|running| *running -= 1);
    }
}

/// Tells other nodes of new revisions: at once if it has been quiet, otherwise together with
/// all that come up in the meantime.
fn announce(shared: &Arc<Shared>, store: StoreId) {
    let mut state = shared.state();
    state.unannounced.insert(store);
    if std::mem::replace(&mut state.announcing, true) {
        return;
    }
    drop(state);
    let shared = shared.clone();
    shared.runtime.clone().spawn(async move {
        loop {
            let stores = {
                let mut state = shared.state();
                state.announcing = !state.unannounced.is_empty();
                std::mem::take(&mut state.unannounced)
            };
            if stores.is_empty() {
                return;
            }
            shared.datastore.notify(&stores.into_iter().collect::<Vec<_>>()).await;
            tokio::time::sleep(shared.settings.notify_interval).await;
        }
    });
}

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
//! still waits, and never one that is being committed.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};

use super::{Action, Committed, Datastore, DatastoreError, Outcome, Update, Write, WriteError};
use crate::context::{Context, Value};
use crate::metrics::Metrics;
use crate::revision::StoreId;
use crate::tuple::Tuple;

/// How much waits and how much is committed at once.
#[derive(Debug, Clone)]
pub struct CommitterSettings {
    /// Writes of one store that may wait, default 4,096. More are refused at once, which a
    /// client can handle better than an answer after its deadline.
    pub queued_writes: usize,
    /// Approximate bytes of waiting writes over all stores, default 64 MiB.
    pub queued_bytes: usize,
    /// Tuples of one transaction, preconditions counted like tuples, default 1,000. Larger
    /// transactions hold the store's lock longer without committing more per second.
    pub group_tuples: usize,
    /// Approximate bytes of one transaction, default 4 MiB.
    pub group_bytes: usize,
    /// Shortest time between two notifications, default 3 ms; the first goes out at once.
    pub notify_interval: Duration,
}

impl Default for CommitterSettings {
    fn default() -> Self {
        Self {
            queued_writes: 4_096,
            queued_bytes: 64 << 20,
            group_tuples: 1_000,
            group_bytes: 4 << 20,
            notify_interval: Duration::from_millis(3),
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
    /// The database failed. Nothing was written, except for [`DatastoreError::OutcomeUnknown`].
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
    queued_bytes: usize,
    next_ticket: u64,
    closed: bool,
    /// Stores that other nodes have not been told of yet.
    unannounced: BTreeSet<StoreId>,
    announcing: bool,
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
    answer: oneshot::Sender<Result<Committed, CommitError>>,
}

impl Caller {
    /// An error would mean that the caller has gone away; what was written stands.
    fn answer(self, result: Result<Committed, CommitError>) {
        let _ = self.answer.send(result);
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
    /// outcome is awaited although the deadline has passed, and is the same if nobody waits.
    pub async fn write(
        &self,
        store: StoreId,
        write: Write,
        deadline: Instant,
    ) -> Result<Committed, CommitError> {
        let (mut answered, place) = self.enqueue(store, write, deadline)?;
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
    ) -> Result<(oneshot::Receiver<Result<Committed, CommitError>>, Place), CommitError> {
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
        let too_many_bytes =
            state.queued_bytes > 0 && state.queued_bytes + weight.bytes > settings.queued_bytes;
        if waiting >= settings.queued_writes || too_many_bytes {
            return Err(CommitError::QueueFull);
        }
        let ticket = state.next_ticket;
        state.next_ticket += 1;
        state.queued_bytes += weight.bytes;
        let idle = !state.queues.contains_key(&store);
        let queue = state.queues.entry(store).or_default();
        queue.push_back(Waiting { write, caller: Caller { ticket, weight, deadline, answer } });
        // Counted before the lock is released, so that `close` cannot miss it.
        let running = idle.then(|| Running::begin(self.shared.clone(), store));
        drop(state);
        if let Some(running) = running {
            self.shared.runtime.spawn(serve(running));
        }
        Ok((answered, Place { shared: self.shared.clone(), store, ticket }))
    }
}

fn received(
    answer: Result<Result<Committed, CommitError>, oneshot::error::RecvError>,
) -> Result<Committed, CommitError> {
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
        let State { queues, queued_bytes, .. } = &mut *state;
        let Some(queue) = queues.get_mut(&self.store) else { return false };
        // Tickets ascend: what is put back at the front was taken from there.
        let place = queue.binary_search_by_key(&self.ticket, |waiting| waiting.caller.ticket);
        let Some(left) = place.ok().and_then(|index| queue.remove(index)) else { return false };
        *queued_bytes -= left.caller.weight.bytes;
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

    /// The next group of a store, `None` when nothing waits; then the queue is gone.
    fn take(&self, store: StoreId) -> Option<Vec<Waiting>> {
        let mut state = self.state();
        let State { queues, queued_bytes, .. } = &mut *state;
        let queue = queues.get_mut(&store)?;
        let now = Instant::now();
        let mut group: Vec<Waiting> = Vec::new();
        let mut load = Weight::default();
        while let Some(Waiting { caller: next, .. }) = queue.front() {
            let late = next.deadline <= now;
            let wanted = !late && !next.answer.is_closed();
            if wanted && !group.is_empty() && !load.has_room_for(next.weight, &self.settings) {
                break;
            }
            let Some(next) = queue.pop_front() else { break };
            *queued_bytes -= next.caller.weight.bytes;
            if wanted {
                load.add(next.caller.weight);
                group.push(next);
            } else if late {
                next.caller.answer(Err(CommitError::DeadlinePassed));
            }
        }
        if group.is_empty() {
            queues.remove(&store);
            return None;
        }
        Some(group)
    }

    /// Puts back writes that the group could not decide, before all others.
    fn put_back(&self, store: StoreId, deferred: Vec<Waiting>) {
        if deferred.is_empty() {
            return;
        }
        let mut state = self.state();
        state.queued_bytes += deferred.iter().map(|waiting| waiting.caller.weight.bytes).sum::<usize>();
        let queue = state.queues.entry(store).or_default();
        for waiting in deferred.into_iter().rev() {
            queue.push_front(waiting);
        }
    }
}

/// Commits the groups of one store until nothing waits.
async fn serve(mut running: Running) {
    while let Some(group) = running.shared.take(running.store) {
        let deferred = commit_group(&running.shared, running.store, group).await;
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
            state.queued_bytes -= orphans.iter().map(|waiting| waiting.caller.weight.bytes).sum::<usize>();
        }
        self.shared.running.send_modify(|running| *running -= 1);
    }
}

/// Commits one group and answers its callers; returns those that must wait for the next.
async fn commit_group(shared: &Arc<Shared>, store: StoreId, group: Vec<Waiting>) -> Vec<Waiting> {
    let (writes, callers): (Vec<_>, Vec<_>) =
        group.into_iter().map(|waiting| (waiting.write, waiting.caller)).unzip();
    let writes: Arc<[Write]> = writes.into();
    let begun = Instant::now();
    let committed = shared.datastore.commit(store, writes.clone()).await;
    shared.metrics.record.commit_seconds.since(begun);
    shared.metrics.record.commit_group_writes.observe(writes.len() as u64);
    match committed {
        Ok(outcomes) => answer(shared, store, &writes, callers, outcomes),
        // One write that the database refuses must not take its neighbours with it.
        Err(error) if callers.len() > 1 && concerns_one_write(&error) => {
            tracing::warn!(%store, writes = writes.len(), %error, "a group of writes failed; trying one by one");
            let mut deferred = Vec::new();
            for (write, caller) in writes.iter().cloned().zip(callers) {
                let alone = vec![Waiting { write, caller }];
                deferred.extend(Box::pin(commit_group(shared, store, alone)).await);
            }
            deferred
        }
        // Here an unknown outcome will be resolved, by looking up the group's write ids under
        // the lock; until then the callers are told that it is unknown.
        Err(error) => {
            let error = Arc::new(error);
            for caller in callers {
                caller.answer(Err(CommitError::Datastore(error.clone())));
            }
            Vec::new()
        }
    }
}

/// Whether a failure may be the fault of one write's content, so that the others would succeed
/// without it. Otherwise they would fail alike, or have an unknown outcome and must not be run
/// again before it has been looked up.
fn concerns_one_write(error: &DatastoreError) -> bool {
    match error {
        DatastoreError::Corrupt(_) | DatastoreError::Other(_) => true,
        DatastoreError::Unavailable(_)
        | DatastoreError::OutcomeUnknown(_)
        | DatastoreError::NotMigrated { .. }
        | DatastoreError::TooNew { .. }
        | DatastoreError::Trimmed { .. }
        | DatastoreError::StoreNotFound
        | DatastoreError::StoreExists(_)
        | DatastoreError::InUse(_) => false,
    }
}

fn answer(
    shared: &Arc<Shared>,
    store: StoreId,
    writes: &[Write],
    callers: Vec<Caller>,
    outcomes: Vec<Outcome>,
) -> Vec<Waiting> {
    let mut deferred = Vec::new();
    let mut committed = false;
    for ((write, caller), outcome) in writes.iter().zip(callers).zip(outcomes) {
        match outcome {
            Outcome::Committed(result) => {
                committed |= !result.replayed;
                caller.answer(Ok(result));
            }
            Outcome::Failed(error) => caller.answer(Err(CommitError::Write(error))),
            Outcome::Deferred => deferred.push(Waiting { write: write.clone(), caller }),
        }
    }
    if committed {
        announce(shared, store);
    }
    deferred
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

/// What a write costs a transaction.
#[derive(Debug, Clone, Copy, Default)]
struct Weight {
    /// Tuples it writes.
    tuples: usize,
    /// Preconditions it makes.
    preconditions: usize,
    /// Approximately.
    bytes: usize,
}

impl Weight {
    fn of(write: &Write) -> Self {
        const FIXED_BYTES: usize = 200;
        let (tuples, preconditions, bytes) = match &write.action {
            Action::Tuples { updates, preconditions, .. } => {
                (updates.len(), preconditions.len(), updates.iter().map(update_bytes).sum::<usize>())
            }
            Action::Schema { text, json, .. } => (1, 0, text.len() + json.len()),
        };
        let bytes = bytes + write.note.len() + (1 + preconditions) * FIXED_BYTES;
        Self { tuples, preconditions, bytes }
    }

    fn add(&mut self, other: Self) {
        self.tuples += other.tuples;
        self.preconditions += other.preconditions;
        self.bytes += other.bytes;
    }

    fn has_room_for(mut self, next: Self, settings: &CommitterSettings) -> bool {
        self.add(next);
        self.tuples + self.preconditions <= settings.group_tuples && self.bytes <= settings.group_bytes
    }
}

fn update_bytes(update: &Update) -> usize {
    const FIXED_BYTES: usize = 100;
    let key = update.key();
    let ids = key.object.id().as_str().len() + key.subject.id().len();
    let context = match update {
        Update::Touch(Tuple { attributes, .. }) | Update::Create(Tuple { attributes, .. }) => {
            attributes.condition.as_ref().map_or(0, |condition| context_bytes(&condition.context))
        }
        Update::Delete { .. } => 0,
    };
    FIXED_BYTES + ids + context
}

/// On the heap: contexts may be nested as deep as a message allows.
fn context_bytes(context: &Context) -> usize {
    const FIXED_BYTES: usize = 16;
    let mut bytes = 0;
    let mut rest: Vec<&Value> = Vec::new();
    for (name, value) in &context.0 {
        bytes += name.len();
        rest.push(value);
    }
    while let Some(value) = rest.pop() {
        bytes += FIXED_BYTES;
        match value {
            Value::Null | Value::Bool(_) | Value::Int(_) | Value::Uint(_) | Value::Double(_) => {}
            Value::String(text) => bytes += text.len(),
            Value::List(items) => rest.extend(items),
            Value::Map(entries) => {
                bytes += entries.keys().map(String::len).sum::<usize>();
                rest.extend(entries.values());
            }
        }
    }
    bytes
}

//! A datastore that fails when told to, for tests.
//!
//! It stands before a real one, so that what it tells is always true or an error, never made up:
//! calls fail before they took effect or after, hang, take long, panic, or wait until they are let
//! go; hints are lost, doubled and reordered; heads are old. Faults come by a script, one call
//! after the other ([`Faulty::next`]), for ever ([`Faulty::always`]), or at random by a seed
//! ([`Faulty::at_random`]).
//!
//! ```no_run
//! # use std::sync::Arc;
//! # use relata::datastore::{Datastore, faulty::{Fault, Faulty, Method}};
//! # fn example(real: Arc<dyn Datastore>) {
//! let faulty = Faulty::over(real);
//! faulty.next(Method::Commit, Fault::After); // written, and nobody is told
//! faulty.always(Method::Heads, Fault::Before);
//! faulty.heal();
//! # }
//! ```
//!
//! What breaks connections, as opposed to calls, is a proxy of the test suite.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::sync::{broadcast, watch};

use super::{
    Committed, Datastore, DatastoreError, GroupError, Head, History, HistoryQuery, Identity, KeyFilter,
    KeyId, KeysStamp, ListedSchema, LiveKeys, LogEntry, NewKey, Outcome, SchemaId, Store, StoredKey,
    StoredSchema, TupleFilter, TuplePage, Upkeep, Write,
};
use crate::revision::{Revision, StoreId, WriteId};
use crate::time::Timestamp;
use crate::tuple::TupleKey;

/// Hints that may wait for a receiver.
const HINTS: usize = 1024;

/// The methods that can fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "named after the methods of the trait")]
pub enum Method {
    Migrate,
    Ping,
    Identity,
    Now,
    CreateStore,
    Store,
    StoreNamed,
    Stores,
    DeleteStore,
    Commit,
    Settle,
    Heads,
    Log,
    Tuples,
    KeyAfter,
    Schema,
    Schemas,
    WriteIds,
    CreateKey,
    RevokeKey,
    Keys,
    LiveKeys,
}

/// How a call fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It takes no effect; the database cannot be reached.
    Before,
    /// It takes effect, and the answer is lost: the database cannot be reached, and a commit is
    /// in doubt.
    After,
    /// As [`Self::Before`], but a commit is in doubt: it was sent, and never arrived.
    Lost,
    /// It takes no effect; the database refused it, for a reason that is not the connection's.
    Refused,
    /// It takes no effect and never ends.
    Hang,
    /// It takes effect and never ends.
    HangAfter,
    /// It goes well, but takes so much longer.
    Delay(Duration),
    /// It takes no effect and panics.
    Panic,
}

/// What becomes of hints. Chances are from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct HintFaults {
    /// How many are lost.
    pub lost: f64,
    /// How many arrive twice.
    pub doubled: f64,
    /// How many arrive after the one that followed them.
    pub overtaken: f64,
    /// Makes it repeat.
    pub seed: u64,
}

/// When a held call waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// Before it takes effect.
    Before,
    /// When it has taken effect, and is about to answer.
    After,
}

/// A datastore that fails when told to.
#[derive(Debug)]
pub struct Faulty {
    me: Weak<Self>,
    state: Mutex<State>,
    hints: Mutex<Option<broadcast::Sender<StoreId>>>,
}

/// How likely the calls of a method fail in a way, from 0 to 1.
pub type Chances = Vec<(Method, Fault, f64)>;

#[derive(Debug)]
struct State {
    inner: Arc<dyn Datastore>,
    scripts: HashMap<Method, VecDeque<Option<Fault>>>,
    always: HashMap<Method, Fault>,
    random: Option<(StdRng, Chances)>,
    holds: Vec<Hold>,
    calls: HashMap<Method, u64>,
    hint_faults: HintFaults,
    old_heads: Option<HashMap<StoreId, Head>>,
    seen_heads: HashMap<StoreId, Head>,
    hidden: Option<Revision>,
}

/// Keeps the calls of one method waiting until it is released, or every copy is dropped.
#[derive(Debug, Clone)]
pub struct Hold {
    method: Method,
    moment: Moment,
    waiting: watch::Sender<usize>,
    released: watch::Sender<bool>,
}

impl Hold {
    /// Waits until so many calls wait.
    pub async fn reached(&self, calls: usize) {
        // An error would mean that the sender is gone, and `self` holds it.
        let _ = self.waiting.subscribe().wait_for(|waiting| *waiting >= calls).await;
    }

    /// Lets all go that wait, and holds none any more.
    pub fn release(&self) {
        self.released.send_replace(true);
    }

    async fn wait(&self) {
        self.waiting.send_modify(|waiting| *waiting += 1);
        let _ = self.released.subscribe().wait_for(|released| *released).await;
    }
}

impl Faulty {
    /// A datastore before a real one, without faults.
    #[must_use]
    pub fn over(inner: Arc<dyn Datastore>) -> Arc<Self> {
        let state = State {
            inner,
            scripts: HashMap::new(),
            always: HashMap::new(),
            random: None,
            holds: Vec::new(),
            calls: HashMap::new(),
            hint_faults: HintFaults::default(),
            old_heads: None,
            seen_heads: HashMap::new(),
            hidden: None,
        };
        Arc::new_cyclic(|me| Self { me: me.clone(), state: Mutex::new(state), hints: Mutex::default() })
    }

    /// From now on another database answers, as after a failover.
    pub fn replace(&self, inner: Arc<dyn Datastore>) {
        self.state().inner = inner;
    }

    /// The real one.
    #[must_use]
    pub fn inner(&self) -> Arc<dyn Datastore> {
        Arc::clone(&self.state().inner)
    }

    /// The next call without a script fails so; further ones add to the script.
    pub fn next(&self, method: Method, fault: Fault) {
        self.script(method, [Some(fault)]);
    }

    /// Adds to what becomes of the next calls, one after the other; `None`: it goes well.
    pub fn script(&self, method: Method, faults: impl IntoIterator<Item = Option<Fault>>) {
        self.state().scripts.entry(method).or_default().extend(faults);
    }

    /// Every call without a script fails so.
    pub fn always(&self, method: Method, fault: Fault) {
        self.state().always.insert(method, fault);
    }

    /// Calls without a script fail so with these chances, from 0 to 1, the same for the same seed
    /// and the same order of calls.
    pub fn at_random(&self, seed: u64, faults: Chances) {
        self.state().random = Some((StdRng::seed_from_u64(seed), faults));
    }

    /// Keeps the calls of a method waiting.
    #[must_use]
    pub fn hold(&self, method: Method, moment: Moment) -> Hold {
        let hold =
            Hold { method, moment, waiting: watch::Sender::new(0), released: watch::Sender::new(false) };
        self.state().holds.push(hold.clone());
        hold
    }

    /// Heads are answered as they were answered last, until it is healed.
    pub fn freeze_heads(&self) {
        let mut state = self.state();
        state.old_heads = Some(state.seen_heads.clone());
    }

    /// The next reading of the log that would show a revision and later ones does not show it.
    pub fn hide(&self, revision: Revision) {
        self.state().hidden = Some(revision);
    }

    /// What becomes of hints from now on.
    pub fn disturb_hints(&self, faults: HintFaults) {
        self.state().hint_faults = faults;
    }

    /// No faults from now on; calls that hang stay so, calls that are held go.
    pub fn heal(&self) {
        let mut state = self.state();
        state.scripts.clear();
        state.always.clear();
        state.random = None;
        state.old_heads = None;
        state.hidden = None;
        state.hint_faults = HintFaults::default();
        for hold in state.holds.drain(..) {
            hold.release();
        }
    }

    /// How often a method has been called.
    #[must_use]
    pub fn calls(&self, method: Method) -> u64 {
        self.state().calls.get(&method).copied().unwrap_or(0)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a call, with what has been planned for it. The flag says whether it took effect.
    async fn call<T, F, E>(
        &self,
        method: Method,
        call: impl FnOnce(Arc<dyn Datastore>) -> F,
    ) -> Result<T, Failed<T, E>>
    where
        F: Future<Output = Result<T, E>>,
    {
        let (inner, fault, holds) = self.state().plan(method);
        let hold = |moment| holds.iter().filter(move |hold| hold.moment == moment);
        for hold in hold(Moment::Before) {
            hold.wait().await;
        }
        match fault {
            None | Some(Fault::After | Fault::HangAfter) => {}
            Some(Fault::Delay(time)) => tokio::time::sleep(time).await,
            Some(Fault::Before) => return Err(Failed::Cut(unreachable())),
            Some(Fault::Lost) => return Err(Failed::Lost(unreachable())),
            Some(Fault::Refused) => {
                return Err(Failed::Cut(DatastoreError::Other(anyhow::anyhow!("refused by a fault"))));
            }
            Some(Fault::Hang) => std::future::pending().await,
            #[expect(clippy::panic, reason = "told to")]
            Some(Fault::Panic) => panic!("a fault panics"),
        }
        let result = call(inner).await;
        for hold in hold(Moment::After) {
            hold.wait().await;
        }
        match (fault, result) {
            (Some(Fault::After), Ok(value)) => Err(Failed::Unanswered(value, unreachable())),
            (Some(Fault::HangAfter), _) => std::future::pending().await,
            (_, Ok(value)) => Ok(value),
            (_, Err(error)) => Err(Failed::Real(error)),
        }
    }

    /// The same for a method of which nothing need be known but that it failed.
    async fn ask<T, F>(
        &self,
        method: Method,
        call: impl FnOnce(Arc<dyn Datastore>) -> F,
    ) -> Result<T, DatastoreError>
    where
        F: Future<Output = Result<T, DatastoreError>>,
    {
        self.call(method, call).await.map_err(|failed| match failed {
            Failed::Cut(error) | Failed::Lost(error) | Failed::Unanswered(_, error) | Failed::Real(error) => {
                error
            }
        })
    }
}

/// How a call failed.
enum Failed<T, E> {
    /// By a fault, without effect.
    Cut(DatastoreError),
    /// By a fault, without effect, but the caller cannot know that.
    Lost(DatastoreError),
    /// By a fault, with this effect.
    Unanswered(T, DatastoreError),
    /// By itself.
    Real(E),
}

fn unreachable() -> DatastoreError {
    DatastoreError::Unavailable(anyhow::anyhow!("cut off by a fault"))
}

impl State {
    /// What becomes of a call.
    fn plan(&mut self, method: Method) -> (Arc<dyn Datastore>, Option<Fault>, Vec<Hold>) {
        *self.calls.entry(method).or_default() += 1;
        self.holds.retain(|hold| !*hold.released.borrow());
        let holds = self.holds.iter().filter(|hold| hold.method == method).cloned().collect();
        let scripted = self.scripts.get_mut(&method).and_then(VecDeque::pop_front);
        let fault =
            scripted.unwrap_or_else(|| self.always.get(&method).copied().or_else(|| self.roll(method)));
        (Arc::clone(&self.inner), fault, holds)
    }

    fn roll(&mut self, method: Method) -> Option<Fault> {
        let (random, faults) = self.random.as_mut()?;
        let (_, fault, _) = faults
            .iter()
            .find(|(of, _, chance)| *of == method && random.random_bool(chance.clamp(0.0, 1.0)))?;
        Some(*fault)
    }
}

/// Passes hints on, with their faults, until the datastore is gone.
async fn pass_hints(
    faulty: Weak<Faulty>,
    mut from: broadcast::Receiver<StoreId>,
    to: broadcast::Sender<StoreId>,
) {
    let mut random: Option<(u64, StdRng)> = None;
    let mut overtaken: Option<StoreId> = None;
    loop {
        let store = match from.recv().await {
            Ok(store) => store,
            Err(broadcast::error::RecvError::Lagged(_)) => continue,
            Err(broadcast::error::RecvError::Closed) => return,
        };
        let Some(faulty) = faulty.upgrade() else { return };
        let HintFaults { lost, doubled, overtaken: late, seed } = faulty.state().hint_faults;
        if random.as_ref().is_none_or(|(of, _)| *of != seed) {
            random = Some((seed, StdRng::seed_from_u64(seed)));
        }
        let mut happens = |chance: f64| match &mut random {
            Some((_, random)) => random.random_bool(chance.clamp(0.0, 1.0)),
            None => false,
        };
        if happens(lost) {
            continue;
        }
        if overtaken.is_none() && happens(late) {
            overtaken = Some(store);
            continue;
        }
        let twice = happens(doubled).then_some(store);
        for store in [Some(store), twice, overtaken.take()].into_iter().flatten() {
            // An error would mean that nobody listens.
            let _ = to.send(store);
        }
    }
}

#[async_trait::async_trait]
impl Datastore for Faulty {
    fn name(&self) -> &'static str {
        "faulty"
    }

    async fn migrate(&self) -> Result<(), DatastoreError> {
        self.ask(Method::Migrate, |inner| async move { inner.migrate().await }).await
    }

    async fn ping(&self) -> Result<(), DatastoreError> {
        self.ask(Method::Ping, |inner| async move { inner.ping().await }).await
    }

    async fn identity(&self) -> Result<Identity, DatastoreError> {
        self.ask(Method::Identity, |inner| async move { inner.identity().await }).await
    }

    async fn renew_identity(&self) -> Result<Identity, DatastoreError> {
        self.ask(Method::Identity, |inner| async move { inner.renew_identity().await }).await
    }

    async fn now(&self) -> Result<Timestamp, DatastoreError> {
        self.ask(Method::Now, |inner| async move { inner.now().await }).await
    }

    async fn create_store(&self, name: &str) -> Result<Store, DatastoreError> {
        self.ask(Method::CreateStore, |inner| async move { inner.create_store(name).await }).await
    }

    async fn store(&self, id: StoreId) -> Result<Option<Store>, DatastoreError> {
        self.ask(Method::Store, |inner| async move { inner.store(id).await }).await
    }

    async fn store_named(&self, name: &str) -> Result<Option<Store>, DatastoreError> {
        self.ask(Method::StoreNamed, |inner| async move { inner.store_named(name).await }).await
    }

    async fn stores(&self, after: Option<&str>, limit: u32) -> Result<Vec<Store>, DatastoreError> {
        self.ask(Method::Stores, |inner| async move { inner.stores(after, limit).await }).await
    }

    async fn delete_store(&self, id: StoreId) -> Result<(), DatastoreError> {
        self.ask(Method::DeleteStore, |inner| async move { inner.delete_store(id).await }).await
    }

    async fn commit(&self, store: StoreId, group: Arc<[Write]>) -> Result<Vec<Outcome>, GroupError> {
        let writes = Arc::clone(&group);
        let call = |inner: Arc<dyn Datastore>| async move { inner.commit(store, writes).await };
        let doubt = |decided, error: DatastoreError| GroupError::InDoubt { decided, cause: error.into() };
        match self.call(Method::Commit, call).await {
            Ok(outcomes) => Ok(outcomes),
            Err(Failed::Cut(error)) => Err(GroupError::Failed(error)),
            Err(Failed::Real(error)) => Err(error),
            Err(Failed::Unanswered(decided, error)) => Err(doubt(decided, error)),
            // What would have been decided is not known, but nor will anybody be told of it.
            Err(Failed::Lost(error)) => {
                let heads = self.inner().heads(&[store]).await?;
                let head = heads.first().map_or(Revision::ZERO, |(_, head)| head.revision);
                let committed = |(write, revision): (&Write, u64)| {
                    let (write_id, revision) = (write.write_id, Revision(revision));
                    let (changes, replayed, schema) = (0, false, None);
                    Outcome::Committed(Committed { revision, write_id, changes, replayed, schema })
                };
                Err(doubt(group.iter().zip(head.0 + 1..).map(committed).collect(), error))
            }
        }
    }

    async fn settle(
        &self,
        store: StoreId,
        revision: Revision,
        write: WriteId,
    ) -> Result<bool, DatastoreError> {
        let call = |inner: Arc<dyn Datastore>| async move { inner.settle(store, revision, write).await };
        self.ask(Method::Settle, call).await
    }

    async fn heads(&self, stores: &[StoreId]) -> Result<Vec<(StoreId, Head)>, DatastoreError> {
        let mut heads = self.ask(Method::Heads, |inner| async move { inner.heads(stores).await }).await?;
        let mut state = self.state();
        if let Some(old) = &state.old_heads {
            for (store, head) in &mut heads {
                *head = old.get(store).copied().unwrap_or(*head);
            }
        }
        state.seen_heads.extend(heads.iter().copied());
        drop(state);
        Ok(heads)
    }

    async fn log(&self, store: StoreId, from: Revision, limit: u32) -> Result<Vec<LogEntry>, DatastoreError> {
        let call = |inner: Arc<dyn Datastore>| async move { inner.log(store, from, limit).await };
        let mut entries = self.ask(Method::Log, call).await?;
        let mut state = self.state();
        if let Some(hidden) = state.hidden
            && entries.last().is_some_and(|last| last.revision > hidden)
        {
            entries.retain(|entry| entry.revision != hidden);
            state.hidden = None;
        }
        drop(state);
        Ok(entries)
    }

    async fn history(&self, store: StoreId, query: HistoryQuery) -> Result<History, DatastoreError> {
        self.ask(Method::Log, |inner| async move { inner.history(store, query).await }).await
    }

    async fn tuples(
        &self,
        store: StoreId,
        filter: &TupleFilter,
        after: Option<&TupleKey>,
        limit: u32,
    ) -> Result<TuplePage, DatastoreError> {
        let call = |inner: Arc<dyn Datastore>| async move { inner.tuples(store, filter, after, limit).await };
        self.ask(Method::Tuples, call).await
    }

    async fn key_after(
        &self,
        store: StoreId,
        after: Option<&TupleKey>,
        distance: u32,
    ) -> Result<Option<TupleKey>, DatastoreError> {
        let call = |inner: Arc<dyn Datastore>| async move { inner.key_after(store, after, distance).await };
        self.ask(Method::KeyAfter, call).await
    }

    async fn schema(&self, store: StoreId, id: SchemaId) -> Result<Option<StoredSchema>, DatastoreError> {
        self.ask(Method::Schema, |inner| async move { inner.schema(store, id).await }).await
    }

    async fn schemas(
        &self,
        store: StoreId,
        before: Option<SchemaId>,
        limit: u32,
    ) -> Result<Vec<ListedSchema>, DatastoreError> {
        let call = |inner: Arc<dyn Datastore>| async move { inner.schemas(store, before, limit).await };
        self.ask(Method::Schemas, call).await
    }

    async fn write_ids(
        &self,
        store: StoreId,
        from: Revision,
        limit: u32,
    ) -> Result<Vec<(Revision, WriteId)>, DatastoreError> {
        let call = |inner: Arc<dyn Datastore>| async move { inner.write_ids(store, from, limit).await };
        self.ask(Method::WriteIds, call).await
    }

    async fn create_key(&self, key: NewKey) -> Result<StoredKey, DatastoreError> {
        self.ask(Method::CreateKey, |inner| async move { inner.create_key(key).await }).await
    }

    async fn revoke_key(&self, id: &KeyId, by: &str) -> Result<Option<StoredKey>, DatastoreError> {
        self.ask(Method::RevokeKey, |inner| async move { inner.revoke_key(id, by).await }).await
    }

    async fn keys(
        &self,
        filter: &KeyFilter,
        after: Option<&(Arc<str>, KeyId)>,
        limit: u32,
    ) -> Result<Vec<StoredKey>, DatastoreError> {
        self.ask(Method::Keys, |inner| async move { inner.keys(filter, after, limit).await }).await
    }

    async fn live_keys(&self, known: Option<KeysStamp>) -> Result<Option<LiveKeys>, DatastoreError> {
        self.ask(Method::LiveKeys, |inner| async move { inner.live_keys(known).await }).await
    }

    async fn notify(&self, stores: &[StoreId]) {
        self.inner().notify(stores).await;
    }

    /// The first call begins to pass hints on.
    fn hints(&self) -> broadcast::Receiver<StoreId> {
        let mut hints = self.hints.lock().unwrap_or_else(PoisonError::into_inner);
        let sender = hints.get_or_insert_with(|| {
            let sender = broadcast::Sender::new(HINTS);
            tokio::spawn(pass_hints(self.me.clone(), self.inner().hints(), sender.clone()));
            sender
        });
        sender.subscribe()
    }

    fn hints_arrive(&self) -> bool {
        self.inner().hints_arrive()
    }

    /// The real one's: what fails here is what requests wait for.
    fn upkeep(self: Arc<Self>) -> Arc<dyn Upkeep> {
        self.inner().upkeep()
    }

    async fn close(&self) {
        self.inner().close().await;
    }
}

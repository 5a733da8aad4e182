//! A node's copy of one store, as requests use it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, Weak};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::sync::{Mutex, watch};

use super::clock::Clock;
use super::error::FeedError;
use super::follower::Follower;
use super::lost::{Lost, LostRevision};
use super::published::{At, Published};
use super::ring::Tags;
use super::schemas::SchemaVersion;
use super::shared::{Seat, Shared};
use crate::datastore::{Head, SchemaId};
use crate::revision::{Revision, StoreId};
use crate::time::Timestamp;

/// How long who waits for a revision waits for a store that answers nothing. Going back to a fork
/// takes milliseconds, loading anew may take minutes.
const PATIENCE: Duration = Duration::from_secs(1);

/// Whether a replica may answer.
#[derive(Debug, Clone)]
enum Standing {
    /// From this.
    Serving(Arc<Published>),
    /// Not, and why.
    Silent(FeedError),
}

/// A node's copy of one store: what is published, and ways to wait for more.
#[derive(Debug)]
pub struct Replica {
    store: StoreId,
    standing: ArcSwap<Standing>,
    /// Announces what is published, after it is.
    newest: watch::Sender<Revision>,
    /// When the database last agreed that nothing newer exists, in nanoseconds after `epoch`.
    proved: AtomicU64,
    epoch: Instant,
    /// The node's, so that time does not go backwards when this copy is dropped and loaded again.
    clock: Arc<Clock>,
    /// What was here and is no part of the database's history any more.
    lost: ArcSwap<Lost>,
    /// How often answers stopped: what was read before may be of a lost history.
    breaks: AtomicU64,
    /// Held while `standing` and `breaks` change, so that nothing is published over a break.
    changing: std::sync::Mutex<()>,
    feed: Weak<Shared>,
    /// When a request last asked for it, in milliseconds after the feed began.
    last_used: AtomicU64,
    feed_began: Instant,
    pub(super) seat: Mutex<Seat>,
    /// One task at a time follows the store; a hint that arrives meanwhile makes it look again.
    pub(super) following: AtomicBool,
    pub(super) hinted: AtomicBool,
}

impl Replica {
    pub(super) fn new(mut follower: Follower, proved: Instant, feed: &Arc<Shared>) -> Arc<Self> {
        let published = follower.publish();
        let replica = Arc::new(Self {
            store: follower.store,
            newest: watch::Sender::new(published.revision),
            clock: Arc::clone(&feed.clock),
            lost: ArcSwap::default(),
            breaks: AtomicU64::new(0),
            changing: std::sync::Mutex::default(),
            standing: ArcSwap::from_pointee(Standing::Serving(published)),
            proved: AtomicU64::new(0),
            epoch: proved,
            feed: Arc::downgrade(feed),
            last_used: AtomicU64::new(0),
            feed_began: feed.began,
            seat: Mutex::new(Seat::taken(follower)),
            following: AtomicBool::new(false),
            hinted: AtomicBool::new(false),
        });
        replica.touch();
        replica
    }

    /// Answers again, from a store that was loaded once more.
    pub(super) async fn resume(&self, mut follower: Follower, proved: Instant) {
        let mut seat = self.seat.lock().await;
        self.touch();
        self.prove(proved);
        // Nobody judges a store that is not in memory, so nothing broke while it was loaded.
        let _ = self.publish(follower.publish(), self.breaks());
        *seat = Seat::taken(follower);
    }

    /// A request asks for the store: it is not the one to evict next.
    pub fn touch(&self) {
        let now = u64::try_from(self.feed_began.elapsed().as_millis()).unwrap_or(u64::MAX);
        // Written once a millisecond, so that cores that share a busy store share the line.
        if self.last_used.load(Ordering::Relaxed) != now {
            self.last_used.store(now, Ordering::Relaxed);
        }
    }

    /// When a request last asked for it.
    pub(super) fn last_used(&self) -> u64 {
        self.last_used.load(Ordering::Relaxed)
    }

    /// Whether anybody waits for news of it.
    pub(super) fn is_watched(&self) -> bool {
        self.newest.receiver_count() > 0
    }

    /// Tells who watches a store that is not in memory that there may be something new.
    pub(super) fn announce(&self) {
        self.newest.send_modify(|_| {});
    }

    /// Tells them if the head is not the one they were told last.
    pub(super) fn announce_head(&self, head: Revision) {
        self.newest.send_if_modified(|newest| std::mem::replace(newest, head) != head);
    }

    /// Which store.
    #[must_use]
    pub fn store(&self) -> StoreId {
        self.store
    }

    /// The newest revision here.
    ///
    /// # Errors
    /// [`FeedError::HistoryDiverged`] or [`FeedError::Reloading`] while the store is put right,
    /// [`FeedError::Evicted`] once it has left memory, [`FeedError::StoreNotFound`] once it is
    /// deleted. Never an answer from a lost history.
    pub fn published(&self) -> Result<Arc<Published>, FeedError> {
        match &**self.standing.load() {
            Standing::Serving(published) => Ok(Arc::clone(published)),
            Standing::Silent(why) => Err(why.clone()),
        }
    }

    /// The first published state at `revision` or later; waits for it until `deadline`. A store that
    /// has left memory is loaded again.
    ///
    /// # Errors
    /// [`FeedError::Behind`] or [`FeedError::Loading`] at the deadline, and those of [`Replica::published`], if they last
    /// for longer than going back to a fork takes.
    pub async fn at_least(&self, revision: Revision, deadline: Instant) -> Result<Arc<Published>, FeedError> {
        self.wait(revision, None, deadline).await
    }

    /// As [`Replica::at_least`], for a revision that a certain write made. That it is of the
    /// history in memory is for [`Replica::recognises`] to say, once it has arrived.
    ///
    /// # Errors
    /// As there, and [`FeedError::HistoryLost`] as soon as the write is known to be lost, even if
    /// the new history has yet to reach its number.
    pub async fn at_least_of(
        &self,
        revision: Revision,
        tag: [u8; 8],
        deadline: Instant,
    ) -> Result<Arc<Published>, FeedError> {
        self.wait(revision, Some(tag), deadline).await
    }

    async fn wait(
        &self,
        revision: Revision,
        tag: Option<[u8; 8]>,
        deadline: Instant,
    ) -> Result<Arc<Published>, FeedError> {
        if let Ok(published) = self.published()
            && published.revision >= revision
        {
            return Ok(published);
        }
        // Someone has seen a newer revision, so there is something to fetch.
        if let Some(feed) = self.feed.upgrade() {
            feed.hint(self.store);
        }
        let mut newest = self.newest.subscribe();
        let mut silent_until = None;
        loop {
            newest.mark_unchanged();
            let (until, too_late) = match self.published() {
                Ok(published) if published.revision >= revision => return Ok(published),
                Ok(published) => {
                    if let Some(lost) = tag.and_then(|tag| self.lost(revision, tag)) {
                        return Err(FeedError::HistoryLost { fork: lost.fork });
                    }
                    silent_until = None;
                    (deadline, FeedError::Behind { wanted: revision, newest: published.revision })
                }
                Err(FeedError::Evicted) => {
                    // Loading it is what waiting for it means.
                    self.feed.upgrade().ok_or(FeedError::ShuttingDown)?.loaded(self.store);
                    (deadline, FeedError::Loading)
                }
                Err(error @ (FeedError::HistoryDiverged | FeedError::Reloading)) => {
                    let until = *silent_until.get_or_insert_with(|| Instant::now() + PATIENCE);
                    (until.min(deadline), error)
                }
                Err(error) => return Err(error),
            };
            // The sender lives in `self`, so the channel cannot be closed; only time can run out.
            if tokio::time::timeout_at(until.into(), newest.changed()).await.is_err() {
                return Err(too_late);
            }
        }
    }

    /// The store exactly at a revision, the newest or one within reach.
    ///
    /// # Errors
    /// [`FeedError::OutOfRange`] if it is too long ago, [`FeedError::Behind`] if it has not
    /// arrived; those of [`Replica::published`] and of reading the schema in force at it.
    pub async fn at(&self, revision: Revision) -> Result<At, FeedError> {
        let published = self.published()?;
        if revision == published.revision {
            return Ok(At::from(published));
        }
        if revision > published.revision {
            return Err(FeedError::Behind { wanted: revision, newest: published.revision });
        }
        let undone = published.ring.undo(revision, &published.settings)?;
        let write_tag = published.write_tag(revision).ok_or(FeedError::OutOfRange { revision })?;
        let schema = match published.schema_at(revision)? {
            None => None,
            Some(id) => match &published.schema {
                Some(schema) if schema.id == id => Some(Arc::clone(schema)),
                _ => match self.schema(id).await? {
                    Some(schema) => Some(schema),
                    // The history was left while the schema was looked for.
                    None if self.published()?.write_tag(revision) != Some(write_tag) => {
                        return Err(FeedError::HistoryDiverged);
                    }
                    None => {
                        return Err(FeedError::Schema { schema: id, reason: "it is not stored".into() });
                    }
                },
            },
        };
        Ok(At { revision, write_tag, schema, published, undone })
    }

    /// The store exactly at a head that the database has named; waits for it until `deadline`.
    /// What memory has beyond the head is taken back: it was read before or after the head, and
    /// may be of a history that the database had left by then. `None`: memory has another write
    /// there, or does not reach back to it, so the database is to be asked again.
    ///
    /// # Errors
    /// Those of [`Replica::at_least`], and of reading the schema in force at the head.
    pub async fn at_head(&self, head: &Head, deadline: Instant) -> Result<Option<At>, FeedError> {
        let published = self.at_least(head.revision, deadline).await?;
        let at = if published.revision == head.revision {
            At::from(published)
        } else {
            match self.at(head.revision).await {
                Ok(at) => at,
                // Rewound, or loaded anew, or gone on by very much since.
                Err(
                    FeedError::Behind { .. }
                    | FeedError::OutOfRange { .. }
                    | FeedError::Evicted
                    | FeedError::HistoryDiverged
                    | FeedError::Reloading,
                ) => return Ok(None),
                Err(error) => return Err(error),
            }
        };
        Ok((at.write_tag == head.write_id.tag()).then_some(at))
    }

    /// A schema version by id, from memory or the database; `None`: the store has none of that id.
    ///
    /// # Errors
    /// Those of the database, or [`FeedError::Schema`].
    pub async fn schema(&self, id: SchemaId) -> Result<Option<Arc<SchemaVersion>>, FeedError> {
        let feed = self.feed.upgrade().ok_or(FeedError::ShuttingDown)?;
        feed.schemas.version(&feed.source, self.store, id).await
    }

    /// Whether a write tag belongs to the history this node follows. Revisions older than memory
    /// are looked up; one that has been trimmed is taken on trust. Wait for the revision first.
    ///
    /// # Errors
    /// [`FeedError::Behind`] if the revision has not arrived, and those of the database.
    pub async fn recognises(&self, revision: Revision, tag: [u8; 8]) -> Result<bool, FeedError> {
        match self.published() {
            Ok(published) if revision > published.revision => {
                return Err(FeedError::Behind { wanted: revision, newest: published.revision });
            }
            Ok(published) => {
                if let Some(known) = published.write_tag(revision) {
                    return Ok(known == tag);
                }
            }
            // Left since the revision arrived. The database knows it.
            Err(FeedError::Evicted) => {}
            Err(error) => return Err(error),
        }
        let feed = self.feed.upgrade().ok_or(FeedError::ShuttingDown)?;
        let found = feed.source.ask(feed.source.datastore.write_ids(self.store, revision, 1)).await?;
        // The newest revision is never trimmed, so nothing from here on means that the database's
        // history ends before.
        Ok(found.first().is_some_and(|(oldest, write_id)| *oldest > revision || write_id.tag() == tag))
    }

    /// Whether a revision that memory does not have was lost, as far as this node remembers.
    /// Memory decides about the revisions it has.
    #[must_use]
    pub fn lost(&self, revision: Revision, tag: [u8; 8]) -> Option<LostRevision> {
        self.lost.load().revision(revision, tag)
    }

    /// How often this copy stopped answering because it was not, or might not be, part of the
    /// database's history. Who goes on with what was read before compares.
    #[must_use]
    pub fn breaks(&self) -> u64 {
        self.breaks.load(Ordering::Acquire)
    }

    /// The tag of a revision's write id, if it is in memory.
    #[must_use]
    pub fn write_tag(&self, revision: Revision) -> Option<[u8; 8]> {
        self.published().ok()?.write_tag(revision)
    }

    /// Told of each published revision, the newest only: a slow receiver skips some. A revision
    /// lower than the one before means that the history forked.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Revision> {
        self.newest.subscribe()
    }

    /// How long ago the database last agreed that nothing newer exists.
    #[must_use]
    pub fn staleness(&self) -> Duration {
        let proved = Duration::from_nanos(self.proved.load(Ordering::Acquire));
        self.epoch.elapsed().saturating_sub(proved)
    }

    /// The moment to judge a question at: the node's clock, unless the database's or an earlier
    /// question's was ahead of it.
    pub fn now(&self, node_clock: Timestamp) -> Timestamp {
        let committed_at = self.published().map_or(Timestamp::MIN, |published| published.committed_at);
        self.clock.at(node_clock.max(committed_at))
    }

    /// The moment to judge a question at that is asked now.
    pub fn present(&self) -> Timestamp {
        self.now(self.clock.wall())
    }

    /// Whether it answers.
    pub(super) fn is_serving(&self) -> bool {
        matches!(**self.standing.load(), Standing::Serving(_))
    }

    /// Puts a state in the place of the last one, then wakes who waits for it; `false` if answers
    /// have stopped since `breaks` was read, which must be before the database was asked for
    /// anything that is new in the state. Then it may be of the history that was left meanwhile.
    #[must_use = "a state that is not published has to be compared with the database again"]
    pub(super) fn publish(&self, published: Arc<Published>, breaks: u64) -> bool {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        if self.breaks() != breaks {
            return false;
        }
        let revision = published.revision;
        self.standing.store(Arc::new(Standing::Serving(published)));
        self.newest.send_replace(revision);
        true
    }

    /// Stops answering, and wakes who waits so that they hear why.
    pub(super) fn silence(&self, why: FeedError) {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        self.breaks.fetch_add(1, Ordering::AcqRel);
        self.standing.store(Arc::new(Standing::Silent(why)));
        self.newest.send_modify(|_| {});
    }

    /// Remembers a branch that the database left, whose last revision was `last`.
    pub(super) fn lose(&self, fork: Option<Revision>, last: Revision, tags: Tags) {
        let capacity = self.feed.upgrade().map_or(0, |feed| feed.source.settings.ring_revisions);
        self.lost.store(Arc::new(self.lost.load().with(fork, last, tags, capacity)));
    }

    /// The database agreed at `moment` that nothing newer exists.
    pub(super) fn prove(&self, moment: Instant) {
        let since = moment.saturating_duration_since(self.epoch).as_nanos();
        self.proved.fetch_max(u64::try_from(since).unwrap_or(u64::MAX), Ordering::AcqRel);
    }
}

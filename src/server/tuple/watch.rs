//! `Watch`: every revision after a start, in order.
//!
//! The stream is pulled: the next revision is looked for when the reader has taken the last one,
//! so a slow reader costs a position and a thousand changes. What memory no longer has is read from
//! the log.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use futures::stream::try_unfold;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use crate::datastore::{DatastoreError, LogEntry};
use crate::feed::{FeedError, Published, Replica};
use crate::proto;
use crate::proto::tuple_change::Operation;
use crate::revision::{Revision, WriteId, Zookie};
use crate::server::call::Call;
use crate::server::chunk::chunks;
use crate::server::consistency;
use crate::server::convert::{self, at_most};
use crate::server::deadline::Deadline;
use crate::server::node::Node;
use crate::server::status::{At as _, Error};
use crate::tuple::TypeName;

/// Changes taken from memory or read from the log at once: what a reader who stalls holds at most.
const BATCH: u32 = 1_000;
/// Revisions without anything to show that may go by without a checkpoint.
const SILENT: u32 = 1_000;
/// How long a stream waits for memory to notice that the database has another history.
const PATIENCE: Duration = Duration::from_millis(250);
/// Revisions shown that are remembered to find the fork in, should the history be lost.
const REMEMBERED: usize = 1_024;
pub(super) async fn watch(
    node: Arc<Node>,
    call: Call,
    request: proto::WatchRequest,
) -> Result<impl Stream<Item = Result<proto::WatchResponse, Error>> + Send + 'static, Error> {
    at_most("object_types", request.object_types.len(), node.config().limits.watch_types, "types")?;
    let types = request.object_types.iter().map(|name| TypeName::new(name).at("object_types"));
    let types = types.collect::<Result<Vec<_>, _>>()?;

    // The stream may go on for days, but where it starts is known soon or not at all.
    let start = call.within(node.config().default_deadline);
    let replica = start.deadline.bound(node.replica(&start)).await?;
    let (revision, tag) = if request.after.is_empty() {
        let at = start.deadline.bound(consistency::newest(&node, &start, &replica)).await?;
        (at.revision, at.write_tag)
    } else {
        let zookie = consistency::ours(&node, &replica, "after", &request.after)?;
        start.deadline.bound(consistency::at_least(&node, &start, &replica, zookie, "after")).await?;
        (zookie.revision, zookie.write)
    };
    let mut watching = Watching {
        shown: VecDeque::from([(revision, tag)]),
        entries: VecDeque::new(),
        breaks: replica.breaks(),
        messages: VecDeque::new(),
        silent: 0,
        next_checkpoint: Instant::now() + node.config().watch_checkpoint,
        news: replica.subscribe(),
        stopping: node.stopping(),
        include_schema_changes: request.include_schema_changes,
        types,
        replica,
        node,
    };
    // The first message says where the stream begins, so that a reader can resume from there
    // even if nothing happens.
    watching.messages.push_back(watching.checkpoint());
    let deadline = call.deadline;
    Ok(try_unfold((watching, deadline), |(mut watching, deadline): (Watching, Deadline)| async move {
        let message = deadline.bound(watching.next()).await?;
        Ok(Some((message, (watching, deadline))))
    }))
}

/// Where a stream's next revisions are to be had.
enum Standing {
    /// In memory.
    Here(Arc<Published>),
    /// In memory, once that has been put right.
    Mending,
    /// In the database alone.
    InTheLog,
}

/// Where one stream stands.
struct Watching {
    node: Arc<Node>,
    replica: Arc<Replica>,
    types: Vec<TypeName>,
    include_schema_changes: bool,
    news: watch::Receiver<Revision>,
    stopping: watch::Receiver<bool>,
    /// The last revisions gone by, the newest last; never empty.
    shown: VecDeque<(Revision, [u8; 8])>,
    /// Revisions known and not yet shown, and how often the node's copy had stopped answering when
    /// they became known.
    entries: VecDeque<Arc<LogEntry>>,
    breaks: u64,
    /// Messages made and not yet taken.
    messages: VecDeque<proto::WatchResponse>,
    /// Revisions gone by since the last message.
    silent: u32,
    next_checkpoint: Instant,
}

impl Watching {
    /// The next message, once there is one.
    async fn next(&mut self) -> Result<proto::WatchResponse, Error> {
        loop {
            if *self.stopping.borrow() {
                return Err(Error::ShuttingDown);
            }
            if let Some(message) = self.messages.pop_front() {
                return Ok(message);
            }
            let breaks = self.replica.breaks();
            if breaks != std::mem::replace(&mut self.breaks, breaks) {
                // The database may have lost what a slow reader has not yet taken.
                self.entries.clear();
            }
            if let Some(entry) = self.entries.pop_front() {
                self.show(&entry);
                continue;
            }
            match self.standing()? {
                Standing::Here(published) => {
                    self.verify(&published).await?;
                    if published.revision > self.position().0 {
                        self.fetch(&published).await?;
                        continue;
                    }
                }
                Standing::Mending => {
                    // Nor a checkpoint: what was shown last may be lost.
                    tokio::select! {
                        _ = self.news.changed() => {}
                        _ = self.stopping.wait_for(|stop| *stop) => {}
                    }
                    continue;
                }
                Standing::InTheLog => {
                    if self.fetch_from_the_log().await? {
                        continue;
                    }
                }
            }
            if self.silent > 0 || self.next_checkpoint <= Instant::now() {
                self.messages.push_back(self.checkpoint());
                self.silent = 0;
                self.next_checkpoint = Instant::now() + self.node.config().watch_checkpoint;
                continue;
            }
            tokio::select! {
                _ = self.news.changed() => {}
                _ = self.stopping.wait_for(|stop| *stop) => {}
                () = sleep_until(self.next_checkpoint) => {}
            }
        }
    }

    fn position(&self) -> (Revision, [u8; 8]) {
        self.shown.back().copied().unwrap_or((Revision::ZERO, [0; 8]))
    }

    /// Where the next revisions are to be had.
    fn standing(&mut self) -> Result<Standing, Error> {
        self.news.mark_unchanged();
        match self.replica.published() {
            Ok(published) => Ok(Standing::Here(published)),
            Err(FeedError::HistoryDiverged | FeedError::Reloading) => Ok(Standing::Mending),
            Err(FeedError::Evicted | FeedError::TooLarge { .. }) => Ok(Standing::InTheLog),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether what was shown last is part of the history the node follows.
    async fn verify(&self, published: &Published) -> Result<(), Error> {
        let position = self.position();
        if self.counts(published, position).await? {
            return Ok(());
        }
        Err(Error::Forked { fork: self.fork(published).await? })
    }

    async fn counts(
        &self,
        published: &Published,
        (revision, write): (Revision, [u8; 8]),
    ) -> Result<bool, Error> {
        consistency::is_of_history(&self.node, &self.replica, published, revision, write).await
    }

    /// The newest revision that was shown and still counts. Histories that part once stay apart,
    /// so it is found by halving. If it is older than what is remembered, the reader has to start
    /// over: revision zero is part of every history.
    async fn fork(&self, published: &Published) -> Result<Zookie, Error> {
        let mut common = (Revision::ZERO, WriteId::NIL.tag());
        let (mut low, mut high) = (0, self.shown.len());
        while low < high {
            let middle = usize::midpoint(low, high);
            match self.shown.get(middle) {
                Some(&shown) if self.counts(published, shown).await? => {
                    common = shown;
                    low = middle + 1;
                }
                _ => high = middle,
            }
        }
        Ok(Zookie::tagged(self.node.database(), self.replica.store(), common.0, common.1))
    }

    /// Takes the revisions after the position, from memory or from the log.
    async fn fetch(&mut self, published: &Published) -> Result<(), Error> {
        let (position, _) = self.position();
        if let Some(entries) = published.changes_after(position, BATCH as usize) {
            self.entries.extend(entries);
            return Ok(());
        }
        let Some(entries) = self.continuation().await? else {
            // The database has left the history that memory still has. Once memory follows, it is
            // seen whether what was shown counts.
            self.node.feed().hint(self.replica.store());
            let _ = timeout(PATIENCE, self.news.changed()).await;
            return Ok(());
        };
        // What is newer than memory has not been verified to continue it.
        let known = entries.into_iter().filter(|entry| entry.revision <= published.revision);
        self.entries.extend(known.map(Arc::new));
        Ok(())
    }

    /// Takes the revisions after the position of a store that has left memory. Watching alone does
    /// not bring it back: a thousand watched stores would drive out those that are asked about.
    /// Returns whether anything has come of it.
    async fn fetch_from_the_log(&mut self) -> Result<bool, Error> {
        if let Some(entries) = self.continuation().await? {
            self.entries.extend(entries.into_iter().map(Arc::new));
            return Ok(!self.entries.is_empty());
        }
        // What was shown is lost. Memory can tell where the histories part.
        let (feed, store) = (Arc::clone(self.node.feed()), self.replica.store());
        self.node.in_background(async move { feed.replica(store).await }).await??;
        Ok(true)
    }

    /// The next revisions in the log; `None`: they do not follow what was shown.
    async fn continuation(&self) -> Result<Option<Vec<LogEntry>>, Error> {
        let (store, (position, tag)) = (self.replica.store(), self.position());
        let log =
            |from: Revision| self.node.ask(move |record| async move { record.log(store, from, BATCH).await });
        if position == Revision::ZERO {
            return log(position.next()).await.map(Some);
        }
        // A number alone does not say that the log goes on from what was shown.
        match log(position).await {
            Ok(mut entries) => {
                let first = entries.first().map(|entry| (entry.revision, entry.write_id.tag()));
                if first != Some((position, tag)) {
                    return Ok(None);
                }
                entries.remove(0);
                if entries.is_empty() { log(position.next()).await.map(Some) } else { Ok(Some(entries)) }
            }
            // The revision itself is the last one that is no longer kept.
            Err(Error::Record(DatastoreError::Trimmed { floor })) if floor == position.next() => {
                log(floor).await.map(Some)
            }
            Err(error) => Err(error),
        }
    }

    /// Turns one revision into messages, or passes over it.
    fn show(&mut self, entry: &LogEntry) {
        self.shown.push_back((entry.revision, entry.write_id.tag()));
        if self.shown.len() > REMEMBERED {
            self.shown.pop_front();
        }
        let wanted = entry.changes.iter().filter(|change| {
            self.types.is_empty() || self.types.iter().any(|name| name == change.key.object.object_type())
        });
        let changes: Vec<proto::TupleChange> = wanted.map(wire_change).collect();
        let schema = entry.schema.filter(|_| self.include_schema_changes);
        if changes.is_empty() && schema.is_none() {
            self.silent += 1;
            if self.silent >= SILENT {
                self.messages.push_back(self.checkpoint());
                self.silent = 0;
            }
            return;
        }
        self.silent = 0;
        self.next_checkpoint = Instant::now() + self.node.config().watch_checkpoint;
        // A resumed stream continues after the zookie it is given, so only the last part of a
        // large revision carries one.
        let common = proto::WatchResponse {
            committed_at: Some(convert::wire_timestamp(entry.committed_at)),
            principal: entry.principal.to_string(),
            note: entry.note.to_string(),
            ..Default::default()
        };
        let parts = chunks(changes, usize::MAX);
        self.messages
            .extend(parts.into_iter().map(|changes| proto::WatchResponse { changes, ..common.clone() }));
        let zookie = self.zookie().to_string();
        if let Some(last) = self.messages.back_mut() {
            last.zookie = zookie;
            last.schema_id = schema.map(|id| id.0.to_string()).unwrap_or_default();
        }
    }

    fn zookie(&self) -> Zookie {
        let (revision, tag) = self.position();
        Zookie::tagged(self.node.database(), self.replica.store(), revision, tag)
    }

    fn checkpoint(&self) -> proto::WatchResponse {
        proto::WatchResponse { zookie: self.zookie().to_string(), checkpoint: true, ..Default::default() }
    }
}

fn wire_change(change: &crate::datastore::Change) -> proto::TupleChange {
    let (operation, attributes) = match (&change.after, &change.before) {
        (Some(after), _) => (Operation::Written, Some(after)),
        (None, before) => (Operation::Deleted, before.as_ref()),
    };
    let tuple = match attributes {
        Some(attributes) => convert::wire_parts(&change.key, attributes),
        None => convert::wire_parts(&change.key, &crate::tuple::Attributes::default()),
    };
    proto::TupleChange { operation: operation.into(), tuple: Some(tuple) }
}

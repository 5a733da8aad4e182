//! `ReadLog`: past revisions, who made them and what they changed.
//!
//! Everything comes from the record and nothing from memory, so that a store need not be loaded to
//! be audited. A range of revisions is looked through window by window; the moments of the request
//! become revisions first, since the time of commit grows with the revision.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::Arc;

use futures::Stream;
use futures::stream::try_unfold;
use tokio::time::Instant;

use crate::datastore::{Change, DatastoreError, Head, HistoryQuery, LogEntry, Order, TupleFilter};
use crate::proto;
use crate::revision::{Revision, StoreId, WriteId, Zookie};
use crate::server::call::Call;
use crate::server::chunk::chunks;
use crate::server::convert;
use crate::server::cursor::{Cursor, Pin, RequestDigest};
use crate::server::node::Node;
use crate::server::status::Error;
use crate::time::Timestamp;

/// Revisions looked through by one query: what a filter that matches nothing costs at once.
const WINDOW: u64 = 10_000;
/// Entries and changes read at once.
const ENTRIES: u32 = 200;
const CHANGES: u32 = 5_000;
/// Entries of one page.
const MAX_PAGE: u32 = 1_000;

pub(super) async fn read_log(
    node: Arc<Node>,
    call: Call,
    mut request: proto::ReadLogRequest,
) -> Result<impl Stream<Item = Result<proto::ReadLogResponse, Error>> + Send + 'static, Error> {
    let wanted = Wanted::of(&request)?;
    let page_size = convert::page_size(request.page_size, MAX_PAGE)?;
    let store = node.store(&call).await?.id;
    let cursor = std::mem::take(&mut request.cursor);
    request.store.clear();
    request.page_size = 0;
    let digest = RequestDigest::of(call.method, Some(store), &request);

    let heads = node.ask(move |record| async move { record.heads(&[store]).await }).await?;
    let (_, head) = *heads.first().ok_or_else(|| Error::StoreNotFound { store: store.to_string() })?;
    let log = Log { node: Arc::clone(&node), store, head };
    let mut range = log.range(&request.after, &wanted).await?;
    if !cursor.is_empty() {
        let Pin { revision, write, .. } = node.cursors().open(digest, &cursor)?.pin;
        log.verify("cursor", revision, write).await?;
        range.go_on_after(revision, wanted.order);
    }
    let reading = Reading {
        last_call: call.deadline.last_call(),
        trimmed: head.floor > Revision(1) && range.low == head.floor && request.after.is_empty(),
        remaining: page_size,
        messages: VecDeque::new(),
        ended: false,
        digest,
        wanted,
        range,
        log,
        call,
    };
    Ok(try_unfold(reading, |mut reading| async move {
        let deadline = reading.call.deadline;
        let message = deadline.bound(reading.next()).await?;
        Ok(message.map(|message| (message, reading)))
    }))
}

/// What matches.
struct Wanted {
    filter: Option<TupleFilter>,
    principal: Option<Arc<str>>,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    order: Order,
}

impl Wanted {
    fn of(request: &proto::ReadLogRequest) -> Result<Self, Error> {
        use proto::read_log_request::Order as Asked;
        let filter = convert::filter(&request.filter.clone().unwrap_or_default())
            .map_err(|error| error.within(format_args!("filter")))?;
        let moment = |field, moment: &Option<prost_types::Timestamp>| {
            moment.as_ref().map(|moment| convert::timestamp(field, moment)).transpose()
        };
        Ok(Self {
            filter: (filter != TupleFilter::default()).then_some(filter),
            principal: request.principal.as_deref().map(Arc::from),
            since: moment("since", &request.since)?,
            until: moment("until", &request.until)?,
            order: match request.order() {
                Asked::Unspecified | Asked::NewestFirst => Order::NewestFirst,
                Asked::OldestFirst => Order::OldestFirst,
            },
        })
    }
}

/// Revisions that have not been looked at; none if `low` is above `high`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Range {
    low: Revision,
    high: Revision,
}

impl Range {
    fn is_empty(self) -> bool {
        self.low > self.high
    }

    /// The next revisions to look at.
    fn window(self, order: Order) -> Self {
        match order {
            Order::NewestFirst => {
                Self { low: self.low.max(Revision(self.high.0.saturating_sub(WINDOW - 1))), ..self }
            }
            Order::OldestFirst => {
                Self { high: self.high.min(Revision(self.low.0.saturating_add(WINDOW - 1))), ..self }
            }
        }
    }

    /// Everything up to a revision has been looked at.
    fn go_on_after(&mut self, revision: Revision, order: Order) {
        match order {
            // A range that began at zero would begin at one: revision zero has no entry.
            Order::NewestFirst => self.high = self.high.min(Revision(revision.0.saturating_sub(1))),
            Order::OldestFirst => self.low = self.low.max(revision.next()),
        }
    }

    /// The revision that was looked at last, once a window has been.
    fn end(self, order: Order) -> Revision {
        match order {
            Order::NewestFirst => self.low,
            Order::OldestFirst => self.high,
        }
    }
}

/// The log of one store, as long as it was when the call came.
struct Log {
    node: Arc<Node>,
    store: StoreId,
    head: Head,
}

impl Log {
    /// The revisions that a request speaks of.
    async fn range(&self, after: &str, wanted: &Wanted) -> Result<Range, Error> {
        let mut range = Range { low: self.head.floor.max(Revision(1)), high: self.head.revision };
        if !after.is_empty() {
            let zookie = convert::zookie("after", after)?;
            zookie
                .belongs_to(self.node.database(), self.store)
                .map_err(|source| Error::Zookie { field: "after", source })?;
            self.verify("after", zookie.revision, zookie.write).await?;
            if zookie.revision.next() < range.low {
                return Err(Error::LogTrimmed { floor: self.head.floor });
            }
            range.low = zookie.revision.next();
        }
        if let Some(until) = wanted.until {
            range.high = Revision(self.first_since(until, range).await?.0.saturating_sub(1));
        }
        if let Some(since) = wanted.since {
            range.low = self.first_since(since, range).await?;
        }
        Ok(range)
    }

    /// The first revision of a range that was committed at a moment or later; the one after the
    /// range if none was.
    async fn first_since(
        &self,
        moment: Timestamp,
        Range { mut low, high }: Range,
    ) -> Result<Revision, Error> {
        let mut end = high.next();
        while low < end {
            let middle = Revision(u64::midpoint(low.0, end.0));
            if self.committed_at(middle).await?.is_some_and(|at| at >= moment) {
                end = middle;
            } else {
                low = middle.next();
            }
        }
        Ok(low)
    }

    /// When a revision was committed; `None` if it has been trimmed in the meantime.
    async fn committed_at(&self, revision: Revision) -> Result<Option<Timestamp>, Error> {
        let store = self.store;
        let asked = self.node.in_background({
            let record = Arc::clone(self.node.datastore());
            async move { record.log(store, revision, 1).await }
        });
        match asked.await? {
            Ok(entries) => Ok(entries.first().map(|entry| entry.committed_at)),
            Err(DatastoreError::Trimmed { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether a revision is of the history that the record has now. One that has been trimmed is
    /// taken on trust.
    async fn verify(&self, field: &'static str, revision: Revision, write: [u8; 8]) -> Result<(), Error> {
        if revision > self.head.revision {
            // The head was asked for after the call arrived: what it lacks has been lost.
            return Err(Error::HistoryLost { field, fork: None });
        }
        let known = match revision {
            Revision::ZERO => Some(WriteId::NIL),
            _ if revision < self.head.floor => None,
            _ => self.write_id(revision).await?,
        };
        if known.is_some_and(|known| known.tag() != write) {
            Err(Error::HistoryLost { field, fork: None })
        } else {
            Ok(())
        }
    }

    async fn write_id(&self, revision: Revision) -> Result<Option<WriteId>, Error> {
        let store = self.store;
        let found =
            self.node.ask(move |record| async move { record.write_ids(store, revision, 1).await }).await?;
        Ok(found.first().filter(|(found, _)| *found == revision).map(|(_, write)| *write))
    }
}

/// Where one stream stands.
struct Reading {
    log: Log,
    call: Call,
    wanted: Wanted,
    range: Range,
    digest: RequestDigest,
    /// How many entries the page may still hold; `None`: all there are.
    remaining: Option<u32>,
    /// Whether what was asked for began with revisions that are gone.
    trimmed: bool,
    /// After it nothing more is read.
    last_call: Instant,
    /// Messages made and not yet taken.
    messages: VecDeque<proto::ReadLogResponse>,
    /// The last message has been made.
    ended: bool,
}

impl Reading {
    async fn next(&mut self) -> Result<Option<proto::ReadLogResponse>, Error> {
        loop {
            if let Some(message) = self.messages.pop_front() {
                return Ok(Some(message));
            }
            if self.ended {
                return Ok(None);
            }
            if let ControlFlow::Break(cursor) = self.read().await? {
                let trimmed = self.trimmed && cursor.is_empty();
                self.messages.push_back(proto::ReadLogResponse { entry: None, cursor, trimmed });
                self.ended = true;
            }
        }
    }

    /// Looks through one window. Breaks with the cursor of the next page, empty if there is none.
    async fn read(&mut self) -> Result<ControlFlow<String>, Error> {
        if self.range.is_empty() {
            return Ok(ControlFlow::Break(String::new()));
        }
        let order = self.wanted.order;
        let window = self.range.window(order);
        let query = HistoryQuery {
            from: window.low,
            to: window.high,
            order,
            principal: self.wanted.principal.clone(),
            filter: self.wanted.filter.clone(),
            limit: self.remaining.map_or(ENTRIES, |remaining| remaining.min(ENTRIES)),
            changes: CHANGES,
        };
        let store = self.log.store;
        let history =
            self.log.node.ask(move |record| async move { record.history(store, query).await }).await?;
        let found = u32::try_from(history.entries.len()).unwrap_or(u32::MAX);
        let (mut end, mut write) = (window.end(order), None);
        if let (true, Some(last)) = (history.cut, history.entries.last()) {
            (end, write) = (last.revision, Some(last.write_id));
        }
        for entry in &history.entries {
            self.show(entry);
        }
        self.range.go_on_after(end, order);
        self.remaining = self.remaining.map(|remaining| remaining.saturating_sub(found));
        let enough = self.remaining == Some(0) || Instant::now() >= self.last_call;
        if !enough || self.range.is_empty() {
            return Ok(ControlFlow::Continue(()));
        }
        let write = match write {
            Some(write) => write,
            // Trimmed in the meantime: so is what would follow, or nothing is lost by trust.
            None => self.log.write_id(end).await?.unwrap_or(WriteId::NIL),
        };
        let pin = Pin { revision: end, write: write.tag(), ..Pin::NONE };
        let cursor = Cursor { pin, after: String::new() };
        Ok(ControlFlow::Break(self.log.node.cursors().seal(self.digest, &cursor)))
    }

    /// Turns a revision into messages.
    fn show(&mut self, entry: &LogEntry) {
        let total_changes = u32::try_from(entry.changes.len()).unwrap_or(u32::MAX);
        let matches =
            |change: &&Change| self.wanted.filter.as_ref().is_none_or(|filter| filter.matches(&change.key));
        let changes = entry.changes.iter().filter(matches).map(wire_change).collect();
        let zookie = Zookie::new(self.log.node.database(), self.log.store, entry.revision, entry.write_id);
        let common = proto::LogEntry {
            revision: entry.revision.0,
            zookie: zookie.to_string(),
            committed_at: Some(convert::wire_timestamp(entry.committed_at)),
            principal: entry.principal.to_string(),
            note: entry.note.to_string(),
            schema_id: entry.schema.map(|id| id.0.to_string()).unwrap_or_default(),
            changes: Vec::new(),
            total_changes,
            continued: true,
        };
        let parts = chunks(changes, usize::MAX).into_iter();
        let parts = parts.map(|changes| proto::LogEntry { changes, ..common.clone() });
        let message =
            |entry| proto::ReadLogResponse { entry: Some(entry), cursor: String::new(), trimmed: false };
        self.messages.extend(parts.map(message));
        if let Some(proto::ReadLogResponse { entry: Some(last), .. }) = self.messages.back_mut() {
            last.continued = false;
        }
    }
}

fn wire_change(change: &Change) -> proto::LogChange {
    let wire = |attributes| convert::wire_parts(&change.key, attributes);
    proto::LogChange { before: change.before.as_ref().map(wire), after: change.after.as_ref().map(wire) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(low: u64, high: u64) -> Range {
        Range { low: Revision(low), high: Revision(high) }
    }

    #[test]
    fn windows_cover_a_range_without_gap_or_overlap() {
        for order in [Order::NewestFirst, Order::OldestFirst] {
            for (low, high) in [(1, 1), (1, WINDOW), (5, WINDOW + 5), (3, 3 * WINDOW), (2, 1)] {
                let mut rest = range(low, high);
                let mut looked_at = Vec::new();
                while !rest.is_empty() {
                    let window = rest.window(order);
                    looked_at.push((window.low.0, window.high.0));
                    rest.go_on_after(window.end(order), order);
                }
                if order == Order::NewestFirst {
                    looked_at.reverse();
                }
                let all: Vec<u64> = looked_at.iter().flat_map(|(low, high)| *low..=*high).collect();
                assert_eq!(all, (low..=high).collect::<Vec<_>>(), "{order:?}");
                assert!(looked_at.iter().all(|(low, high)| high - low < WINDOW));
            }
        }
    }

    #[test]
    fn the_first_revision_is_the_last_of_a_backward_range() {
        let mut rest = range(1, 1);
        rest.go_on_after(Revision(1), Order::NewestFirst);
        assert!(rest.is_empty());
    }
}

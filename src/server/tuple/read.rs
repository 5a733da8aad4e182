//! `Read`: the stored tuples that match a filter, at one revision, in key order.
//!
//! Tuples come from the record: no schema is needed, and what the schema in force ignores is shown
//! as well. All pages are of the revision the first one was of; what has changed since is undone.

use std::collections::VecDeque;
use std::sync::Arc;

use futures::Stream;
use futures::stream::try_unfold;

use crate::datastore::page::{PageError, PinnedReader};
use crate::feed::FeedError;
use crate::proto;
use crate::revision::Zookie;
use crate::server::call::Call;
use crate::server::chunk::chunks;
use crate::server::consistency;
use crate::server::convert;
use crate::server::cursor::{Cursor, CursorError, Pin, RequestDigest};
use crate::server::node::Node;
use crate::server::outlet::{Terms, outlet};
use crate::server::status::Error;
use crate::tuple::{Tuple, TupleKey};

pub(super) async fn read(
    node: Arc<Node>,
    call: Call,
    mut request: proto::ReadRequest,
) -> Result<impl Stream<Item = Result<proto::ReadResponse, Error>> + Send + 'static, Error> {
    let limits = node.config().limits;
    let filter = convert::filter(&request.filter.clone().unwrap_or_default())
        .map_err(|error| error.within(format_args!("filter")))?;
    let page_size = convert::page_size(request.page_size, limits.page_size)?;
    let replica = node.replica(&call).await?;
    let at_least = std::mem::take(&mut request.at_least);
    let cursor = std::mem::take(&mut request.cursor);
    request.store.clear();
    request.page_size = 0;
    let digest = RequestDigest::of(call.method, Some(replica.store()), &request);

    let reading = |pin: Pin, after: Option<TupleKey>| {
        let reach = node.config().feed.ring_changes;
        let (datastore, store) = (Arc::clone(node.datastore()), replica.store());
        let reader = PinnedReader::new(datastore, store, (pin.revision, pin.write), filter.clone(), reach);
        let zookie = Zookie::tagged(node.database(), store, pin.revision, pin.write);
        Reading {
            chunk: u32::try_from(limits.stream_chunk).unwrap_or(u32::MAX),
            reader: Some(reader),
            remaining: page_size,
            zookie: zookie.to_string(),
            messages: VecDeque::new(),
            goes_on: after.is_some(),
            after,
            digest,
            pin,
            node: Arc::clone(&node),
        }
    };
    let reading = if cursor.is_empty() {
        loop {
            let at = if at_least.is_empty() {
                consistency::newest(&node, &call, &replica).await?
            } else {
                let zookie = consistency::ours(&node, &replica, "at_least", &at_least)?;
                consistency::at_least(&node, &call, &replica, zookie, "at_least").await?
            };
            let now = consistency::now(&replica);
            let pin = Pin { revision: at.revision, write: at.write_tag, schema: None, now };
            let mut reading = reading(pin, None);
            match reading.advance().await {
                // What memory had is lost, and nobody has seen it. The database has something else,
                // and soon memory has too.
                Err(Error::Feed(FeedError::HistoryDiverged)) => {
                    consistency::newest(&node, &call, &replica).await?
                }
                outcome => {
                    outcome?;
                    break reading;
                }
            };
        }
    } else {
        let Cursor { pin, after } = node.cursors().open(digest, &cursor)?;
        consistency::recognised(&node, &call, &replica, &pin).await?;
        reading(pin, Some(after.parse::<TupleKey>().map_err(|_| CursorError::Invalid)?))
    };
    // What has changed since is held in memory to be undone, so a reader who stalls is not waited
    // for. One who reads on may take as long as the call's deadline lets him.
    let age = reading.node.config().snapshot_age;
    let terms = Terms::until(call.deadline.instant(), Error::DeadlineExceeded)
        .unless_stalled_for(age, Error::StreamTooOld { age, cursor: None });
    let tuples = try_unfold(reading, |mut reading| async move {
        let message = reading.next().await?;
        Ok(message.map(|message| (message, reading)))
    });
    Ok(outlet(tuples, terms))
}

/// Where one stream stands.
struct Reading {
    node: Arc<Node>,
    /// `None` once everything has been read.
    reader: Option<PinnedReader>,
    after: Option<TupleKey>,
    /// Whether the caller came with a cursor.
    goes_on: bool,
    /// How many tuples the page may still hold; `None`: all there are.
    remaining: Option<u32>,
    chunk: u32,
    digest: RequestDigest,
    pin: Pin,
    zookie: String,
    /// Messages made and not yet taken.
    messages: VecDeque<proto::ReadResponse>,
}

impl Reading {
    /// Fetches what comes next, if anything does.
    async fn advance(&mut self) -> Result<(), Error> {
        match self.reader.take() {
            Some(reader) => self.fetch(reader).await,
            None => Ok(()),
        }
    }

    async fn next(&mut self) -> Result<Option<proto::ReadResponse>, Error> {
        if self.messages.is_empty() {
            self.advance().await?;
        }
        Ok(self.messages.pop_front())
    }

    async fn fetch(&mut self, mut reader: PinnedReader) -> Result<(), Error> {
        let limit = self.remaining.map_or(self.chunk, |remaining| remaining.min(self.chunk));
        let after = self.after.clone();
        let (reader, page) = self
            .node
            .in_background(async move {
                let page = reader.page(after.as_ref(), limit).await;
                (reader, page)
            })
            .await?;
        let page = page.map_err(|error| refused(error, &self.pin, self.goes_on))?;

        let fetched = u32::try_from(page.tuples.len()).unwrap_or(u32::MAX);
        self.remaining = self.remaining.map(|remaining| remaining.saturating_sub(fetched));
        if let Some(last) = page.tuples.last() {
            self.after = Some(last.key.clone());
        }
        let ended = !page.more;
        let full = self.remaining == Some(0);
        let live = |tuple: &&Tuple| tuple.attributes.expires_at.is_none_or(|expiry| self.pin.now < expiry);
        let tuples = page.tuples.iter().filter(live).map(convert::wire_tuple).collect();
        let messages = chunks(tuples, usize::try_from(self.chunk).unwrap_or(usize::MAX));
        self.messages.extend(messages.into_iter().map(|tuples| proto::ReadResponse {
            tuples,
            cursor: String::new(),
            zookie: self.zookie.clone(),
        }));
        if full && !ended {
            let after = self.after.as_ref().map(TupleKey::to_string).unwrap_or_default();
            let cursor = self.node.cursors().seal(self.digest, &Cursor { pin: self.pin, after });
            if let Some(last) = self.messages.back_mut() {
                last.cursor = cursor;
            }
        }
        if !ended && !full {
            self.reader = Some(reader);
        }
        Ok(())
    }
}

/// `goes_on`: the caller came with a cursor, which then is of a history that is lost. Whoever did not
/// has nothing that could be lost, and asks again.
fn refused(error: PageError, pin: &Pin, goes_on: bool) -> Error {
    match error {
        PageError::OutOfReach { .. } => Error::Feed(FeedError::OutOfRange { revision: pin.revision }),
        // The revision was there when the list began.
        PageError::Ahead { .. } | PageError::Lost { .. } if goes_on => {
            Error::HistoryLost { field: "cursor", fork: None }
        }
        PageError::Ahead { .. } | PageError::Lost { .. } => Error::Feed(FeedError::HistoryDiverged),
        PageError::Datastore(error) => Error::Record(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::revision::Revision;
    use crate::time::Timestamp;

    /// The database leaves the history between two pages of one stream.
    #[test]
    fn only_who_came_with_a_cursor_has_lost_one() {
        let pin = Pin { revision: Revision(5), write: [0; 8], schema: None, now: Timestamp::from_micros(0) };
        let lost = |goes_on| refused(PageError::Lost { at: Revision(5) }, &pin, goes_on);
        assert!(matches!(lost(true), Error::HistoryLost { field: "cursor", fork: None }));
        assert!(matches!(lost(false), Error::Feed(FeedError::HistoryDiverged)));
    }
}

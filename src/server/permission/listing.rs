//! Lists as streams and as pages.
//!
//! A stream sends results as they are found. A page is a slice of the sorted list: the search runs
//! to its end and the page's results are kept, so a page costs what the list costs, and no page
//! depends on what a node remembers. The cursor pins all that the answer depends on.
//!
//! A stream that goes on holds a snapshot. It is let go after a while, read or not, and whoever
//! reads gets a cursor with which the same list can be had in pages.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use futures::Stream;
use futures::stream::{BoxStream, StreamExt as _, iter, try_unfold};
use prost::Message;
use tokio::time::Instant;

use super::question::{Asked, Question};
use super::witness::Witness;
use crate::feed::Replica;
use crate::revision::StoreId;
use crate::server::admission::Charge;
use crate::server::call::Call;
use crate::server::chunk::chunks;
use crate::server::convert;
use crate::server::cursor::{Cursor, Pin, RequestDigest};
use crate::server::node::Node;
use crate::server::outlet::{Terms, outlet};
use crate::server::search::{Lister, Listing, Portion, Turn};
use crate::server::status::Error;

/// One message of a list.
#[derive(Debug)]
pub(super) struct Listed<T> {
    pub(super) items: Vec<T>,
    pub(super) cursor: String,
    pub(super) zookie: String,
}

/// How a list was asked for.
pub(super) struct Order {
    pub(super) page_size: u32,
    pub(super) cursor: String,
    /// Of the request without page size, cursor, store and consistency.
    pub(super) digest: RequestDigest,
}

/// A question set up for what it is to answer.
pub(super) struct Prepared {
    pub(super) question: Question,
    pub(super) extent: Extent,
}

/// What of a list is wanted.
pub(super) struct Extent {
    /// A part of the sorted list; `None`: everything, as it is found.
    page: Option<Page>,
    store: StoreId,
    pin: Pin,
    digest: RequestDigest,
}

/// Which part of the sorted list.
struct Page {
    size: usize,
    /// Results up to this key have been given.
    after: Option<String>,
}

/// Sets a question up, as the cursor pins it if there is one.
pub(super) async fn prepare(
    node: &Node,
    call: &Call,
    replica: &Arc<Replica>,
    asked: Asked,
    order: Order,
) -> Result<Prepared, Error> {
    let size = convert::page_size(order.page_size, node.config().limits.page_size)?;
    let (question, after) = if order.cursor.is_empty() {
        (Question::new(node, call, replica, asked).await?, None)
    } else {
        let Cursor { pin, after } = node.cursors().open(order.digest, &order.cursor)?;
        (Question::resume(node, call, replica, asked, &pin).await?, Some(after))
    };
    // A cursor without a page size goes on in pages of the largest size.
    let size = size.or(after.is_some().then_some(node.config().limits.page_size));
    let page = size.map(|size| Page { size: usize::try_from(size).unwrap_or(usize::MAX), after });
    let extent = Extent { page, store: replica.store(), pin: question.pin, digest: order.digest };
    Ok(Prepared { question, extent })
}

impl Extent {
    fn cursor(&self, node: &Node, after: String) -> String {
        node.cursors().seal(self.digest, &Cursor { pin: self.pin, after })
    }

    /// How long the answer may be under way, and how who reads longer gets what is missing.
    fn terms(&self, node: &Node, call: &Call, since: Instant) -> Terms {
        let age = node.config().snapshot_age;
        let too_old = since + age;
        if call.deadline.instant() <= too_old {
            return Terms::until(call.deadline.instant(), Error::DeadlineExceeded);
        }
        // From the start of the page, or of the whole list: what was found first is in no order.
        let after = self.page.as_ref().and_then(|page| page.after.clone()).unwrap_or_default();
        Terms::until(too_old, Error::StreamTooOld { age, cursor: Some(self.cursor(node, after)) })
    }
}

/// The messages of a list. `key` is what a page is sorted by.
pub(super) async fn messages<L>(
    node: Arc<Node>,
    call: Call,
    extent: Extent,
    zookie: String,
    lister: L,
    key: fn(&L::Item) -> &str,
    witness: Witness,
) -> Result<BoxStream<'static, Result<Listed<L::Item>, Error>>, Error>
where
    L: Lister<Item: Message>,
{
    let begun = Instant::now();
    let listing = Listing::new(&node, Turn::of(&call, extent.store, L::SEARCH), lister);
    let (messages, rest) = if let Some(page) = &extent.page {
        let (mut witness, messages) =
            witness.pass(one_page(&node, &extent, page, &zookie, listing, key).await)?;
        witness.found(begun.elapsed(), messages.iter().map(|message| message.items.len()).sum());
        witness.complete();
        (messages, None)
    } else {
        let (rest, portion) = advance((listing, witness), &node).await?;
        (as_messages(&node, &zookie, portion), rest)
    };
    if rest.is_none() && messages.len() == 1 {
        // As most lists are: nothing but the answer is left.
        return Ok(iter(messages).map(Ok).boxed());
    }
    // A page that is made holds itself alone, so its time begins with its end.
    let since = if rest.is_some() { begun } else { Instant::now() };
    let terms = extent.terms(&node, &call, since);
    let messages = charged(&call, messages)?;
    let finding = Finding { node, call, zookie, listing: rest, messages };
    Ok(outlet(finding.into_messages(), terms).boxed())
}

/// A list that goes on, and who sees it.
type Seen<L> = (Listing<L>, Witness);

/// Finds the next portion of a list before a witness. Nothing is left of it when the list is over.
async fn advance<L: Lister>(
    (listing, witness): Seen<L>,
    node: &Node,
) -> Result<(Option<Seen<L>>, Portion<L::Item>), Error> {
    let begun = Instant::now();
    let (mut witness, (listing, portion)) = witness.pass(listing.advance(node).await)?;
    witness.found(begun.elapsed(), portion.items.len());
    if portion.over {
        witness.complete();
        return Ok((None, portion));
    }
    Ok((Some((listing, witness)), portion))
}

/// Runs the list to its end and keeps the page's results, and one more to see whether any follow.
async fn one_page<L>(
    node: &Node,
    extent: &Extent,
    page: &Page,
    zookie: &str,
    mut listing: Listing<L>,
    key: fn(&L::Item) -> &str,
) -> Result<Vec<Listed<L::Item>>, Error>
where
    L: Lister<Item: Message>,
{
    let mut kept = Kept::new(page.size, page.after.clone());
    loop {
        let (returned, portion) = listing.advance(node).await?;
        listing = returned;
        for item in portion.items {
            kept.offer(key(&item).to_owned(), item);
        }
        if portion.over {
            break;
        }
    }
    let (items, last) = kept.into_page();
    let mut messages = as_messages(node, zookie, Portion { items, over: true });
    if let Some(message) = messages.last_mut() {
        message.cursor = last.map(|after| extent.cursor(node, after)).unwrap_or_default();
    }
    Ok(messages)
}

fn as_messages<T: Message>(node: &Node, zookie: &str, portion: Portion<T>) -> Vec<Listed<T>> {
    chunks(portion.items, node.config().limits.stream_chunk)
        .into_iter()
        .map(|items| Listed { items, cursor: String::new(), zookie: zookie.to_owned() })
        .collect()
}

/// The messages, each with what it is counted as until it is asked for.
fn charged<T: Message>(
    call: &Call,
    messages: Vec<Listed<T>>,
) -> Result<VecDeque<(Charge, Listed<T>)>, Error> {
    let charged = messages.into_iter().map(|message| {
        let bytes = message.items.iter().map(Message::encoded_len).sum();
        Ok((call.charge(bytes)?, message))
    });
    charged.collect()
}

/// A list of which something is to be sent, and perhaps something to be found.
struct Finding<L: Lister> {
    node: Arc<Node>,
    call: Call,
    zookie: String,
    /// `None` once the list is over.
    listing: Option<Seen<L>>,
    messages: VecDeque<(Charge, Listed<L::Item>)>,
}

impl<L: Lister<Item: Message>> Finding<L> {
    /// The messages; the next portion is looked for when those of the last one have been taken.
    fn into_messages(self) -> impl Stream<Item = Result<Listed<L::Item>, Error>> + Send + 'static {
        try_unfold(self, |mut finding| async move {
            if finding.messages.is_empty() {
                let Some(listing) = finding.listing.take() else { return Ok(None) };
                let (rest, portion) = advance(listing, &finding.node).await?;
                finding.listing = rest;
                let messages = as_messages(&finding.node, &finding.zookie, portion);
                finding.messages = charged(&finding.call, messages)?;
            }
            Ok(finding.messages.pop_front().map(|(_, message)| (message, finding)))
        })
    }
}

/// The first results after a key, in order, at most so many.
struct Kept<T> {
    size: usize,
    after: Option<String>,
    items: BTreeMap<String, T>,
    more: bool,
}

impl<T> Kept<T> {
    fn new(size: usize, after: Option<String>) -> Self {
        Self { size, after, items: BTreeMap::new(), more: false }
    }

    fn offer(&mut self, key: String, item: T) {
        if self.after.as_ref().is_some_and(|after| key <= *after) {
            return;
        }
        let full = self.items.len() >= self.size;
        if full && self.items.last_key_value().is_some_and(|(last, _)| key > *last) {
            self.more = true;
            return;
        }
        self.items.insert(key, item);
        if self.items.len() > self.size {
            self.items.pop_last();
            self.more = true;
        }
    }

    /// The results in order, and the key to go on after if any follow.
    fn into_page(self) -> (Vec<T>, Option<String>) {
        let last = self.items.last_key_value().map(|(last, _)| last.clone()).filter(|_| self.more);
        (self.items.into_values().collect(), last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_follow_one_another_in_order() {
        let keys = ["d", "a", "e", "c", "b"];
        let page = |size: usize, after: Option<&str>| {
            let mut kept = Kept::new(size, after.map(str::to_owned));
            for key in keys {
                kept.offer(key.to_owned(), key);
            }
            let (items, next) = kept.into_page();
            (items.concat(), next)
        };
        assert_eq!(page(2, None), ("ab".to_owned(), Some("b".to_owned())));
        assert_eq!(page(2, Some("b")), ("cd".to_owned(), Some("d".to_owned())));
        assert_eq!(page(2, Some("d")), ("e".to_owned(), None));
        assert_eq!(page(5, None), ("abcde".to_owned(), None));
        assert_eq!(page(1, Some("e")), (String::new(), None));
    }
}

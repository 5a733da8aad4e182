//! `DeleteTuples` and `DeleteObject`: long removals, step by step.
//!
//! A step reads a page of matching keys from the record and removes them by an ordinary write. So
//! a removal of millions waits for others and lets others go first like any other writer, needs no
//! store in memory, and can end after any step. It ends when its caller goes away.

use std::sync::Arc;

use futures::Stream;
use futures::stream::try_unfold;
use tokio::time::Instant;

use super::write::note;
use crate::datastore::{Action, TupleFilter, Update, Write};
use crate::proto;
use crate::revision::{StoreId, WriteId, Zookie};
use crate::server::call::Call;
use crate::server::convert;
use crate::server::cursor::{Cursor, CursorError, Pin, RequestDigest};
use crate::server::node::Node;
use crate::server::status::{Error, Reason};
use crate::tuple::TupleKey;

/// Tuples removed in one step: others wait for a step as they do for any full group of writes.
const STEP: u32 = 1_000;

pub(super) async fn delete_tuples(
    node: Arc<Node>,
    call: Call,
    mut request: proto::DeleteTuplesRequest,
) -> Result<impl Stream<Item = Result<proto::DeleteTuplesResponse, Error>> + Send + 'static, Error> {
    let filter = convert::filter(&request.filter.clone().unwrap_or_default())
        .map_err(|error| error.within(format_args!("filter")))?;
    let everything = filter == TupleFilter::default();
    if everything && !request.all {
        return Err(Error::field(
            "filter",
            Reason::InvalidField,
            "an empty filter matches every tuple: set `all` if that is meant",
        ));
    }
    if request.all && !everything {
        return Err(Error::field("all", Reason::InvalidField, "a filter and `all` contradict each other"));
    }
    let (remark, limit) = (std::mem::take(&mut request.note), std::mem::take(&mut request.limit));
    let cursor = std::mem::take(&mut request.cursor);
    request.store.clear();
    let asked = Asked { remark, limit, dry_run: request.dry_run, cursor };
    let steps = Deleting::begin(node, call, &request, vec![filter], asked).await?.steps();
    Ok(futures::StreamExt::map(steps, |step| {
        step.map(|Step { deleted, zookie, cursor }| proto::DeleteTuplesResponse { deleted, zookie, cursor })
    }))
}

pub(super) async fn delete_object(
    node: Arc<Node>,
    call: Call,
    mut request: proto::DeleteObjectRequest,
) -> Result<impl Stream<Item = Result<proto::DeleteObjectResponse, Error>> + Send + 'static, Error> {
    let object = convert::object(&request.object)?;
    let (name, id) = (object.object_type().clone(), Arc::<str>::from(object.id().as_str()));
    let about_it = TupleFilter {
        object_type: Some(name.clone()),
        object_id: Some(Arc::clone(&id)),
        ..TupleFilter::default()
    };
    // Without a word on the subject's relation, so that usersets of the object go too.
    let granted_to_it =
        TupleFilter { subject_type: Some(name), subject_id: Some(id), ..TupleFilter::default() };
    let (remark, limit) = (std::mem::take(&mut request.note), std::mem::take(&mut request.limit));
    let cursor = std::mem::take(&mut request.cursor);
    request.store.clear();
    let asked = Asked { remark, limit, dry_run: request.dry_run, cursor };
    let steps = Deleting::begin(node, call, &request, vec![about_it, granted_to_it], asked).await?.steps();
    Ok(futures::StreamExt::map(steps, |step| {
        step.map(|Step { deleted, zookie, cursor }| proto::DeleteObjectResponse { deleted, zookie, cursor })
    }))
}

/// What both requests ask alike.
struct Asked {
    remark: String,
    limit: u64,
    dry_run: bool,
    cursor: String,
}

/// What both tell after a step.
struct Step {
    deleted: u64,
    zookie: String,
    cursor: String,
}

/// Where one removal stands.
struct Deleting {
    node: Arc<Node>,
    call: Call,
    store: StoreId,
    /// What is removed, one filter after the other.
    filters: Vec<TupleFilter>,
    place: Place,
    note: Arc<str>,
    dry_run: bool,
    /// How many may still be removed; `None`: all there are.
    remaining: Option<u64>,
    deleted: u64,
    /// Of the newest revision that this removal depends on.
    zookie: Zookie,
    digest: RequestDigest,
    /// After it no step is begun.
    last_call: Instant,
}

/// A place in what is to be removed.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    /// Which filter; beyond the last when nothing is left.
    filter: usize,
    after: Option<TupleKey>,
}

impl Deleting {
    async fn begin(
        node: Arc<Node>,
        call: Call,
        cleared: &impl prost::Message,
        filters: Vec<TupleFilter>,
        asked: Asked,
    ) -> Result<Self, Error> {
        let remark = note(&asked.remark, node.config().limits.note_chars)?;
        let store = node.store(&call).await?.id;
        let digest = RequestDigest::of(call.method, Some(store), cleared);
        let place = match asked.cursor.as_str() {
            "" => Place { filter: 0, after: None },
            text => Place::read(&node.cursors().open(digest, text)?.after, filters.len())?,
        };
        let heads = node.ask(move |record| async move { record.heads(&[store]).await }).await?;
        let (_, head) = heads.first().ok_or_else(|| Error::StoreNotFound { store: store.to_string() })?;
        Ok(Self {
            zookie: Zookie::new(node.database(), store, head.revision, head.write_id),
            last_call: call.deadline.last_call(),
            remaining: (asked.limit > 0).then_some(asked.limit),
            dry_run: asked.dry_run,
            deleted: 0,
            store,
            filters,
            place,
            note: remark,
            digest,
            call,
            node,
        })
    }

    fn steps(self) -> impl Stream<Item = Result<Step, Error>> + Send + 'static {
        try_unfold((self, false), |(mut deleting, begun)| async move {
            // The last message has said whether anything is left.
            if begun && deleting.has_ended() {
                return Ok(None);
            }
            let deadline = deleting.call.deadline;
            let step = deadline.bound(deleting.step()).await?;
            Ok(Some((step, (deleting, true))))
        })
    }

    fn has_ended(&self) -> bool {
        self.place.filter >= self.filters.len()
            || self.remaining == Some(0)
            || Instant::now() >= self.last_call
            || *self.node.stopping().borrow()
    }

    async fn step(&mut self) -> Result<Step, Error> {
        let limit =
            self.remaining.and_then(|remaining| u32::try_from(remaining).ok()).unwrap_or(STEP).min(STEP);
        let Some(filter) = self.filters.get(self.place.filter).cloned() else { return Ok(self.tell()) };
        let (store, after) = (self.store, self.place.after.clone());
        let page = self
            .node
            .ask(move |record| async move { record.tuples(store, &filter, after.as_ref(), limit).await })
            .await?;
        let keys: Vec<TupleKey> = page.tuples.into_iter().map(|tuple| tuple.key).collect();
        let last = keys.last().cloned();
        let deleted = if keys.is_empty() { 0 } else { self.remove(keys).await? };
        self.deleted += deleted;
        self.remaining = self.remaining.map(|remaining| remaining.saturating_sub(deleted));
        self.place = if page.more {
            Place { filter: self.place.filter, after: last }
        } else {
            Place { filter: self.place.filter + 1, after: None }
        };
        if self.has_ended() {
            self.node.wait_a_moment(&self.call, self.store, self.zookie.revision).await;
        }
        Ok(self.tell())
    }

    /// Removes tuples, or would; how many there were.
    async fn remove(&mut self, keys: Vec<TupleKey>) -> Result<u64, Error> {
        if self.dry_run {
            // What an earlier filter matches would be gone by now.
            let earlier = self.filters.get(..self.place.filter).unwrap_or_default();
            let fresh = keys.iter().filter(|key| !earlier.iter().any(|filter| filter.matches(key)));
            return Ok(fresh.count() as u64);
        }
        let delete = |key| Update::Delete { key, must_exist: false };
        let write = Write {
            write_id: WriteId::fresh(),
            principal: Arc::clone(&self.call.principal),
            note: Arc::clone(&self.note),
            idempotency: None,
            action: Action::Tuples {
                updates: keys.into_iter().map(delete).collect(),
                preconditions: Vec::new(),
                validated_against: None,
            },
        };
        let committed = self.node.commit_unseen(&self.call, self.store, write).await?;
        self.zookie = Zookie::new(self.node.database(), self.store, committed.revision, committed.write_id);
        Ok(committed.changes.into())
    }

    fn tell(&self) -> Step {
        let cursor = if self.place.filter < self.filters.len() {
            let cursor = Cursor { pin: Pin::NONE, after: self.place.to_string() };
            self.node.cursors().seal(self.digest, &cursor)
        } else {
            String::new()
        };
        Step { deleted: self.deleted, zookie: self.zookie.to_string(), cursor }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ", self.filter)?;
        self.after.as_ref().map_or(Ok(()), |after| write!(f, "{after}"))
    }
}

impl Place {
    /// Reads what [`Self::fmt`] wrote.
    fn read(text: &str, filters: usize) -> Result<Self, CursorError> {
        let (filter, after) = text.split_once(' ').ok_or(CursorError::Invalid)?;
        let filter = filter.parse().map_err(|_| CursorError::Invalid)?;
        let after = match after {
            "" => None,
            key => Some(key.parse().map_err(|_| CursorError::Invalid)?),
        };
        if filter < filters { Ok(Self { filter, after }) } else { Err(CursorError::Invalid) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_as_it_was_written() {
        for after in [None, Some("doc:1#viewer@group:eng#member"), Some("doc:a@b#viewer@user:*")] {
            let place = Place { filter: 1, after: after.map(|key| key.parse().expect("a tuple")) };
            assert_eq!(Place::read(&place.to_string(), 2), Ok(place.clone()));
            assert_eq!(
                Place::read(&place.to_string(), 1),
                Err(CursorError::Invalid),
                "there is no second filter"
            );
        }
        for text in ["", "0", "x ", "0 doc:1"] {
            assert_eq!(Place::read(text, 1), Err(CursorError::Invalid), "{text}");
        }
    }
}

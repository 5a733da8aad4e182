//! From "how fresh" to a revision (Zanzibar paper §2.2, §2.4.4).
//!
//! Freshness is waiting: whatever is asked for, the answer comes from memory once memory has the
//! revision. Usually it already has.

use std::sync::Arc;
use std::time::Duration;

use super::call::Call;
use super::convert;
use super::cursor::Pin;
use super::node::Node;
use super::status::Error;
use crate::feed::{At, FeedError, Published, Replica};
use crate::proto;
use crate::proto::consistency::Requirement;
use crate::revision::{Revision, WriteId, Zookie};
use crate::time::Timestamp;
use crate::trace;

/// When a zookie's revision has not arrived after so long, the database is asked whether it has it.
const SOON: Duration = Duration::from_millis(100);
/// And again after so long.
const NOW_AND_THEN: Duration = Duration::from_secs(1);

/// The revision to answer at.
pub async fn resolve(
    node: &Node,
    call: &Call,
    replica: &Arc<Replica>,
    asked: Option<proto::Consistency>,
) -> Result<At, Error> {
    match asked.and_then(|asked| asked.requirement) {
        None | Some(Requirement::MinimizeLatency(())) => newest_here(node, call, replica).await,
        Some(requirement) => {
            let _span = trace::child(trace::Kind::Internal, "consistency");
            Box::pin(waited_for(node, call, replica, requirement)).await
        }
    }
}

async fn waited_for(
    node: &Node,
    call: &Call,
    replica: &Arc<Replica>,
    requirement: Requirement,
) -> Result<At, Error> {
    const AT_LEAST: &str = "consistency.at_least";
    const EXACT: &str = "consistency.exact";
    match requirement {
        Requirement::MinimizeLatency(()) => newest_here(node, call, replica).await,
        Requirement::AtLeast(text) => {
            let zookie = ours(node, replica, AT_LEAST, &text)?;
            at_least(node, call, replica, zookie, AT_LEAST).await
        }
        Requirement::Exact(text) => {
            let zookie = ours(node, replica, EXACT, &text)?;
            exactly(node, call, replica, zookie.revision, zookie.write, EXACT).await
        }
        Requirement::Full(()) => newest(node, call, replica).await,
    }
}

/// A zookie of this store of this database.
pub fn ours(node: &Node, replica: &Replica, field: &'static str, text: &str) -> Result<Zookie, Error> {
    let zookie = convert::zookie(field, text)?;
    zookie.belongs_to(node.database(), replica.store()).map_err(|source| Error::Zookie { field, source })?;
    Ok(zookie)
}

/// The newest revision in memory, refused when the node may be too far behind.
async fn newest_here(node: &Node, call: &Call, replica: &Arc<Replica>) -> Result<At, Error> {
    let published = match replica.published() {
        // Rare: it left memory since the call came in.
        Err(FeedError::Evicted) => Box::pin(wait_for(call, replica, Revision::ZERO)).await?,
        outcome => outcome?,
    };
    let config = node.config();
    let (age, usual) = (replica.staleness(), config.feed.max_staleness);
    if age > usual {
        let bound = config.allow_stale.unwrap_or(usual);
        if age > bound {
            return Err(Error::Stale { age, bound });
        }
        call.may_be_older(age);
    }
    Ok(At::from(published))
}

/// A revision at least as new as a zookie, once the zookie is known to be of this history.
pub async fn at_least(
    node: &Node,
    call: &Call,
    replica: &Arc<Replica>,
    zookie: Zookie,
    field: &'static str,
) -> Result<At, Error> {
    Ok(At::from(verified(node, call, replica, zookie, field).await?))
}

/// Waits for the revision of a zookie, and sees that it is of the history memory follows.
async fn verified(
    node: &Node,
    call: &Call,
    replica: &Arc<Replica>,
    zookie: Zookie,
    field: &'static str,
) -> Result<Arc<Published>, Error> {
    let Zookie { revision, write, .. } = zookie;
    let published = arrived(node, call, replica, revision, write, field).await?;
    if is_of_history(node, replica, &published, revision, write).await? {
        return Ok(published);
    }
    // Either the write is lost, or what this node holds is, and it has not noticed yet: then the
    // zookie may be of a write made since, on another node. The database knows.
    let published = caught_up(node, call, replica).await?;
    if is_of_history(node, replica, &published, revision, write).await? {
        return Ok(published);
    }
    Err(history_lost(node, replica, revision, write, field))
}

/// Waits until memory has the revision that a write made. A write that is lost is not waited for,
/// whatever the number of its revision.
async fn arrived(
    node: &Node,
    call: &Call,
    replica: &Arc<Replica>,
    revision: Revision,
    write: [u8; 8],
    field: &'static str,
) -> Result<Arc<Published>, Error> {
    let deadline = call.deadline.early();
    let mut patience = SOON;
    loop {
        let arrival = replica.at_least_of(revision, write, deadline.into_std());
        match tokio::time::timeout(patience, arrival).await {
            Ok(Err(FeedError::HistoryLost { .. })) => {
                return Err(history_lost(node, replica, revision, write, field));
            }
            Ok(outcome) => return Ok(outcome?),
            Err(_elapsed) => patience = NOW_AND_THEN,
        }
        // Who has a zookie has it from a write that was there. If the database's history does not
        // reach as far any more, the write is lost, and nobody knows when the number comes again.
        let (feed, store) = (Arc::clone(node.feed()), replica.store());
        let head = node.in_background(async move { feed.head(store).await });
        if let Ok(head) = tokio::time::timeout_at(deadline, head).await
            && let Ok(head) = head?
            && head.revision < revision
        {
            return Err(history_lost(node, replica, revision, write, field));
        }
    }
}

/// Says that a write is lost, and which revision before it was kept if that is known: whoever
/// depends on the write goes on from there.
fn history_lost(
    node: &Node,
    replica: &Replica,
    revision: Revision,
    write: [u8; 8],
    field: &'static str,
) -> Error {
    let fork = replica.lost(revision, write).and_then(|lost| lost.fork);
    let fork = fork.and_then(|fork| {
        let tag = replica.write_tag(fork)?;
        Some(Zookie::tagged(node.database(), replica.store(), fork, tag))
    });
    Error::HistoryLost { field, fork }
}

/// Whether a revision was made by the write of that tag, in the history memory follows. What
/// memory no longer knows is looked up in the record.
pub async fn is_of_history(
    node: &Node,
    replica: &Arc<Replica>,
    published: &Published,
    revision: Revision,
    write: [u8; 8],
) -> Result<bool, Error> {
    if revision == Revision::ZERO {
        // Every history begins with it, and no write made it.
        return Ok(write == WriteId::NIL.tag());
    }
    if revision > published.revision {
        return Ok(false);
    }
    if let Some(known) = published.write_tag(revision) {
        return Ok(known == write);
    }
    let replica = Arc::clone(replica);
    Ok(node.in_background(async move { replica.recognises(revision, write).await }).await??)
}

/// One revision of one history, through the undo overlay if it is not the newest.
async fn exactly(
    node: &Node,
    call: &Call,
    replica: &Arc<Replica>,
    revision: Revision,
    write: [u8; 8],
    field: &'static str,
) -> Result<At, Error> {
    let zookie = Zookie::tagged(node.database(), replica.store(), revision, write);
    let at = loop {
        let published = arrived(node, call, replica, revision, write, field).await?;
        // Before whether it can still be reached: what is lost is lost, however long ago.
        if published.write_tag(revision).is_some_and(|known| known != write) {
            verified(node, call, replica, zookie, field).await?;
        }
        // Its schema may have to be read from the record.
        let memory = Arc::clone(replica);
        match node.in_background(async move { memory.at(revision).await }).await? {
            // Memory had it a moment ago: it was rewound since, or left to make room.
            Err(FeedError::Behind { .. }) => return Err(Error::Feed(FeedError::HistoryDiverged)),
            Err(FeedError::Evicted) => {}
            outcome => break outcome?,
        }
    };
    if at.write_tag == write {
        return Ok(at);
    }
    verified(node, call, replica, zookie, field).await?;
    // It is of the history after all, which memory went to only now.
    Err(Error::Feed(FeedError::HistoryDiverged))
}

/// Everything acknowledged before the call: what the database says now, and then in memory. The
/// question to the database starts after the call arrived. Nothing beyond what the database says:
/// of that, nobody knows yet whether it is still part of the history.
pub async fn newest(node: &Node, call: &Call, replica: &Arc<Replica>) -> Result<At, Error> {
    let deadline = call.deadline.early().into_std();
    loop {
        let (feed, memory) = (Arc::clone(node.feed()), Arc::clone(replica));
        let asked = async move {
            let head = feed.head(memory.store()).await?;
            memory.at_head(&head, deadline).await
        };
        // Nothing if the history forked since the question, which is asked again. The deadline of
        // the call ends it.
        if let Some(at) = node.in_background(asked).await?? {
            return Ok(at);
        }
    }
}

/// The history that the database has now, as far as it goes now, once memory has it.
async fn caught_up(node: &Node, call: &Call, replica: &Arc<Replica>) -> Result<Arc<Published>, Error> {
    loop {
        let (feed, store) = (Arc::clone(node.feed()), replica.store());
        let head = node.in_background(async move { feed.head(store).await }).await??;
        let published = wait_for(call, replica, head.revision).await?;
        // The number is there; if another write has it, the history forked since the question, and
        // is asked again. The deadline of the call ends it.
        if published.write_tag(head.revision).is_none_or(|known| known == head.write_id.tag()) {
            return Ok(published);
        }
    }
}

/// The revision a cursor is pinned to, on whichever node the next page is asked.
pub async fn pinned(node: &Node, call: &Call, replica: &Arc<Replica>, pin: &Pin) -> Result<At, Error> {
    exactly(node, call, replica, pin.revision, pin.write, "cursor").await
}

/// Waits for the revision a cursor is pinned to, without looking at the tuples of it: they are
/// read from the record. Memory may no longer reach it.
pub async fn recognised(node: &Node, call: &Call, replica: &Arc<Replica>, pin: &Pin) -> Result<(), Error> {
    let zookie = Zookie::tagged(node.database(), replica.store(), pin.revision, pin.write);
    verified(node, call, replica, zookie, "cursor").await.map(|_| ())
}

/// Waits until memory has a revision. A little of the deadline is left for saying that it has
/// not come.
async fn wait_for(call: &Call, replica: &Arc<Replica>, revision: Revision) -> Result<Arc<Published>, Error> {
    Ok(replica.at_least(revision, call.deadline.early().into_std()).await?)
}

/// The zookie of the revision an answer is of.
pub fn zookie(node: &Node, replica: &Replica, at: &At) -> Zookie {
    Zookie::tagged(node.database(), replica.store(), at.revision, at.write_tag)
}

/// The moment to judge a question at: never before one already used for the store.
pub fn now(replica: &Replica) -> Timestamp {
    replica.present()
}

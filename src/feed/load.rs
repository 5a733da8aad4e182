//! Reading a whole store while writes go on.
//!
//! ```text
//!   r0 = head            ┌── pages of tuples, each as of some revision ≥ r0 ──┐
//!   ─────●───────────────┴────────────────────────────────────────────────────┴───●─────▶
//!        └────────── then every change after r0 is applied over them ─────────────┘ head
//! ```
//!
//! Changes carry absolute states, so applying one that a page already shows does no harm, and a
//! tuple that moved behind the pages' back is put right by its change. No transaction stays open
//! for longer than a page.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use super::error::FeedError;
use super::follower::{Follower, Position};
use super::ring::Ring;
use super::schemas::Schemas;
use super::source::Source;
use crate::datastore::{Head, LogEntry, SchemaId, TupleFilter};
use crate::graph::Index;
use crate::revision::{Revision, StoreId};

/// How often a load starts again because the log was trimmed or forked under it.
const ATTEMPTS: u32 = 3;

/// The store's graph, and a moment at which its revision was the newest.
pub(super) async fn load(
    source: &Source,
    schemas: &Schemas,
    store: StoreId,
) -> Result<(Follower, Instant), FeedError> {
    let mut attempt = 1;
    loop {
        match load_once(source, schemas, store).await {
            Err(error)
                if attempt < ATTEMPTS
                    && (error.is_trimmed() || matches!(error, FeedError::HistoryDiverged)) =>
            {
                tracing::warn!(%store, attempt, %error, "loading the store starts again");
                attempt += 1;
            }
            outcome => return outcome,
        }
    }
}

async fn load_once(
    source: &Source,
    schemas: &Schemas,
    store: StoreId,
) -> Result<(Follower, Instant), FeedError> {
    let head = head(source, store).await?;
    // A schema that cannot be compiled is found before a million tuples are read for nothing.
    schemas.in_force(source, store, head.schema).await?;
    let mut index = Index::new();
    let seen = read_tuples(source, store, &mut index).await?;

    let mut position =
        Position { revision: head.revision, write_id: head.write_id, committed_at: head.committed_at };
    let mut schema = head.schema;
    let mut recent = VecDeque::new();
    let proved = loop {
        let asked = Instant::now();
        let (fresh, full) = source.read_after(store, position).await?;
        for entry in fresh {
            for change in &entry.changes {
                index.apply(&change.key, change.after.as_ref())?;
            }
            position = Position::of(&entry);
            schema = entry.schema.or(schema);
            recent.push_back(entry);
        }
        if !full {
            break asked;
        }
    };
    if position.revision < seen {
        // A page showed a revision that the log does not have.
        return Err(FeedError::HistoryDiverged);
    }

    let ring = read_ring(source, store, position, head, schema, recent).await?;
    let schema = schemas.in_force(source, store, schema).await?;
    let follower = Follower::new(store, position, index, ring, schema, Arc::clone(&source.settings));
    Ok((follower, proved))
}

/// The head of one store.
async fn head(source: &Source, store: StoreId) -> Result<Head, FeedError> {
    let heads = source.ask(source.datastore.heads(&[store])).await?;
    heads
        .into_iter()
        .find_map(|(found, head)| (found == store).then_some(head))
        .ok_or(FeedError::StoreNotFound)
}

/// Reads every tuple into an index; returns the newest revision a page was read at.
// Several key ranges at once, over several connections, would go here.
async fn read_tuples(source: &Source, store: StoreId, index: &mut Index) -> Result<Revision, FeedError> {
    let (filter, mut after, mut seen) = (TupleFilter::default(), None, Revision::ZERO);
    loop {
        let page = source.datastore.tuples(store, &filter, after.as_ref(), source.settings.page);
        let page = source.ask(page).await?;
        seen = seen.max(page.head);
        for tuple in &page.tuples {
            index.apply(&tuple.key, Some(&tuple.attributes))?;
        }
        match page.tuples.into_iter().next_back() {
            Some(last) if page.more => after = Some(last.key),
            _ => return Ok(seen),
        }
        // A large store takes seconds; the thread has other stores to follow.
        tokio::task::yield_now().await;
    }
}

/// Fills the ring from the log, backwards from the position, as far as earlier revisions can be
/// asked about.
async fn read_ring(
    source: &Source,
    store: StoreId,
    position: Position,
    head: Head,
    schema: Option<SchemaId>,
    mut recent: VecDeque<LogEntry>,
) -> Result<Ring, FeedError> {
    let settings = &source.settings;
    let mut span = 64;
    while !Ring::reaches(&recent, settings) {
        let first = recent.front().map_or(position.revision.next(), |entry| entry.revision);
        let from = Revision(first.0.saturating_sub(span)).max(head.floor).max(Revision(1));
        if from >= first {
            break;
        }
        let mut older = Vec::new();
        let mut next = from;
        while next < first {
            let entries = source.read_log(store, next, settings.batch).await?;
            let Some(last) = entries.last() else { return Err(FeedError::HistoryDiverged) };
            next = last.revision.next();
            older.extend(entries);
        }
        for entry in older.into_iter().rev().filter(|entry| entry.revision < first) {
            recent.push_front(entry);
        }
        span = (span * 2).min(4_096);
    }
    let contiguous = recent.iter().rev().zip((1..=position.revision.0).rev());
    if !contiguous.clone().all(|(entry, revision)| entry.revision.0 == revision)
        || recent.back().is_some_and(|newest| newest.write_id != position.write_id)
    {
        return Err(FeedError::HistoryDiverged);
    }

    let base = match recent.iter().find_map(|entry| entry.schema) {
        None => schema,
        Some(oldest) => {
            let before = source.ask(source.datastore.schemas(store, Some(oldest), 1)).await?;
            before.first().map(|schema| schema.id)
        }
    };
    let before = Revision(position.revision.0 - recent.len() as u64);
    let mut ring = Ring::new(before, base);
    for entry in recent {
        ring.push(Arc::new(entry), settings);
    }
    let known = settings.ring_revisions.saturating_sub(ring.tags().len());
    ring.know_older(source.tags_up_to(store, before, known).await?, settings);
    Ok(ring)
}

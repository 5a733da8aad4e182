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

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use futures::FutureExt as _;

use super::budget::Bytes;
use super::error::FeedError;
use super::eviction::Claim;
use super::follower::{Follower, Position};
use super::ranges::read_tuples;
use super::ring::{Recent, Ring};
use super::schemas::Schemas;
use super::shared::Shared;
use super::source::Source;
use crate::datastore::{Head, SchemaId};
use crate::graph::{Index, Keeper};
use crate::metrics::LoadOutcome;
use crate::revision::{Revision, StoreId};

/// How often a load starts again because the log was trimmed or forked under it.
const ATTEMPTS: u32 = 3;

impl Shared {
    /// Reads a whole store, not too many at a time and never more than there is room for.
    pub(super) async fn read(self: &Arc<Self>, store: StoreId) -> Result<(Follower, Instant), FeedError> {
        let metrics = &self.source.metrics.memory;
        metrics.loads_waiting.inc();
        let turn = self.loads.acquire().await;
        metrics.loads_waiting.dec();
        let turn = turn.map_err(|_| FeedError::ShuttingDown)?;
        match self.read_now(store).await {
            // Others that are being loaded had reserved what was missing.
            Err(FeedError::Crowded) => {
                drop(turn);
                let all = u32::try_from(self.source.settings.loads.max(1)).unwrap_or(u32::MAX);
                let _alone = self.loads.acquire_many(all).await.map_err(|_| FeedError::ShuttingDown)?;
                self.read_now(store).await
            }
            outcome => outcome,
        }
    }

    async fn read_now(self: &Arc<Self>, store: StoreId) -> Result<(Follower, Instant), FeedError> {
        let metrics = &self.source.metrics.memory;
        metrics.loads_in_progress.inc();
        let begun = Instant::now();
        let loading = AssertUnwindSafe(load(&self.source, &self.schemas, store, self));
        let outcome = loading.catch_unwind().await.unwrap_or(Err(FeedError::Reloading));
        metrics.loads_in_progress.dec();
        metrics.load_seconds.since(begun);
        let told = match &outcome {
            Ok(_) => LoadOutcome::Loaded,
            Err(FeedError::StoreNotFound) => LoadOutcome::NotFound,
            Err(FeedError::TooLarge { .. }) => LoadOutcome::TooLarge,
            Err(_) => LoadOutcome::Failed,
        };
        metrics.loads.of(told).inc();
        if let Err(error @ FeedError::TooLarge { .. }) = &outcome {
            tracing::error!(%store, %error, "store not loaded");
        }
        outcome
    }
}

/// The store's graph, and a moment at which its revision was the newest.
async fn load(
    source: &Source,
    schemas: &Schemas,
    store: StoreId,
    shared: &Arc<Shared>,
) -> Result<(Follower, Instant), FeedError> {
    let mut attempt = 1;
    loop {
        match load_once(source, schemas, store, &Claim::new(shared, store)).await {
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
    claim: &Claim<'_>,
) -> Result<(Follower, Instant), FeedError> {
    let head = head(source, store).await?;
    // A schema that cannot be compiled is found before a million tuples are read for nothing.
    let in_force = schemas.in_force(source, store, head.schema).await?;
    let mut index = Index::kept_by(Arc::clone(claim.residence()) as Arc<dyn Keeper>);
    let mut seen = read_tuples(source, store, &mut index, claim).await?;

    let mut position =
        Position { revision: head.revision, write_id: head.write_id, committed_at: head.committed_at };
    seen.meet(position.revision, position.write_id)?;
    let mut schema = head.schema;
    let mut recent = Recent::default();
    let proved = loop {
        let asked = Instant::now();
        let (fresh, full) = source.read_after(store, position).await?;
        for entry in fresh {
            for change in &entry.changes {
                index.apply(&change.key, change.after.as_ref())?;
            }
            position = Position::of(&entry);
            seen.meet(position.revision, position.write_id)?;
            schema = entry.schema.or(schema);
            recent.push_back(entry, &source.settings);
        }
        claim.reserve(beside(&index, &recent)).await?;
        if !full {
            break asked;
        }
    };
    if !seen.are_met() {
        // A page was read at a revision that the log does not have, or no longer.
        return Err(FeedError::HistoryDiverged);
    }

    let ring = read_ring(source, store, position, head, schema, recent, &index, claim).await?;
    let schema = match in_force {
        Some(in_force) if Some(in_force.id) == schema => Some(in_force),
        _ => schemas.in_force(source, store, schema).await?,
    };
    let (settings, residence) = (Arc::clone(&source.settings), Arc::clone(claim.residence()));
    let follower = Follower::new(store, position, index, ring, schema, residence, settings);
    claim.reserve(follower.bytes()).await?;
    follower.residence.charge.hold(follower.index.ids());
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

/// Fills the ring from the log, backwards from the position, as far as earlier revisions can be
/// asked about.
#[expect(clippy::too_many_arguments, reason = "all that a load has found out so far, used once")]
async fn read_ring(
    source: &Source,
    store: StoreId,
    position: Position,
    head: Head,
    schema: Option<SchemaId>,
    mut recent: Recent,
    index: &Index,
    claim: &Claim<'_>,
) -> Result<Ring, FeedError> {
    let settings = &source.settings;
    let mut span = 64;
    while !recent.reaches(settings) {
        let first = recent.oldest().unwrap_or(position.revision.next());
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
            recent.push_front(entry, settings);
        }
        claim.reserve(beside(index, &recent)).await?;
        span = (span * 2).min(4_096);
    }
    let recent = recent.into_entries();
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
        ring.push(entry, settings);
    }
    let known = settings.ring_revisions.saturating_sub(ring.tags().len());
    ring.know_older(source.tags_up_to(store, before, known).await?, settings);
    Ok(ring)
}

/// What tuples and entries take together.
fn beside(index: &Index, recent: &Recent) -> Bytes {
    Bytes { graph: index.bytes(), ring: recent.bytes(), schemas: 0 }
}

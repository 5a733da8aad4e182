//! The upkeep: small statements on connections of their own, so that it starves nobody. Each may
//! be repeated after a lost answer without harm.
//!
//! A row that is deleted stays in its indexes until the server vacuums. What deletes step by step
//! therefore never begins at the same place twice: a purge goes on from its mark, trimming from
//! the floor.

use std::time::Duration;

use uuid::Uuid;

use super::client::Postgres;
use super::commit::lock;
use super::failure::Failure;
use super::lane::Session;
use super::reads::key;
use super::rows::{Columns, corrupt, number};
use crate::datastore::decide::IDEMPOTENCY_KEPT;
use crate::datastore::encoding::KeyColumns;
use crate::datastore::{DatastoreError, Purge, PurgeMark, Trim, Upkeep};
use crate::revision::{Revision, StoreId};
use crate::tuple::TupleKey;

/// Takes a lease that is free, has ended, or is one's own. One that ends later than any that is
/// given out now was made by a clock that has been set back since; it has ended too.
const TAKE_LEASE: &str = "
WITH clock AS (SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS now)
INSERT INTO relata.lease AS l (duty, holder, until) SELECT $1, $2, now + $3 FROM clock
ON CONFLICT (duty) DO UPDATE SET holder = excluded.holder, until = excluded.until
WHERE l.holder = excluded.holder OR l.until <= excluded.until - $3 OR l.until > excluded.until
RETURNING true";

/// Stores are found by stepping from one to the next in the index of expiry, so that those
/// without expiring tuples cost nothing. The order names both columns of that index: it alone
/// has them so.
const STORES_WITH_EXPIRED: &str = "
WITH RECURSIVE holder AS (
    (SELECT t.store FROM relata.tuple t
     WHERE t.expires_at IS NOT NULL AND ($1::uuid IS NULL OR t.store > $1)
     ORDER BY t.store, t.expires_at LIMIT 1)
    UNION ALL
    SELECT (SELECT t.store FROM relata.tuple t WHERE t.expires_at IS NOT NULL AND t.store > h.store
            ORDER BY t.store, t.expires_at LIMIT 1)
    FROM holder h WHERE h.store IS NOT NULL
)
SELECT s.id FROM holder h JOIN relata.store s ON s.id = h.store AND s.deleted_at IS NULL
WHERE EXISTS (SELECT FROM relata.tuple t WHERE t.store = h.store
              AND t.expires_at <= (extract(epoch FROM statement_timestamp()) * 1000000)::bigint)
ORDER BY s.id LIMIT $2";

const EXPIRED: &str = "
SELECT t.object_type, t.object_id, t.relation, t.subject_type, t.subject_id, t.subject_relation
FROM relata.tuple t
WHERE t.store = $1 AND t.expires_at <= (extract(epoch FROM statement_timestamp()) * 1000000)::bigint
ORDER BY t.expires_at LIMIT $2";

const STORES_WITH_OLD_LOG: &str = "
SELECT s.id FROM relata.store s
WHERE s.deleted_at IS NULL AND ($2::uuid IS NULL OR s.id > $2)
  AND (SELECT r.committed_at FROM relata.revision r WHERE r.store = s.id AND r.revision >= s.floor
       ORDER BY r.revision LIMIT 1)
      < (extract(epoch FROM statement_timestamp()) * 1000000)::bigint - $1
  AND EXISTS (SELECT FROM relata.revision r WHERE r.store = s.id AND r.revision > greatest(s.floor, 1))
ORDER BY s.id LIMIT $3";

/// The first revision that stays: after old ones of together about as many rows as wanted.
const FIRST_THAT_STAYS: &str = "
SELECT max(revision) + 1 FROM (
    SELECT revision, committed_at, sum(changes + 1) OVER (ORDER BY revision) - changes - 1 AS rows_before
    FROM (SELECT revision, committed_at, changes FROM relata.revision
          WHERE store = $1 AND revision >= $2 ORDER BY revision LIMIT $4) first) old
WHERE rows_before < $4
  AND committed_at < (extract(epoch FROM clock_timestamp()) * 1000000)::bigint - $3
  AND revision < (SELECT max(revision) FROM relata.revision WHERE store = $1)";

const TRIM: &str = "
WITH changes AS (
    DELETE FROM relata.change WHERE store = $1 AND revision >= $2 AND revision < $3 RETURNING 1
), revisions AS (
    DELETE FROM relata.revision WHERE store = $1 AND revision >= $2 AND revision < $3 RETURNING 1
), moved AS (
    UPDATE relata.store SET floor = $3 WHERE id = $1 RETURNING 1
)
SELECT (SELECT count(*) FROM revisions), (SELECT count(*) FROM changes), (SELECT count(*) FROM moved)";

/// The oldest keys of each store in turn, as stores are found above.
const FORGET_KEYS: &str = "
WITH RECURSIVE holder AS (
    (SELECT i.store FROM relata.idempotency i ORDER BY i.store, i.at LIMIT 1)
    UNION ALL
    SELECT (SELECT i.store FROM relata.idempotency i WHERE i.store > h.store ORDER BY i.store, i.at LIMIT 1)
    FROM holder h WHERE h.store IS NOT NULL
), forgotten AS (
    DELETE FROM relata.idempotency WHERE ctid = ANY (ARRAY (
        SELECT old.place FROM holder h
        CROSS JOIN LATERAL (
            SELECT i.ctid AS place FROM relata.idempotency i
            WHERE i.store = h.store
              AND i.at < (extract(epoch FROM statement_timestamp()) * 1000000)::bigint - $1
            ORDER BY i.at LIMIT $2) AS old
        LIMIT $2))
    RETURNING 1
)
SELECT count(*) FROM forgotten";

#[async_trait::async_trait]
impl Upkeep for Postgres {
    async fn take_lease(&self, duty: &str, holder: Uuid, term: Duration) -> Result<bool, DatastoreError> {
        let duty = duty.to_owned();
        let term = micros(term);
        let taken = self.upkeep_lane().talk(move |session| {
            let query = sqlx::query(TAKE_LEASE).bind(duty.clone()).bind(holder).bind(term);
            Box::pin(async move { session.rows(query).await.map(|rows| !rows.is_empty()) })
        });
        self.told(taken.await).await
    }

    async fn return_lease(&self, duty: &str, holder: Uuid) -> Result<(), DatastoreError> {
        let duty = duty.to_owned();
        let returned = self.upkeep_lane().talk(move |session| {
            let query = sqlx::query("DELETE FROM relata.lease WHERE duty = $1 AND holder = $2");
            let query = query.bind(duty.clone()).bind(holder);
            Box::pin(async move { session.rows(query).await.map(drop) })
        });
        self.told(returned.await).await
    }

    async fn stores_with_expired(
        &self,
        after: Option<StoreId>,
        limit: u32,
    ) -> Result<Vec<StoreId>, DatastoreError> {
        let found = self.upkeep_lane().talk(move |session| {
            let query = sqlx::query(STORES_WITH_EXPIRED);
            let query = query.bind(after.map(|store| store.0)).bind(i64::from(limit));
            Box::pin(async move { stores(session, query).await })
        });
        self.told(found.await).await
    }

    async fn expired(&self, store: StoreId, limit: u32) -> Result<Vec<TupleKey>, DatastoreError> {
        let found = self.upkeep_lane().talk(move |session| {
            let query = sqlx::query(EXPIRED).bind(store.0).bind(i64::from(limit));
            Box::pin(async move {
                let rows = session.rows(query).await?;
                rows.iter().map(|row| key(&mut Columns::of(row))).collect()
            })
        });
        self.told(found.await).await
    }

    async fn deleted_stores(
        &self,
        after: Option<StoreId>,
        limit: u32,
    ) -> Result<Vec<StoreId>, DatastoreError> {
        let found = self.upkeep_lane().talk(move |session| {
            let query = sqlx::query(
                "SELECT id FROM relata.store
                 WHERE deleted_at IS NOT NULL AND ($1::uuid IS NULL OR id > $1) ORDER BY id LIMIT $2",
            );
            let query = query.bind(after.map(|store| store.0)).bind(i64::from(limit));
            Box::pin(async move { stores(session, query).await })
        });
        self.told(found.await).await
    }

    async fn purge(&self, store: StoreId, from: PurgeMark, limit: u32) -> Result<Purge, DatastoreError> {
        let purged = self.upkeep_lane().talk(move |session| {
            let from = from.clone();
            Box::pin(async move { purge(session, store, from, limit).await })
        });
        self.told(purged.await).await
    }

    async fn stores_with_old_log(
        &self,
        age: Duration,
        after: Option<StoreId>,
        limit: u32,
    ) -> Result<Vec<StoreId>, DatastoreError> {
        let found = self.upkeep_lane().talk(move |session| {
            let query = sqlx::query(STORES_WITH_OLD_LOG).bind(micros(age));
            let query = query.bind(after.map(|store| store.0)).bind(i64::from(limit));
            Box::pin(async move { stores(session, query).await })
        });
        self.told(found.await).await
    }

    async fn trim(&self, store: StoreId, age: Duration, limit: u32) -> Result<Trim, DatastoreError> {
        let trimmed = self
            .upkeep_lane()
            .talk(move |session| Box::pin(async move { trim(session, store, age, limit).await }));
        self.told(trimmed.await).await
    }

    async fn forget_keys(&self, limit: u32) -> Result<u64, DatastoreError> {
        let forgotten = self.upkeep_lane().talk(move |session| {
            let query = sqlx::query(FORGET_KEYS).bind(micros(IDEMPOTENCY_KEPT)).bind(i64::from(limit));
            Box::pin(async move {
                let rows = session.rows(query).await?;
                let row = rows.first().ok_or_else(|| corrupt("no count of what was forgotten"))?;
                count(&mut Columns::of(row))
            })
        });
        self.told(forgotten.await).await
    }
}

type Statement = sqlx::query::Query<'static, sqlx::Postgres, sqlx::postgres::PgArguments>;

async fn stores(session: &mut Session, query: Statement) -> Result<Vec<StoreId>, Failure> {
    let rows = session.rows(query).await?;
    rows.iter().map(|row| Columns::of(row).next().map(StoreId)).collect()
}

/// One step of a purge. It takes no lock: nobody writes to a store that is deleted, and whoever
/// held its lock before has finished, since the mark of deletion was set under it.
async fn purge(
    session: &mut Session,
    StoreId(store): StoreId,
    from: PurgeMark,
    limit: u32,
) -> Result<Purge, Failure> {
    let limit_rows = i64::from(limit.max(1));
    match from {
        PurgeMark::Tuples(after) => {
            // Every part of a key but the last is never empty, so all keys come after empty ones.
            let after = after.as_ref().map_or([""; 6], |after| KeyColumns::of(after).values());
            let query = after
                .into_iter()
                .fold(sqlx::query(PURGE_TUPLES).bind(store), |query, part| query.bind(part.to_owned()));
            let rows = session.rows(query.bind(limit_rows)).await?;
            let Some(last) = rows.first() else {
                return Ok(Purge { rows: 0, next: Some(PurgeMark::Changes(Revision::ZERO)) });
            };
            let mut columns = Columns::of(last);
            let removed = count(&mut columns)?;
            Ok(Purge { rows: removed, next: Some(PurgeMark::Tuples(Some(key(&mut columns)?))) })
        }
        PurgeMark::Changes(from) => {
            let query = sqlx::query(PURGE_CHANGES).bind(store).bind(number(from)).bind(limit_rows);
            purge_by_revision(session, query, PurgeMark::Changes, PurgeMark::Revisions(Revision::ZERO)).await
        }
        PurgeMark::Revisions(from) => {
            let query = sqlx::query(PURGE_REVISIONS).bind(store).bind(number(from)).bind(limit_rows);
            purge_by_revision(session, query, PurgeMark::Revisions, PurgeMark::Rest).await
        }
        PurgeMark::Rest => {
            for statement in [PURGE_KEYS, PURGE_SCHEMAS] {
                let rows = session.rows(sqlx::query(statement).bind(store).bind(limit_rows)).await?;
                let row = rows.first().ok_or_else(|| corrupt("no count of what was purged"))?;
                let rows = count(&mut Columns::of(row))?;
                if rows > 0 {
                    return Ok(Purge { rows, next: Some(PurgeMark::Rest) });
                }
            }
            let rows = session.rows(sqlx::query(PURGE_STORE).bind(store)).await?;
            Ok(Purge { rows: rows.len() as u64, next: None })
        }
    }
}

/// `deleted` names the store only if it is deleted: a live one loses nothing, whatever is asked.
const PURGE_TUPLES: &str = "
WITH deleted AS (SELECT id FROM relata.store WHERE id = $1 AND deleted_at IS NOT NULL),
gone AS (
    DELETE FROM relata.tuple WHERE ctid = ANY (ARRAY (
        SELECT t.ctid FROM relata.tuple t
        WHERE t.store = (SELECT id FROM deleted)
          AND (t.object_type, t.object_id, t.relation, t.subject_type, t.subject_id, t.subject_relation)
            > ($2, $3, $4, $5, $6, $7)
        ORDER BY t.object_type, t.object_id, t.relation, t.subject_type, t.subject_id, t.subject_relation
        LIMIT $8))
    RETURNING object_type, object_id, relation, subject_type, subject_id, subject_relation
)
SELECT count(*) OVER (), gone.* FROM gone
ORDER BY 2 DESC, 3 DESC, 4 DESC, 5 DESC, 6 DESC, 7 DESC LIMIT 1";

const PURGE_CHANGES: &str = "
WITH deleted AS (SELECT id FROM relata.store WHERE id = $1 AND deleted_at IS NOT NULL),
gone AS (
    DELETE FROM relata.change WHERE ctid = ANY (ARRAY (
        SELECT c.ctid FROM relata.change c WHERE c.store = (SELECT id FROM deleted) AND c.revision >= $2
        ORDER BY c.revision, c.ordinal LIMIT $3))
    RETURNING revision
)
SELECT count(*), max(revision) FROM gone";

const PURGE_REVISIONS: &str = "
WITH deleted AS (SELECT id FROM relata.store WHERE id = $1 AND deleted_at IS NOT NULL),
gone AS (
    DELETE FROM relata.revision WHERE ctid = ANY (ARRAY (
        SELECT r.ctid FROM relata.revision r WHERE r.store = (SELECT id FROM deleted) AND r.revision >= $2
        ORDER BY r.revision LIMIT $3))
    RETURNING revision
)
SELECT count(*), max(revision) FROM gone";

const PURGE_KEYS: &str = "
WITH gone AS (
    DELETE FROM relata.idempotency WHERE ctid = ANY (ARRAY (
        SELECT i.ctid FROM relata.idempotency i
        WHERE i.store = (SELECT id FROM relata.store WHERE id = $1 AND deleted_at IS NOT NULL) LIMIT $2))
    RETURNING 1
)
SELECT count(*) FROM gone";

const PURGE_SCHEMAS: &str = "
WITH gone AS (
    DELETE FROM relata.schema WHERE ctid = ANY (ARRAY (
        SELECT h.ctid FROM relata.schema h
        WHERE h.store = (SELECT id FROM relata.store WHERE id = $1 AND deleted_at IS NOT NULL) LIMIT $2))
    RETURNING 1
)
SELECT count(*) FROM gone";

const PURGE_STORE: &str = "DELETE FROM relata.store WHERE id = $1 AND deleted_at IS NOT NULL RETURNING 1";

async fn purge_by_revision(
    session: &mut Session,
    query: Statement,
    mark: fn(Revision) -> PurgeMark,
    then: PurgeMark,
) -> Result<Purge, Failure> {
    let rows = session.rows(query).await?;
    let row = rows.first().ok_or_else(|| corrupt("no count of what was purged"))?;
    let mut columns = Columns::of(row);
    let rows = count(&mut columns)?;
    let next = if rows == 0 { then } else { mark(columns.revision()?) };
    Ok(Purge { rows, next: Some(next) })
}

async fn trim(session: &mut Session, store: StoreId, age: Duration, limit: u32) -> Result<Trim, Failure> {
    let Some(locked) = lock(session, store).await? else {
        session.rollback().await?;
        return Ok(Trim::default());
    };
    let floor = number(locked.floor());
    let limit = i64::from(limit.max(1));
    let query = sqlx::query(FIRST_THAT_STAYS).bind(store.0).bind(floor).bind(micros(age)).bind(limit);
    let rows = session.rows(query).await?;
    let stays: Option<i64> = rows.first().map(|row| Columns::of(row).next()).transpose()?.flatten();
    let Some(stays) = stays else {
        session.rollback().await?;
        return Ok(Trim::default());
    };
    let rows = session.rows(sqlx::query(TRIM).bind(store.0).bind(floor).bind(stays)).await?;
    let row = rows.first().ok_or_else(|| corrupt("no counts of what was trimmed"))?;
    let mut columns = Columns::of(row);
    let (revisions, changes, moved) = (count(&mut columns)?, count(&mut columns)?, count(&mut columns)?);
    if moved != 1 {
        return Err(corrupt(format!(
            "store {store}: its floor was not moved; its row was changed without its lock"
        )));
    }
    session.commit().await?;
    Ok(Trim { revisions, changes, more: revisions + changes >= limit.unsigned_abs() })
}

fn count(columns: &mut Columns<'_>) -> Result<u64, Failure> {
    let count: i64 = columns.next()?;
    Ok(count.unsigned_abs())
}

/// A duration as the database counts time.
fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX / 4)
}

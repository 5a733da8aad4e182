//! The upkeep: short jobs on the connection that writes, between those of the committer.

use std::time::Duration;

use rusqlite::{Connection, Transaction, TransactionBehavior, params};
use uuid::Uuid;

use super::rows::{self, bytes, failed, get, number};
use super::{DatastoreError, Sqlite, file, read};
use crate::datastore::decide::IDEMPOTENCY_KEPT;
use crate::datastore::{Purge, PurgeMark, Trim, Upkeep};
use crate::revision::{Revision, StoreId};
use crate::tuple::TupleKey;

/// Stores are found by stepping from one to the next in the index of expiry, so that those
/// without expiring tuples cost nothing.
const STORES_WITH_EXPIRED: &str = "
WITH RECURSIVE holder (store) AS (
    SELECT (SELECT t.store FROM tuple t INDEXED BY tuple_expiry
            WHERE t.expires_at IS NOT NULL AND t.store > ?1 ORDER BY t.store LIMIT 1)
    UNION ALL
    SELECT (SELECT t.store FROM tuple t INDEXED BY tuple_expiry
            WHERE t.expires_at IS NOT NULL AND t.store > holder.store ORDER BY t.store LIMIT 1)
    FROM holder WHERE holder.store IS NOT NULL
)
SELECT s.id FROM holder CROSS JOIN store s ON s.id = holder.store AND s.deleted_at IS NULL
WHERE EXISTS (SELECT 1 FROM tuple t INDEXED BY tuple_expiry
              WHERE t.store = holder.store AND t.expires_at <= ?2)
ORDER BY s.id LIMIT ?3";

const EXPIRED: &str = "
SELECT object_type, object_id, relation, subject_type, subject_id, subject_relation
FROM tuple INDEXED BY tuple_expiry WHERE store = ? AND expires_at <= ? ORDER BY expires_at LIMIT ?";

const STORES_WITH_OLD_LOG: &str = "
SELECT s.id FROM store s
WHERE s.deleted_at IS NULL AND s.id > ?1
  AND (SELECT r.committed_at FROM revision r WHERE r.store = s.id AND r.revision >= s.floor
       ORDER BY r.revision LIMIT 1) < ?2
  AND EXISTS (SELECT 1 FROM revision r WHERE r.store = s.id AND r.revision > max(s.floor, 1))
ORDER BY s.id LIMIT ?3";

/// What is deleted of a store, table by table; the columns are those of the primary keys.
const PURGES: [&str; 5] = [
    "DELETE FROM tuple WHERE (store, object_type, object_id, relation, subject_type, subject_id, subject_relation)
     IN (SELECT store, object_type, object_id, relation, subject_type, subject_id, subject_relation
         FROM tuple WHERE store = ? LIMIT ?)",
    "DELETE FROM change WHERE (store, revision, ordinal)
     IN (SELECT store, revision, ordinal FROM change WHERE store = ? LIMIT ?)",
    "DELETE FROM revision WHERE (store, revision)
     IN (SELECT store, revision FROM revision WHERE store = ? LIMIT ?)",
    "DELETE FROM idempotency WHERE (store, principal, key)
     IN (SELECT store, principal, key FROM idempotency WHERE store = ? LIMIT ?)",
    "DELETE FROM schema WHERE (store, id) IN (SELECT store, id FROM schema WHERE store = ? LIMIT ?)",
];

const FORGET_KEYS: &str = "
DELETE FROM idempotency WHERE (store, principal, key) IN (
    SELECT i.store, i.principal, i.key FROM store s JOIN idempotency i ON i.store = s.id
    WHERE i.at < ? LIMIT ?)";

#[async_trait::async_trait]
impl Upkeep for Sqlite {
    async fn take_lease(&self, duty: &str, holder: Uuid, term: Duration) -> Result<bool, DatastoreError> {
        let duty = duty.to_owned();
        let sql = "INSERT INTO lease (duty, holder, until) VALUES (?1, ?2, ?3) \
                   ON CONFLICT (duty) DO UPDATE SET holder = ?2, until = ?3 \
                   WHERE holder = ?2 OR until <= ?4 OR until > ?3";
        self.write(move |connection| {
            let now = file::now().as_micros();
            let until = now.saturating_add(micros(term));
            let taken = connection.execute(sql, params![duty, holder.as_bytes(), until, now]);
            Ok(taken.map_err(failed)? > 0)
        })
        .await
    }

    async fn return_lease(&self, duty: &str, holder: Uuid) -> Result<(), DatastoreError> {
        let duty = duty.to_owned();
        let sql = "DELETE FROM lease WHERE duty = ? AND holder = ?";
        self.write(move |connection| {
            connection.execute(sql, params![duty, holder.as_bytes()]).map(drop).map_err(failed)
        })
        .await
    }

    async fn stores_with_expired(
        &self,
        after: Option<StoreId>,
        limit: u32,
    ) -> Result<Vec<StoreId>, DatastoreError> {
        self.read(move |snapshot| {
            let now = file::now().as_micros();
            stores(snapshot, STORES_WITH_EXPIRED, params![first(after), now, limit])
        })
        .await
    }

    async fn expired(&self, store: StoreId, limit: u32) -> Result<Vec<TupleKey>, DatastoreError> {
        self.read(move |snapshot| {
            let mut statement = snapshot.prepare_cached(EXPIRED).map_err(failed)?;
            let parameters = params![bytes(store), file::now().as_micros(), limit];
            let mut found = statement.query(parameters).map_err(failed)?;
            let mut keys = Vec::new();
            while let Some(row) = found.next().map_err(failed)? {
                keys.push(rows::key(row, 0)?);
            }
            Ok(keys)
        })
        .await
    }

    async fn deleted_stores(
        &self,
        after: Option<StoreId>,
        limit: u32,
    ) -> Result<Vec<StoreId>, DatastoreError> {
        let sql = "SELECT id FROM store WHERE deleted_at IS NOT NULL AND id > ? ORDER BY id LIMIT ?";
        self.read(move |snapshot| stores(snapshot, sql, params![first(after), limit])).await
    }

    async fn purge(&self, store: StoreId, _from: PurgeMark, limit: u32) -> Result<Purge, DatastoreError> {
        self.write(move |connection| purge(connection, store, limit)).await
    }

    async fn stores_with_old_log(
        &self,
        age: Duration,
        after: Option<StoreId>,
        limit: u32,
    ) -> Result<Vec<StoreId>, DatastoreError> {
        self.read(move |snapshot| {
            let before = file::now().as_micros().saturating_sub(micros(age));
            stores(snapshot, STORES_WITH_OLD_LOG, params![first(after), before, limit])
        })
        .await
    }

    async fn trim(&self, store: StoreId, age: Duration, limit: u32) -> Result<Trim, DatastoreError> {
        self.write(move |connection| trim(connection, store, age, limit)).await
    }

    async fn forget_keys(&self, limit: u32) -> Result<u64, DatastoreError> {
        self.write(move |connection| {
            let before = file::now().as_micros().saturating_sub(micros(IDEMPOTENCY_KEPT));
            delete(connection, FORGET_KEYS, params![before, limit])
        })
        .await
    }
}

/// Below every id that follows a store's.
fn first(after: Option<StoreId>) -> Vec<u8> {
    after.map_or_else(Vec::new, |store| bytes(store).to_vec())
}

fn stores(
    snapshot: &Connection,
    sql: &str,
    parameters: impl rusqlite::Params,
) -> Result<Vec<StoreId>, DatastoreError> {
    let mut statement = snapshot.prepare_cached(sql).map_err(failed)?;
    let mut found = statement.query(parameters).map_err(failed)?;
    let mut stores = Vec::new();
    while let Some(row) = found.next().map_err(failed)? {
        stores.push(rows::store_id(row, 0)?);
    }
    Ok(stores)
}

fn delete(
    connection: &Connection,
    sql: &str,
    parameters: impl rusqlite::Params,
) -> Result<u64, DatastoreError> {
    let mut statement = connection.prepare_cached(sql).map_err(failed)?;
    statement.execute(parameters).map(|rows| rows as u64).map_err(failed)
}

/// What is deleted is gone from the trees at once, so the first rows that are left are always the
/// next to go, and no mark is needed.
fn purge(connection: &mut Connection, store: StoreId, limit: u32) -> Result<Purge, DatastoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
    let sql = "SELECT 1 FROM store WHERE id = ? AND deleted_at IS NOT NULL";
    if !transaction.prepare_cached(sql).map_err(failed)?.exists([bytes(store)]).map_err(failed)? {
        return Ok(Purge { rows: 0, next: None });
    }
    let mut removed = 0;
    for sql in PURGES {
        removed = delete(&transaction, sql, params![bytes(store), limit.max(1)])?;
        if removed > 0 {
            break;
        }
    }
    let next = (removed > 0).then_some(PurgeMark::START);
    if next.is_none() {
        removed = delete(&transaction, "DELETE FROM store WHERE id = ?", [bytes(store)])?;
    }
    transaction.commit().map_err(|error| DatastoreError::OutcomeUnknown(error.into()))?;
    Ok(Purge { rows: removed, next })
}

fn trim(
    connection: &mut Connection,
    store: StoreId,
    age: Duration,
    limit: u32,
) -> Result<Trim, DatastoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
    let head = match read::head(&transaction, store) {
        Ok(head) => head,
        Err(DatastoreError::StoreNotFound) => return Ok(Trim::default()),
        Err(error) => return Err(error),
    };
    let before = file::now().as_micros().saturating_sub(micros(age));
    let Some(stays) = first_that_stays(&transaction, store, head.floor, head.revision, before, limit.max(1))?
    else {
        return Ok(Trim::default());
    };
    let range = params![bytes(store), number(stays)];
    let changes = delete(&transaction, "DELETE FROM change WHERE store = ? AND revision < ?", range)?;
    let range = params![bytes(store), number(stays)];
    let revisions = delete(&transaction, "DELETE FROM revision WHERE store = ? AND revision < ?", range)?;
    let floor = params![number(stays), bytes(store)];
    delete(&transaction, "UPDATE store SET floor = ? WHERE id = ?", floor)?;
    transaction.commit().map_err(|error| DatastoreError::OutcomeUnknown(error.into()))?;
    Ok(Trim { revisions, changes, more: revisions + changes >= u64::from(limit) })
}

/// The revision after the old ones that make together about as many rows as wanted.
fn first_that_stays(
    transaction: &Transaction<'_>,
    store: StoreId,
    floor: Revision,
    head: Revision,
    before: i64,
    limit: u32,
) -> Result<Option<Revision>, DatastoreError> {
    let sql = "SELECT revision, changes FROM revision \
               WHERE store = ? AND revision >= ? AND revision < ? AND committed_at < ? \
               ORDER BY revision LIMIT ?";
    let mut statement = transaction.prepare_cached(sql).map_err(failed)?;
    let parameters = params![bytes(store), number(floor), number(head), before, limit];
    let mut found = statement.query(parameters).map_err(failed)?;
    let (mut rows, mut last) = (0, None);
    while rows < i64::from(limit) {
        let Some(row) = found.next().map_err(failed)? else { break };
        let changes: i64 = get(row, 1)?;
        rows += changes + 1;
        last = Some(rows::revision(row, 0)?);
    }
    Ok(last.map(Revision::next))
}

/// A duration as the tables count time.
fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

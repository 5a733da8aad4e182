//! The transaction of a group of writes: lock, read, decide, store, commit.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension as _, Transaction, TransactionBehavior, params};

use super::rows::{self, bytes, failed, get, number};
use super::{DatastoreError, Outcome, StoredSchema, Write, file, read, scan};
use crate::datastore::decide::{
    Decision, FILTERS_TIME, Found, IDEMPOTENCY_KEPT, Needs, Plan, Remembered, Scope, Since, UNJUDGED_AT_MOST,
    Upsert, decide,
};
use crate::datastore::encoding::{AttributeColumns, KeyColumns, state_to_text};
use crate::datastore::{Change, GroupError, LogEntry};
use crate::revision::{Revision, StoreId, WriteId};
use crate::time::Timestamp;
use crate::tuple::{Attributes, TupleKey};

/// Forgotten idempotency keys removed with each group that brings new ones: more than it
/// brings, so that they do not pile up, and few enough not to be felt.
const FORGOTTEN_AT_ONCE: u32 = 2_000;

/// Takes the lock that writers take.
///
/// IMMEDIATE takes it now. A deferred transaction takes it at its first write, and fails if
/// another one has written since it began to read.
pub(super) fn begin(connection: &mut Connection) -> Result<Transaction<'_>, DatastoreError> {
    connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)
}

/// Commits a group of writes of one store.
pub(super) fn commit(
    transaction: Transaction<'_>,
    store: StoreId,
    group: &[Write],
) -> Result<Vec<Outcome>, GroupError> {
    let found = find(&transaction, store, &Needs::of(group))?;
    let now = found.now;
    let Decision { outcomes, plan } = decide(found, group);
    if plan.is_empty() {
        transaction.rollback().map_err(failed)?;
        return Ok(outcomes);
    }
    apply(&transaction, store, &plan, now)?;
    match transaction.commit() {
        Ok(()) => Ok(outcomes),
        // Such as a full disk: all of it may be in the write-ahead log, or some, or nothing.
        Err(error) => Err(GroupError::InDoubt { decided: outcomes, cause: error.into() }),
    }
}

/// Whether a revision is a write's, on a connection opened since.
pub(super) fn settle(
    connection: &mut Connection,
    store: StoreId,
    revision: Revision,
    write: WriteId,
) -> Result<bool, DatastoreError> {
    let transaction = begin(connection)?;
    let sql = "SELECT s.floor, r.write_id FROM store s \
               LEFT JOIN revision r ON r.store = s.id AND r.revision = ?2 WHERE s.id = ?1";
    let found = transaction
        .query_row(sql, params![bytes(store), number(revision)], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, Option<[u8; 16]>>(1)?))
        })
        .optional()
        .map_err(failed)?;
    transaction.rollback().map_err(failed)?;
    match found {
        None => Err(DatastoreError::StoreNotFound),
        Some((_, Some(found))) => Ok(found == *write.0.as_bytes()),
        Some((floor, None)) if number(revision) < floor => {
            Err(DatastoreError::Trimmed { floor: Revision(u64::try_from(floor).unwrap_or(0)) })
        }
        Some((_, None)) => Ok(false),
    }
}

fn find(transaction: &Transaction<'_>, store: StoreId, needs: &Needs) -> Result<Found, DatastoreError> {
    let head = read::head(transaction, store)?;
    let now = file::now().max(head.committed_at);
    let mut tuples = HashMap::with_capacity(needs.keys.len());
    for key in &needs.keys {
        if let Some(attributes) = stored(transaction, store, key)? {
            tuples.insert(key.clone(), attributes);
        }
    }
    let matching = scan::matching(transaction, store, &needs.filters, now, FILTERS_TIME)?;
    let mut remembered = HashMap::new();
    for scope in &needs.idempotency {
        if let Some(first) = first_use(transaction, store, scope)? {
            remembered.insert(scope.clone(), first);
        }
    }
    let mut since = HashMap::new();
    for revision in &needs.since {
        since.insert(*revision, written_since(transaction, store, *revision)?);
    }
    Ok(Found { now, head, tuples, matching, remembered, since })
}

/// What was written since a revision.
fn written_since(
    transaction: &Transaction<'_>,
    store: StoreId,
    revision: Revision,
) -> Result<Since, DatastoreError> {
    let sql = "SELECT write_id FROM revision WHERE store = ?1 AND revision = ?2";
    let mut statement = transaction.prepare_cached(sql).map_err(failed)?;
    let mut found = statement.query(params![bytes(store), number(revision)]).map_err(failed)?;
    let write_id = found.next().map_err(failed)?.map(|row| rows::write_id(row, 0)).transpose()?;
    let sql = "SELECT object_type, object_id, relation, subject_type, subject_id, subject_relation, \
               condition_name, condition_context, expires_at FROM tuple \
               WHERE store = ?1 AND revision > ?2 ORDER BY revision, ordinal LIMIT ?3";
    let mut statement = transaction.prepare_cached(sql).map_err(failed)?;
    let mut found =
        statement.query(params![bytes(store), number(revision), UNJUDGED_AT_MOST + 1]).map_err(failed)?;
    let mut tuples = Vec::new();
    while let Some(row) = found.next().map_err(failed)? {
        tuples.push(rows::attributes(row, 6, rows::key(row, 0)?)?);
    }
    Ok(Since { write_id, tuples })
}

fn stored(
    transaction: &Transaction<'_>,
    store: StoreId,
    key: &TupleKey,
) -> Result<Option<Attributes>, DatastoreError> {
    let sql = "SELECT condition_name, condition_context, expires_at FROM tuple \
               WHERE store = ?1 AND object_type = ?2 AND object_id = ?3 AND relation = ?4 \
               AND subject_type = ?5 AND subject_id = ?6 AND subject_relation = ?7";
    let mut statement = transaction.prepare_cached(sql).map_err(failed)?;
    let k = KeyColumns::of(key);
    let mut found = statement
        .query(params![
            bytes(store),
            k.object_type,
            k.object_id,
            k.relation,
            k.subject_type,
            k.subject_id,
            k.subject_relation
        ])
        .map_err(failed)?;
    let Some(row) = found.next().map_err(failed)? else { return Ok(None) };
    rows::attributes(row, 0, key.clone()).map(|tuple| Some(tuple.attributes))
}

fn first_use(
    transaction: &Transaction<'_>,
    store: StoreId,
    scope: &Scope,
) -> Result<Option<Remembered>, DatastoreError> {
    let sql = "SELECT request, revision, write_id, schema FROM idempotency \
               WHERE store = ? AND principal = ? AND key = ?";
    let mut statement = transaction.prepare_cached(sql).map_err(failed)?;
    let mut found = statement.query(params![bytes(store), &*scope.principal, &*scope.key]).map_err(failed)?;
    let Some(row) = found.next().map_err(failed)? else { return Ok(None) };
    Ok(Some(Remembered {
        request: get(row, 0)?,
        revision: rows::revision(row, 1)?,
        write_id: rows::write_id(row, 2)?,
        schema: rows::optional_schema_id(row, 3)?,
    }))
}

fn apply(
    transaction: &Transaction<'_>,
    store: StoreId,
    plan: &Plan,
    now: Timestamp,
) -> Result<(), DatastoreError> {
    for key in &plan.deletes {
        delete(transaction, store, key)?;
    }
    for upsert in &plan.upserts {
        insert_or_replace(transaction, store, upsert)?;
    }
    for entry in &plan.entries {
        append(transaction, store, entry)?;
    }
    for schema in &plan.schemas {
        insert_schema(transaction, store, schema)?;
    }
    if let Some(newest) = plan.schemas.last() {
        execute(
            transaction,
            "UPDATE store SET schema = ? WHERE id = ?",
            params![newest.id.0.to_string(), bytes(store)],
        )?;
    }
    for (scope, first) in &plan.remembered {
        remember(transaction, store, scope, first, now)?;
    }
    if !plan.remembered.is_empty() {
        forget(transaction, store, now)?;
    }
    Ok(())
}

/// Every statement of a plan concerns one row that is known to be there, or not to be.
fn execute(
    transaction: &Transaction<'_>,
    sql: &str,
    parameters: impl rusqlite::Params,
) -> Result<(), DatastoreError> {
    let mut statement = transaction.prepare_cached(sql).map_err(failed)?;
    match statement.execute(parameters).map_err(failed)? {
        1 => Ok(()),
        rows => Err(DatastoreError::Other(anyhow::anyhow!("{rows} rows instead of one by: {sql}"))),
    }
}

fn delete(transaction: &Transaction<'_>, store: StoreId, key: &TupleKey) -> Result<(), DatastoreError> {
    let sql = "DELETE FROM tuple WHERE store = ?1 AND object_type = ?2 AND object_id = ?3 AND relation = ?4 \
               AND subject_type = ?5 AND subject_id = ?6 AND subject_relation = ?7";
    let k = KeyColumns::of(key);
    execute(
        transaction,
        sql,
        params![
            bytes(store),
            k.object_type,
            k.object_id,
            k.relation,
            k.subject_type,
            k.subject_id,
            k.subject_relation
        ],
    )
}

fn insert_or_replace(
    transaction: &Transaction<'_>,
    store: StoreId,
    upsert: &Upsert,
) -> Result<(), DatastoreError> {
    let sql = "INSERT INTO tuple (store, object_type, object_id, relation, subject_type, subject_id, \
               subject_relation, condition_name, condition_context, expires_at, revision, ordinal) \
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12) \
               ON CONFLICT DO UPDATE SET condition_name = ?8, condition_context = ?9, expires_at = ?10, \
               revision = ?11, ordinal = ?12";
    let k = KeyColumns::of(&upsert.tuple.key);
    let carried = AttributeColumns::of(&upsert.tuple.attributes)?;
    execute(
        transaction,
        sql,
        params![
            bytes(store),
            k.object_type,
            k.object_id,
            k.relation,
            k.subject_type,
            k.subject_id,
            k.subject_relation,
            carried.condition_name,
            carried.condition_context,
            carried.expires_at,
            number(upsert.revision),
            upsert.ordinal
        ],
    )
}

fn append(transaction: &Transaction<'_>, store: StoreId, entry: &LogEntry) -> Result<(), DatastoreError> {
    execute(
        transaction,
        "INSERT INTO revision (store, revision, write_id, committed_at, principal, note, changes, schema) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        params![
            bytes(store),
            number(entry.revision),
            entry.write_id.0.as_bytes(),
            entry.committed_at.as_micros(),
            &*entry.principal,
            &*entry.note,
            i64::try_from(entry.changes.len()).unwrap_or(i64::MAX),
            entry.schema.map(|id| id.0.to_string())
        ],
    )?;
    for (ordinal, change) in (0_i64..).zip(&entry.changes) {
        append_change(transaction, store, entry, ordinal, change)?;
    }
    Ok(())
}

fn append_change(
    transaction: &Transaction<'_>,
    store: StoreId,
    entry: &LogEntry,
    ordinal: i64,
    change: &Change,
) -> Result<(), DatastoreError> {
    let state = |state: &Option<Attributes>| state.as_ref().map(state_to_text).transpose();
    let k = KeyColumns::of(&change.key);
    execute(
        transaction,
        "INSERT INTO change (store, revision, ordinal, object_type, object_id, relation, subject_type, \
         subject_id, subject_relation, before, after) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        params![
            bytes(store),
            number(entry.revision),
            ordinal,
            k.object_type,
            k.object_id,
            k.relation,
            k.subject_type,
            k.subject_id,
            k.subject_relation,
            state(&change.before)?,
            state(&change.after)?
        ],
    )
}

fn insert_schema(
    transaction: &Transaction<'_>,
    store: StoreId,
    schema: &StoredSchema,
) -> Result<(), DatastoreError> {
    execute(
        transaction,
        "INSERT INTO schema (store, id, revision, written_at, text, json) VALUES (?, ?, ?, ?, ?, ?)",
        params![
            bytes(store),
            schema.id.0.to_string(),
            number(schema.revision),
            schema.written_at.as_micros(),
            &*schema.text,
            &*schema.json
        ],
    )
}

fn remember(
    transaction: &Transaction<'_>,
    store: StoreId,
    scope: &Scope,
    first: &Remembered,
    now: Timestamp,
) -> Result<(), DatastoreError> {
    execute(
        transaction,
        "INSERT INTO idempotency (store, principal, key, request, revision, write_id, schema, at) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        params![
            bytes(store),
            &*scope.principal,
            &*scope.key,
            first.request,
            number(first.revision),
            first.write_id.0.as_bytes(),
            first.schema.map(|id| id.0.to_string()),
            now.as_micros()
        ],
    )
}

/// Removes idempotency keys that need not be remembered any longer.
fn forget(transaction: &Transaction<'_>, store: StoreId, now: Timestamp) -> Result<(), DatastoreError> {
    let kept = i64::try_from(IDEMPOTENCY_KEPT.as_micros()).unwrap_or(i64::MAX);
    let sql = "DELETE FROM idempotency WHERE (store, principal, key) IN \
               (SELECT store, principal, key FROM idempotency WHERE store = ? AND at < ? LIMIT ?)";
    let mut statement = transaction.prepare_cached(sql).map_err(failed)?;
    let before = now.as_micros().saturating_sub(kept);
    statement.execute(params![bytes(store), before, FORGOTTEN_AT_ONCE]).map_err(failed)?;
    Ok(())
}

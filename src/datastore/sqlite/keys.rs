//! API keys. Whatever changes them changes the stamp in the same transaction.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension as _, Row, TransactionBehavior, params};
use uuid::Uuid;

use super::rows::{failed, get, text, timestamp};
use super::{DatastoreError, file};
use crate::datastore::{KeyDigest, KeyFilter, KeyId, KeysStamp, LiveKey, LiveKeys, NewKey, StoredKey};
use crate::time::Timestamp;

const COLUMNS: &str = "id, name, grants, created_at, created_by, expires_at, revoked_at, revoked_by";

/// Stores a key.
pub(super) fn create(connection: &mut Connection, key: &NewKey) -> Result<StoredKey, DatastoreError> {
    let sql = format!(
        "INSERT INTO key (id, digest, name, grants, created_at, created_by, expires_at)
         VALUES (?, ?, ?, ?, ?, ?, ?) RETURNING {COLUMNS}"
    );
    let values = params![
        &*key.id.0,
        key.digest.0.as_bytes(),
        &*key.name,
        &*key.grants,
        file::now().as_micros(),
        &*key.created_by,
        key.expires_at.map(Timestamp::as_micros),
    ];
    change(connection, &sql, values)?
        .ok_or_else(|| DatastoreError::Corrupt("a key just made is missing".to_owned()))
}

/// Takes a key back, once and for all; `None` if there is none of that id. The first to do so
/// stays the one who did.
pub(super) fn revoke(
    connection: &mut Connection,
    id: &KeyId,
    by: &str,
) -> Result<Option<StoredKey>, DatastoreError> {
    let sql = format!(
        "UPDATE key SET revoked_at = coalesce(revoked_at, ?2), revoked_by = coalesce(revoked_by, ?3)
         WHERE id = ?1 RETURNING {COLUMNS}"
    );
    change(connection, &sql, params![&*id.0, file::now().as_micros(), by])
}

/// Runs a statement that changes one key, and changes the stamp.
fn change(
    connection: &mut Connection,
    sql: &str,
    values: &[&dyn rusqlite::ToSql],
) -> Result<Option<StoredKey>, DatastoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
    let changed = select(&transaction, sql, values)?.pop();
    transaction
        .execute("UPDATE database SET keys_stamp = ?", params![Uuid::new_v4().as_bytes()])
        .map_err(failed)?;
    transaction.commit().map_err(|error| DatastoreError::OutcomeUnknown(error.into()))?;
    Ok(changed)
}

/// Keys by name and id, after one.
pub(super) fn list(
    snapshot: &Connection,
    filter: &KeyFilter,
    after: Option<&(Arc<str>, KeyId)>,
    limit: u32,
) -> Result<Vec<StoredKey>, DatastoreError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM key
         WHERE (?1 IS NULL OR name = ?1) AND (?2 IS NULL OR id = ?2)
           AND (?3 OR revoked_at IS NULL) AND (?4 IS NULL OR (name, id) > (?4, ?5))
         ORDER BY name, id LIMIT ?6"
    );
    let values = params![
        filter.name.as_deref(),
        filter.id.as_ref().map(|id| &*id.0),
        filter.revoked,
        after.map(|(name, _)| &**name),
        after.map(|(_, id)| &*id.0),
        limit,
    ];
    select(snapshot, &sql, values)
}

fn select(
    connection: &Connection,
    sql: &str,
    values: &[&dyn rusqlite::ToSql],
) -> Result<Vec<StoredKey>, DatastoreError> {
    let mut statement = connection.prepare_cached(sql).map_err(failed)?;
    let mut rows = statement.query(values).map_err(failed)?;
    let mut keys = Vec::new();
    while let Some(row) = rows.next().map_err(failed)? {
        keys.push(stored(row)?);
    }
    Ok(keys)
}

/// All live keys, unless they are those of `known`. The snapshot makes keys and stamp be of one
/// moment.
pub(super) fn live(
    snapshot: &Connection,
    known: Option<KeysStamp>,
) -> Result<Option<LiveKeys>, DatastoreError> {
    let stamp: Option<[u8; 16]> = snapshot
        .query_row("SELECT keys_stamp FROM database", [], |row| row.get(0))
        .optional()
        .map_err(failed)?;
    let stamp = stamp.map(|stamp| KeysStamp(Uuid::from_bytes(stamp)));
    let missing = || DatastoreError::Corrupt("the database has lost its identity".to_owned());
    let stamp = stamp.ok_or_else(missing)?;
    if known == Some(stamp) {
        return Ok(None);
    }
    let sql = "SELECT id, digest, name, grants, expires_at FROM key
               WHERE revoked_at IS NULL AND (expires_at IS NULL OR expires_at > ?)";
    let mut statement = snapshot.prepare_cached(sql).map_err(failed)?;
    let mut rows = statement.query(params![file::now().as_micros()]).map_err(failed)?;
    let mut keys = Vec::new();
    while let Some(row) = rows.next().map_err(failed)? {
        keys.push(LiveKey {
            id: KeyId(text(row, 0)?.into()),
            digest: KeyDigest(blake3::Hash::from_bytes(get(row, 1)?)),
            name: text(row, 2)?.into(),
            grants: text(row, 3)?.into(),
            expires_at: moment(row, 4)?,
        });
    }
    Ok(Some(LiveKeys { stamp, keys }))
}

fn stored(row: &Row<'_>) -> Result<StoredKey, DatastoreError> {
    Ok(StoredKey {
        id: KeyId(text(row, 0)?.into()),
        name: text(row, 1)?.into(),
        grants: text(row, 2)?.into(),
        created_at: timestamp(row, 3)?,
        created_by: text(row, 4)?.into(),
        expires_at: moment(row, 5)?,
        revoked_at: moment(row, 6)?,
        revoked_by: get::<Option<String>>(row, 7)?.map(Into::into),
    })
}

fn moment(row: &Row<'_>, index: usize) -> Result<Option<Timestamp>, DatastoreError> {
    Ok(get::<Option<i64>>(row, index)?.map(Timestamp::from_micros))
}

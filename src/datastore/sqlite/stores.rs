//! Stores: created, found, listed, marked deleted.

use rusqlite::{Connection, OptionalExtension as _, Row, TransactionBehavior, params};
use uuid::Uuid;

use super::rows::{self, bytes, failed};
use super::{DatastoreError, Store, file};
use crate::revision::StoreId;

pub(super) fn create(connection: &mut Connection, name: String) -> Result<Store, DatastoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
    if by_name(&transaction, &name)?.is_some() {
        return Err(DatastoreError::StoreExists(name));
    }
    let store = Store { id: StoreId(Uuid::new_v4()), name, created_at: file::now(), schema: None };
    transaction
        .execute(
            "INSERT INTO store (id, name, created_at) VALUES (?, ?, ?)",
            params![bytes(store.id), store.name, store.created_at.as_micros()],
        )
        .map_err(failed)?;
    transaction.commit().map_err(|error| DatastoreError::OutcomeUnknown(error.into()))?;
    Ok(store)
}

pub(super) fn by_id(snapshot: &Connection, id: StoreId) -> Result<Option<Store>, DatastoreError> {
    let sql = "SELECT id, name, created_at, schema FROM store WHERE id = ? AND deleted_at IS NULL";
    Ok(select(snapshot, sql, params![bytes(id)])?.pop())
}

pub(super) fn by_name(snapshot: &Connection, name: &str) -> Result<Option<Store>, DatastoreError> {
    let sql = "SELECT id, name, created_at, schema FROM store WHERE name = ? AND deleted_at IS NULL";
    Ok(select(snapshot, sql, params![name])?.pop())
}

pub(super) fn list(
    snapshot: &Connection,
    after: Option<&str>,
    limit: u32,
) -> Result<Vec<Store>, DatastoreError> {
    let sql = "SELECT id, name, created_at, schema FROM store \
               WHERE deleted_at IS NULL AND (?1 IS NULL OR name > ?1) ORDER BY name LIMIT ?2";
    select(snapshot, sql, params![after, limit])
}

/// Frees the name. The rows of the store stay until they are removed in the background.
pub(super) fn delete(connection: &mut Connection, id: StoreId) -> Result<(), DatastoreError> {
    let sql = "UPDATE store SET deleted_at = ? WHERE id = ? AND deleted_at IS NULL";
    match connection.execute(sql, params![file::now().as_micros(), bytes(id)]).map_err(failed)? {
        0 => Err(DatastoreError::StoreNotFound),
        _ => Ok(()),
    }
}

/// The oldest revision of a live store whose changes are retained.
pub(super) fn floor(snapshot: &Connection, id: StoreId) -> Result<crate::revision::Revision, DatastoreError> {
    let sql = "SELECT floor FROM store WHERE id = ? AND deleted_at IS NULL";
    let mut statement = snapshot.prepare_cached(sql).map_err(failed)?;
    let floor = statement.query_row([bytes(id)], |row| Ok(rows::revision(row, 0)));
    floor.optional().map_err(failed)?.unwrap_or(Err(DatastoreError::StoreNotFound))
}

fn select(
    connection: &Connection,
    sql: &str,
    parameters: impl rusqlite::Params,
) -> Result<Vec<Store>, DatastoreError> {
    let mut statement = connection.prepare_cached(sql).map_err(failed)?;
    let mut found = statement.query(parameters).map_err(failed)?;
    let mut stores = Vec::new();
    while let Some(row) = found.next().map_err(failed)? {
        stores.push(decode(row)?);
    }
    Ok(stores)
}

fn decode(row: &Row<'_>) -> Result<Store, DatastoreError> {
    Ok(Store {
        id: rows::store_id(row, 0)?,
        name: rows::text(row, 1)?.to_owned(),
        created_at: rows::timestamp(row, 2)?,
        schema: rows::optional_schema_id(row, 3)?,
    })
}

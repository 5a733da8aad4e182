//! Columns from and to values, and what SQLite's errors mean.

use rusqlite::{ErrorCode, Row};
use ulid::Ulid;
use uuid::Uuid;

use super::{DatastoreError, SchemaId};
use crate::datastore::encoding::{AttributeColumns, KeyColumns};
use crate::revision::{Revision, StoreId, WriteId};
use crate::time::Timestamp;
use crate::tuple::{Tuple, TupleKey};

/// What a failed statement means. Not for COMMIT, after which nothing is certain.
#[expect(clippy::wildcard_enum_match_arm, reason = "errors of another crate, of which a few mean more")]
pub(super) fn failed(error: rusqlite::Error) -> DatastoreError {
    match &error {
        rusqlite::Error::SqliteFailure(failure, _) => match failure.code {
            ErrorCode::DatabaseBusy
            | ErrorCode::DatabaseLocked
            | ErrorCode::SystemIoFailure
            | ErrorCode::DiskFull
            | ErrorCode::CannotOpen
            | ErrorCode::ReadOnly
            | ErrorCode::OutOfMemory
            // It took too long: `time_limit`.
            | ErrorCode::OperationInterrupted
            | ErrorCode::PermissionDenied
            | ErrorCode::NotADatabase
            | ErrorCode::FileLockingProtocolFailed => DatastoreError::Unavailable(error.into()),
            ErrorCode::DatabaseCorrupt => DatastoreError::Corrupt(error.to_string()),
            _ => DatastoreError::Other(error.into()),
        },
        rusqlite::Error::FromSqlConversionFailure(..)
        | rusqlite::Error::InvalidColumnType(..)
        | rusqlite::Error::IntegralValueOutOfRange(..)
        | rusqlite::Error::Utf8Error(..) => DatastoreError::Corrupt(error.to_string()),
        _ => DatastoreError::Other(error.into()),
    }
}

/// A text column, borrowed from the row.
pub(super) fn text<'r>(row: &'r Row<'_>, index: usize) -> Result<&'r str, DatastoreError> {
    let value = row.get_ref(index).map_err(failed)?;
    value.as_str().map_err(|error| DatastoreError::Corrupt(format!("column {index} of {row:?}: {error}")))
}

pub(super) fn get<T: rusqlite::types::FromSql>(row: &Row<'_>, index: usize) -> Result<T, DatastoreError> {
    row.get(index).map_err(failed)
}

pub(super) fn revision(row: &Row<'_>, index: usize) -> Result<Revision, DatastoreError> {
    let value: i64 = get(row, index)?;
    match u64::try_from(value) {
        Ok(value) => Ok(Revision(value)),
        Err(_) => Err(DatastoreError::Corrupt(format!("a revision is {value}"))),
    }
}

pub(super) fn timestamp(row: &Row<'_>, index: usize) -> Result<Timestamp, DatastoreError> {
    get(row, index).map(Timestamp::from_micros)
}

pub(super) fn write_id(row: &Row<'_>, index: usize) -> Result<WriteId, DatastoreError> {
    get(row, index).map(Uuid::from_bytes).map(WriteId)
}

pub(super) fn store_id(row: &Row<'_>, index: usize) -> Result<StoreId, DatastoreError> {
    get(row, index).map(Uuid::from_bytes).map(StoreId)
}

pub(super) fn schema_id(row: &Row<'_>, index: usize) -> Result<SchemaId, DatastoreError> {
    optional_schema_id(row, index)?.ok_or_else(|| DatastoreError::Corrupt("a schema has no id".to_owned()))
}

pub(super) fn optional_schema_id(row: &Row<'_>, index: usize) -> Result<Option<SchemaId>, DatastoreError> {
    let Some(text): Option<String> = get(row, index)? else { return Ok(None) };
    match Ulid::from_string(&text) {
        Ok(ulid) => Ok(Some(SchemaId(ulid))),
        Err(error) => Err(DatastoreError::Corrupt(format!("the schema id `{text}`: {error}"))),
    }
}

/// A tuple's key from six columns that begin at `first`.
pub(super) fn key(row: &Row<'_>, first: usize) -> Result<TupleKey, DatastoreError> {
    let columns = KeyColumns {
        object_type: text(row, first)?,
        object_id: text(row, first + 1)?,
        relation: text(row, first + 2)?,
        subject_type: text(row, first + 3)?,
        subject_id: text(row, first + 4)?,
        subject_relation: text(row, first + 5)?,
    };
    columns.decode()
}

/// What the tuple `key` carries, from three columns that begin at `first`.
pub(super) fn attributes(row: &Row<'_>, first: usize, key: TupleKey) -> Result<Tuple, DatastoreError> {
    let columns = AttributeColumns {
        condition_name: get(row, first)?,
        condition_context: get(row, first + 1)?,
        expires_at: get(row, first + 2)?,
    };
    Ok(Tuple { attributes: columns.decode(&key)?, key })
}

/// A revision as a column. Revisions count writes: they do not reach 2^63.
pub(super) fn number(revision: Revision) -> i64 {
    i64::try_from(revision.0).unwrap_or(i64::MAX)
}

/// A store's id as a column.
pub(super) fn bytes(store: StoreId) -> [u8; 16] {
    *store.0.as_bytes()
}

//! Rows into domain values. A row that cannot be one is corruption and says so; it is never
//! taken for absent.

use sqlx::postgres::PgRow;
use sqlx::{Decode, Postgres, Row as _, Type};
use ulid::Ulid;
use uuid::Uuid;

use super::failure::Failure;
use crate::datastore::{DatastoreError, Head, ListedSchema, SchemaId, Store, StoredSchema};
use crate::revision::{Revision, StoreId, WriteId};
use crate::time::Timestamp;

/// Reads the columns of a row from left to right.
pub(super) struct Columns<'r> {
    row: &'r PgRow,
    next: usize,
}

impl<'r> Columns<'r> {
    pub(super) fn of(row: &'r PgRow) -> Self {
        Self { row, next: 0 }
    }

    /// The next column. A type that does not fit is a defect of the statement.
    pub(super) fn next<T>(&mut self) -> Result<T, Failure>
    where
        T: Decode<'r, Postgres> + Type<Postgres>,
    {
        let value = self.row.try_get(self.next)?;
        self.next += 1;
        Ok(value)
    }

    /// Passes over columns.
    pub(super) fn skip(&mut self, columns: usize) {
        self.next += columns;
    }

    pub(super) fn revision(&mut self) -> Result<Revision, Failure> {
        let number: i64 = self.next()?;
        u64::try_from(number).map(Revision).map_err(|_| corrupt(format!("revision {number} is negative")))
    }

    pub(super) fn timestamp(&mut self) -> Result<Timestamp, Failure> {
        self.next().map(Timestamp::from_micros)
    }

    pub(super) fn schema(&mut self) -> Result<Option<SchemaId>, Failure> {
        let text: Option<&str> = self.next()?;
        text.map(schema_id).transpose()
    }
}

/// What the caller learns about a row that makes no sense.
pub(super) fn corrupt(what: impl Into<String>) -> Failure {
    DatastoreError::Corrupt(what.into()).into()
}

/// A schema id as stored.
fn schema_id(text: &str) -> Result<SchemaId, Failure> {
    Ulid::from_string(text)
        .map(SchemaId)
        .map_err(|_| corrupt(format!("schema id `{}` is not a ULID", text.escape_debug())))
}

/// Numbers that PostgreSQL keeps signed. A revision beyond 2^63 does not exist.
pub(super) fn number(revision: Revision) -> i64 {
    i64::try_from(revision.0).unwrap_or(i64::MAX)
}

/// `id, name, created_at, schema` of a store.
pub(super) fn store(row: &PgRow) -> Result<Store, Failure> {
    let mut columns = Columns::of(row);
    Ok(Store {
        id: StoreId(columns.next::<Uuid>()?),
        name: columns.next()?,
        created_at: columns.timestamp()?,
        schema: columns.schema()?,
    })
}

/// `id, floor, schema, created_at` of a store and `revision, write_id, committed_at` of its
/// newest revision, if it has one.
pub(super) fn head(columns: &mut Columns<'_>) -> Result<(StoreId, Head), Failure> {
    let store = StoreId(columns.next::<Uuid>()?);
    let floor = columns.revision()?;
    let schema = columns.schema()?;
    let created_at = columns.timestamp()?;
    let revision: Option<i64> = columns.next()?;
    let write_id: Option<Uuid> = columns.next()?;
    let committed_at: Option<i64> = columns.next()?;
    let head = match (revision, write_id, committed_at) {
        (Some(number), Some(write_id), Some(committed_at)) => Head {
            revision: u64::try_from(number)
                .map(Revision)
                .map_err(|_| corrupt(format!("revision {number} of store {store} is negative")))?,
            write_id: WriteId(write_id),
            floor,
            schema,
            committed_at: Timestamp::from_micros(committed_at),
        },
        _ => {
            Head { revision: Revision::ZERO, write_id: WriteId::NIL, floor, schema, committed_at: created_at }
        }
    };
    Ok((store, head))
}

/// `id, revision, written_at` of a schema.
pub(super) fn listed_schema(row: &PgRow) -> Result<ListedSchema, Failure> {
    let mut columns = Columns::of(row);
    let id: &str = columns.next()?;
    Ok(ListedSchema { id: schema_id(id)?, revision: columns.revision()?, written_at: columns.timestamp()? })
}

/// `id, revision, written_at, text, json` of a schema.
pub(super) fn stored_schema(row: &PgRow) -> Result<StoredSchema, Failure> {
    let mut columns = Columns::of(row);
    let id: &str = columns.next()?;
    Ok(StoredSchema {
        id: schema_id(id)?,
        revision: columns.revision()?,
        written_at: columns.timestamp()?,
        text: columns.next::<&str>()?.into(),
        json: columns.next::<&str>()?.into(),
    })
}

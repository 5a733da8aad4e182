//! Reading the record. Each answer is one statement and therefore one snapshot: a head read
//! beside rows is the head those rows belong to.

use std::sync::Arc;

use sqlx::postgres::PgRow;
use sqlx::{Postgres, QueryBuilder};
use uuid::Uuid;

use super::commit::restrict;
use super::failure::Failure;
use super::lane::Lane;
use super::rows::{self, Columns, corrupt, number};
use crate::datastore::encoding::{AttributeColumns, KeyColumns, state_from_text};
use crate::datastore::whole::whole;
use crate::datastore::{
    Change, DatastoreError, Head, Identity, ListedSchema, LogEntry, SchemaId, Store, StoredSchema,
    TupleFilter, TuplePage,
};
use crate::revision::{DatabaseId, Revision, StoreId, WriteId};
use crate::time::Timestamp;
use crate::tuple::{Tuple, TupleKey};

/// The identity made by the first migration.
pub(super) async fn identity(lane: &Arc<Lane>) -> Result<Identity, Failure> {
    let rows = lane
        .talk(|session| {
            Box::pin(async { session.rows(sqlx::query("SELECT id, cursor_keys FROM relata.database")).await })
        })
        .await?;
    let row = rows.first().ok_or_else(|| corrupt("the identity of the database is missing"))?;
    let mut columns = Columns::of(row);
    let database = DatabaseId(columns.next::<Uuid>()?);
    let keys: Vec<Vec<u8>> = columns.next()?;
    let cursor_keys = keys
        .into_iter()
        .map(|key| key.try_into().map_err(|_| corrupt("a cursor key of the database has no 32 bytes")))
        .collect::<Result<_, _>>()?;
    Ok(Identity { database, cursor_keys })
}

/// The database's clock.
pub(super) async fn now(lane: &Arc<Lane>) -> Result<Timestamp, Failure> {
    let statement = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint";
    lane.talk(move |session| Box::pin(session.scalar(statement))).await.map(Timestamp::from_micros)
}

/// A live store by id.
pub(super) async fn store(lane: &Arc<Lane>, id: StoreId) -> Result<Option<Store>, Failure> {
    let rows = lane
        .talk(move |session| {
            Box::pin(async move {
                let statement = "SELECT id, name, created_at, schema FROM relata.store
                                 WHERE id = $1 AND deleted_at IS NULL";
                session.rows(sqlx::query(statement).bind(id.0)).await
            })
        })
        .await?;
    rows.first().map(rows::store).transpose()
}

/// A live store by name.
pub(super) async fn store_named(lane: &Arc<Lane>, name: &str) -> Result<Option<Store>, Failure> {
    let name: Arc<str> = name.into();
    let rows = lane
        .talk(move |session| {
            let name = Arc::clone(&name);
            Box::pin(async move {
                let statement = "SELECT id, name, created_at, schema FROM relata.store
                                 WHERE name = $1 AND deleted_at IS NULL";
                session.rows(sqlx::query(statement).bind(&*name)).await
            })
        })
        .await?;
    rows.first().map(rows::store).transpose()
}

/// Live stores by name.
pub(super) async fn stores(lane: &Arc<Lane>, after: Option<&str>, limit: u32) -> Result<Vec<Store>, Failure> {
    // No name is empty, so every name comes after the empty one.
    let after: Arc<str> = after.unwrap_or_default().into();
    let rows = lane
        .talk(move |session| {
            let after = Arc::clone(&after);
            Box::pin(async move {
                let statement = "SELECT id, name, created_at, schema FROM relata.store
                                 WHERE deleted_at IS NULL AND name > $1 ORDER BY name LIMIT $2";
                session.rows(sqlx::query(statement).bind(&*after).bind(i64::from(limit))).await
            })
        })
        .await?;
    rows.iter().map(rows::store).collect()
}

/// The heads of several stores. Each head is one step into the primary key of the log.
pub(super) async fn heads(lane: &Arc<Lane>, stores: &[StoreId]) -> Result<Vec<(StoreId, Head)>, Failure> {
    let ids: Arc<[Uuid]> = stores.iter().map(|store| store.0).collect();
    let rows = lane
        .talk(move |session| {
            let ids = Arc::clone(&ids);
            Box::pin(async move {
                let statement = "
SELECT pg_is_in_recovery() OR current_setting('transaction_read_only')::boolean,
       s.id, s.floor, s.schema, s.created_at, r.revision, r.write_id, r.committed_at
FROM relata.store s
LEFT JOIN LATERAL (
    SELECT revision, write_id, committed_at FROM relata.revision
    WHERE store = s.id ORDER BY revision DESC LIMIT 1) r ON true
WHERE s.id = ANY ($1) AND s.deleted_at IS NULL";
                session.rows(sqlx::query(statement).bind(&*ids)).await
            })
        })
        .await?;
    let head = |row| {
        let mut columns = Columns::of(row);
        refuse_standby(columns.next()?)?;
        rows::head(&mut columns)
    };
    rows.iter().map(head).collect()
}

/// Heads and the log are the primary's: a standby's are older, and it would not be noticed. A
/// connection was the primary's when it was made; behind a pooler it may not be any more. And a
/// primary that is fenced by being read-only has a successor, which takes the writes.
pub(super) fn refuse_standby(in_recovery: bool) -> Result<(), Failure> {
    if in_recovery { Err(Failure::ReadOnly) } else { Ok(()) }
}

/// One row for each change of the entries read, or one for an entry without changes, or one for
/// a store without entries. What an entry has beside its changes is sent with its first one.
const LOG: &str = "
SELECT pg_is_in_recovery(), s.floor, e.revision, e.changes, c.ordinal,
       e.write_id, e.committed_at, e.schema,
       CASE WHEN c.ordinal > 0 THEN '' ELSE e.principal END,
       CASE WHEN c.ordinal > 0 THEN '' ELSE e.note END,
       c.object_type, c.object_id, c.relation, c.subject_type, c.subject_id, c.subject_relation,
       c.before, c.after
FROM relata.store s
LEFT JOIN LATERAL (
    SELECT * FROM (
        SELECT r.*, sum(changes) OVER (ORDER BY revision) - changes AS changes_before
        FROM (SELECT * FROM relata.revision WHERE store = $1 AND revision >= $2
              ORDER BY revision LIMIT $3) r) r
    WHERE changes_before < $3
    ORDER BY revision) e ON true
LEFT JOIN LATERAL (
    SELECT * FROM relata.change WHERE store = $1 AND revision = e.revision ORDER BY ordinal) c ON true
WHERE s.id = $1 AND s.deleted_at IS NULL
ORDER BY e.revision, c.ordinal";

/// Whole revisions of the log.
pub(super) async fn log(
    lane: &Arc<Lane>,
    store: StoreId,
    from: Revision,
    limit: u32,
) -> Result<Vec<LogEntry>, Failure> {
    let rows = lane
        .talk(move |session| {
            Box::pin(async move {
                let query = sqlx::query(LOG).bind(store.0).bind(number(from)).bind(i64::from(limit.max(1)));
                session.rows(query).await
            })
        })
        .await?;
    let mut first = Columns::of(rows.first().ok_or(DatastoreError::StoreNotFound)?);
    refuse_standby(first.next()?)?;
    let floor = first.revision()?;
    if from < floor {
        return Err(DatastoreError::Trimmed { floor }.into());
    }
    Ok(whole(store, from, entries(&rows)?)?)
}

/// Revisions from rows as [`LOG`] has them, and how many changes each is recorded to have.
pub(super) fn entries(rows: &[PgRow]) -> Result<Vec<(LogEntry, i64)>, Failure> {
    let mut entries = Vec::new();
    for row in rows {
        read_log_row(row, &mut entries)?;
    }
    Ok(entries)
}

/// Revisions of a live store and the writes that made them.
pub(super) async fn write_ids(
    lane: &Arc<Lane>,
    store: StoreId,
    from: Revision,
    limit: u32,
) -> Result<Vec<(Revision, WriteId)>, Failure> {
    let rows = lane
        .talk(move |session| {
            Box::pin(async move {
                let statement = "SELECT revision, write_id FROM relata.revision
                                 WHERE store = $1 AND revision >= $2
                                 AND EXISTS (SELECT FROM relata.store WHERE id = $1 AND deleted_at IS NULL)
                                 ORDER BY revision LIMIT $3";
                let query = sqlx::query(statement).bind(store.0).bind(number(from)).bind(i64::from(limit));
                session.rows(query).await
            })
        })
        .await?;
    let read = |row| {
        let mut columns = Columns::of(row);
        Ok((columns.revision()?, WriteId(columns.next()?)))
    };
    rows.iter().map(read).collect()
}

fn read_log_row(row: &PgRow, entries: &mut Vec<(LogEntry, i64)>) -> Result<(), Failure> {
    let mut columns = Columns::of(row);
    columns.skip(2);
    let revision: Option<i64> = columns.next()?;
    let (Some(revision), Some(promised), ordinal) =
        (revision, columns.next::<Option<i32>>()?, columns.next::<Option<i32>>()?)
    else {
        return Ok(());
    };
    let revision = u64::try_from(revision).map(Revision).unwrap_or_default();
    if entries.last().is_none_or(|(entry, _)| entry.revision != revision) {
        let entry = LogEntry {
            revision,
            write_id: WriteId(columns.next()?),
            committed_at: columns.timestamp()?,
            schema: columns.schema()?,
            principal: columns.next::<&str>()?.into(),
            note: columns.next::<&str>()?.into(),
            changes: Vec::with_capacity(usize::try_from(promised).unwrap_or(0)),
        };
        entries.push((entry, i64::from(promised)));
    } else {
        columns.skip(5);
    }
    if let (Some(_), Some((entry, _))) = (ordinal, entries.last_mut()) {
        let key = key(&mut columns)?;
        let mut state = || -> Result<_, Failure> {
            let text: Option<&str> = columns.next()?;
            Ok(text.map(|text| state_from_text(text, &key)).transpose()?)
        };
        let (before, after) = (state()?, state()?);
        entry.changes.push(Change { key, before, after });
    }
    Ok(())
}

/// The six columns of a key.
pub(super) fn key(columns: &mut Columns<'_>) -> Result<TupleKey, Failure> {
    let key = KeyColumns {
        object_type: columns.next()?,
        object_id: columns.next()?,
        relation: columns.next()?,
        subject_type: columns.next()?,
        subject_id: columns.next()?,
        subject_relation: columns.next()?,
    };
    Ok(key.decode()?)
}

/// Tuples that match, after a key, with the head they belong to.
pub(super) async fn tuples(
    lane: &Arc<Lane>,
    store: StoreId,
    filter: &TupleFilter,
    after: Option<&TupleKey>,
    limit: u32,
) -> Result<TuplePage, Failure> {
    let filter = filter.clone();
    let after = after.cloned();
    let rows = lane
        .talk(move |session| {
            let mut query = page(store, &filter, after.as_ref(), limit);
            Box::pin(async move { session.rows(query.build()).await })
        })
        .await?;
    let first = rows.first().ok_or(DatastoreError::StoreNotFound)?;
    let mut columns = Columns::of(first);
    let head = columns.revision()?;
    let write_id = columns.next::<Option<_>>()?.map_or(WriteId::NIL, WriteId);
    let mut tuples = Vec::with_capacity(rows.len());
    for row in &rows {
        let mut columns = Columns::of(row);
        columns.skip(2);
        let present: bool = columns.next()?;
        if !present {
            // The one row that tells the head of a page without tuples.
            break;
        }
        let key = key(&mut columns)?;
        let attributes = AttributeColumns {
            condition_name: columns.next()?,
            condition_context: columns.next()?,
            expires_at: columns.next()?,
        }
        .decode(&key)?;
        tuples.push(Tuple { key, attributes });
    }
    let limit = limit as usize;
    let more = tuples.len() > limit;
    tuples.truncate(limit);
    Ok(TuplePage { head, write_id, tuples, more })
}

/// The statement of a page: of the shape of the filter, so that the planner sees which index
/// fits, and with one row more than asked for, which tells whether others follow.
fn page(
    StoreId(store): StoreId,
    filter: &TupleFilter,
    after: Option<&TupleKey>,
    limit: u32,
) -> QueryBuilder<Postgres> {
    let mut builder = QueryBuilder::new(
        "SELECT coalesce(h.revision, 0), h.write_id, p.object_type IS NOT NULL, p.object_type, p.object_id, p.relation,
                p.subject_type, p.subject_id, p.subject_relation, p.condition_name, p.condition_context, p.expires_at
         FROM relata.store s
         LEFT JOIN LATERAL (
             SELECT revision, write_id FROM relata.revision
             WHERE store = s.id ORDER BY revision DESC LIMIT 1) h ON true
         LEFT JOIN LATERAL (SELECT * FROM relata.tuple t WHERE t.store = ",
    );
    builder.push_bind(store);
    restrict(&mut builder, filter);
    if let Some(after) = after {
        let values = KeyColumns::of(after).values().map(str::to_owned);
        if filter.subject_type.is_some() && filter.subject_id.is_some() && filter.subject_relation.is_some() {
            // Implied by what follows, but in the columns of the subject index, whose order is
            // the order of keys once the subject is given.
            let [object_type, object_id, relation, ..] = values.clone();
            builder.push(" AND (t.object_type, t.object_id, t.relation) >= (");
            let mut list = builder.separated(", ");
            list.push_bind(object_type).push_bind(object_id).push_bind(relation);
            builder.push(")");
        }
        builder.push(
            " AND (t.object_type, t.object_id, t.relation, t.subject_type, t.subject_id, t.subject_relation) > (",
        );
        let mut list = builder.separated(", ");
        for value in values {
            list.push_bind(value);
        }
        builder.push(")");
    }
    let key = "object_type, object_id, relation, subject_type, subject_id, subject_relation";
    builder.push(" ORDER BY ").push(key).push(" LIMIT ").push_bind(i64::from(limit) + 1);
    builder
        .push(") p ON true WHERE s.id = ")
        .push_bind(store)
        .push(" AND s.deleted_at IS NULL ORDER BY ")
        .push("p.object_type, p.object_id, p.relation, p.subject_type, p.subject_id, p.subject_relation");
    builder
}

/// The key so many tuples after another. Walks the primary key, and comes without the rows where
/// the table has been vacuumed.
pub(super) async fn key_after(
    lane: &Arc<Lane>,
    store: StoreId,
    after: Option<&TupleKey>,
    distance: u32,
) -> Result<Option<TupleKey>, Failure> {
    const COLUMNS: &str = "object_type, object_id, relation, subject_type, subject_id, subject_relation";
    let after = after.cloned();
    let rows = lane
        .talk(move |session| {
            let mut query = QueryBuilder::new("SELECT ");
            query.push(COLUMNS).push(" FROM relata.tuple WHERE store = ").push_bind(store.0);
            if let Some(after) = &after {
                query.push(" AND (").push(COLUMNS).push(") > (");
                let mut list = query.separated(", ");
                for value in KeyColumns::of(after).values() {
                    list.push_bind(value.to_owned());
                }
                query.push(")");
            }
            query.push(" ORDER BY ").push(COLUMNS).push(" LIMIT 1 OFFSET ");
            query.push_bind(i64::from(distance.saturating_sub(1)));
            Box::pin(async move { session.rows(query.build()).await })
        })
        .await?;
    rows.first().map(|row| key(&mut Columns::of(row))).transpose()
}

/// A schema version.
pub(super) async fn schema(
    lane: &Arc<Lane>,
    store: StoreId,
    id: SchemaId,
) -> Result<Option<StoredSchema>, Failure> {
    let rows = lane
        .talk(move |session| {
            Box::pin(async move {
                let statement = "SELECT id, revision, written_at, text, json FROM relata.schema
                                 WHERE store = $1 AND id = $2";
                session.rows(sqlx::query(statement).bind(store.0).bind(id.0.to_string())).await
            })
        })
        .await?;
    rows.first().map(rows::stored_schema).transpose()
}

/// Schema versions, the newest first.
pub(super) async fn schemas(
    lane: &Arc<Lane>,
    store: StoreId,
    before: Option<SchemaId>,
    limit: u32,
) -> Result<Vec<ListedSchema>, Failure> {
    let before = before.map(|id| id.0.to_string());
    let rows = lane
        .talk(move |session| {
            let before = before.clone();
            Box::pin(async move {
                let statement = "SELECT id, revision, written_at FROM relata.schema
                                 WHERE store = $1 AND ($2::text IS NULL OR id < $2) ORDER BY id DESC LIMIT $3";
                session
                    .rows(sqlx::query(statement).bind(store.0).bind(before).bind(i64::from(limit)))
                    .await
            })
        })
        .await?;
    rows.iter().map(rows::listed_schema).collect()
}

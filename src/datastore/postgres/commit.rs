//! One group of writes in one transaction of four round trips: lock, read, apply, commit. And what
//! became of it, if the last one was not answered.
//!
//! The lock is a statement of its own. One that locked and read other tables would see them as
//! they were before it waited; in READ COMMITTED a statement sees everything committed before it
//! began, so what is read after the lock is final. That is also why the isolation level is
//! spelled out: in a stricter one the whole transaction would see the past.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use sqlx::postgres::{PgArguments, PgBindIterExt as _, PgRow};
use sqlx::query::Query;
use sqlx::{Postgres, QueryBuilder};
use uuid::Uuid;

use super::failure::Failure;
use super::lane::{Lane, Session};
use super::reads::key;
use super::rows::{Columns, corrupt, number};
use crate::datastore::decide::{
    Decision, FILTERS_TIME, Found, Needs, Plan, Remembered, Scope, Since, UNJUDGED_AT_MOST, Upsert, decide,
};
use crate::datastore::encoding::{AttributeColumns, KeyColumns, state_to_text};
use crate::datastore::{DatastoreError, Head, LogEntry, Outcome, SchemaId, StoredSchema, TupleFilter, Write};
use crate::revision::{Revision, StoreId, WriteId};
use crate::time::Timestamp;
use crate::tuple::{Attributes, RelationName, Tuple, TupleKey, TypeName};

/// Filters judged by one statement. The protocol allows 65,535 parameters, seven a filter.
const FILTERS_PER_STATEMENT: usize = 100;

/// Commits a group, or writes nothing.
pub(super) async fn commit(
    lane: &Arc<Lane>,
    store: StoreId,
    group: Arc<[Write]>,
) -> Result<Vec<Outcome>, Failure> {
    let committed = lane
        .talk(move |session| {
            let group = Arc::clone(&group);
            Box::pin(async move { transact(session, store, &group).await })
        })
        .await?;
    committed.ok_or_else(|| DatastoreError::StoreNotFound.into())
}

/// `None`: the store does not exist.
async fn transact(
    session: &mut Session,
    store: StoreId,
    group: &[Write],
) -> Result<Option<Vec<Outcome>>, Failure> {
    let Some(locked) = lock(session, store).await? else {
        session.rollback().await?;
        return Ok(None);
    };
    let needs = Needs::of(group);
    let found = read(session, store, locked, &needs).await?;
    let Decision { outcomes, plan } = decide(found, group);
    if plan.is_empty() {
        session.rollback().await?;
        return Ok(Some(outcomes));
    }
    apply(session, store, &plan).await?;
    match session.commit().await {
        Ok(()) => Ok(Some(outcomes)),
        Err(Failure::Judged(DatastoreError::OutcomeUnknown(cause))) => Err(Failure::InDoubt(outcomes, cause)),
        Err(failure) => Err(failure),
    }
}

/// Whether a revision is a write's, once the commit that may have made it so is over.
pub(super) async fn settle(
    lane: &Arc<Lane>,
    store: StoreId,
    revision: Revision,
    write: WriteId,
) -> Result<bool, Failure> {
    lane.talk(move |session| {
        Box::pin(async move {
            let locked = lock_any(session, store).await?.ok_or(DatastoreError::StoreNotFound)?;
            let statement = "SELECT write_id FROM relata.revision WHERE store = $1 AND revision = $2";
            let rows = session.rows(sqlx::query(statement).bind(store.0).bind(number(revision))).await?;
            let found = rows.first().map(|row| Columns::of(row).next::<Uuid>()).transpose()?;
            session.rollback().await?;
            match found {
                Some(found) => Ok(WriteId(found) == write),
                None if revision < locked.floor => {
                    Err(DatastoreError::Trimmed { floor: locked.floor }.into())
                }
                None => Ok(false),
            }
        })
    })
    .await
}

/// The locked row of a store.
pub(super) struct Locked {
    floor: Revision,
    schema: Option<SchemaId>,
    created_at: Timestamp,
}

impl Locked {
    /// The oldest revision whose changes are retained.
    pub(super) fn floor(&self) -> Revision {
        self.floor
    }
}

/// Round trip 1: begins a transaction and locks the store. `None`: it does not exist.
pub(super) async fn lock(session: &mut Session, store: StoreId) -> Result<Option<Locked>, Failure> {
    lock_where(session, store, "AND deleted_at IS NULL").await
}

/// The same for a store that may have been deleted.
async fn lock_any(session: &mut Session, store: StoreId) -> Result<Option<Locked>, Failure> {
    lock_where(session, store, "").await
}

async fn lock_where(
    session: &mut Session,
    store: StoreId,
    condition: &str,
) -> Result<Option<Locked>, Failure> {
    let limit = time_limit(session);
    session.step("db.commit.lock");
    let asked = Instant::now();
    let rows = session.begin("ISOLATION LEVEL READ COMMITTED", &lock_script(store, condition, limit)).await?;
    session.metrics().record.commit_lock_wait_seconds.since(asked);
    let Some(row) = rows.first() else { return Ok(None) };
    let mut columns = Columns::of(row);
    Ok(Some(Locked {
        floor: columns.revision()?,
        schema: columns.schema()?,
        created_at: columns.timestamp()?,
    }))
}

/// The longest a statement may take. The server gives up a little before we give up on the server,
/// and so releases the lock.
fn time_limit(session: &Session) -> Duration {
    session.round_trip().saturating_mul(9) / 10
}

fn lock_script(StoreId(store): StoreId, condition: &str, limit: Duration) -> String {
    let limit = limit.as_millis();
    // FOR NO KEY UPDATE suffices to exclude other writers. The id is a UUID: it holds no quote.
    // That the transaction may write is not demanded but left to the server's settings, by which
    // an operator, or what manages a failover, fences an old primary.
    format!(
        "SET LOCAL lock_timeout = {limit};
         SET LOCAL statement_timeout = {limit};
         SET LOCAL idle_in_transaction_session_timeout = {limit};
         SELECT floor, schema, created_at FROM relata.store
         WHERE id = '{store}' {condition} FOR NO KEY UPDATE"
    )
}

/// Kinds of rows that [`READ`] returns.
mod kind {
    pub(super) const CLOCK: i32 = 0;
    pub(super) const HEAD: i32 = 1;
    pub(super) const TUPLE: i32 = 2;
    pub(super) const REMEMBERED: i32 = 3;
}

/// Everything a group depends on but its filters. Columns: kind, index of what was asked for
/// (from 1), then what the kind has of (number, number, id, bytes, text, text). A LATERAL with a
/// LIMIT is looked up once for each key, whatever the planner believes about their number.
const READ: &str = "
SELECT 0, 0::bigint, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint, NULL::bigint,
       NULL::uuid, NULL::bytea, NULL::text, NULL::text
UNION ALL
(SELECT 1, 0, revision, committed_at, write_id, NULL, NULL, NULL
 FROM relata.revision WHERE store = $1 ORDER BY revision DESC LIMIT 1)
UNION ALL
SELECT 2, wanted.at, found.expires_at, NULL, NULL, NULL, found.condition_name, found.condition_context
FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[]) WITH ORDINALITY
     AS wanted (object_type, object_id, relation, subject_type, subject_id, subject_relation, at)
CROSS JOIN LATERAL (
    SELECT t.expires_at, t.condition_name, t.condition_context FROM relata.tuple t
    WHERE t.store = $1 AND t.object_type = wanted.object_type AND t.object_id = wanted.object_id
      AND t.relation = wanted.relation AND t.subject_type = wanted.subject_type
      AND t.subject_id = wanted.subject_id AND t.subject_relation = wanted.subject_relation
    LIMIT 1) AS found
UNION ALL
SELECT 3, wanted.at, found.revision, NULL, found.write_id, found.request, found.schema, NULL
FROM unnest($8::text[], $9::text[]) WITH ORDINALITY AS wanted (principal, key, at)
CROSS JOIN LATERAL (
    SELECT i.revision, i.write_id, i.request, i.schema FROM relata.idempotency i
    WHERE i.store = $1 AND i.principal = wanted.principal AND i.key = wanted.key
    LIMIT 1) AS found";

/// Round trip 2, and one more if there are preconditions on filters.
async fn read(
    session: &mut Session,
    store: StoreId,
    locked: Locked,
    needs: &Needs,
) -> Result<Found, Failure> {
    let query = bind_keys(sqlx::query(READ).bind(store.0), &needs.keys.iter())
        .bind(needs.idempotency.iter().map(|scope| &*scope.principal).bind_iter())
        .bind(needs.idempotency.iter().map(|scope| &*scope.key).bind_iter());
    session.step("db.commit.read");
    let rows = session.rows(query).await?;

    let mut found = Found {
        now: locked.created_at,
        head: Head {
            revision: Revision::ZERO,
            write_id: WriteId::NIL,
            floor: locked.floor,
            schema: locked.schema,
            committed_at: locked.created_at,
        },
        tuples: HashMap::with_capacity(rows.len()),
        matching: HashSet::new(),
        remembered: HashMap::new(),
        since: HashMap::new(),
    };
    for row in &rows {
        take(row, needs, &mut found)?;
    }
    found.now = found.now.max(found.head.committed_at);
    found.matching = matching(session, store, found.now, &needs.filters).await?;
    for revision in &needs.since {
        found.since.insert(*revision, written_since(session, store, *revision).await?);
    }
    Ok(found)
}

/// Puts one row of [`READ`] where it belongs.
fn take(row: &PgRow, needs: &Needs, found: &mut Found) -> Result<(), Failure> {
    let mut columns = Columns::of(row);
    let (kind, index): (i32, i64) = (columns.next()?, columns.next()?);
    let index = usize::try_from(index - 1).unwrap_or(usize::MAX);
    match kind {
        kind::CLOCK => found.now = columns.timestamp()?,
        kind::HEAD => {
            found.head.revision = columns.revision()?;
            found.head.committed_at = columns.timestamp()?;
            found.head.write_id = WriteId(columns.next()?);
        }
        kind::TUPLE => {
            let key = needs.keys.get(index).ok_or_else(|| unasked(kind))?;
            let expires_at = columns.next()?;
            columns.skip(3);
            let attributes = AttributeColumns {
                expires_at,
                condition_name: columns.next()?,
                condition_context: columns.next()?,
            };
            found.tuples.insert(key.clone(), attributes.decode(key)?);
        }
        kind::REMEMBERED => {
            let scope = needs.idempotency.get(index).ok_or_else(|| unasked(kind))?;
            let revision = columns.revision()?;
            columns.skip(1);
            let write_id = WriteId(columns.next()?);
            let request: &[u8] = columns.next()?;
            let request = request.try_into().map_err(|_| {
                corrupt(format!("the request digest of idempotency key `{}` has no 32 bytes", scope.key))
            })?;
            let schema = columns.schema()?;
            found.remembered.insert(scope.clone(), Remembered { request, revision, write_id, schema });
        }
        _ => return Err(unasked(kind)),
    }
    Ok(())
}

fn unasked(kind: i32) -> Failure {
    DatastoreError::Other(anyhow::anyhow!("a row of kind {kind} that was not asked for")).into()
}

/// Which filters match a tuple that is live at `now`.
async fn matching(
    session: &mut Session,
    store: StoreId,
    now: Timestamp,
    filters: &[TupleFilter],
) -> Result<HashSet<TupleFilter>, Failure> {
    let mut matching = HashSet::new();
    if filters.is_empty() {
        return Ok(matching);
    }
    let (indexed, sparse): (Vec<_>, Vec<_>) = filters.iter().cloned().partition(TupleFilter::is_indexed);
    ask_filters(session, store, now, &indexed, &mut matching).await?;
    if !sparse.is_empty() {
        let (usual, limit) = (time_limit(session), FILTERS_TIME.min(session.round_trip() / 2));
        session.script(format!("SET LOCAL statement_timeout = {}", limit.as_millis())).await?;
        let asked = ask_filters(session, store, now, &sparse, &mut matching).await;
        asked.map_err(|failure| match failure {
            failure if failure.is_of_time() => DatastoreError::TooCostly { limit }.into(),
            failure => failure,
        })?;
        session.script(format!("SET LOCAL statement_timeout = {}", usual.as_millis())).await?;
    }
    Ok(matching)
}

/// Adds those of some filters that match.
async fn ask_filters(
    session: &mut Session,
    store: StoreId,
    now: Timestamp,
    filters: &[TupleFilter],
    matching: &mut HashSet<TupleFilter>,
) -> Result<(), Failure> {
    for some in filters.chunks(FILTERS_PER_STATEMENT) {
        let mut builder = QueryBuilder::<Postgres>::new("");
        for (index, filter) in some.iter().enumerate() {
            builder.push(if index == 0 { "" } else { " UNION ALL " });
            builder.push("SELECT ").push_bind(i64::try_from(index).unwrap_or(i64::MAX));
            builder.push(" WHERE EXISTS (SELECT FROM relata.tuple t WHERE t.store = ").push_bind(store.0);
            builder
                .push(" AND (t.expires_at IS NULL OR t.expires_at > ")
                .push_bind(now.as_micros())
                .push(")");
            restrict(&mut builder, filter);
            builder.push(")");
        }
        // As many different statements as there are filters: keeping them would drive out others.
        session.step("db.commit.filters");
        let rows = session.rows(builder.build().persistent(false)).await?;
        for row in &rows {
            let index: i64 = Columns::of(row).next()?;
            matching.extend(usize::try_from(index).ok().and_then(|index| some.get(index)).cloned());
        }
    }
    Ok(())
}

/// What was written since a revision.
async fn written_since(session: &mut Session, store: StoreId, revision: Revision) -> Result<Since, Failure> {
    let statement = "SELECT write_id FROM relata.revision WHERE store = $1 AND revision = $2";
    let rows = session.rows(sqlx::query(statement).bind(store.0).bind(number(revision))).await?;
    let write_id = rows.first().map(|row| Columns::of(row).next::<Uuid>()).transpose()?.map(WriteId);
    // The index has the tuples of revisions above zero, which all are.
    let statement = "SELECT object_type, object_id, relation, subject_type, subject_id, subject_relation,
                            condition_name, condition_context, expires_at
                     FROM relata.tuple WHERE store = $1 AND revision > $2 AND revision > 0
                     ORDER BY revision, ordinal LIMIT $3";
    let limit = i64::from(UNJUDGED_AT_MOST) + 1;
    let query = sqlx::query(statement).bind(store.0).bind(number(revision)).bind(limit);
    let mut tuples = Vec::new();
    for row in &session.rows(query).await? {
        let mut columns = Columns::of(row);
        let key = key(&mut columns)?;
        let attributes = AttributeColumns {
            condition_name: columns.next()?,
            condition_context: columns.next()?,
            expires_at: columns.next()?,
        }
        .decode(&key)?;
        tuples.push(Tuple { key, attributes });
    }
    Ok(Since { write_id, tuples })
}

/// Adds ` AND t.column = value` for each part of a filter.
pub(super) fn restrict(builder: &mut QueryBuilder<Postgres>, filter: &TupleFilter) {
    let subject_relation =
        filter.subject_relation.as_ref().map(|relation| relation.as_ref().map_or("", RelationName::as_str));
    let parts = [
        filter.object_type.as_ref().map(TypeName::as_str),
        filter.object_id.as_deref(),
        filter.relation.as_ref().map(RelationName::as_str),
        filter.subject_type.as_ref().map(TypeName::as_str),
        filter.subject_id.as_deref(),
        subject_relation,
    ];
    for (column, part) in KeyColumns::NAMES.into_iter().zip(parts) {
        if let Some(part) = part {
            builder.push(" AND t.").push(column).push(" = ").push_bind(part.to_owned());
        }
    }
}

/// The net effect of a group and its rows of the log. The parts touch different rows, so it does
/// not matter that none sees what another did. Tuples to delete are looked up one by one, as in
/// [`READ`], and deleted where they are found: nobody moves them while the store is locked.
const APPLY: &str = "
WITH upserted AS (
    INSERT INTO relata.tuple (store, object_type, object_id, relation, subject_type, subject_id,
        subject_relation, condition_name, condition_context, expires_at, revision, ordinal)
    SELECT $1, * FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[],
        $8::text[], $9::text[], $10::bigint[], $11::bigint[], $12::integer[])
    ON CONFLICT (store, object_type, object_id, relation, subject_type, subject_id, subject_relation)
    DO UPDATE SET condition_name = excluded.condition_name, condition_context = excluded.condition_context,
        expires_at = excluded.expires_at, revision = excluded.revision, ordinal = excluded.ordinal
    RETURNING 1
), deleted AS (
    DELETE FROM relata.tuple WHERE ctid = ANY (ARRAY (
        SELECT found.place
        FROM unnest($13::text[], $14::text[], $15::text[], $16::text[], $17::text[], $18::text[])
            AS gone (object_type, object_id, relation, subject_type, subject_id, subject_relation)
        CROSS JOIN LATERAL (
            SELECT t.ctid AS place FROM relata.tuple t
            WHERE t.store = $1 AND t.object_type = gone.object_type AND t.object_id = gone.object_id
              AND t.relation = gone.relation AND t.subject_type = gone.subject_type
              AND t.subject_id = gone.subject_id AND t.subject_relation = gone.subject_relation
            LIMIT 1) AS found))
    RETURNING 1
), logged AS (
    INSERT INTO relata.revision (store, revision, write_id, committed_at, principal, note, changes, schema)
    SELECT $1, * FROM unnest($19::bigint[], $20::uuid[], $21::bigint[], $22::text[], $23::text[],
        $24::integer[], $25::text[])
    RETURNING 1
), changed AS (
    INSERT INTO relata.change (store, revision, ordinal, object_type, object_id, relation, subject_type,
        subject_id, subject_relation, before, after)
    SELECT $1, * FROM unnest($26::bigint[], $27::integer[], $28::text[], $29::text[], $30::text[],
        $31::text[], $32::text[], $33::text[], $34::text[], $35::text[])
    RETURNING 1
), remembered AS (
    INSERT INTO relata.idempotency (store, at, principal, key, request, revision, write_id, schema)
    SELECT $1, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint, *
    FROM unnest($36::text[], $37::text[], $38::bytea[], $39::bigint[], $40::uuid[], $41::text[])
    RETURNING 1
)
SELECT (SELECT count(*) FROM upserted), (SELECT count(*) FROM deleted), (SELECT count(*) FROM logged),
       (SELECT count(*) FROM changed), (SELECT count(*) FROM remembered)";

/// Round trip 3, and one more if a schema is written.
async fn apply(session: &mut Session, store: StoreId, plan: &Plan) -> Result<(), Failure> {
    let query = sqlx::query(APPLY).bind(store.0);
    let query = bind_upserts(query, &plan.upserts)?;
    let query = bind_keys(query, &plan.deletes.iter());
    let query = bind_entries(query, &plan.entries);
    let query = bind_changes(query, &plan.entries)?;
    let query = bind_remembered(query, &plan.remembered);
    session.step("db.commit.apply");
    let rows = session.rows(query).await?;
    let expected = [
        ("tuples", plan.upserts.len()),
        ("deletions", plan.deletes.len()),
        ("revisions", plan.entries.len()),
        ("changes", plan.entries.iter().map(|entry| entry.changes.len()).sum()),
        ("idempotency keys", plan.remembered.len()),
    ];
    verify(store, &rows, &expected)?;
    apply_schemas(session, store, &plan.schemas).await
}

type Statement = Query<'static, Postgres, PgArguments>;

/// Binds keys as six parallel arrays, in key order.
fn bind_keys<'k>(query: Statement, keys: &(impl IntoIterator<Item = &'k TupleKey> + Clone)) -> Statement {
    let parts: [for<'c> fn(KeyColumns<'c>) -> &'c str; 6] = [
        |key| key.object_type,
        |key| key.object_id,
        |key| key.relation,
        |key| key.subject_type,
        |key| key.subject_id,
        |key| key.subject_relation,
    ];
    parts.into_iter().fold(query, |query, part| {
        query.bind(keys.clone().into_iter().map(move |key| part(KeyColumns::of(key))).bind_iter())
    })
}

fn bind_upserts(query: Statement, upserts: &[Upsert]) -> Result<Statement, Failure> {
    let attributes = upserts
        .iter()
        .map(|upsert| AttributeColumns::of(&upsert.tuple.attributes))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(bind_keys(query, &upserts.iter().map(|upsert| &upsert.tuple.key))
        .bind(attributes.iter().map(|columns| columns.condition_name.as_deref()).bind_iter())
        .bind(attributes.iter().map(|columns| columns.condition_context.as_deref()).bind_iter())
        .bind(attributes.iter().map(|columns| columns.expires_at).bind_iter())
        .bind(upserts.iter().map(|upsert| number(upsert.revision)).bind_iter())
        .bind(upserts.iter().map(|upsert| count(upsert.ordinal as usize)).bind_iter()))
}

fn bind_entries(query: Statement, entries: &[LogEntry]) -> Statement {
    query
        .bind(entries.iter().map(|entry| number(entry.revision)).bind_iter())
        .bind(entries.iter().map(|entry| entry.write_id.0).bind_iter())
        .bind(entries.iter().map(|entry| entry.committed_at.as_micros()).bind_iter())
        .bind(entries.iter().map(|entry| &*entry.principal).bind_iter())
        .bind(entries.iter().map(|entry| &*entry.note).bind_iter())
        .bind(entries.iter().map(|entry| count(entry.changes.len())).bind_iter())
        .bind(entries.iter().map(|entry| entry.schema.map(|schema| schema.0.to_string())).bind_iter())
}

fn bind_changes(query: Statement, entries: &[LogEntry]) -> Result<Statement, Failure> {
    let state = |attributes: &Option<Attributes>| attributes.as_ref().map(state_to_text).transpose();
    let changes = entries.iter().flat_map(|entry| &entry.changes);
    let before = changes.clone().map(|change| state(&change.before)).collect::<Result<Vec<_>, _>>()?;
    let after = changes.clone().map(|change| state(&change.after)).collect::<Result<Vec<_>, _>>()?;
    let places = entries
        .iter()
        .flat_map(|entry| (0..entry.changes.len()).map(|ordinal| (number(entry.revision), count(ordinal))));
    let query = query
        .bind(places.clone().map(|(revision, _)| revision).bind_iter())
        .bind(places.map(|(_, ordinal)| ordinal).bind_iter());
    Ok(bind_keys(query, &changes.map(|change| &change.key)).bind(before).bind(after))
}

fn bind_remembered(query: Statement, remembered: &[(Scope, Remembered)]) -> Statement {
    query
        .bind(remembered.iter().map(|(scope, _)| &*scope.principal).bind_iter())
        .bind(remembered.iter().map(|(scope, _)| &*scope.key).bind_iter())
        .bind(remembered.iter().map(|(_, result)| result.request.as_slice()).bind_iter())
        .bind(remembered.iter().map(|(_, result)| number(result.revision)).bind_iter())
        .bind(remembered.iter().map(|(_, result)| result.write_id.0).bind_iter())
        .bind(
            remembered.iter().map(|(_, result)| result.schema.map(|schema| schema.0.to_string())).bind_iter(),
        )
}

/// A count or ordinal as PostgreSQL's `integer`. A write has far fewer changes than that holds.
fn count(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

async fn apply_schemas(
    session: &mut Session,
    store: StoreId,
    schemas: &[StoredSchema],
) -> Result<(), Failure> {
    let Some(in_force) = schemas.last() else { return Ok(()) };
    session.step("db.commit.schema");
    let statement = "
WITH written AS (
    INSERT INTO relata.schema (store, id, revision, written_at, text, json)
    SELECT $1, * FROM unnest($2::text[], $3::bigint[], $4::bigint[], $5::text[], $6::text[])
    RETURNING 1
), put_in_force AS (
    UPDATE relata.store SET schema = $7 WHERE id = $1 RETURNING 1
)
SELECT (SELECT count(*) FROM written), (SELECT count(*) FROM put_in_force)";
    let query = sqlx::query(statement)
        .bind(store.0)
        .bind(schemas.iter().map(|schema| schema.id.0.to_string()).bind_iter())
        .bind(schemas.iter().map(|schema| number(schema.revision)).bind_iter())
        .bind(schemas.iter().map(|schema| schema.written_at.as_micros()).bind_iter())
        .bind(schemas.iter().map(|schema| &*schema.text).bind_iter())
        .bind(schemas.iter().map(|schema| &*schema.json).bind_iter())
        .bind(in_force.id.0.to_string());
    let rows = session.rows(query).await?;
    verify(store, &rows, &[("schemas", schemas.len()), ("stores", 1)])
}

/// Compares how many rows each part of a statement touched with how many it should have.
fn verify(store: StoreId, rows: &[PgRow], expected: &[(&str, usize)]) -> Result<(), Failure> {
    let row = rows.first().ok_or_else(|| corrupt("no counts of what was written"))?;
    let mut columns = Columns::of(row);
    for (what, expected) in expected {
        let actual: i64 = columns.next()?;
        if usize::try_from(actual) != Ok(*expected) {
            return Err(corrupt(format!(
                "store {store}: {actual} {what} written instead of {expected}; its rows were changed without its lock"
            )));
        }
    }
    Ok(())
}

//! API keys. Whatever changes them changes the stamp in the same transaction.

use std::sync::Arc;

use sqlx::postgres::PgRow;
use uuid::Uuid;

use super::failure::Failure;
use super::lane::{Lane, Session};
use super::rows::{Columns, corrupt};
use crate::datastore::{KeyDigest, KeyFilter, KeyId, KeysStamp, LiveKey, LiveKeys, NewKey, StoredKey};
use crate::time::Timestamp;

/// Stores a key.
pub(super) async fn create(lane: &Arc<Lane>, key: NewKey) -> Result<StoredKey, Failure> {
    let key = Arc::new(key);
    lane.talk(move |session| {
        let key = Arc::clone(&key);
        Box::pin(async move {
            begin(session).await?;
            let query = sqlx::query(
                "INSERT INTO relata.key (id, digest, name, grants, created_at, created_by, expires_at)
                 VALUES ($1, $2, $3, $4, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint, $5, $6)
                 RETURNING id, name, grants, created_at, created_by, expires_at, revoked_at, revoked_by",
            );
            let query = query
                .bind(&*key.id.0)
                .bind(key.digest.0.as_bytes().as_slice())
                .bind(&*key.name)
                .bind(&*key.grants)
                .bind(&*key.created_by)
                .bind(key.expires_at.map(Timestamp::as_micros));
            let rows = session.rows(query).await?;
            let made = stored(rows.first().ok_or_else(|| corrupt("a key just made is missing"))?)?;
            stamp(session).await?;
            session.commit().await?;
            Ok(made)
        })
    })
    .await
}

/// Takes a key back, once and for all; `None` if there is none of that id. The first to do so
/// stays the one who did.
pub(super) async fn revoke(lane: &Arc<Lane>, id: &KeyId, by: &str) -> Result<Option<StoredKey>, Failure> {
    let (id, by): (KeyId, Arc<str>) = (id.clone(), by.into());
    lane.talk(move |session| {
        let (id, by) = (id.clone(), Arc::clone(&by));
        Box::pin(async move {
            begin(session).await?;
            let query = sqlx::query(
                "UPDATE relata.key
                 SET revoked_at = coalesce(revoked_at, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint),
                     revoked_by = coalesce(revoked_by, $2)
                 WHERE id = $1
                 RETURNING id, name, grants, created_at, created_by, expires_at, revoked_at, revoked_by",
            );
            let rows = session.rows(query.bind(&*id.0).bind(&*by)).await?;
            let revoked = rows.first().map(stored).transpose()?;
            stamp(session).await?;
            session.commit().await?;
            Ok(revoked)
        })
    })
    .await
}

async fn begin(session: &mut Session) -> Result<(), Failure> {
    session.begin("ISOLATION LEVEL READ COMMITTED READ WRITE", "").await.map(drop)
}

async fn stamp(session: &mut Session) -> Result<(), Failure> {
    session.rows(sqlx::query("UPDATE relata.database SET keys_stamp = gen_random_uuid()")).await.map(drop)
}

/// Keys by name and id, after one.
pub(super) async fn list(
    lane: &Arc<Lane>,
    filter: &KeyFilter,
    after: Option<&(Arc<str>, KeyId)>,
    limit: u32,
) -> Result<Vec<StoredKey>, Failure> {
    let (filter, after) = (filter.clone(), after.cloned());
    let rows = lane
        .talk(move |session| {
            let (filter, after) = (filter.clone(), after.clone());
            Box::pin(async move {
                let query = sqlx::query(
                    "SELECT id, name, grants, created_at, created_by, expires_at, revoked_at, revoked_by
                     FROM relata.key
                     WHERE ($1::text IS NULL OR name = $1) AND ($2::text IS NULL OR id = $2)
                       AND ($3 OR revoked_at IS NULL) AND ($4::text IS NULL OR (name, id) > ($4, $5))
                     ORDER BY name, id LIMIT $6",
                );
                let query = query
                    .bind(filter.name.as_deref())
                    .bind(filter.id.as_ref().map(|id| &*id.0))
                    .bind(filter.revoked)
                    .bind(after.as_ref().map(|(name, _)| &**name))
                    .bind(after.as_ref().map(|(_, id)| &*id.0))
                    .bind(i64::from(limit));
                session.rows(query).await
            })
        })
        .await?;
    rows.iter().map(stored).collect()
}

/// All live keys, unless they are those of `known`. One statement: keys and stamp are of one
/// moment.
pub(super) async fn live(lane: &Arc<Lane>, known: Option<KeysStamp>) -> Result<Option<LiveKeys>, Failure> {
    let rows = lane
        .talk(move |session| {
            Box::pin(async move {
                let query = sqlx::query(
                    "SELECT d.keys_stamp, k.id, k.digest, k.name, k.grants, k.expires_at
                     FROM relata.database d LEFT JOIN relata.key k
                       ON k.revoked_at IS NULL
                      AND (k.expires_at IS NULL
                           OR k.expires_at > (extract(epoch FROM clock_timestamp()) * 1000000)::bigint)
                     WHERE d.keys_stamp IS DISTINCT FROM $1",
                );
                session.rows(query.bind(known.map(|stamp| stamp.0))).await
            })
        })
        .await?;
    let Some(first) = rows.first() else {
        return match known {
            Some(_) => Ok(None),
            None => Err(corrupt("the identity of the database is missing")),
        };
    };
    let stamp = KeysStamp(Columns::of(first).next::<Uuid>()?);
    let keys = rows.iter().filter_map(|row| living(row).transpose()).collect::<Result<_, _>>()?;
    Ok(Some(LiveKeys { stamp, keys }))
}

/// A key beside the stamp; the one row without a key says that there is none.
fn living(row: &PgRow) -> Result<Option<LiveKey>, Failure> {
    let mut columns = Columns::of(row);
    columns.skip(1);
    let Some(id) = columns.next::<Option<&str>>()? else { return Ok(None) };
    let digest: &[u8] = columns.next()?;
    let digest = digest.try_into().map_err(|_| corrupt(format!("the digest of key {id} has no 32 bytes")))?;
    Ok(Some(LiveKey {
        id: KeyId(id.into()),
        digest: KeyDigest(blake3::Hash::from_bytes(digest)),
        name: columns.next::<&str>()?.into(),
        grants: columns.next::<&str>()?.into(),
        expires_at: columns.next::<Option<i64>>()?.map(Timestamp::from_micros),
    }))
}

fn stored(row: &PgRow) -> Result<StoredKey, Failure> {
    let mut columns = Columns::of(row);
    Ok(StoredKey {
        id: KeyId(columns.next::<&str>()?.into()),
        name: columns.next::<&str>()?.into(),
        grants: columns.next::<&str>()?.into(),
        created_at: columns.timestamp()?,
        created_by: columns.next::<&str>()?.into(),
        expires_at: columns.next::<Option<i64>>()?.map(Timestamp::from_micros),
        revoked_at: columns.next::<Option<i64>>()?.map(Timestamp::from_micros),
        revoked_by: columns.next::<Option<&str>>()?.map(Into::into),
    })
}

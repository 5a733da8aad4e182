//! Stores: creating and deleting them, under the lock that writers take.

use std::sync::Arc;

use uuid::Uuid;

use super::commit::lock;
use super::failure::Failure;
use super::lane::Lane;
use super::rows;
use crate::datastore::{DatastoreError, Store};
use crate::revision::StoreId;

/// Creates a store.
pub(super) async fn create(lane: &Arc<Lane>, name: &str) -> Result<Store, Failure> {
    let name: Arc<str> = name.into();
    let wanted = Arc::clone(&name);
    let id = Uuid::new_v4();
    let created = lane
        .talk(move |session| {
            let wanted = Arc::clone(&wanted);
            Box::pin(async move {
                session.begin("ISOLATION LEVEL READ COMMITTED", "").await?;
                let query = sqlx::query(
                    "INSERT INTO relata.store (id, name, created_at)
                     VALUES ($1, $2, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint)
                     ON CONFLICT (name) WHERE deleted_at IS NULL DO NOTHING
                     RETURNING id, name, created_at, schema",
                );
                let rows = session.rows(query.bind(id).bind(&*wanted)).await?;
                let Some(row) = rows.first() else {
                    session.rollback().await?;
                    return Ok(None);
                };
                let store = rows::store(row)?;
                session.commit().await?;
                Ok(Some(store))
            })
        })
        .await?;
    created.ok_or_else(|| DatastoreError::StoreExists((*name).to_owned()).into())
}

/// Marks a store deleted, after the writes that hold its lock and before those that wait for it.
pub(super) async fn delete(lane: &Arc<Lane>, store: StoreId) -> Result<(), Failure> {
    let deleted = lane
        .talk(move |session| {
            Box::pin(async move {
                if lock(session, store).await?.is_none() {
                    session.rollback().await?;
                    return Ok(false);
                }
                let query = sqlx::query(
                    "UPDATE relata.store
                     SET deleted_at = (extract(epoch FROM clock_timestamp()) * 1000000)::bigint WHERE id = $1",
                );
                session.rows(query.bind(store.0)).await?;
                session.commit().await?;
                Ok(true)
            })
        })
        .await?;
    if deleted { Ok(()) } else { Err(DatastoreError::StoreNotFound.into()) }
}

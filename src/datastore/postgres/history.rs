//! The log as people ask for it. One statement, of the shape of the question.

use std::sync::Arc;

use sqlx::{Postgres, QueryBuilder};

use super::commit::restrict;
use super::failure::Failure;
use super::lane::Lane;
use super::reads::{entries, refuse_standby};
use super::rows::{Columns, number};
use crate::datastore::whole::complete;
use crate::datastore::{DatastoreError, History, HistoryQuery, Order};
use crate::revision::StoreId;

/// Entries of the log that match.
pub(super) async fn history(
    lane: &Arc<Lane>,
    store: StoreId,
    query: HistoryQuery,
) -> Result<History, Failure> {
    let rows = lane
        .talk(move |session| {
            let mut statement = statement(store, &query);
            Box::pin(async move { session.rows(statement.build()).await })
        })
        .await?;
    let first = rows.first().ok_or(DatastoreError::StoreNotFound)?;
    let mut columns = Columns::of(first);
    refuse_standby(columns.next()?)?;
    columns.skip(COLUMNS_OF_LOG - 1);
    let matching: Option<i64> = columns.next()?;
    let entries = entries(&rows)?.into_iter().map(|(entry, promised)| complete(store, entry, promised));
    let entries = entries.collect::<Result<Vec<_>, _>>()?;
    let cut = usize::try_from(matching.unwrap_or(0)).is_ok_and(|matching| matching > entries.len());
    Ok(History { entries, cut })
}

/// Columns in front, as in [`super::reads`]'s statement of the log.
const COLUMNS_OF_LOG: usize = 18;

/// One match more than wanted tells whether there are more.
fn statement(StoreId(store): StoreId, query: &HistoryQuery) -> QueryBuilder<Postgres> {
    let order = match query.order {
        Order::NewestFirst => "DESC",
        Order::OldestFirst => "ASC",
    };
    let mut builder = QueryBuilder::new(
        "SELECT pg_is_in_recovery(), s.floor, e.revision, e.changes, c.ordinal, e.write_id, e.committed_at, e.schema,
                CASE WHEN c.ordinal > 0 THEN '' ELSE e.principal END,
                CASE WHEN c.ordinal > 0 THEN '' ELSE e.note END,
                c.object_type, c.object_id, c.relation, c.subject_type, c.subject_id, c.subject_relation,
                c.before, c.after, e.matching
         FROM relata.store s
         LEFT JOIN LATERAL (
             SELECT * FROM (
                 SELECT m.*, count(*) OVER () AS matching, row_number() OVER nth AS place,
                        sum(m.changes) OVER nth - m.changes AS changes_before
                 FROM (SELECT r.* FROM relata.revision r WHERE r.store = ",
    );
    builder.push_bind(store);
    builder.push(" AND r.revision BETWEEN ").push_bind(number(query.from));
    builder.push(" AND ").push_bind(number(query.to));
    if let Some(principal) = &query.principal {
        builder.push(" AND r.principal = ").push_bind(principal.to_string());
    }
    if let Some(filter) = &query.filter {
        builder.push(
            " AND EXISTS (SELECT FROM relata.change t WHERE t.store = r.store AND t.revision = r.revision",
        );
        restrict(&mut builder, filter);
        builder.push(")");
    }
    builder.push(format_args!(" ORDER BY r.revision {order} LIMIT "));
    builder.push_bind(i64::from(query.limit) + 1);
    builder.push(format_args!(") m WINDOW nth AS (ORDER BY m.revision {order})) m WHERE m.place <= "));
    builder.push_bind(i64::from(query.limit));
    builder.push(" AND m.changes_before < ").push_bind(i64::from(query.changes.max(1)));
    builder
        .push(
            ") e ON true
         LEFT JOIN LATERAL (
             SELECT * FROM relata.change WHERE store = s.id AND revision = e.revision ORDER BY ordinal) c ON true
         WHERE s.id = ",
        )
        .push_bind(store);
    builder.push(format_args!(" AND s.deleted_at IS NULL ORDER BY e.revision {order}, c.ordinal"));
    builder
}

//! The log as people ask for it.

use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};

use super::rows::{bytes, failed, number};
use super::scan::parts;
use super::{DatastoreError, read, stores};
use crate::datastore::encoding::KeyColumns;
use crate::datastore::whole::complete;
use crate::datastore::{History, HistoryQuery, Order};
use crate::revision::StoreId;

/// Entries of the log that match.
pub(super) fn history(
    snapshot: &Connection,
    store: StoreId,
    query: &HistoryQuery,
) -> Result<History, DatastoreError> {
    stores::floor(snapshot, store)?;
    let (sql, parameters) = statement(store, query);
    let mut statement = snapshot.prepare_cached(&sql).map_err(failed)?;
    let mut found = statement.query(params_from_iter(parameters)).map_err(failed)?;
    let mut history = History { entries: Vec::new(), cut: false };
    let mut budget = i64::from(query.changes.max(1));
    while let Some(row) = found.next().map_err(failed)? {
        if history.entries.len() >= query.limit as usize || budget <= 0 {
            history.cut = true;
            break;
        }
        let (entry, count) = read::entry_and_count(snapshot, store, row)?;
        budget -= count;
        history.entries.push(complete(store, entry, count)?);
    }
    Ok(history)
}

fn statement(store: StoreId, query: &HistoryQuery) -> (String, Vec<Value>) {
    let mut sql = format!(
        "SELECT {} FROM revision r WHERE r.store = ? AND r.revision BETWEEN ? AND ?",
        read::ENTRY_COLUMNS
    );
    let mut parameters: Vec<Value> =
        vec![bytes(store).to_vec().into(), number(query.from).into(), number(query.to).into()];
    if let Some(principal) = &query.principal {
        sql.push_str(" AND r.principal = ?");
        parameters.push(principal.to_string().into());
    }
    if let Some(filter) = &query.filter {
        sql.push_str(
            " AND EXISTS (SELECT 1 FROM change c WHERE c.store = r.store AND c.revision = r.revision",
        );
        for (name, wanted) in KeyColumns::NAMES.into_iter().zip(parts(filter)) {
            if let Some(wanted) = wanted {
                sql.extend([" AND c.", name, " = ?"]);
                parameters.push(wanted.to_owned().into());
            }
        }
        sql.push(')');
    }
    sql.push_str(match query.order {
        Order::NewestFirst => " ORDER BY r.revision DESC",
        Order::OldestFirst => " ORDER BY r.revision ASC",
    });
    (sql, parameters)
}

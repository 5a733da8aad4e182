//! Tuples by filter, in key order.
//!
//! A page continues after a key. Written as a comparison of all six columns that would be right,
//! but SQLite could use no index for it, since some of the columns are fixed by the filter. So
//! the comparison is reduced to the columns that are free ([`after_key`]), and these come in key
//! order out of the primary key as well as out of the subject index.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::time::{Duration, Instant};

use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};

use super::rows::{self, bytes, failed};
use super::time_limit::TimeLimit;
use super::{DatastoreError, Head, TupleFilter, TuplePage, read};
use crate::datastore::encoding::KeyColumns;
use crate::revision::StoreId;
use crate::time::Timestamp;
use crate::tuple::{RelationName, TupleKey, TypeName};

/// A page of stored tuples.
pub(super) fn page(
    snapshot: &Connection,
    store: StoreId,
    filter: &TupleFilter,
    after: Option<&TupleKey>,
    limit: u32,
) -> Result<TuplePage, DatastoreError> {
    let Head { revision: head, write_id, .. } = read::head(snapshot, store)?;
    let Some(query) = page_query(store, filter, after, limit) else {
        return Ok(TuplePage { head, write_id, tuples: Vec::new(), more: false });
    };
    let mut statement = snapshot.prepare_cached(&query.sql).map_err(failed)?;
    let mut found = statement.query(params_from_iter(query.parameters)).map_err(failed)?;
    let mut tuples = Vec::new();
    while let Some(row) = found.next().map_err(failed)? {
        if tuples.len() >= limit as usize {
            return Ok(TuplePage { head, write_id, tuples, more: true });
        }
        tuples.push(rows::attributes(row, 6, rows::key(row, 0)?)?);
    }
    Ok(TuplePage { head, write_id, tuples, more: false })
}

/// The key so many tuples after another. The ones between are stepped over and not read.
pub(super) fn key_after(
    snapshot: &Connection,
    store: StoreId,
    after: Option<&TupleKey>,
    distance: u32,
) -> Result<Option<TupleKey>, DatastoreError> {
    let Some(mut query) = page_query(store, &TupleFilter::default(), after, 0) else { return Ok(None) };
    query.sql.push_str(" OFFSET ?");
    query.parameters.push(i64::from(distance.saturating_sub(1)).into());
    let mut statement = snapshot.prepare_cached(&query.sql).map_err(failed)?;
    let mut found = statement.query(params_from_iter(query.parameters)).map_err(failed)?;
    found.next().map_err(failed)?.map(|row| rows::key(row, 0)).transpose()
}

/// Which filters match a tuple that is live at `now`. Those that no index serves have so long, all
/// together.
pub(super) fn matching(
    snapshot: &Connection,
    store: StoreId,
    filters: &[TupleFilter],
    now: Timestamp,
    limit: Duration,
) -> Result<HashSet<TupleFilter>, DatastoreError> {
    let mut matching = HashSet::new();
    let (indexed, sparse): (Vec<_>, Vec<_>) = filters.iter().partition(|filter| filter.is_indexed());
    for filter in indexed {
        if matches(snapshot, store, filter, now)? {
            matching.insert(filter.clone());
        }
    }
    if !sparse.is_empty() {
        let timed = TimeLimit::on(snapshot, Instant::now() + limit)?;
        for filter in sparse {
            match matches(snapshot, store, filter, now) {
                Ok(true) => drop(matching.insert(filter.clone())),
                Ok(false) => {}
                Err(_) if timed.is_over() => return Err(DatastoreError::TooCostly { limit }),
                Err(error) => return Err(error),
            }
        }
    }
    Ok(matching)
}

/// Whether any tuple that is live at `now` matches.
fn matches(
    snapshot: &Connection,
    store: StoreId,
    filter: &TupleFilter,
    now: Timestamp,
) -> Result<bool, DatastoreError> {
    let mut query = Query::new("SELECT 1", store, filter);
    query.sql.push_str(" AND (expires_at IS NULL OR expires_at > ?) LIMIT 1");
    query.parameters.push(now.as_micros().into());
    let mut statement = snapshot.prepare_cached(&query.sql).map_err(failed)?;
    statement.exists(params_from_iter(query.parameters)).map_err(failed)
}

#[derive(Debug)]
struct Query {
    sql: String,
    parameters: Vec<Value>,
}

impl Query {
    /// Selects the tuples that match, by the index that finds them in key order.
    fn new(what: &str, store: StoreId, filter: &TupleFilter) -> Self {
        // The index is named rather than left to SQLite, which knows nothing of the data until
        // somebody runs ANALYZE. A whole subject goes by its index, everything else by the
        // primary key: a type of subjects alone selects too much to be sorted for every page.
        let whole_subject = filter.subject_type.is_some() && filter.subject_id.is_some();
        let (index, order) = if whole_subject {
            ("tuple_subject", [3, 4, 0, 1, 2, 5])
        } else {
            // SQLite's name for the primary key of a table without rowid.
            ("sqlite_autoindex_tuple_1", [0, 1, 2, 3, 4, 5])
        };
        let mut query = Self {
            sql: format!("{what} FROM tuple INDEXED BY {index} WHERE store = ?"),
            parameters: vec![bytes(store).to_vec().into()],
        };
        let columns: Vec<_> = KeyColumns::NAMES.into_iter().zip(parts(filter)).collect();
        let mut gap = false;
        for (name, wanted) in order.into_iter().filter_map(|position| columns.get(position)) {
            let Some(wanted) = wanted else {
                gap = true;
                continue;
            };
            // The plus hides the column behind an expression. Otherwise SQLite drops it from the
            // ORDER BY as a constant, and no longer sees that the index has the rest in order.
            let plus = if gap { "+" } else { "" };
            query.sql.extend([" AND ", plus, name, " = ?"]);
            query.parameters.push(Value::from((*wanted).to_owned()));
        }
        query
    }
}

/// The parts of a filter in key order; `""` for a subject without relation.
pub(super) fn parts(filter: &TupleFilter) -> [Option<&str>; 6] {
    let subject_relation = filter.subject_relation.as_ref();
    [
        filter.object_type.as_ref().map(TypeName::as_str),
        filter.object_id.as_deref(),
        filter.relation.as_ref().map(RelationName::as_str),
        filter.subject_type.as_ref().map(TypeName::as_str),
        filter.subject_id.as_deref(),
        subject_relation.map(|relation| relation.as_ref().map_or("", RelationName::as_str)),
    ]
}

/// One tuple more than the page holds, to know whether there is one. `None`: nothing follows.
fn page_query(store: StoreId, filter: &TupleFilter, after: Option<&TupleKey>, limit: u32) -> Option<Query> {
    let columns = "SELECT object_type, object_id, relation, subject_type, subject_id, subject_relation, \
                   condition_name, condition_context, expires_at";
    let mut query = Query::new(columns, store, filter);
    if let Some(after) = after {
        let (columns, comparison) = match after_key(&parts(filter), &KeyColumns::of(after).values()) {
            After::Everything => (Vec::new(), ""),
            After::Nothing => return None,
            After::Beyond(columns) => (columns, ">"),
            After::From(columns) => (columns, ">="),
        };
        if !columns.is_empty() {
            let names: Vec<_> = columns.iter().map(|(name, _)| *name).collect();
            let marks = vec!["?"; columns.len()].join(", ");
            query.sql.extend([" AND (", &names.join(", "), ") ", comparison, " (", &marks, ")"]);
            query.parameters.extend(columns.into_iter().map(|(_, value)| Value::from(value.to_owned())));
        }
    }
    query.sql.extend([" ORDER BY ", &KeyColumns::NAMES.join(", ")]);
    query.sql.push_str(" LIMIT ?");
    query.parameters.push((i64::from(limit) + 1).into());
    Some(query)
}

/// Where a page continues, in terms of the columns that the filter leaves free.
#[derive(Debug, PartialEq, Eq)]
enum After<'a> {
    /// Every matching key is greater.
    Everything,
    /// No matching key is greater.
    Nothing,
    /// Those whose columns are greater.
    Beyond(Vec<(&'static str, &'a str)>),
    /// Those whose columns are greater or equal.
    From(Vec<(&'static str, &'a str)>),
}

/// What `key > after` means for keys whose columns are `fixed`. Up to the first fixed column
/// that differs from `after`'s, the free columns decide; where they are equal, it does.
fn after_key<'a>(fixed: &[Option<&str>; 6], after: &[&'a str; 6]) -> After<'a> {
    let mut free = Vec::new();
    for ((name, fixed), after) in KeyColumns::NAMES.into_iter().zip(fixed).zip(after) {
        match fixed.map(|fixed| fixed.cmp(after)) {
            None => free.push((name, *after)),
            Some(Ordering::Equal) => {}
            Some(Ordering::Greater) if free.is_empty() => return After::Everything,
            Some(Ordering::Greater) => return After::From(free),
            Some(Ordering::Less) if free.is_empty() => return After::Nothing,
            Some(Ordering::Less) => return After::Beyond(free),
        }
    }
    if free.is_empty() { After::Nothing } else { After::Beyond(free) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datastore::sqlite::migrate;

    fn filter(object: &str, relation: &str, subject: &str) -> TupleFilter {
        fn split(text: &str) -> (Option<&str>, Option<&str>) {
            let (first, second) = text.split_once(':').unwrap_or((text, ""));
            (Some(first).filter(|part| !part.is_empty()), Some(second).filter(|part| !part.is_empty()))
        }
        let (subject, subject_relation) = match subject.split_once('#') {
            Some((subject, relation)) => (subject, Some(relation.parse().ok())),
            None => (subject, None),
        };
        let ((object_type, object_id), (subject_type, subject_id)) = (split(object), split(subject));
        TupleFilter {
            object_type: object_type.map(|part| part.parse().expect("a type")),
            object_id: object_id.map(Into::into),
            relation: relation.parse().ok(),
            subject_type: subject_type.map(|part| part.parse().expect("a type")),
            subject_id: subject_id.map(Into::into),
            subject_relation,
        }
    }

    /// The steps SQLite takes, and that none of them sorts.
    fn plan(filter: &TupleFilter, after: &str) -> String {
        let mut connection = Connection::open_in_memory().expect("a database");
        migrate::migrate(&mut connection).expect("tables");
        let after: TupleKey = after.parse().expect("a tuple");
        let store = StoreId(uuid::Uuid::nil());
        let query = page_query(store, filter, Some(&after), 10).expect("something follows");
        let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {}", query.sql)).expect("valid");
        let steps = statement.query_map(params_from_iter(query.parameters), |row| row.get::<_, String>(3));
        let steps: Vec<_> = steps.expect("a plan").map(|step| step.expect("a step")).collect();
        steps.join("; ")
    }

    /// Other writers wait meanwhile, so what no index serves is not looked for without end.
    #[test]
    fn a_filter_without_an_index_has_a_time_limit() {
        let mut connection = Connection::open_in_memory().expect("a database");
        migrate::migrate(&mut connection).expect("tables");
        let store = StoreId(uuid::Uuid::from_u128(7));
        let filled = "INSERT INTO store (id, name, created_at, floor) VALUES (?1, 'full', 0, 1)";
        connection.execute(filled, [bytes(store)]).expect("a store");
        let many = "WITH RECURSIVE number(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < 20000)
                    INSERT INTO tuple (store, object_type, object_id, relation, subject_type, subject_id,
                                       subject_relation, revision, ordinal)
                    SELECT ?1, 'doc', 'id' || n, 'viewer', 'user', 'ann', '', 1, n FROM number";
        connection.execute(many, [bytes(store)]).expect("tuples");
        let now = Timestamp::from_micros(0);
        let mut ask = |filter: &TupleFilter, limit| {
            let transaction = connection.transaction().expect("a transaction");
            matching(&transaction, store, std::slice::from_ref(filter), now, limit)
        };
        let (sparse, indexed) = (filter("", "owner", ""), filter("doc:id7", "", ""));
        let refused = ask(&sparse, Duration::ZERO);
        assert!(matches!(refused, Err(DatastoreError::TooCostly { .. })), "{refused:?}");
        assert_eq!(ask(&indexed, Duration::ZERO).expect("an answer"), HashSet::from([indexed.clone()]));
        assert_eq!(ask(&sparse, Duration::from_mins(1)).expect("time enough"), HashSet::new());
    }

    #[test]
    fn pages_come_out_of_an_index_in_order() {
        let primary = |rest: &str| format!("SEARCH tuple USING PRIMARY KEY (store=?{rest}");
        let subject = |rest: &str| format!("SEARCH tuple USING INDEX tuple_subject (store=?{rest}");
        let after = "doc:1#viewer@user:ann";
        for (filter, expected) in [
            (filter("", "", ""), primary(" AND (object_type,object_id,relation,subject_type,subject_id,")),
            (filter("doc", "", ""), primary(" AND object_type=? AND (object_id,relation,subject_type,")),
            (filter("doc:1", "", ""), primary(" AND object_type=? AND object_id=? AND (relation,")),
            (
                filter("doc:1", "viewer", ""),
                primary(" AND object_type=? AND object_id=? AND relation=? AND ("),
            ),
            (filter("", "viewer", ""), primary(" AND (object_type,object_id)")),
            (filter("", "", "user"), primary(" AND (object_type,object_id,relation")),
            (filter("doc", "", "user"), primary(" AND object_type=? AND (object_id,relation)")),
            (
                filter("doc:1", "", "user:ann"),
                subject(
                    " AND subject_type=? AND subject_id=? AND object_type=? AND object_id=? AND (relation,subject_relation)",
                ),
            ),
            (
                filter("", "", "user:ann"),
                subject(" AND subject_type=? AND subject_id=? AND (object_type,object_id,relation,"),
            ),
            (
                filter("doc", "viewer", "user:ann"),
                subject(" AND subject_type=? AND subject_id=? AND object_type=? AND object_id>?)"),
            ),
            (
                filter("", "", "user:ann#"),
                subject(" AND subject_type=? AND subject_id=? AND (object_type,object_id,relation)>(?,?,?))"),
            ),
        ] {
            let plan = plan(&filter, after);
            assert!(plan.starts_with(&expected) && !plan.contains("TEMP B-TREE"), "{filter:?}: {plan}");
        }
    }

    /// Against the definition, on every key of a small world.
    #[test]
    fn continuing_after_any_key_is_exact() {
        let parts = ["a", "b", "c"];
        let mut keys = vec![];
        for index in 0..3_usize.pow(4) {
            let part = |position: u32| parts[index / 3_usize.pow(position) % 3];
            keys.push([part(3), part(2), part(1), part(0), "u", ""]);
        }
        let filters: Vec<[Option<&str>; 6]> = (0..16_u32)
            .map(|mask| {
                let part = |bit: u32| (mask & (1 << bit) != 0).then_some("b");
                [part(0), part(1), part(2), part(3), None, None]
            })
            .collect();
        for fixed in &filters {
            for after in &keys {
                let decided = after_key(fixed, after);
                for key in
                    keys.iter().filter(|key| fixed.iter().zip(*key).all(|(f, k)| f.is_none_or(|f| f == *k)))
                {
                    let columns = |wanted: &Vec<(&str, &str)>| {
                        let at = |name| KeyColumns::NAMES.iter().position(|n| n == name).expect("a column");
                        let ours: Vec<&str> = wanted.iter().map(|(name, _)| key[at(name)]).collect();
                        let theirs: Vec<&str> = wanted.iter().map(|(_, value)| *value).collect();
                        ours.cmp(&theirs)
                    };
                    let follows = match &decided {
                        After::Everything => true,
                        After::Nothing => false,
                        After::Beyond(wanted) => columns(wanted).is_gt(),
                        After::From(wanted) => columns(wanted).is_ge(),
                    };
                    assert_eq!(follows, key > after, "{fixed:?} {key:?} after {after:?}: {decided:?}");
                }
            }
        }
    }
}

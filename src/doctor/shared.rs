//! What is judged alike on both databases: the version of the tables, clocks, stores and memory.

use std::time::Duration;

use super::words::{count, size, time};
use super::{Expectations, Finding, Topic};
use crate::datastore::survey::{Seen, StoreSize, TablesVersion};

/// Bytes of memory that a tuple takes, from stores of short ids to stores of long ones with
/// conditions. `docs/operations/README.md` says how it was measured.
const TUPLE_BYTES: (u64, u64) = (80, 420);

/// Stores that are shown by name, the largest.
const SHOWN: usize = 5;

/// What could not be looked at, and why.
pub(super) fn unseen(topic: Topic, what: &str, why: &str) -> Finding {
    Finding::note(topic, format!("{what} is not known: {why}"))
}

/// Whether this program can work on the tables.
pub(super) fn tables(seen: &Seen<TablesVersion>) -> Finding {
    let TablesVersion { found, known, usable_from } = match seen {
        Ok(version) => *version,
        Err(why) => return unseen(Topic::Tables, "the version of the tables", why),
    };
    let migrate = "run `relata migrate` with the same --datastore; servers that run meanwhile go on";
    if found == 0 {
        return Finding::problem(Topic::Tables, "there are no tables: the database is not migrated", migrate);
    }
    if found < known {
        let what = format!("the tables are of version {found}, and this program needs {known}");
        return Finding::problem(Topic::Tables, what, migrate);
    }
    let since =
        usable_from.map_or(String::new(), |from| format!("; programs from version {from} on can use them"));
    if found == known {
        return Finding::ok(Topic::Tables, format!("version {found}, as this program needs{since}"));
    }
    match usable_from {
        Some(from) if from <= known => {
            let what = format!("version {found}, newer than this program's {known}{since}");
            Finding::note(Topic::Tables, what).advise("replace this program by the newer one in time")
        }
        from => {
            let from = from.map_or_else(|| found.to_string(), |from| from.to_string());
            let what = format!(
                "version {found}: programs before version {from} cannot work on it, and this one knows {known}"
            );
            Finding::problem(Topic::Tables, what, "use the `relata` that migrated it, or a newer one")
        }
    }
}

/// How far the clock of the database is from this machine's: microseconds ahead, and how far off
/// that may be.
pub(super) fn clock((ahead, uncertain): (i64, i64), expected: &Expectations) -> Finding {
    let apart = Duration::from_micros(ahead.unsigned_abs());
    let about = Duration::from_micros(uncertain.unsigned_abs());
    let direction = if ahead >= 0 { "ahead of" } else { "behind" };
    let what =
        format!("the database's clock is {} {direction} this machine's (± {})", time(apart), time(about));
    let remedy = "keep both clocks right with NTP (chrony, systemd-timesyncd), then look again";
    // What cannot be told apart is not held against anybody.
    let surely = apart.saturating_sub(about);
    if surely > expected.max_clock_skew {
        let limit = time(expected.max_clock_skew);
        let what = format!("{what}; a server here does not serve beyond {limit}");
        return Finding::problem(Topic::Clock, what, remedy);
    }
    if surely > expected.max_clock_skew / 4 {
        return Finding::warning(Topic::Clock, what, remedy);
    }
    Finding::ok(Topic::Clock, what)
}

/// Whether the newest commit lies in the future: then the clock that dated it was set back.
pub(super) fn newest(seen: &Seen<Option<i64>>, clock: &str) -> Option<Finding> {
    let ahead = seen.as_ref().ok().copied().flatten()?;
    let ahead = Duration::from_micros(u64::try_from(ahead).ok()?);
    (ahead > Duration::from_secs(1)).then(|| {
        let what = format!(
            "the newest revision was committed {} in the future by {clock}: it was set back, or was wrong then",
            time(ahead)
        );
        let remedy = "set the clock right; until it has caught up, tuples may expire early by as much";
        Finding::warning(Topic::Clock, what, remedy)
    })
}

/// Stores by size.
pub(super) fn stores(
    seen: &Seen<Vec<StoreSize>>,
    total: Option<u64>,
    estimated: bool,
    bytes: u64,
) -> Finding {
    let stores = match seen {
        Ok(stores) => stores,
        Err(why) => return unseen(Topic::Stores, "what the stores hold", why),
    };
    let tuples = match (total, estimated) {
        (Some(total), true) => format!("about {}", count(total, "tuple")),
        (Some(total), false) => count(total, "tuple"),
        (None, _) => "tuples not counted".to_owned(),
    };
    let number = u64::try_from(stores.len()).unwrap_or(u64::MAX);
    let mut what = format!("{}, {tuples}, {} on disk", count(number, "store"), size(bytes));
    let mut largest: Vec<&StoreSize> = stores.iter().collect();
    largest.sort_by_key(|store| std::cmp::Reverse((store.tuples.unwrap_or(0), store.revision)));
    let shown: Vec<String> = largest.iter().take(SHOWN).map(|store| one(store)).collect();
    if !shown.is_empty() {
        let rest = if largest.len() > SHOWN { ", …" } else { "" };
        what = format!("{what}: {}{rest}", shown.join(", "));
    }
    Finding::ok(Topic::Stores, what)
}

fn one(store: &StoreSize) -> String {
    match store.tuples {
        Some(tuples) => format!("`{}` {} at revision {}", store.name, count(tuples, "tuple"), store.revision),
        None => format!("`{}` at revision {}", store.name, store.revision),
    }
}

/// Whether the budget fits the machine, and the stores the budget.
pub(super) fn memory(tuples: Option<u64>, expected: &Expectations) -> Finding {
    let machine = expected.machine_memory;
    let has = machine.map_or_else(|| "an unknown amount".to_owned(), size);
    let needs = tuples
        .filter(|tuples| *tuples > 0)
        .map(|tuples| (tuples.saturating_mul(TUPLE_BYTES.0), tuples.saturating_mul(TUPLE_BYTES.1)));
    let stores = needs.map_or(String::new(), |(least, most)| {
        format!("; all stores together need about {} to {}", size(least), size(most))
    });
    let Some(budget) = expected.memory_budget else {
        let what = format!("no budget for stores on a machine with {has}{stores}");
        let remedy = "name one with --memory-budget: without it the operating system ends a server that takes too much";
        return Finding::warning(Topic::Memory, what, remedy);
    };
    let what = format!("a budget of {} for stores, of the {has} of this machine{stores}", size(budget));
    if machine.is_some_and(|machine| budget >= machine) {
        let remedy = "lower --memory-budget to half or two thirds of the machine's memory";
        return Finding::problem(Topic::Memory, format!("{what}: more than there is"), remedy);
    }
    if machine.is_some_and(|machine| budget > machine / 4 * 3) {
        let remedy = "leave room for connections and requests: half to two thirds of the machine's memory";
        return Finding::warning(Topic::Memory, what, remedy);
    }
    if needs.is_some_and(|(least, _)| least > budget) {
        let remedy = "a server that is asked for all of them loads stores again and again, and refuses one that does not fit alone: raise --memory-budget, or send each store's questions to one server";
        return Finding::warning(Topic::Memory, what, remedy);
    }
    Finding::ok(Topic::Memory, what)
}

//! The scenarios in which an obvious implementation is wrong, each in a file named after it: faults,
//! conflicts, forks, floods, and what must hold all the same.
//!
//! They run in a short form. `RELATA_SCENARIO_SECONDS` makes those that have a long form go on for
//! about so many seconds each:
//!
//! ```text
//! RELATA_SCENARIO_SECONDS=600 cargo test --test suite scenarios:: -- --nocapture
//! ```

mod a_thousand_stores_in_little_memory;
mod asked_worlds;
mod cut_connection_at_every_step;
mod differential;
mod feed_under_abuse;
mod hot_group;
mod lost_suffix;
mod one_group_many_conflicts;
mod order_and_memo;
mod paging_across_nodes_while_writing;
mod schema_and_clock_races;
mod starvation;
mod the_disk_is_full;

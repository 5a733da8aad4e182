//! What every database must do: one suite, run on SQLite and on PostgreSQL.
//!
//! A case is an ordinary async function of a [`Fixture`]: a fresh, migrated database of one kind
//! or the other. The list below makes a test of each case on each database.

mod commit;
mod committer;
mod corruption;
mod doubt;
mod durability;
pub mod fixture;
mod history;
mod keys;
mod log;
mod pinned;
mod reads;
mod schemas;
mod stores;
mod upkeep;
mod world;

use fixture::Fixture;

macro_rules! on_both_databases {
    ($($area:ident: $($case:ident),+;)+) => {
        mod sqlite {
            $($(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                super::$area::$case(super::Fixture::sqlite().await).await;
            })+)+
        }

        mod postgres {
            $($(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                // Says so where PostgreSQL is switched off, and fails where it is missing.
                let Some(fixture) = super::Fixture::postgres().await else { return };
                super::$area::$case(fixture).await;
            })+)+
        }
    };
}

on_both_databases! {
    commit:
        create_touch_and_delete_in_every_state,
        a_write_is_atomic,
        an_insert_that_does_not_come_true_is_not_committed,
        one_bad_write_of_a_group_fails_alone,
        preconditions_see_the_state_before_the_write,
        a_filter_sees_the_whole_store,
        idempotency_keys_return_the_first_result,
        what_a_tuple_carries_comes_back_exactly,
        a_group_of_a_thousand_tuples_is_one_transaction;
    schemas:
        schemas_take_revisions_and_the_newest_is_in_force,
        tuples_validated_against_another_schema_are_refused,
        a_schema_is_held_against_what_was_written_since_it_was_judged;
    log:
        the_log_tells_every_revision_in_order,
        the_log_is_read_in_pieces,
        a_trimmed_log_says_where_it_begins;
    history:
        history_is_the_log_filtered;
    reads:
        pages_with_every_filter_are_complete_and_in_order,
        a_key_so_many_tuples_on_is_found,
        ids_sort_as_bytes,
        a_page_and_its_head_are_of_one_moment;
    pinned:
        pages_of_an_earlier_revision_are_exact,
        a_reader_stays_at_its_revision_while_others_write,
        what_cannot_be_undone_is_an_error,
        what_is_of_another_history_is_not_mixed_in;
    stores:
        stores_are_made_found_and_listed,
        stores_are_independent,
        a_deleted_store_is_gone_and_its_name_is_free,
        migrating_again_changes_nothing,
        a_copy_gets_an_identity_of_its_own;
    keys:
        a_key_is_live_until_it_is_revoked,
        keys_are_listed_by_name_and_id,
        an_expired_key_is_not_live,
        a_stamp_is_never_given_twice,
        keys_outlive_a_restart_on_every_node,
        a_digest_does_not_print;
    upkeep:
        a_lease_has_one_holder_until_it_ends,
        expired_tuples_are_found_store_by_store,
        what_is_written_anew_is_not_swept,
        nothing_is_left_of_a_deleted_store,
        a_purge_that_was_broken_off_begins_anew,
        old_revisions_are_trimmed_and_the_newest_stays,
        keys_are_forgotten_after_a_day;
    committer:
        writers_on_all_nodes_leave_one_gapless_history,
        an_innocent_write_survives_a_neighbour_the_database_refuses,
        a_deadline_ends_waiting_and_nothing_else,
        a_caller_who_goes_away_takes_back_only_what_waits,
        a_full_queue_refuses,
        closing_answers_what_waits_and_refuses_what_comes,
        hints_follow_commits;
    doubt:
        a_commit_that_happened_is_a_success,
        a_commit_that_did_not_happen_is_repeated,
        a_doubt_outlives_its_callers_and_holds_up_what_comes_next,
        a_write_leaves_with_its_caller,
        a_database_that_is_away_is_waited_for_until_the_deadline,
        closing_gives_up_what_may_never_be_known,
        nobody_waits_for_a_committer_that_died,
        writes_that_the_database_refuses_fail_alone,
        what_became_of_a_commit_is_known_under_the_lock;
    corruption:
        rows_that_are_no_values_are_named,
        a_log_that_contradicts_itself_is_corrupt;
    durability:
        a_killed_writer_loses_nothing_acknowledged,
        a_reopened_database_is_the_same;
}

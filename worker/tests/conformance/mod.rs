//! The conformance suite of [`ShardEngine`](shardlift_worker::engine::ShardEngine).
//!
//! [`bench`] is what an engine brings, [`cases`], [`sharing`], [`aside`], [`undo`], [`rehearsal`], [`anew`], [`digest`], [`repair`], [`unique`] and [`backup`] what must hold for all of them, [`drive`] walks ranges as an executor
//! would; one module per engine names its bench and adds what only this engine can get wrong.

mod anew;
mod aside;
mod backup;
mod bench;
mod cases;
mod digest;
mod drive;
mod mongodb;
mod postgres;
mod postgres_anew;
mod postgres_atomic;
mod postgres_blockers;
mod postgres_checks;
mod postgres_faults;
mod postgres_keys;
mod postgres_schema;
mod postgres_standbys;
mod postgres_tenants;
mod postgres_types;
mod references;
mod rehearsal;
mod repair;
mod sharing;
mod undo;
mod unique;

/// Makes one test per case for a bench: `$start` is an async expression that gives one.
macro_rules! conformance {
    ($start:path, $of:ident; $($case:ident),* $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() -> anyhow::Result<()> {
                $crate::conformance::$of::$case(&$start().await?).await
            }
        )*
    };
}
pub(crate) use conformance;

/// All cases, for an engine that keeps them all.
macro_rules! all_cases {
    ($start:path) => {
        $crate::conformance::conformance! { $start, cases;
            a_walk_changes_each_row_exactly_once,
            a_walk_without_where_changes_each_row_exactly_once,
            a_walk_in_the_worker_changes_each_row_exactly_once,
            a_writer_that_is_dropped_loses_nothing,
            a_batch_that_is_cut_off_is_settled_by_the_next_claim,
            a_former_owner_can_write_no_more,
            a_claim_with_the_same_token_ends_the_claim_before,
            a_smaller_token_is_refused,
            an_older_leader_is_refused,
            another_leader_of_the_same_epoch_is_refused,
            ranges_are_laid_out_once,
            two_workers_lay_out_the_same_ranges,
            an_empty_table_is_done_at_once,
            a_row_that_cannot_be_changed_is_named,
            a_row_that_stays_pending_is_an_error,
            a_sweep_finds_what_came_behind_the_cursor,
            a_sweep_that_was_not_heard_is_repeated,
            verification_notices_what_is_left,
            another_identity_is_refused,
            hello_tells_the_newest_leader,
        }
        $crate::conformance::conformance! { $start, sharing;
            both_parts_of_a_split_range_are_walked_once,
            a_range_may_be_split_again_and_again,
            a_range_with_little_left_is_not_split,
            a_former_owner_cannot_split,
            an_owner_of_an_older_leader_cannot_split,
            a_split_that_is_cut_off_is_settled_by_the_next_claim,
            two_owners_may_split_at_once,
            a_checkpoint_of_a_newer_form_is_left_alone,
        }
        $crate::conformance::conformance! { $start, aside;
            rows_that_cannot_be_changed_are_set_aside_and_the_rest_is_changed_once,
            a_row_that_is_tried_again_is_changed_once_it_can_be,
            a_row_more_than_the_budget_is_refused_until_one_is_given_up,
            a_row_in_quarantine_is_left_alone_whatever_becomes_of_it,
            a_row_that_was_changed_meanwhile_is_not_set_aside,
            a_former_owner_sets_nothing_aside,
            an_older_leader_decides_nothing,
        }
        $crate::conformance::conformance! { $start, rehearsal;
            a_rehearsal_shows_what_it_would_do_and_nothing_of_it_stays,
            a_sample_is_spread_over_the_keys,
            rows_that_cannot_be_changed_are_told_by_class_and_key,
            a_transform_that_leaves_rows_pending_is_found,
            two_rehearsals_at_once_do_not_disturb_each_other,
            an_empty_table_foretells_nothing,
        }
        $crate::conformance::conformance! { $start, undo;
            undoing_restores_each_row_but_what_was_changed_since,
            undoing_restores_what_the_worker_changed,
            a_walker_can_write_no_more_once_undoing_has_begun,
            an_undoing_with_a_smaller_token_is_refused,
        }
        $crate::conformance::conformance! { $start, backup;
            what_is_saved_is_restored_part_by_part_and_once,
            a_restore_writes_over_nothing,
            a_sample_leaves_nothing_behind,
        }
        $crate::conformance::conformance! { $start, anew;
            what_the_shard_wrote_wrongly_is_found_with_its_key,
            what_the_worker_wrote_wrongly_is_found_with_its_key,
            what_was_changed_since_or_is_gone_is_counted_apart,
            what_was_changed_after_the_worker_is_counted_apart,
            a_row_that_was_changed_twice_is_no_mismatch,
            pages_of_a_listing_tell_each_row_once,
            a_sample_looks_at_the_same_rows_every_time,
        }
        $crate::conformance::conformance! { $start, digest;
            what_the_shard_wrote_and_is_altered_or_gone_is_named,
            what_the_worker_wrote_and_is_altered_or_gone_is_named,
            a_row_that_was_migrated_twice_is_what_was_written_last,
            a_comparison_of_digests_with_a_smaller_token_is_refused,
        }
        $crate::conformance::conformance! { $start, repair;
            what_the_shard_wrote_wrongly_is_repaired_and_can_be_undone,
            what_the_worker_wrote_wrongly_is_repaired_and_can_be_undone,
            what_was_changed_is_repaired_only_if_nobody_may_have_and_as_it_was_verified,
            a_row_that_was_migrated_twice_is_not_repaired_from_its_older_image,
            an_older_leader_repairs_nothing,
            a_verification_with_a_smaller_token_is_refused,
        }
        $crate::conformance::conformance! { $start, unique;
            rows_with_the_same_fields_are_told_as_long_as_they_have_them,
            a_walk_for_digests_goes_on_where_it_was_lost_and_its_loser_adds_nothing,
            digests_are_collected_anew_and_removed_to_the_last_one,
        }
    };
}
pub(crate) use all_cases;

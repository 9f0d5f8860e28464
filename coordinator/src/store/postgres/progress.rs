//! The figures of many shards in one statement: a flush costs the same however many shards have reported.

use std::collections::BTreeMap;

use shardlift_domain::progress::ShardProgress;
use shardlift_domain::{MigrationKey, ShardId};
use sqlx::PgConnection;

use super::super::error::answered;
use super::super::rows::stored_number;
use super::super::{Change, StoreError};

/// What a change says of figures, the last word for each shard.
fn last_words(change: &Change) -> BTreeMap<(&MigrationKey, &ShardId), &ShardProgress> {
    let of_new = change.new.iter().flat_map(|new| {
        let known = new.progress.iter().filter(|(shard, _)| new.migration.shards.contains_key(*shard));
        known.map(|(shard, figures)| ((&new.migration.key, shard), figures))
    });
    let reported = change.progress.iter().map(|(key, shard, figures)| ((key, shard), figures));
    of_new.chain(reported).collect()
}

/// Writes all figures of a change.
pub(super) async fn write(connection: &mut PgConnection, change: &Change) -> Result<(), StoreError> {
    let words = last_words(change);
    let Some(((first, _), _)) = words.first_key_value() else { return Ok(()) };
    let figures = |pick: fn(&ShardProgress) -> u64| -> Vec<i64> {
        words.values().map(|figures| stored_number(pick(figures))).collect()
    };
    let written = sqlx::query(
        "UPDATE shardlift_coordinator.shard_migrations s SET items_processed = u.done, items_seen = u.seen, \
         total_items = u.total, batches = u.batches, ranges = u.ranges, ranges_done = u.ranges_done, pass = u.pass \
         FROM unnest($1::text[], $2::bigint[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], \
         $8::bigint[], $9::bigint[], $10::bigint[]) \
         AS u (name, version, shard, done, seen, total, batches, ranges, ranges_done, pass) \
         JOIN shardlift_coordinator.migrations m ON m.name = u.name AND m.version = u.version \
         WHERE s.migration_id = m.id AND s.shard_id = u.shard",
    )
    .bind(words.keys().map(|(key, _)| key.id.as_str()).collect::<Vec<_>>())
    .bind(words.keys().map(|(key, _)| i64::from(key.version.0)).collect::<Vec<_>>())
    .bind(words.keys().map(|(_, shard)| shard.as_str()).collect::<Vec<_>>())
    .bind(figures(|figures| figures.rows_done))
    .bind(figures(|figures| figures.rows_seen))
    .bind(figures(|figures| figures.rows_total))
    .bind(figures(|figures| figures.batches))
    .bind(figures(|figures| figures.ranges.into()))
    .bind(figures(|figures| figures.ranges_done.into()))
    .bind(figures(|figures| figures.pass.into()))
    .execute(connection);
    let written = answered("write progress", written).await?.rows_affected();
    if usize::try_from(written) == Ok(words.len()) {
        Ok(())
    } else {
        Err(StoreError::Unknown((*first).clone()))
    }
}

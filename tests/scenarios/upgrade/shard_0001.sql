-- What the first release left in a shard of 2,000 items (keys 2, 4, …, 4000) when it was stopped in the middle of a
-- backfill: behind its tables (worker/src/engine/postgres/bookkeeping/0001.sql), which are released and never change.
INSERT INTO shardlift.bookkeeping (version) VALUES (1);
INSERT INTO shardlift.identity (cluster_uuid, shard) VALUES ('e5b84cd2-d043-4311-967a-a7203c4d35c9', 'pg-01');
UPDATE shardlift.fence SET epoch = 3, nonce = '58d8ecad171e4bf9ae724fe2b4040bd9';
INSERT INTO shardlift.checkpoint (migration, version, range_index, pass, checksum, lower_key, upper_key, last_key, epoch,
  attempt, claim, pid, backend_start, rows_changed, rows_seen, batches, done)
SELECT '0001_items', 1, range, 1, 'c9bf716d2e093312a94872ea01f206028b94c70c937fa3af74420ad919da9857', lower::text[],
  upper::text[], last::text[], epoch, attempt, claim::uuid, pid, start::timestamptz, rows, rows, batches, done
FROM (VALUES
  (0, NULL, '{1000}', '{1000}', 3, 3, '3ccefa78-d65b-4fd3-9421-93ea04e05951', 26183, '2026-01-05 10:00:01.8+00', 500, 3, true),
  (1, '{1000}', '{2000}', '{1400}', 3, 4, 'a3be25fe-b093-4dfa-a850-524b267d3985', 26177, '2026-01-05 10:00:01.8+00', 200, 1, false),
  (2, '{2000}', '{3000}', NULL, 3, 5, '7d0f4a54-7a0e-4c62-a26f-6d8ef3a3c9d1', 26191, '2026-01-05 10:00:02.1+00', 0, 0, false),
  (3, '{3000}', '{4000}', NULL, 0, 0, NULL, NULL, NULL, 0, 0, false)
) AS r (range, lower, upper, last, epoch, attempt, claim, pid, start, rows, batches, done);
UPDATE items SET applied = applied + 1, migrated = true WHERE id <= 1400;

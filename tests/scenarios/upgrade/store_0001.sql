-- What the first release left in its store when it was stopped in the middle of a backfill: behind its tables
-- (migrations/metadata/sqlite/0001_metadata.sql), which are released and never change.
CREATE TABLE _sqlx_migrations (
    version BIGINT PRIMARY KEY,
    description TEXT NOT NULL,
    installed_on TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP,
    success BOOLEAN NOT NULL,
    checksum BLOB NOT NULL,
    execution_time BIGINT NOT NULL
);
INSERT INTO _sqlx_migrations VALUES (1, 'metadata', '2026-01-05 10:00:00', 1,
    X'3f6c3e813652d20e475574c0f00998ae09f3ea862bd059140ed0a326c080d3cd08de143c8f3eb7fd137ec0f8ead83be5', 2000000);

UPDATE fence SET epoch = 3, nonce = '58d8ecad171e4bf9ae724fe2b4040bd9', holder = 'coordinator-1',
    taken_at = '2026-01-05T10:00:00.000000Z';
UPDATE topology SET revision = 1;
INSERT INTO clusters VALUES ('items', 'e5b84cd2-d043-4311-967a-a7203c4d35c9', 'postgres');
INSERT INTO shards VALUES ('pg-01', 'items', 0);
INSERT INTO migrations (id, name, version, type, database_type, cluster, checksum, status, phase, created_at, started_at,
    metadata, spec_name, spec_text)
VALUES (1, '0001_items', 1, 'data', 'postgres', 'items',
    'c9bf716d2e093312a94872ea01f206028b94c70c937fa3af74420ad919da9857', 'running', 'data',
    '2026-01-05T10:00:01.000000Z', '2026-01-05T10:00:01.500000Z',
    '{"relation":"public.items","has_where":false,"waits_for":[],"released":true,"touched":true,"stop":null}',
    'specs/000.yaml', 'id: 0001_items
kind: data
engine: postgres
cluster: items
depends_on: []
source:
  table: public.items
  immutable_key: true
transform:
  sql: { applied: applied + 1, migrated: "true" }
batch: { target: 100ms, min: 50, max: 200 }
parallel: { ranges: 4, workers: 2 }
throttle: { rows_per_second: 400 }
on_error: fail
verify: [{ count: { tolerance: 0.5 } }]
');
INSERT INTO migration_steps (migration_id, step_number, description, status, started_at, completed_at) VALUES
    (1, 1, 'precheck', 'completed', '2026-01-05T10:00:01.600000Z', '2026-01-05T10:00:01.700000Z'),
    (1, 2, 'split', 'completed', '2026-01-05T10:00:01.700000Z', '2026-01-05T10:00:01.800000Z'),
    (1, 3, 'backfill', 'running', '2026-01-05T10:00:01.800000Z', NULL),
    (1, 4, 'verify', 'pending', NULL, NULL);
-- The figures are older than the checkpoints of the shard: it was killed.
INSERT INTO shard_migrations (migration_id, shard_id, status, step, verified, items_processed, items_seen, total_items,
    batches, ranges, ranges_done, pass, started_at)
VALUES (1, 'pg-01', 'running', 'backfill', 0, 400, 400, 2000, 2, 4, 0, 1, '2026-01-05T10:00:01.600000Z');
INSERT INTO migration_history (migration_id, event_type, created_at, actor, details) VALUES
    (1, 'submitted', '2026-01-05T10:00:01.000000Z', 'person', '{"status":"pending","phase":"precheck"}'),
    (1, 'started', '2026-01-05T10:00:01.100000Z', 'person', '{"status":"pending","phase":"precheck"}'),
    (1, 'ready', '2026-01-05T10:00:01.500000Z', 'coordinator', '{"status":"running","phase":"precheck"}'),
    (1, 'step_done', '2026-01-05T10:00:01.700000Z', 'coordinator', '{"shard":"pg-01","step":"precheck"}'),
    (1, 'phase_entered', '2026-01-05T10:00:01.700000Z', 'coordinator', '{"status":"running","phase":"data"}'),
    (1, 'step_done', '2026-01-05T10:00:01.800000Z', 'coordinator', '{"shard":"pg-01","step":"split"}');

-- What running migrations work on: one row for each table or collection ('*': all) of each shard. No two migrations hold
-- what collides. Only a commit under the fence frees a row; `expires_at` is for readers, and NULL: it never does by itself.
CREATE TABLE shardlift_coordinator.migration_locks (
    resource      text         PRIMARY KEY,   -- cluster/shard/relation
    cluster       text         NOT NULL,
    shard         text         NOT NULL,
    relation      text         NOT NULL,
    migration_id  bigint       NOT NULL REFERENCES shardlift_coordinator.migrations (id),
    acquired_at   timestamptz  NOT NULL,
    expires_at    timestamptz
);

CREATE INDEX migration_locks_by_shard ON shardlift_coordinator.migration_locks (cluster, shard);
CREATE INDEX migration_locks_by_migration ON shardlift_coordinator.migration_locks (migration_id);

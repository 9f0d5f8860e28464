-- What was decided about what shards have prepared of a migration that every shard makes or none. Written in the commit of
-- the move that decides, before any shard hears of it; removed when the migration is prepared anew after an abort.
CREATE TABLE shardlift_coordinator.decisions (
    migration_id  bigint       PRIMARY KEY REFERENCES shardlift_coordinator.migrations (id),
    decision      text         NOT NULL,   -- commit, abort
    content       json         NOT NULL,   -- the whole of it
    epoch         bigint       NOT NULL,   -- of the leader that decided
    decided_at    timestamptz  NOT NULL
);

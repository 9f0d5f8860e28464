-- With which wave of its rollout a shard goes; the first is 0. How long waves soak, and which is the present one, stands in
-- migrations.metadata.
ALTER TABLE shardlift_coordinator.shard_migrations ADD COLUMN wave bigint NOT NULL DEFAULT 0;

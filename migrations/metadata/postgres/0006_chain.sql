-- The history as a chain (docs/adr/0011-tls-and-audit.md): the hash of an entry and of the hash before it, and how far the chain is.
-- Entries of earlier releases have no hash; the chain begins behind them. `request`: the id of the request that asked for it.
ALTER TABLE shardlift_coordinator.migration_history ADD COLUMN request text;
ALTER TABLE shardlift_coordinator.migration_history ADD COLUMN hash text;
ALTER TABLE shardlift_coordinator.fence ADD COLUMN history_count bigint NOT NULL DEFAULT 0;
ALTER TABLE shardlift_coordinator.fence ADD COLUMN history_hash text NOT NULL DEFAULT '';

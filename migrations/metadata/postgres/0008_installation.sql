-- The history also tells of the installation as a whole (docs/operations/audit.md): changes of the topology and drains of workers
-- belong to no migration.
ALTER TABLE shardlift_coordinator.migration_history ALTER COLUMN migration_id DROP NOT NULL;

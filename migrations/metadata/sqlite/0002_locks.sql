-- What running migrations work on: one row for each table or collection ('*': all) of each shard. No two migrations hold
-- what collides. Only a commit under the fence frees a row; `expires_at` is for readers, and NULL: it never does by itself.
CREATE TABLE migration_locks (
    resource      TEXT    NOT NULL PRIMARY KEY,   -- cluster/shard/relation
    cluster       TEXT    NOT NULL,
    shard         TEXT    NOT NULL,
    relation      TEXT    NOT NULL,
    migration_id  INTEGER NOT NULL REFERENCES migrations (id),
    acquired_at   TEXT    NOT NULL,
    expires_at    TEXT
) STRICT;

CREATE INDEX migration_locks_by_shard ON migration_locks (cluster, shard);
CREATE INDEX migration_locks_by_migration ON migration_locks (migration_id);

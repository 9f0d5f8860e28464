-- The history also tells of the installation as a whole (docs/operations/audit.md): changes of the topology and drains of workers
-- belong to no migration. SQLite cannot take NOT NULL from a column, so the table is made anew, each entry as it was.
DROP TRIGGER migration_history_keeps_its_rows;
DROP TRIGGER migration_history_keeps_its_words;

ALTER TABLE migration_history RENAME TO migration_history_before;

CREATE TABLE migration_history (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    migration_id  INTEGER REFERENCES migrations (id),   -- NULL: the installation
    event_type    TEXT    NOT NULL,
    created_at    TEXT    NOT NULL,
    actor         TEXT    NOT NULL,
    details       TEXT    NOT NULL,
    request       TEXT,
    hash          TEXT
) STRICT;

INSERT INTO migration_history (id, migration_id, event_type, created_at, actor, details, request, hash)
    SELECT id, migration_id, event_type, created_at, actor, details, request, hash
    FROM migration_history_before ORDER BY id;

DROP TABLE migration_history_before;

CREATE INDEX migration_history_by_migration ON migration_history (migration_id, id);

CREATE TRIGGER migration_history_keeps_its_rows BEFORE DELETE ON migration_history
BEGIN
    SELECT RAISE(ABORT, 'the history is append-only');
END;

CREATE TRIGGER migration_history_keeps_its_words BEFORE UPDATE ON migration_history
BEGIN
    SELECT RAISE(ABORT, 'the history is append-only');
END;

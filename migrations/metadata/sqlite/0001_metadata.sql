-- The coordinator's own bookkeeping. Times are UTC, RFC 3339, microseconds.
-- Words (status, phase, step, event) are those of docs/ARCHITECTURE.md and of the API.

-- Who leads. A take-over raises the epoch; every write compares epoch and nonce in its own transaction.
CREATE TABLE fence (
    one       INTEGER PRIMARY KEY CHECK (one = 1),
    epoch     INTEGER NOT NULL,
    nonce     TEXT    NOT NULL,
    holder    TEXT    NOT NULL,
    taken_at  TEXT
) STRICT;

INSERT INTO fence (one, epoch, nonce, holder) VALUES (1, 0, '', '');

CREATE TABLE topology (
    one       INTEGER PRIMARY KEY CHECK (one = 1),
    revision  INTEGER NOT NULL
) STRICT;

INSERT INTO topology (one, revision) VALUES (1, 0);

CREATE TABLE clusters (
    name    TEXT NOT NULL PRIMARY KEY,
    uuid    TEXT NOT NULL UNIQUE,
    engine  TEXT NOT NULL
) STRICT;

CREATE TABLE shards (
    id        TEXT    NOT NULL PRIMARY KEY,
    cluster   TEXT    NOT NULL REFERENCES clusters (name),
    position  INTEGER NOT NULL,
    UNIQUE (cluster, position)
) STRICT;

-- One row for each version of each spec; `id` grows in the order of submission.
CREATE TABLE migrations (
    id             INTEGER PRIMARY KEY AUTOINCREMENT,
    name           TEXT    NOT NULL,
    version        INTEGER NOT NULL,
    type           TEXT    NOT NULL,
    database_type  TEXT    NOT NULL,
    cluster        TEXT    NOT NULL,
    checksum       TEXT    NOT NULL,
    status         TEXT    NOT NULL,
    phase          TEXT    NOT NULL,
    created_at     TEXT    NOT NULL,
    started_at     TEXT,
    completed_at   TEXT,
    error          TEXT,                 -- the failure or the reason of a halt, as JSON; for readers only
    metadata       TEXT    NOT NULL,     -- the rest of the state, as JSON
    spec_name      TEXT    NOT NULL,
    spec_text      TEXT    NOT NULL,
    UNIQUE (name, version)
) STRICT;

CREATE INDEX migrations_by_status ON migrations (status);

-- How all shards together stand with each step. Derived from shard_migrations at every change, for readers.
CREATE TABLE migration_steps (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    migration_id  INTEGER NOT NULL REFERENCES migrations (id),
    step_number   INTEGER NOT NULL,
    description   TEXT    NOT NULL,
    status        TEXT    NOT NULL,
    started_at    TEXT,
    completed_at  TEXT,
    error         TEXT,
    UNIQUE (migration_id, step_number)
) STRICT;

-- Each shard's part. The figures are a cache: the checkpoints in the shard are the truth.
CREATE TABLE shard_migrations (
    id               INTEGER PRIMARY KEY AUTOINCREMENT,
    migration_id     INTEGER NOT NULL REFERENCES migrations (id),
    shard_id         TEXT    NOT NULL,
    status           TEXT    NOT NULL,   -- derived from step and error, for readers
    step             TEXT,               -- to do next; NULL: nothing is left
    verified         INTEGER NOT NULL,
    error            TEXT,               -- the failure, as JSON
    items_processed  INTEGER NOT NULL DEFAULT 0,
    items_seen       INTEGER NOT NULL DEFAULT 0,
    total_items      INTEGER NOT NULL DEFAULT 0,
    batches          INTEGER NOT NULL DEFAULT 0,
    ranges           INTEGER NOT NULL DEFAULT 0,
    ranges_done      INTEGER NOT NULL DEFAULT 0,
    pass             INTEGER NOT NULL DEFAULT 0,
    started_at       TEXT,
    completed_at     TEXT,
    UNIQUE (migration_id, shard_id)
) STRICT;

-- What happened, in order. Nothing here is ever changed or removed.
CREATE TABLE migration_history (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    migration_id  INTEGER NOT NULL REFERENCES migrations (id),
    event_type    TEXT    NOT NULL,
    created_at    TEXT    NOT NULL,
    actor         TEXT    NOT NULL,
    details       TEXT    NOT NULL
) STRICT;

CREATE INDEX migration_history_by_migration ON migration_history (migration_id, id);

CREATE TRIGGER migration_history_keeps_its_rows BEFORE DELETE ON migration_history
BEGIN
    SELECT RAISE(ABORT, 'the history is append-only');
END;

CREATE TRIGGER migration_history_keeps_its_words BEFORE UPDATE ON migration_history
BEGIN
    SELECT RAISE(ABORT, 'the history is append-only');
END;

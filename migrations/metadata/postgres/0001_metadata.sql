-- The coordinator's own bookkeeping. Words (status, phase, step, event) are those of docs/ARCHITECTURE.md and of the API.
-- Texts in columns of type json are kept as they were written: jsonb would refuse some and reorder others.

-- Who leads. A take-over raises the epoch; every write locks this row and compares epoch and nonce in its transaction.
CREATE TABLE shardlift_coordinator.fence (
    one       smallint     PRIMARY KEY CHECK (one = 1),
    epoch     bigint       NOT NULL,
    nonce     text         NOT NULL,
    holder    text         NOT NULL,
    taken_at  timestamptz
);

INSERT INTO shardlift_coordinator.fence (one, epoch, nonce, holder) VALUES (1, 0, '', '');

-- Clusters and shards, one document: they are read and replaced together.
CREATE TABLE shardlift_coordinator.topology (
    one       smallint  PRIMARY KEY CHECK (one = 1),
    revision  bigint    NOT NULL,
    content   json
);

INSERT INTO shardlift_coordinator.topology (one, revision) VALUES (1, 0);

-- One row for each version of each spec; `id` grows in the order of submission.
CREATE TABLE shardlift_coordinator.migrations (
    id             bigint       GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name           text         NOT NULL,
    version        bigint       NOT NULL,
    type           text         NOT NULL,
    database_type  text         NOT NULL,
    cluster        text         NOT NULL,
    checksum       text         NOT NULL,
    status         text         NOT NULL,
    phase          text         NOT NULL,
    created_at     timestamptz  NOT NULL,
    started_at     timestamptz,
    completed_at   timestamptz,
    error          json,                  -- the failure or the reason of a halt; for readers only
    metadata       json         NOT NULL, -- the rest of the state
    spec_name      text         NOT NULL,
    spec_text      text         NOT NULL,
    UNIQUE (name, version)
);

CREATE INDEX migrations_by_status ON shardlift_coordinator.migrations (status);

-- How all shards together stand with each step. Derived from shard_migrations at every change, for readers.
CREATE TABLE shardlift_coordinator.migration_steps (
    id            bigint       GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    migration_id  bigint       NOT NULL REFERENCES shardlift_coordinator.migrations (id),
    step_number   bigint       NOT NULL,
    description   text         NOT NULL,
    status        text         NOT NULL,
    started_at    timestamptz,
    completed_at  timestamptz,
    error         json,
    UNIQUE (migration_id, step_number)
);

-- Each shard's part. The figures are a cache: the checkpoints in the shard are the truth. They change every second, and
-- no index holds them: room in the pages keeps their new versions where the old ones are.
CREATE TABLE shardlift_coordinator.shard_migrations (
    id               bigint       GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    migration_id     bigint       NOT NULL REFERENCES shardlift_coordinator.migrations (id),
    shard_id         text         NOT NULL,
    status           text         NOT NULL,  -- derived from step and error, for readers
    step             text,                   -- to do next; NULL: nothing is left
    verified         boolean      NOT NULL,
    error            json,                   -- the failure
    items_processed  bigint       NOT NULL DEFAULT 0,
    items_seen       bigint       NOT NULL DEFAULT 0,
    total_items      bigint       NOT NULL DEFAULT 0,
    batches          bigint       NOT NULL DEFAULT 0,
    ranges           bigint       NOT NULL DEFAULT 0,
    ranges_done      bigint       NOT NULL DEFAULT 0,
    pass             bigint       NOT NULL DEFAULT 0,
    started_at       timestamptz,
    completed_at     timestamptz,
    UNIQUE (migration_id, shard_id)
) WITH (fillfactor = 70);

-- What happened, in order. Nothing here is ever changed or removed.
CREATE TABLE shardlift_coordinator.migration_history (
    id            bigint       GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    migration_id  bigint       NOT NULL REFERENCES shardlift_coordinator.migrations (id),
    event_type    text         NOT NULL,
    created_at    timestamptz  NOT NULL,
    actor         text         NOT NULL,
    details       json         NOT NULL
);

CREATE INDEX migration_history_by_migration ON shardlift_coordinator.migration_history (migration_id, id);

CREATE FUNCTION shardlift_coordinator.refuse_to_rewrite_history() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the history is append-only';
END
$$;

CREATE TRIGGER migration_history_keeps_its_words
    BEFORE UPDATE OR DELETE OR TRUNCATE ON shardlift_coordinator.migration_history
    FOR EACH STATEMENT EXECUTE FUNCTION shardlift_coordinator.refuse_to_rewrite_history();

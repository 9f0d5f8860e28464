-- Shardlift's own tables in a shard. Numbered: never edited once released, a change is the next number.
CREATE SCHEMA IF NOT EXISTS shardlift;

CREATE TABLE shardlift.bookkeeping (
  version integer PRIMARY KEY,
  at timestamptz NOT NULL DEFAULT now()
);

-- Which shard of which installation this database is.
CREATE TABLE shardlift.identity (
  only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
  cluster_uuid text NOT NULL,
  shard text NOT NULL,
  at timestamptz NOT NULL DEFAULT now()
);

-- The newest leader that was seen. Epoch 0: nobody yet.
CREATE TABLE shardlift.fence (
  only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
  epoch bigint NOT NULL,
  nonce text NOT NULL,
  at timestamptz NOT NULL DEFAULT now()
);
INSERT INTO shardlift.fence (epoch, nonce) VALUES (0, '');

-- The ledger: what has been applied, with which content.
CREATE TABLE shardlift.applied (
  migration text NOT NULL,
  version integer NOT NULL,
  direction text NOT NULL CHECK (direction IN ('up', 'down')),
  checksum text NOT NULL,
  epoch bigint NOT NULL,
  at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (migration, version, direction)
);

-- Progress within a list of schema statements that cannot share one transaction.
CREATE TABLE shardlift.intent (
  migration text NOT NULL,
  version integer NOT NULL,
  direction text NOT NULL CHECK (direction IN ('up', 'down')),
  position integer NOT NULL,
  checksum text NOT NULL,
  done boolean NOT NULL,
  epoch bigint NOT NULL,
  pid integer,
  backend_start timestamptz,
  at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (migration, version, direction, position)
);

-- One row per range; the row is updated by every batch, so there is room beside it for its next versions.
CREATE TABLE shardlift.checkpoint (
  migration text NOT NULL,
  version integer NOT NULL,
  range_index integer NOT NULL,
  pass integer NOT NULL,
  checksum text NOT NULL,
  lower_key text[],
  upper_key text[],
  last_key text[],
  epoch bigint NOT NULL DEFAULT 0,
  attempt bigint NOT NULL DEFAULT 0,
  claim uuid,
  pid integer,
  backend_start timestamptz,
  rows_changed bigint NOT NULL DEFAULT 0,
  rows_seen bigint NOT NULL DEFAULT 0,
  batches bigint NOT NULL DEFAULT 0,
  pending_found bigint NOT NULL DEFAULT 0,
  done boolean NOT NULL DEFAULT false,
  at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (migration, version, range_index)
) WITH (fillfactor = 20);

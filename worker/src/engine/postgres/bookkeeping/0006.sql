-- How far the verification of a data migration is, and which hand-out may go on with it.
CREATE TABLE shardlift.verifying (
  migration text NOT NULL,
  version integer NOT NULL,
  epoch bigint NOT NULL,
  attempt bigint NOT NULL,
  -- How many rows the ranges said were changed when it began.
  rows_changed bigint NOT NULL,
  -- The place in the undo log that it has come to.
  range_index integer NOT NULL DEFAULT 0,
  batch bigint NOT NULL DEFAULT 0,
  part integer NOT NULL DEFAULT 0,
  row_index integer NOT NULL DEFAULT 0,
  verified bigint NOT NULL DEFAULT 0,
  mismatches bigint NOT NULL DEFAULT 0,
  changed bigint NOT NULL DEFAULT 0,
  gone bigint NOT NULL DEFAULT 0,
  left_out bigint NOT NULL DEFAULT 0,
  recorded bigint NOT NULL DEFAULT 0,
  done boolean NOT NULL DEFAULT false,
  at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (migration, version)
) WITH (fillfactor = 20);

-- Rows that the last verification has found different, each by its place in the undo log.
CREATE TABLE shardlift.difference (
  migration text NOT NULL,
  version integer NOT NULL,
  range_index integer NOT NULL,
  batch bigint NOT NULL,
  part integer NOT NULL,
  row_index integer NOT NULL,
  difference text NOT NULL CHECK (difference IN ('mismatch', 'changed', 'gone')),
  key text NOT NULL,
  -- The digest of the changed columns as verification has seen them; null: the row was not there.
  found bigint,
  at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (migration, version, range_index, batch, part, row_index)
);

-- What a repair has replaced, row by row.
CREATE TABLE shardlift.repaired (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  migration text NOT NULL,
  version integer NOT NULL,
  key text[] NOT NULL,
  fields text[] NOT NULL,
  replaced text[] NOT NULL,
  at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ON shardlift.repaired (migration, version, id);

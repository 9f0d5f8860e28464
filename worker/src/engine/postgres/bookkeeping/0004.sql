-- Before-images: one row for each batch (or for a part of one, when undoing had to divide it), with one value for each row
-- that the batch changed. Not compressed: most of it is never read.
CREATE TABLE shardlift.undo (
  migration text NOT NULL,
  version integer NOT NULL,
  range_index integer NOT NULL,
  batch bigint NOT NULL,
  part integer NOT NULL DEFAULT 0,
  -- The columns that the batch changed, and those that a digest of the transform's other inputs is made of.
  fields text[] NOT NULL,
  input_fields text[] NOT NULL,
  rows integer NOT NULL,
  -- Column by column: the first key column of all rows, then the second.
  keys text[] NOT NULL,
  old text[] NOT NULL,
  -- Digests: of the changed columns as they were written, and of the other inputs.
  written bigint[] NOT NULL,
  inputs bigint[] NOT NULL,
  at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (migration, version, range_index, batch, part)
);
ALTER TABLE shardlift.undo ALTER COLUMN keys SET STORAGE EXTERNAL, ALTER COLUMN old SET STORAGE EXTERNAL,
  ALTER COLUMN written SET STORAGE EXTERNAL, ALTER COLUMN inputs SET STORAGE EXTERNAL;

-- What undoing has left alone, row by row, with what it would have restored.
CREATE TABLE shardlift.undo_conflict (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  migration text NOT NULL,
  version integer NOT NULL,
  key text[] NOT NULL,
  fields text[] NOT NULL,
  old text[] NOT NULL,
  written bigint NOT NULL,
  reason text NOT NULL,
  at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ON shardlift.undo_conflict (migration, version, id);

-- How far the undoing of a data migration is, and who may go on with it.
CREATE TABLE shardlift.undoing (
  migration text NOT NULL,
  version integer NOT NULL,
  epoch bigint NOT NULL DEFAULT 0,
  attempt bigint NOT NULL DEFAULT 0,
  claim uuid,
  pid integer,
  backend_start timestamptz,
  restored bigint NOT NULL DEFAULT 0,
  conflicts bigint NOT NULL DEFAULT 0,
  batches bigint NOT NULL DEFAULT 0,
  done boolean NOT NULL DEFAULT false,
  at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (migration, version)
);

-- Digests of rows, so that the rows of all shards can be compared.
CREATE TABLE shardlift.collecting (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  migration text NOT NULL,
  version bigint NOT NULL,
  epoch bigint NOT NULL,
  attempt bigint NOT NULL,
  -- What digests are made of.
  form text NOT NULL,
  last_key text[],
  digests bigint NOT NULL DEFAULT 0,
  done boolean NOT NULL DEFAULT false,
  -- Nobody needs its digests any more; they go some at a time.
  dropped boolean NOT NULL DEFAULT false,
  at timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX collecting_one ON shardlift.collecting (migration, version) WHERE NOT dropped;

CREATE TABLE shardlift.collected (
  -- A number of shardlift.collecting.
  collection bigint NOT NULL,
  digest bytea NOT NULL,
  -- Which of the spec's checks.
  asked smallint NOT NULL,
  key text[] NOT NULL
);
CREATE INDEX collected_in_order ON shardlift.collected (collection, digest);

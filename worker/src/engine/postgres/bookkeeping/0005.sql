-- Which hand-out speaks for a change that every shard makes or none: only it may prepare. It is locked by what it prepares.
CREATE TABLE shardlift.vote (
  migration text NOT NULL,
  version integer NOT NULL,
  epoch bigint NOT NULL,
  attempt bigint NOT NULL,
  pid integer,
  backend_start timestamptz,
  at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (migration, version)
);

-- Rows that could not be changed and were set aside, each as it was then: column to text. `held` ones wait for a decision;
-- `retried` ones are pending again, and only their count is kept; `discarded` ones stay as they are for good.
CREATE TABLE shardlift.quarantine (
  migration text NOT NULL,
  version integer NOT NULL,
  key text[] NOT NULL,
  key_columns text[] NOT NULL,
  shown text NOT NULL,
  state text NOT NULL CHECK (state IN ('held', 'retried', 'discarded')),
  class text NOT NULL,
  message text NOT NULL,
  attempts integer NOT NULL DEFAULT 1,
  image jsonb NOT NULL,
  at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (migration, version, key)
);

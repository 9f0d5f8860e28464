-- A verification may ask two things of the undo log: each has a walk and findings of its own.
ALTER TABLE shardlift.verifying
  ADD COLUMN asked text NOT NULL DEFAULT 'transform' CHECK (asked IN ('transform', 'digest')),
  DROP CONSTRAINT verifying_pkey,
  ADD PRIMARY KEY (migration, version, asked);
ALTER TABLE shardlift.difference
  ADD COLUMN asked text NOT NULL DEFAULT 'transform' CHECK (asked IN ('transform', 'digest')),
  DROP CONSTRAINT difference_pkey,
  ADD PRIMARY KEY (migration, version, asked, range_index, batch, part, row_index);

-- In which form a checkpoint row is written: a worker that does not know the form leaves the row alone.
ALTER TABLE shardlift.checkpoint ADD COLUMN form integer NOT NULL DEFAULT 1;

-- What was decided about what shards have prepared of a migration that every shard makes or none. Written in the commit of
-- the move that decides, before any shard hears of it; removed when the migration is prepared anew after an abort.
CREATE TABLE decisions (
    migration_id  INTEGER PRIMARY KEY REFERENCES migrations (id),
    decision      TEXT    NOT NULL,   -- commit, abort
    content       TEXT    NOT NULL,   -- the whole of it, as JSON
    epoch         INTEGER NOT NULL,   -- of the leader that decided
    decided_at    TEXT    NOT NULL
) STRICT;

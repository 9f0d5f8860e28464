-- Rules of a cluster (routing, discovery, how shards joined) as one JSON value, the newest changes of the topology, and the
-- entries of directories.
ALTER TABLE clusters ADD COLUMN rules TEXT NOT NULL DEFAULT '{}';
ALTER TABLE topology ADD COLUMN changes TEXT NOT NULL DEFAULT '[]';

-- Which shard holds a key, where the cluster's rule is a directory. Keys are in their one text form.
CREATE TABLE directory (
    cluster  TEXT NOT NULL,
    key      TEXT NOT NULL,
    shard    TEXT NOT NULL,
    PRIMARY KEY (cluster, key)
) STRICT, WITHOUT ROWID;

-- Which shard holds a key, where the cluster's rule is a directory. Keys are in their one text form.
CREATE TABLE shardlift_coordinator.directory (
    cluster  text  NOT NULL,
    key      text  NOT NULL,
    shard    text  NOT NULL,
    PRIMARY KEY (cluster, key)
);

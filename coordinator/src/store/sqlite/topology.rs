//! Clusters, shards and the entries of directories, as rows.

use std::collections::BTreeMap;

use shardlift_domain::routing::{Directory, DirectoryEntry};
use shardlift_domain::topology::{Cluster, Topology};
use sqlx::SqliteConnection;

use super::super::StoreError;
use super::super::rows::{counted, from_json, from_word, json, stored_number};

/// All of it.
pub(super) async fn read(connection: &mut SqliteConnection) -> Result<Topology, StoreError> {
    let failed = StoreError::unavailable("read the topology");
    let (revision, changes): (i64, String) =
        sqlx::query_as("SELECT revision, changes FROM topology WHERE one = 1")
            .fetch_one(&mut *connection)
            .await
            .map_err(&failed)?;
    let rows: Vec<(String, String, String, String)> =
        sqlx::query_as("SELECT name, uuid, engine, rules FROM clusters")
            .fetch_all(&mut *connection)
            .await
            .map_err(&failed)?;
    let mut clusters = BTreeMap::new();
    for (name, uuid, engine, rules) in rows {
        let cluster = Cluster {
            name: from_word("clusters.name", &name)?,
            uuid,
            engine: from_word("clusters.engine", &engine)?,
            shards: Vec::new(),
            rules: from_json("clusters.rules", &rules)?,
        };
        clusters.insert(cluster.name.clone(), cluster);
    }
    let rows: Vec<(String, String)> =
        sqlx::query_as("SELECT cluster, id FROM shards ORDER BY cluster, position")
            .fetch_all(connection)
            .await
            .map_err(&failed)?;
    for (name, id) in rows {
        // A foreign key ties each shard to a cluster that is there.
        if let Some(cluster) = clusters.get_mut(&from_word("shards.cluster", &name)?) {
            cluster.shards.push(from_word("shards.id", &id)?);
        }
    }
    let changes = from_json("topology.changes", &changes)?;
    Ok(Topology { revision: counted(revision), clusters, changes })
}

/// Replaces all of it.
pub(super) async fn write(connection: &mut SqliteConnection, topology: &Topology) -> Result<(), StoreError> {
    let failed = StoreError::unavailable("write the topology");
    for clear in ["DELETE FROM shards", "DELETE FROM clusters"] {
        sqlx::query(clear).execute(&mut *connection).await.map_err(&failed)?;
    }
    sqlx::query("UPDATE topology SET revision = ?, changes = ? WHERE one = 1")
        .bind(stored_number(topology.revision))
        .bind(json("topology.changes", &topology.changes)?)
        .execute(&mut *connection)
        .await
        .map_err(&failed)?;
    for cluster in topology.clusters.values() {
        sqlx::query("INSERT INTO clusters (name, uuid, engine, rules) VALUES (?, ?, ?, ?)")
            .bind(cluster.name.as_str())
            .bind(&cluster.uuid)
            .bind(cluster.engine.as_str())
            .bind(json("clusters.rules", &cluster.rules)?)
            .execute(&mut *connection)
            .await
            .map_err(&failed)?;
        for (position, shard) in (0_i64..).zip(&cluster.shards) {
            sqlx::query("INSERT INTO shards (id, cluster, position) VALUES (?, ?, ?)")
                .bind(shard.as_str())
                .bind(cluster.name.as_str())
                .bind(position)
                .execute(&mut *connection)
                .await
                .map_err(&failed)?;
        }
    }
    Ok(())
}

/// All entries of all directories.
pub(super) async fn read_directory(connection: &mut SqliteConnection) -> Result<Directory, StoreError> {
    let rows: Vec<(String, String, String)> = sqlx::query_as("SELECT cluster, key, shard FROM directory")
        .fetch_all(connection)
        .await
        .map_err(StoreError::unavailable("read the directory"))?;
    let mut directory = Directory::default();
    for (cluster, key, shard) in rows {
        let (cluster, shard) =
            (from_word("directory.cluster", &cluster)?, from_word("directory.shard", &shard)?);
        directory.apply(&DirectoryEntry { cluster, key, shard: Some(shard) });
    }
    Ok(directory)
}

/// Sets or removes entries.
pub(super) async fn write_directory(
    connection: &mut SqliteConnection,
    entries: &[DirectoryEntry],
) -> Result<(), StoreError> {
    for entry in entries {
        let query = match &entry.shard {
            Some(shard) => sqlx::query(
                "INSERT INTO directory (cluster, key, shard) VALUES (?, ?, ?) \
                 ON CONFLICT (cluster, key) DO UPDATE SET shard = excluded.shard",
            )
            .bind(entry.cluster.as_str())
            .bind(&entry.key)
            .bind(shard.as_str()),
            None => sqlx::query("DELETE FROM directory WHERE cluster = ? AND key = ?")
                .bind(entry.cluster.as_str())
                .bind(&entry.key),
        };
        query.execute(&mut *connection).await.map_err(StoreError::unavailable("write the directory"))?;
    }
    Ok(())
}

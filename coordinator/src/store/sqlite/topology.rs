//! Clusters and shards, as rows.

use std::collections::BTreeMap;

use shardlift_domain::topology::{Cluster, Topology};
use sqlx::SqliteConnection;

use super::super::StoreError;
use super::super::rows::{counted, from_word, stored_number};

/// All of it.
pub(super) async fn read(connection: &mut SqliteConnection) -> Result<Topology, StoreError> {
    let failed = StoreError::unavailable("read the topology");
    let (revision,): (i64,) = sqlx::query_as("SELECT revision FROM topology WHERE one = 1")
        .fetch_one(&mut *connection)
        .await
        .map_err(&failed)?;
    let rows: Vec<(String, String, String)> = sqlx::query_as("SELECT name, uuid, engine FROM clusters")
        .fetch_all(&mut *connection)
        .await
        .map_err(&failed)?;
    let mut clusters = BTreeMap::new();
    for (name, uuid, engine) in rows {
        let cluster = Cluster {
            name: from_word("clusters.name", &name)?,
            uuid,
            engine: from_word("clusters.engine", &engine)?,
            shards: Vec::new(),
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
    Ok(Topology { revision: counted(revision), clusters })
}

/// Replaces all of it.
pub(super) async fn write(connection: &mut SqliteConnection, topology: &Topology) -> Result<(), StoreError> {
    let failed = StoreError::unavailable("write the topology");
    for clear in ["DELETE FROM shards", "DELETE FROM clusters"] {
        sqlx::query(clear).execute(&mut *connection).await.map_err(&failed)?;
    }
    sqlx::query("UPDATE topology SET revision = ? WHERE one = 1")
        .bind(stored_number(topology.revision))
        .execute(&mut *connection)
        .await
        .map_err(&failed)?;
    for cluster in topology.clusters.values() {
        sqlx::query("INSERT INTO clusters (name, uuid, engine) VALUES (?, ?, ?)")
            .bind(cluster.name.as_str())
            .bind(&cluster.uuid)
            .bind(cluster.engine.as_str())
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

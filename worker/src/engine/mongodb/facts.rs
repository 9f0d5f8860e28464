//! What a shard tells of itself when it is asked. Changes nothing.

use bson::{Bson, Document, doc};
use shardlift_domain::Fence;
use shardlift_domain::facts::{FactsRequest, RelationFacts, ShardFacts, ShardHello};
use shardlift_domain::spec::Engine;

use super::connection::{Connection, OWN_DATABASE};
use super::{error, fence, inspect, ledger, schema, secondaries};
use crate::engine::{Disk, EngineError, EngineResult, Health};

pub(super) async fn hello(connection: &Connection) -> ShardHello {
    let problem = inspect::server_problem(connection).await.unwrap_or_else(Some);
    // A server with a problem would let each further question wait for a primary in vain.
    let (server_version, fence) = match problem {
        None => (inspect::server_version(connection).await.ok(), seen(connection).await),
        Some(_) => (None, None),
    };
    ShardHello {
        shard: connection.shard.clone(),
        cluster: connection.cluster.clone(),
        engine: Engine::Mongodb,
        fence,
        problem: problem.map(|problem| problem.on_shard(&connection.shard)),
        server_version,
        alarm: None,
    }
}

/// Its secondaries, and the disk of its primary. What the user may not ask is not known.
pub(super) async fn health(connection: &Connection) -> EngineResult<Health> {
    let client = connection.client().await?;
    let lag = match secondaries::lag(client, &connection.track).await {
        Err(EngineError::Failed(_)) => None,
        other => other?,
    };
    // Of our own database, which has few collections: the answer looks at each.
    let stats = client.database(OWN_DATABASE).run_command(doc! { "dbStats": 1 }).await.unwrap_or_default();
    let (total, used) = (number(&stats, "fsTotalSize"), number(&stats, "fsUsedSize"));
    let disk = (total > 0).then(|| Disk { total, free: total.saturating_sub(used) });
    Ok(Health { lag, disk })
}

/// The newest leader, if the shard can be asked and has seen one.
async fn seen(connection: &Connection) -> Option<Fence> {
    let books = connection.books().await.ok()?;
    let found = books.fence().find_one(doc! { "_id": &connection.database }).await.ok()??;
    fence::read(&found)
}

pub(super) async fn inspect(connection: &Connection, request: &FactsRequest) -> EngineResult<ShardFacts> {
    let version =
        inspect::server_version(connection).await.map_err(error::asking("asking for the version"))?;
    let mut relations = Vec::with_capacity(request.relations.len());
    for name in &request.relations {
        relations.push(relation(connection, name).await?);
    }
    Ok(ShardFacts {
        shard: connection.shard.clone(),
        engine: Engine::Mongodb,
        server_version: version,
        relations,
        applied: ledger::entries(&connection.books().await?).await?,
        schema: schema::read(connection, request.schema).await?,
        findings: Vec::new(),
    })
}

async fn relation(connection: &Connection, name: &str) -> EngineResult<RelationFacts> {
    let exists = inspect::collection(connection, name).await?.is_some();
    let stats = match exists {
        true => {
            let asked = connection.application().await?.run_command(doc! { "collStats": name }).await;
            asked.map_err(error::asking("asking for the size of a collection"))?
        }
        false => Document::new(),
    };
    Ok(RelationFacts {
        name: name.to_owned(),
        exists,
        rows: number(&stats, "count"),
        bytes: number(&stats, "storageSize"),
        key: vec!["_id".to_owned()],
    })
}

/// A number of a statistic; 0 if it is not there.
pub(super) fn number(document: &Document, field: &str) -> u64 {
    match document.get(field) {
        Some(Bson::Int32(number)) => u64::try_from(*number).unwrap_or_default(),
        Some(Bson::Int64(number)) => u64::try_from(*number).unwrap_or_default(),
        // The server answers doubles for large sizes; a size is far below 2^53.
        Some(Bson::Double(number)) if *number > 0.0 => *number as u64,
        _ => 0,
    }
}

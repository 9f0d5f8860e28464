//! What the server says of itself and of its collections; no decisions beyond "it cannot be used, because".

use bson::{Document, doc};
use futures::TryStreamExt;
use shardlift_domain::{ErrorCode, Failure};

use super::connection::Connection;
use super::error::{self, Cause};
use crate::engine::EngineResult;

/// Oldest server with everything that is used here (`hint` of updates, `$unset` stages, collections in transactions).
const OLDEST: (u32, u32) = (4, 4);

/// Why the server cannot be a shard, if so. An error: it could not be asked.
pub(super) async fn server_problem(connection: &Connection) -> Result<Option<Failure>, Failure> {
    let failed = match connection.server_hello().await {
        Ok(hello) => return Ok(role_problem(&hello)),
        Err(error) => error,
    };
    // A standalone server or a lone secondary is not selected by a dsn that names a replica set: ask it directly.
    let direct = connection.probe().await.and_then(|hello| role_problem(&hello));
    match direct {
        Some(problem) => Ok(Some(problem)),
        None => Err(error::refusal("asking the shard's server", &Cause::from(&failed)).into_failure()),
    }
}

fn role_problem(hello: &Document) -> Option<Failure> {
    let yes = |field| hello.get_bool(field).unwrap_or(false);
    if hello.get_str("msg").ok() == Some("isdbgrid") {
        return Some(Failure::new(
            ErrorCode::PrecheckRefused,
            "the server is a mongos router, not a shard",
            "point the dsn to the replica set of each shard",
        ));
    }
    if hello.get_str("setName").is_err() {
        return Some(Failure::new(
            ErrorCode::ShardStandalone,
            "the MongoDB server is a standalone: it has no transactions, so a batch could be half done",
            "start it with --replSet NAME, run rs.initiate() once, and add replicaSet=NAME to the dsn; \
             one member is enough",
        ));
    }
    if !yes("isWritablePrimary") && !yes("ismaster") {
        return Some(Failure::new(
            ErrorCode::ShardReadOnly,
            "the replica set has no primary that takes writes",
            "wait for the election, or look at rs.status() of the replica set",
        ));
    }
    None
}

/// What the server calls its version.
pub(super) async fn server_version(connection: &Connection) -> mongodb::error::Result<String> {
    let info = connection.admin(doc! { "buildInfo": 1 }).await?;
    Ok(info.get_str("version").unwrap_or("unknown").to_owned())
}

/// Whether the version is too old.
pub(super) fn version_problem(version: &str) -> Option<Failure> {
    let mut numbers = version.split('.').map_while(|part| part.parse::<u32>().ok());
    let known = (numbers.next()?, numbers.next()?);
    (known < OLDEST).then(|| {
        Failure::new(
            ErrorCode::PrecheckRefused,
            format!("MongoDB {version} is older than {}.{}", OLDEST.0, OLDEST.1),
            "upgrade the shard's server",
        )
    })
}

/// `{name, type, options, …}` of a collection as `listCollections` has it.
pub(super) async fn collection(connection: &Connection, name: &str) -> EngineResult<Option<Document>> {
    let doing = "listing collections";
    let command = doc! { "listCollections": 1, "filter": { "name": name } };
    let found = connection.application().await?.run_cursor_command(command).await;
    found.map_err(error::asking(doing))?.try_next().await.map_err(error::asking(doing))
}

/// The indexes of a collection as `listIndexes` has them; none if there is no such collection.
pub(super) async fn indexes(connection: &Connection, name: &str) -> EngineResult<Vec<Document>> {
    let doing = "listing indexes";
    let command = doc! { "listIndexes": name, "cursor": { "batchSize": 1000 } };
    match connection.application().await?.run_cursor_command(command).await {
        Ok(cursor) => cursor.try_collect().await.map_err(error::asking(doing)),
        Err(error) if Cause::from(&error).code == super::codes::NO_NAMESPACE => Ok(Vec::new()),
        Err(error) => Err(error::asking(doing)(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_refused_by_its_role_and_its_age() {
        let code = |hello: Document| role_problem(&hello).map(|problem| problem.code);
        assert_eq!(code(doc! { "isWritablePrimary": true }), Some(ErrorCode::ShardStandalone));
        assert_eq!(code(doc! { "setName": "r", "secondary": true }), Some(ErrorCode::ShardReadOnly));
        assert_eq!(code(doc! { "msg": "isdbgrid" }), Some(ErrorCode::PrecheckRefused));
        assert_eq!(code(doc! { "setName": "r", "isWritablePrimary": true }), None);
        assert!(version_problem("4.2.24").is_some());
        assert!(version_problem("4.4.0").is_none());
        assert!(version_problem("10.0.1-rc0").is_none());
    }
}

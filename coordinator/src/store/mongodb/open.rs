//! Connecting, and bringing the collections up to this release, with an answer that helps when that cannot be done.

use std::time::Duration;

use bson::{Document, doc};
use mongodb::error::{Error, ErrorKind};
use mongodb::options::{ClientOptions, ReadConcern, ReadPreference, SelectionCriteria, WriteConcern};
use mongodb::{Client, Database};
use shardlift_domain::Checksum;
use shardlift_runtime::clock;
use shardlift_runtime::config::Secret;
use shardlift_runtime::retry::{Policy, retry};
use tokio_util::sync::CancellationToken;

use super::super::StoreError;
use super::super::error::answered;
use super::super::rows::time_text;
use super::client::code;

/// The numbered files, in order. Two coordinators may apply them at the same moment, and one of them late: each command
/// must do nothing when it was done before.
const NUMBERS: [(i32, &str); 8] = [
    (1, include_str!("../../../../migrations/metadata/mongodb/0001_metadata.json")),
    (2, include_str!("../../../../migrations/metadata/mongodb/0002_locks.json")),
    (3, include_str!("../../../../migrations/metadata/mongodb/0003_routing.json")),
    (4, include_str!("../../../../migrations/metadata/mongodb/0004_decisions.json")),
    (5, include_str!("../../../../migrations/metadata/mongodb/0005_waves.json")),
    (6, include_str!("../../../../migrations/metadata/mongodb/0006_chain.json")),
    (7, include_str!("../../../../migrations/metadata/mongodb/0007_outbox.json")),
    (8, include_str!("../../../../migrations/metadata/mongodb/0008_installation.json")),
];

/// A server that is not there yet may come: coordinator and database are often started together.
const PATIENCE: Policy = Policy {
    first: Duration::from_millis(100),
    longest: Duration::from_secs(2),
    total: Some(Duration::from_secs(20)),
};
/// How long to look for a primary, and to connect: less than a request may take.
const SELECTION: Duration = Duration::from_secs(4);
/// MongoDB 4.4: projections of an updated document may compute.
const OLDEST_WIRE: i32 = 9;
/// NamespaceExists.
const EXISTS: i32 = 48;
/// DuplicateKey.
const DUPLICATE: i32 = 11000;

/// The database, ready for use.
pub(super) async fn open(url: &Secret, name: &str) -> Result<Database, StoreError> {
    let client = client(url).await?;
    let place = format!("{name} on its MongoDB server");
    let database = client.database(name);
    let prepared = retry(&PATIENCE, &CancellationToken::new(), || prepare(&database, &place)).await;
    if prepared.is_err() {
        // A client that is left to itself goes on watching its servers.
        client.shutdown().immediate(true).await;
    }
    prepared.map(|()| database)
}

async fn client(url: &Secret) -> Result<Client, StoreError> {
    // The parser's own words may repeat parts of the address, so they are not passed on.
    let refused = |_| {
        location(
            "at `store.url`",
            "it is not an address such as mongodb://user:password@host:27017/?replicaSet=rs0",
        )
    };
    let mut options = ClientOptions::parse(url.expose()).await.map_err(refused)?;
    options.app_name = Some("shardlift-coordinator/store".to_owned());
    options.write_concern = Some(WriteConcern::majority());
    options.read_concern = Some(ReadConcern::majority());
    options.selection_criteria = Some(SelectionCriteria::ReadPreference(ReadPreference::Primary));
    options.retry_writes = Some(true);
    options.server_selection_timeout = Some(SELECTION);
    options.connect_timeout = Some(SELECTION);
    options.max_pool_size = Some(4);
    Client::with_options(options).map_err(refused)
}

async fn prepare(database: &Database, place: &str) -> Result<(), StoreError> {
    check_server(database, place).await?;
    let known = applied(database).await?;
    if let Some((number, _)) =
        known.iter().find(|(number, _)| !NUMBERS.iter().any(|(ours, _)| ours == number))
    {
        return Err(location(
            place,
            format!("a newer release has used it (its collections are at number {number})"),
        ));
    }
    for (number, text) in NUMBERS {
        let checksum = Checksum::of(text.as_bytes()).as_str().to_owned();
        match known.iter().find(|(known, _)| *known == number) {
            Some((_, same)) if *same == checksum => {}
            Some(_) => {
                return Err(location(
                    place,
                    format!("its collections are not those of this release: number {number} differs"),
                ));
            }
            None => apply(database, place, number, text, &checksum).await?,
        }
    }
    Ok(())
}

/// Transactions need a replica set.
async fn check_server(database: &Database, place: &str) -> Result<(), StoreError> {
    let hello = answered("ask the server what it is", database.run_command(doc! { "hello": 1 })).await;
    let hello = hello.map_err(|error| explained(place, error))?;
    if !hello.contains_key("setName") && hello.get_str("msg").ok() != Some("isdbgrid") {
        return Err(location(
            place,
            "it is a standalone server, which has no transactions: make it a replica set, one member is enough",
        ));
    }
    if hello.get_i32("maxWireVersion").unwrap_or_default() < OLDEST_WIRE {
        return Err(location(place, "it is older than MongoDB 4.4; upgrade it"));
    }
    Ok(())
}

/// The numbers that were applied, with the checksums of their files.
async fn applied(database: &Database) -> Result<Vec<(i32, String)>, StoreError> {
    let doing = "read which numbers were applied";
    let mut cursor = answered(doing, database.collection::<Document>("numbers").find(doc! {})).await?;
    let mut known = Vec::new();
    while answered(doing, cursor.advance()).await? {
        let row = cursor.deserialize_current().map_err(StoreError::unavailable(doing))?;
        let number = row.get_i32("_id").unwrap_or_default();
        known.push((number, row.get_str("checksum").unwrap_or_default().to_owned()));
    }
    Ok(known)
}

async fn apply(
    database: &Database,
    place: &str,
    number: i32,
    text: &str,
    checksum: &str,
) -> Result<(), StoreError> {
    let unreadable = |why: String| StoreError::Unreadable { what: "migrations/metadata/mongodb", why };
    let commands: Vec<Document> =
        serde_json::from_str(text).map_err(|error| unreadable(error.to_string()))?;
    for command in commands {
        let done = answered("prepare its collections", database.run_command(command)).await;
        tolerate(done, EXISTS).map_err(|error| explained(place, error))?;
    }
    let row = doc! { "_id": number, "checksum": checksum, "applied_at": time_text(clock::now()) };
    let numbers = database.collection::<Document>("numbers");
    let recorded = answered("record a number", numbers.insert_one(row)).await;
    tolerate(recorded, DUPLICATE)
}

/// Somebody else has done it already.
fn tolerate<T>(done: Result<T, StoreError>, expected: i32) -> Result<(), StoreError> {
    match done {
        Err(StoreError::Unavailable { source, .. })
            if source.downcast_ref::<Error>().and_then(code) == Some(expected) =>
        {
            Ok(())
        }
        done => done.map(drop),
    }
}

fn location(place: &str, why: impl Into<String>) -> StoreError {
    StoreError::Location { place: place.to_owned(), why: why.into() }
}

/// What only a person can mend is told apart from what passes.
fn explained(place: &str, error: StoreError) -> StoreError {
    let StoreError::Unavailable { source, .. } = &error else { return error };
    let Some(told) = source.downcast_ref::<Error>() else { return error };
    match (told.kind.as_ref(), code(told)) {
        (ErrorKind::Authentication { .. }, _) | (_, Some(18)) => {
            location(place, "the server refuses this user or password")
        }
        (_, Some(13)) => {
            location(place, "this user lacks the privilege; give it readWrite and dbAdmin on this database")
        }
        _ => error,
    }
}

//! The chat data of a MongoDB shard: load it, and check it after the library ran.

mod channels;
mod check;
mod conversations;
mod imports;
mod tenants;

pub use check::check_mongodb;

use anyhow::Context;
use bson::Document;
use bson::spec::BinarySubtype;
use mongodb::{Client, Database};

use super::{DatasetSize, Random, Shares};

/// Documents per insert: large enough that a round trip costs little, small enough to stay below 48 MB.
const BATCH: usize = 2_000;

/// Fills the database that `dsn` names (which must be empty) with shard `shard_index`'s part (0-based) of
/// the data set.
///
/// # Errors
/// When the shard cannot be reached, the DSN names no database, or the documents are there already.
pub async fn load_mongodb(
    dsn: &str,
    shard_index: usize,
    shards: usize,
    size: &DatasetSize,
) -> anyhow::Result<()> {
    let database = database(dsn).await?;
    let shares = Shares::of(size.mongodb_documents, shards);
    let shard = u64::try_from(shard_index).context("the shard's index")?;
    insert(&database, "tenants", tenants::documents(shard, &shares)).await?;
    insert(&database, "channels", channels::documents(shard, &shares)).await?;
    insert(&database, "messages", conversations::messages(shard, &shares)).await?;
    insert(&database, "messages", conversations::odd_messages(shard).into_iter()).await?;
    insert(&database, "drafts", conversations::drafts(shard, &shares)).await?;
    insert(&database, "deliveries", conversations::deliveries(shard, &shares)).await?;
    insert(&database, "imports", imports::documents(shard).into_iter()).await
}

/// The database of the DSN's path. The DSN is a secret: it stays out of errors.
async fn database(dsn: &str) -> anyhow::Result<Database> {
    let client = Client::with_uri_str(dsn).await.context("connecting to the MongoDB shard")?;
    client.default_database().context("the MongoDB DSN names no database")
}

async fn insert(
    database: &Database,
    collection: &str,
    documents: impl Iterator<Item = Document>,
) -> anyhow::Result<()> {
    let target = database.collection::<Document>(collection);
    let mut documents = documents.peekable();
    while documents.peek().is_some() {
        let batch: Vec<Document> = documents.by_ref().take(BATCH).collect();
        target
            .insert_many(batch)
            .ordered(false)
            .await
            .with_context(|| format!("loading {collection} of the MongoDB shard"))?;
    }
    Ok(())
}

/// What a stream of random numbers is for, so that each collection has a stream of its own.
#[derive(Clone, Copy)]
enum Purpose {
    Tenant = 1,
    Channel,
    Message,
    Draft,
    Delivery,
}

/// The numbers of document `number`: other documents do not change them.
fn dice(shard: u64, purpose: Purpose, number: u64) -> Random {
    Random::new((shard << 48) ^ number, purpose as u64)
}

/// The `_id` of tenant `number`: a uuid.
fn tenant_id(shard: u64, number: u64) -> bson::Binary {
    let bytes = dice(shard, Purpose::Tenant, number).bytes16().to_vec();
    bson::Binary { subtype: BinarySubtype::Uuid, bytes }
}

/// An ObjectId that grows with `number` and differs between shards and collections.
fn object_id(shard: u64, purpose: Purpose, number: u64) -> bson::oid::ObjectId {
    let seconds = 1_640_995_200_u32.wrapping_add((number * 3) as u32);
    let mut bytes = [0_u8; 12];
    bytes[..4].copy_from_slice(&seconds.to_be_bytes());
    bytes[4] = purpose as u8;
    bytes[5] = shard as u8;
    bytes[6..].copy_from_slice(&number.to_be_bytes()[2..]);
    bson::oid::ObjectId::from_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::Shares;
    use super::{channels, conversations, imports, tenants};

    #[test]
    fn the_same_shard_has_the_same_documents_and_every_id_once() {
        let shares = Shares::of(3_000, 1);
        let all = || -> Vec<bson::Document> {
            conversations::messages(1, &shares)
                .chain(conversations::odd_messages(1))
                .chain(conversations::drafts(1, &shares))
                .chain(conversations::deliveries(1, &shares))
                .chain(channels::documents(1, &shares))
                .chain(tenants::documents(1, &shares))
                .collect()
        };
        assert_eq!(all(), all());
        let ids: BTreeSet<String> =
            all().iter().map(|document| format!("{:?}", document.get("_id"))).collect();
        assert_eq!(ids.len(), all().len(), "ids repeat");
    }

    #[test]
    fn imports_have_ids_of_many_types() {
        let types: BTreeSet<String> = imports::documents(0)
            .iter()
            .filter_map(|document| document.get("_id").map(|id| format!("{:?}", id.element_type())))
            .collect();
        assert!(types.len() >= 9, "{types:?}");
    }
}

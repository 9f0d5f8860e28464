//! The application's MongoDB side. Writes are acknowledged by the majority; a change of key is a transaction.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use bson::{Bson, Document, doc};
use futures::TryStreamExt;
use mongodb::error::{Error, ErrorKind, UNKNOWN_TRANSACTION_COMMIT_RESULT, WriteFailure};
use mongodb::options::{ClientOptions, CollectionOptions, WriteConcern};
use mongodb::{Client, Collection as Target, Database};

use super::documents::Collection;
use super::traffic::{Outcome, Store, Usage, Write};
use crate::dataset::Random;
use crate::dataset::items::{id_from_text, id_to_text};

const DUPLICATE_KEY: i32 = 11000;
/// How often the commit of a transaction is tried before its outcome counts as unknown.
const COMMITS: usize = 5;

pub(super) struct MongoDb {
    dsn: String,
    collections: Arc<[Collection]>,
    database: Option<Database>,
}

impl MongoDb {
    pub(super) fn new(dsn: String, collections: Arc<[Collection]>) -> Self {
        Self { dsn, collections, database: None }
    }

    fn database(&self) -> anyhow::Result<&Database> {
        self.database.as_ref().context("the writer is not connected")
    }

    fn target(&self, collection: usize) -> anyhow::Result<Target<Document>> {
        let options = CollectionOptions::builder().write_concern(WriteConcern::majority()).build();
        Ok(self.database()?.collection_with_options(self.collections[collection].usage.name, options))
    }

    async fn write(&self, place: usize, write: &Write, new_form: bool) -> anyhow::Result<Outcome> {
        let (target, collection) = (self.target(place)?, &self.collections[place]);
        let ended = match write {
            Write::Insert { key, payload } => {
                let mut document = doc! { "_id": id_from_text(key)? };
                document.extend((collection.insert)(payload, new_form));
                target.insert_one(document).await.map(|_| 1)
            }
            Write::Update { key, payload } => {
                let fields = doc! { "$set": (collection.update)(payload) };
                target
                    .update_one(doc! { "_id": id_from_text(key)? }, fields)
                    .await
                    .map(|done| done.matched_count)
            }
            Write::Delete { key } => {
                target.delete_one(doc! { "_id": id_from_text(key)? }).await.map(|done| done.deleted_count)
            }
            Write::Move { from, to } => {
                return self.rekey(&target, id_from_text(from)?, id_from_text(to)?).await;
            }
        };
        Ok(match ended {
            Ok(0) => Outcome::Missing,
            Ok(_) => Outcome::Done,
            Err(error) => outcome(&error),
        })
    }

    /// MongoDB never changes an `_id`: the document is deleted and inserted again, in one transaction.
    async fn rekey(&self, target: &Target<Document>, from: Bson, to: Bson) -> anyhow::Result<Outcome> {
        let refused = |error: &Error| match outcome(error) {
            Outcome::Unknown(error) => Outcome::Refused(error),
            known => known,
        };
        let mut session = match self.database()?.client().start_session().await {
            Ok(session) => session,
            Err(error) => return Ok(Outcome::Unknown(error.to_string())),
        };
        session.start_transaction().write_concern(WriteConcern::majority()).await.context("beginning")?;
        let taken = target.find_one_and_delete(doc! { "_id": from }).session(&mut session).await;
        let outcome_so_far = match taken {
            Ok(Some(mut document)) => {
                document.insert("_id", to);
                target
                    .insert_one(document)
                    .session(&mut session)
                    .await
                    .map(|_| ())
                    .map_err(|error| refused(&error))
            }
            Ok(None) => Err(Outcome::Missing),
            Err(error) => Err(refused(&error)),
        };
        if let Err(outcome) = outcome_so_far {
            // Nothing was committed, and the server ends the transaction by itself when this does not reach
            // it.
            let _best_effort = session.abort_transaction().await;
            return Ok(outcome);
        }
        let mut last = String::new();
        for _ in 0..COMMITS {
            match session.commit_transaction().await {
                Ok(()) => return Ok(Outcome::Done),
                Err(error) if error.contains_label(UNKNOWN_TRANSACTION_COMMIT_RESULT) => {
                    last = error.to_string()
                }
                Err(error) => return Ok(outcome(&error)),
            }
        }
        Ok(Outcome::Unknown(last))
    }
}

/// A write error says that nothing was written; anything about the connection or the server's state says
/// nothing.
fn outcome(error: &Error) -> Outcome {
    let told = error.to_string();
    match error.kind.as_ref() {
        ErrorKind::Write(WriteFailure::WriteError(write)) if write.code == DUPLICATE_KEY => Outcome::Taken,
        ErrorKind::Command(command) if command.code == DUPLICATE_KEY => Outcome::Taken,
        ErrorKind::Write(WriteFailure::WriteError(_)) => Outcome::Refused(told),
        ErrorKind::Command(_) if !error.contains_label("RetryableWriteError") => Outcome::Refused(told),
        _ => Outcome::Unknown(told),
    }
}

impl Store for MongoDb {
    fn usages(&self) -> Vec<Usage> {
        self.collections.iter().map(|collection| collection.usage).collect()
    }

    fn fresh_key(&self, collection: usize, random: &mut Random, documents: u64) -> anyhow::Result<String> {
        id_to_text(&self.collections[collection].keys.fresh(random, documents))
    }

    fn fresh_payload(&self, collection: usize, random: &mut Random) -> String {
        (self.collections[collection].fresh_payload)(random)
    }

    async fn connect(&mut self) -> anyhow::Result<()> {
        if self.database.is_none() {
            let mut options =
                ClientOptions::parse(&self.dsn).await.context("reading the application's DSN")?;
            options.server_selection_timeout = Some(Duration::from_secs(2));
            let client = Client::with_options(options).context("connecting as the application")?;
            self.database = Some(client.default_database().context("the MongoDB DSN names no database")?);
        }
        self.database()?.run_command(doc! { "ping": 1 }).await.context("reaching the MongoDB shard")?;
        Ok(())
    }

    async fn sample(&mut self, place: usize) -> anyhow::Result<(Vec<(String, String)>, u64)> {
        let (target, collection) = (self.target(place)?, &self.collections[place]);
        let count = target.count_documents(doc! {}).await.context("counting the documents")?;
        let step = (count / 2_000).max(1);
        let mut rows = Vec::new();
        let mut cursor = target
            .find(collection.usable.clone())
            .sort(doc! { "_id": 1 })
            .projection(doc! { collection.payload: 1 })
            .batch_size(5_000)
            .await?;
        let mut number = 0_u64;
        while let Some(document) = cursor.try_next().await.context("looking for documents to use")? {
            if number.is_multiple_of(step) {
                let id = document.get("_id").cloned().unwrap_or(Bson::Null);
                rows.push((id_to_text(&id)?, text_at(&document, collection.payload)));
            }
            number += 1;
        }
        Ok((rows, count))
    }

    async fn apply(&mut self, collection: usize, write: &Write, new_form: bool) -> Outcome {
        match self.write(collection, write, new_form).await {
            Ok(outcome) => outcome,
            Err(error) => Outcome::Refused(format!("{error:#}")),
        }
    }

    async fn read(&mut self, place: usize, key: &str) -> anyhow::Result<Option<String>> {
        let (target, collection) = (self.target(place)?, &self.collections[place]);
        let found =
            target.find_one(doc! { "_id": id_from_text(key)? }).await.context("reading a document")?;
        Ok(found.map(|document| text_at(&document, collection.payload)))
    }

    fn label(&self, key: &str) -> String {
        id_from_text(key).map_or_else(|_| key.to_owned(), |id| id.to_string())
    }
}

/// The value at a dotted path as text; empty when it is missing or no text.
fn text_at(document: &Document, path: &str) -> String {
    let (parents, last) = path.rsplit_once('.').map_or((None, path), |(parents, last)| (Some(parents), last));
    let holder = match parents {
        None => Some(document),
        Some(parent) => document.get(parent).and_then(Bson::as_document),
    };
    match holder.and_then(|holder| holder.get(last)) {
        Some(Bson::String(text)) => text.clone(),
        Some(Bson::Int64(number)) => number.to_string(),
        _ => String::new(),
    }
}

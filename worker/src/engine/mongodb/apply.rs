//! Applying a schema migration, command by command: write the intent, run, inspect, write done; the ledger at the end.
//!
//! A command takes its locks within `lock_timeout` or not at all, so nobody waits behind it for longer; an index build
//! yields its locks and has no limit.

use bson::{Document, doc};
use mongodb::options::ReturnDocument;
use shardlift_domain::ids::MigrationKey;
use shardlift_domain::{ErrorCode, Failure};

use super::checkpoint;
use super::codes;
use super::commands::{self, Command, Known};
use super::connection::{Books, Connection};
use super::error::{self, Cause};
use super::transaction::{answered, limited};
use super::{fence, ledger};
use crate::engine::{self, Direction, EngineError, EngineResult, SchemaJob};
use crate::lease::TaskLease;

pub(super) async fn apply(connection: &Connection, lease: &TaskLease, job: &SchemaJob) -> EngineResult<bool> {
    lease.check()?;
    let books = connection.books().await?;
    fence::admit(&books, lease.leader()).await?;
    let (migration, checksum) = (&lease.task().migration, &job.spec.checksum);
    // The ledger tells of `up` also where `down` came after it.
    if taken_back(&books, migration).await? {
        return Err(engine::taken_back(migration));
    }
    if ledger::holds(&books, migration, Direction::Up, checksum).await? {
        return Ok(true);
    }
    all(connection, &books, lease, job, Direction::Up).await?;
    Ok(false)
}

/// Whether the migration was taken back, or that was begun.
async fn taken_back(books: &Books, migration: &MigrationKey) -> EngineResult<bool> {
    let doing = "looking whether it was taken back";
    let down = doc! { "_id": ledger::way(books, migration, Direction::Down) };
    let noted = books.applied().find_one(down.clone()).await.map_err(error::asking(doing))?;
    let begun = books.intent().find_one(down).await.map_err(error::asking(doing))?;
    Ok(noted.is_some() || begun.is_some())
}

/// Takes the change back: `down`, or only a mark on a shard that never had `up`.
pub(super) async fn undo(
    connection: &Connection,
    lease: &TaskLease,
    job: &SchemaJob,
    drop_data: bool,
) -> EngineResult<()> {
    lease.check()?;
    let books = connection.books().await?;
    fence::admit(&books, lease.leader()).await?;
    let (migration, checksum) = (&lease.task().migration, &job.spec.checksum);
    if ledger::holds(&books, migration, Direction::Down, checksum).await? {
        return Ok(());
    }
    // Claimed with our token: whoever still applies `up` under an older right writes no intent any more.
    let up = Intent::claim(&books, lease, (migration, Direction::Up), checksum.as_str()).await?;
    if ledger::holds(&books, migration, Direction::Up, checksum).await? {
        let down = Intent::claim(&books, lease, (migration, Direction::Down), checksum.as_str()).await?;
        if !drop_data && down.done == 0 && down.begun.is_none() {
            nothing_is_lost(connection, job).await?;
        }
        return all(connection, &books, lease, job, Direction::Down).await;
    }
    if (up.done > 0 || up.begun.is_some()) && !drop_data {
        return Err(EngineError::Failed(Failure::new(
            ErrorCode::UndoHalfApplied,
            "only a part of `up` was applied, and `down` is written for the whole",
            "take that part back by hand, then roll back with --drop-data, which only marks this shard",
        )));
    }
    let epoch = checkpoint::token(lease.token()).0;
    ledger::enter(&books, (migration, Direction::Down), checksum, epoch).await
}

/// Whether `down` drops no collection that holds documents.
async fn nothing_is_lost(connection: &Connection, job: &SchemaJob) -> EngineResult<()> {
    let commands = commands::parse(&job.schema.down, &connection.database).map_err(EngineError::Failed)?;
    for command in commands {
        let replaced = command.document.get_bool("dropTarget").unwrap_or(false);
        let lost = match (command.known, &command.to) {
            (Known::Drop, _) => Some(&command.target),
            (Known::RenameCollection, Some(to)) if replaced => Some(to),
            _ => None,
        };
        let Some(lost) = lost else { continue };
        let found = connection.collection(lost).await?.find_one(doc! {}).await;
        if found.map_err(error::asking("looking for documents"))?.is_some() {
            return Err(EngineError::Failed(Failure::new(
                ErrorCode::UndoDropsData,
                format!("`down` would drop values: collection {lost} has documents"),
                "if they may be lost, roll back with --drop-data; if not, keep them and cancel the rollback",
            )));
        }
    }
    Ok(())
}

/// One direction, command by command, then the ledger.
async fn all(
    connection: &Connection,
    books: &Books,
    lease: &TaskLease,
    job: &SchemaJob,
    direction: Direction,
) -> EngineResult<()> {
    let (migration, checksum) = (&lease.task().migration, &job.spec.checksum);
    let change = match direction {
        Direction::Up => &job.schema.up,
        Direction::Down => &job.schema.down,
    };
    let commands = commands::parse(change, &connection.database).map_err(EngineError::Failed)?;
    let intent = Intent::claim(books, lease, (migration, direction), checksum.as_str()).await?;
    for (command, number) in commands.iter().zip(0_i64..).skip(intent.done) {
        lease.check()?;
        let interrupted = intent.begun == Some(number);
        if !interrupted || command.repeatable() || !command.effective(connection).await? {
            intent.begin(books, number).await?;
            if let Err(error) = run(connection, job, command).await {
                return Err(intent.refused(books, number, error).await);
            }
        }
        intent.end(books, number).await?;
    }
    ledger::enter(books, (migration, direction), checksum, checkpoint::token(lease.token()).0).await
}

async fn run(connection: &Connection, job: &SchemaJob, command: &Command) -> EngineResult<()> {
    let mut document = command.document.clone();
    document.insert("writeConcern", doc! { "w": "majority" });
    let doing = format!("{} {}", command_name(&command.document), command.target);
    let failed = |error: mongodb::error::Error| failure(&doing, &Cause::from(&error), job);
    if command.known == Known::CreateIndexes {
        connection.application().await?.run_command(document).await.map_err(failed)?;
    } else {
        let document = limited(document, job.schema.lock_timeout);
        let database = match command.known {
            Known::RenameCollection => connection.client().await?.database("admin"),
            _ => connection.application().await?,
        };
        answered(async { database.run_command(document).await.map_err(failed) }).await?;
    }
    if command.effective(connection).await? {
        return Ok(());
    }
    Err(EngineError::Failed(Failure::new(
        ErrorCode::SchemaFailed,
        format!("{doing}: the server accepted the command, but its effect is not there"),
        "look whether something else changes the collection at the same time, then retry the migration",
    )))
}

fn command_name(document: &Document) -> &str {
    document.keys().next().map_or("command", String::as_str)
}

fn failure(doing: &str, cause: &Cause, job: &SchemaJob) -> EngineError {
    if cause.code == codes::MAX_TIME {
        let waited = job.schema.lock_timeout.as_millis();
        return EngineError::Failed(Failure::new(
            ErrorCode::SchemaLocked,
            format!("{doing}: it could not have the collection for itself within {waited} ms"),
            "nothing to do: it is tried again; if it goes on, look for long operations on the collection",
        ));
    }
    match error::refusal(doing, cause) {
        EngineError::Failed(refused) if refused.code == ErrorCode::ShardRefused => {
            let message = refused.message.split("dup key:").next().unwrap_or_default().to_owned();
            EngineError::Failed(Failure::new(
                ErrorCode::SchemaFailed,
                message,
                "mend the spec or the shard; what came before this command stays applied and is not repeated",
            ))
        }
        other => other,
    }
}

/// How far a schema migration is, as the shard has it.
struct Intent {
    /// Its `_id` and our token.
    mine: Document,
    /// Commands that are done.
    done: usize,
    /// The command that was begun and of which nothing more is known.
    begun: Option<i64>,
}

impl Intent {
    async fn claim(
        books: &Books,
        lease: &TaskLease,
        (migration, direction): (&MigrationKey, Direction),
        checksum: &str,
    ) -> EngineResult<Self> {
        let doing = "claiming a schema change";
        let id = ledger::way(books, migration, direction);
        let (epoch, attempt) = checkpoint::token(lease.token());
        let fresh = doc! {
            "_id": &id, "checksum": checksum, "epoch": 0_i64, "attempt": 0_i64, "done": 0_i64, "begun": null,
        };
        match books.intent().insert_one(fresh).await {
            Ok(_) => {}
            Err(error) if Cause::from(&error).code == codes::DUPLICATE_KEY => {}
            Err(error) => return Err(error::asking(doing)(error)),
        }
        let older = doc! { "_id": &id, "$or": [
            { "epoch": { "$lt": epoch } }, { "epoch": epoch, "attempt": { "$lte": attempt } },
        ] };
        let take = doc! { "$set": { "epoch": epoch, "attempt": attempt } };
        let taken =
            books.intent().find_one_and_update(older, take).return_document(ReturnDocument::After).await;
        let taken = taken.map_err(error::asking(doing))?.ok_or(EngineError::LeaseLost)?;
        if taken.get_str("checksum").ok() != Some(checksum) {
            return Err(EngineError::Failed(ledger::conflict(migration)));
        }
        Ok(Self {
            mine: doc! { "_id": id, "epoch": epoch, "attempt": attempt },
            done: taken.get_i64("done").ok().and_then(|done| usize::try_from(done).ok()).unwrap_or(0),
            begun: taken.get_i64("begun").ok(),
        })
    }

    async fn write(&self, books: &Books, change: Document) -> EngineResult<()> {
        let written = books.intent().update_one(self.mine.clone(), doc! { "$set": change }).await;
        match written.map_err(error::asking("writing the intent of a schema change"))?.matched_count {
            1 => Ok(()),
            _ => Err(EngineError::LeaseLost),
        }
    }

    async fn begin(&self, books: &Books, number: i64) -> EngineResult<()> {
        self.write(books, doc! { "begun": number }).await
    }

    async fn end(&self, books: &Books, number: i64) -> EngineResult<()> {
        self.write(books, doc! { "begun": null, "done": number + 1 }).await
    }

    /// A command that the server refused did not run: the next try must not mistake what was there before for its
    /// effect. After a broken connection nobody knows, and the intent stays.
    async fn refused(&self, books: &Books, number: i64, error: EngineError) -> EngineError {
        if matches!(error, EngineError::Failed(_) | EngineError::Contended(_))
            && let Err(lost) = self.write(books, doc! { "begun": null, "done": number }).await
        {
            return lost;
        }
        error
    }
}

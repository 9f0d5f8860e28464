//! `shardlift backup …`.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal};

use clap::Subcommand;
use serde_json::{Value, json};
use shardlift_client::{Kept, Restoring};
use shardlift_domain::backup::Restored;
use shardlift_domain::failure::{ErrorCode, Failure};
use shardlift_domain::ids::{MigrationId, ShardId, Version};

use crate::cli::Session;
use crate::console::Ended;
use crate::exit::Exit;
use crate::view::failure::brief;
use crate::view::figures::{bytes, count, counted};
use crate::view::harmless::line;

/// Look at what `backup: table` has saved, and restore it beside the original.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  shardlift backup list
  shardlift backup list 0008_message_text
  shardlift backup restore 0008_message_text --shard chat-pg-01
  shardlift backup restore 0008_message_text --dry-run              reads every part and compares its digest
  shardlift backup purge 0008_message_text --yes

A restore never writes over anything: it goes into a schema or database of its own, where the table must not be. It can be
stopped and asked for again: it goes on where it ended. docs/operations/backup.md tells how to restore without Shardlift.")]
pub(crate) struct Backup {
    #[command(subcommand)]
    verb: Ask,
}

#[derive(Debug, Subcommand)]
enum Ask {
    /// List the complete backups, shard by shard.
    List {
        /// Only of this migration.
        id: Option<MigrationId>,
    },
    /// Restore into a schema or database of its own, beside the original.
    Restore(Restore),
    /// Remove the backups of a migration that has ended.
    Purge(Purge),
}

#[derive(Debug, clap::Args)]
struct Restore {
    /// The migration's id.
    id: MigrationId,
    /// Its version; the newest unless told.
    #[arg(long)]
    version: Option<u32>,
    /// Only this shard.
    #[arg(long)]
    shard: Option<ShardId>,
    /// The schema (PostgreSQL) or database (MongoDB) that it goes to; it is made if it is not there.
    #[arg(long, value_name = "NAME")]
    into: Option<String>,
    /// Read every part and compare its digest; write nothing.
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, clap::Args)]
struct Purge {
    /// The migration's id.
    id: MigrationId,
    /// Its version; the newest unless told.
    #[arg(long)]
    version: Option<u32>,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
}

impl Backup {
    pub(crate) async fn run(&self, session: &Session) -> Result<Exit, Ended> {
        match &self.verb {
            Ask::List { id } => list(session, id.as_ref()).await,
            Ask::Restore(verb) => verb.run(session).await,
            Ask::Purge(verb) => verb.run(session).await,
        }
    }
}

async fn list(session: &Session, id: Option<&MigrationId>) -> Result<Exit, Ended> {
    let mut found = session.client()?.backups(id).await?;
    let (mut whole, mut told) = (0, Vec::new());
    while let Some(kept) = found.next().await? {
        session.console.remark(&sentence(&kept))?;
        whole += usize::from(matches!(kept.backup, Ok(Some(_))));
        told.push(listed(&kept));
    }
    let sum = format!("{} of {}\n", counted(whole, "complete backup"), counted(told.len(), "shard"));
    session.console.answer(|_| sum, || json!({ "backups": told }))?;
    Ok(Exit::Done)
}

/// `0008_message_text@1  chat-pg-01  public.messages: 1,200 rows, 3.1 MiB (1.0 MiB stored), snapshot, 2026-… at /var/…`.
fn sentence(kept: &Kept) -> String {
    let what = match &kept.backup {
        Err(failure) => format!("could not be asked: {}", brief(failure)),
        Ok(None) => "no complete backup".to_owned(),
        Ok(Some(backup)) => format!(
            "{}: {} rows, {} ({} stored in {}), {}, {}, at {}",
            line(&backup.relation),
            count(backup.rows),
            bytes(backup.bytes),
            bytes(backup.stored),
            counted(backup.parts as usize, "part"),
            line(&backup.consistency),
            line(&backup.ended),
            line(&backup.place)
        ),
    };
    format!("{}  {}  {what}\n", kept.migration, kept.shard)
}

fn listed(kept: &Kept) -> Value {
    let (backup, error) = match &kept.backup {
        Ok(backup) => (json!(backup), Value::Null),
        Err(failure) => {
            (Value::Null, json!({ "code": failure.code, "message": failure.message, "next": failure.next }))
        }
    };
    json!({
        "migration": kept.migration.id, "version": kept.migration.version, "shard": kept.shard,
        "backup": backup, "error": error,
    })
}

impl Restore {
    async fn run(&self, session: &Session) -> Result<Exit, Ended> {
        let asked = Restoring {
            id: self.id.clone(),
            version: self.version.map(Version),
            shard: self.shard.clone(),
            into: self.into.clone(),
            dry_run: self.dry_run,
        };
        let mut told = session.client()?.restore(&asked).await?;
        let mut shards: BTreeMap<ShardId, Restored> = BTreeMap::new();
        while let Some((shard, restored)) = told.next().await? {
            session.console.remark(&self.progress(&shard, &restored))?;
            shards.insert(shard, restored);
        }
        let rows = shards.values().map(|restored| restored.rows).sum();
        let done = if self.dry_run { "read, and what was saved" } else { "restored" };
        let sum = format!("{} rows of {} {done}\n", count(rows), counted(shards.len(), "shard"));
        let value = || {
            let shard = |(shard, restored): (&ShardId, &Restored)| json!({ "shard": shard, "into": restored.into, "rows": restored.rows, "parts": restored.parts });
            json!({ "dry_run": self.dry_run, "shards": shards.iter().map(shard).collect::<Vec<_>>() })
        };
        session.console.answer(|_| sum, value)?;
        Ok(Exit::Done)
    }

    fn progress(&self, shard: &ShardId, restored: &Restored) -> String {
        let Restored { into, done, parts, rows } = restored;
        let place = if self.dry_run { String::new() } else { format!(" in {}", line(into)) };
        format!("{shard}: {done} of {}, {} rows{place}\n", counted(*parts as usize, "part"), count(*rows))
    }
}

impl Purge {
    async fn run(&self, session: &Session) -> Result<Exit, Ended> {
        if !self.yes && !self.confirmed(session)? {
            session.console.note("not purged\n");
            return Ok(Exit::Stopped);
        }
        let mut told = session.client()?.purge_backups(&self.id, self.version.map(Version)).await?;
        let mut shards: BTreeMap<ShardId, u64> = BTreeMap::new();
        while let Some((shard, objects)) = told.next().await? {
            shards.insert(shard, objects);
        }
        let objects: u64 = shards.values().sum();
        let sum = format!("{} files of {} removed\n", count(objects), counted(shards.len(), "shard"));
        session.console.answer(|_| sum, || json!({ "shards": shards }))?;
        Ok(Exit::Done)
    }

    fn confirmed(&self, session: &Session) -> Result<bool, Ended> {
        if !io::stdin().is_terminal() {
            let message = "standard input is not a terminal, so nobody can be asked whether to purge";
            let next = "give --yes to purge without a question";
            return Err(Failure::new(ErrorCode::RequestInvalid, message, next).into());
        }
        session
            .console
            .note(&format!("Remove the backups of {}? Nothing can be restored afterwards. [y/N] ", self.id));
        let mut answer = String::new();
        io::stdin().read_line(&mut answer)?;
        Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
    }
}

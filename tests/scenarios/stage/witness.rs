//! A witness of every committed change of the checkpoints and the fence of a shard: they may only go forward (I4), and
//! epochs never go back in the order of commits (I5).
//!
//! PostgreSQL: a trigger writes them down in the same transaction. MongoDB: the oplog holds them.

use std::collections::BTreeMap;

use bson::{Document, Timestamp, doc};
use futures::TryStreamExt;
use mongodb::Client;
use shardlift_harness::wait::wait_for;
use sqlx::{Connection, PgConnection, Row};

use super::{DEADLINE, Engine, Items, execute, scalar};

const TESTIFY: &str = "
CREATE TABLE public.testimony (place bigserial PRIMARY KEY, what text, epoch bigint, attempt bigint, batches bigint,
  done boolean);
CREATE FUNCTION public.testify() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  IF TG_TABLE_NAME = 'fence' THEN
    INSERT INTO public.testimony (what, epoch, attempt, batches, done) VALUES ('fence', NEW.epoch, 0, 0, false);
  ELSE
    INSERT INTO public.testimony (what, epoch, attempt, batches, done)
    VALUES (NEW.migration || ' ' || NEW.range_index, NEW.epoch, NEW.attempt, NEW.batches, NEW.done);
  END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER testify AFTER INSERT OR UPDATE ON shardlift.checkpoint FOR EACH ROW EXECUTE FUNCTION public.testify();
CREATE TRIGGER testify AFTER INSERT OR UPDATE ON shardlift.fence FOR EACH ROW EXECUTE FUNCTION public.testify();";

/// One committed state of a checkpoint, or of the fence.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct State {
    token: (i64, i64),
    batches: i64,
    done: bool,
}

/// Watches one shard from its making on.
#[derive(Debug)]
pub(crate) struct Witness<'a> {
    items: &'a Items,
    since: Option<Timestamp>,
}

impl<'a> Witness<'a> {
    /// Begins to watch, as soon as the worker has made Shardlift's tables.
    pub(crate) async fn of(items: &'a Items) -> Self {
        let since = match items.engine() {
            Engine::Postgres => {
                let there =
                    "SELECT count(*)::text FROM pg_namespace n JOIN pg_class c ON c.relnamespace = n.oid
                             WHERE n.nspname = 'shardlift' AND c.relname = 'checkpoint'";
                let made = wait_for("Shardlift's tables", DEADLINE, async || {
                    (scalar(&items.dsn, there).await == "1").then_some(())
                });
                made.await.unwrap();
                execute(&items.dsn, TESTIFY).await;
                None
            }
            Engine::Mongodb => {
                let client = Client::with_uri_str(&items.dsn).await.unwrap();
                let oplog = client.database("local").collection::<Document>("oplog.rs");
                let last = oplog.find_one(doc! {}).sort(doc! { "$natural": -1 }).await.unwrap().unwrap();
                Some(last.get_timestamp("ts").unwrap())
            }
        };
        Self { items, since }
    }

    /// Everything that went back; empty when nothing did. Fails when nothing was seen at all.
    pub(crate) async fn complaints(&self) -> Vec<String> {
        let seen = match self.since {
            None => postgres(&self.items.dsn).await,
            Some(since) => oplog(&self.items.dsn, since).await,
        };
        assert!(seen.len() > 3, "the witness of {} has seen {} changes only", self.items.shard, seen.len());
        let mut states: BTreeMap<&str, State> = BTreeMap::new();
        let mut complaints = Vec::new();
        for (what, state) in &seen {
            let before = states.insert(what, *state).unwrap_or_default();
            if state.token < before.token || state.batches < before.batches || (before.done && !state.done) {
                complaints
                    .push(format!("{}: {what} went back from {before:?} to {state:?}", self.items.shard));
            }
        }
        complaints
    }
}

async fn postgres(dsn: &str) -> Vec<(String, State)> {
    let mut session = PgConnection::connect(dsn).await.unwrap();
    let rows = sqlx::query("SELECT what, epoch, attempt, batches, done FROM public.testimony ORDER BY place");
    let rows = rows.fetch_all(&mut session).await.unwrap();
    let state = |row: &sqlx::postgres::PgRow| State {
        token: (row.get(1), row.get(2)),
        batches: row.get(3),
        done: row.get(4),
    };
    rows.iter().map(|row| (row.get(0), state(row))).collect()
}

/// The whole states, put together from the changed fields of each entry.
async fn oplog(dsn: &str, since: Timestamp) -> Vec<(String, State)> {
    let client = Client::with_uri_str(dsn).await.unwrap();
    let oplog = client.database("local").collection::<Document>("oplog.rs");
    let own = doc! { "$in": ["shardlift.checkpoint", "shardlift.fence"] };
    let filter = doc! { "ts": { "$gt": since }, "$or": [{ "ns": &own }, { "o.applyOps.ns": &own }] };
    let entries: Vec<Document> =
        oplog.find(filter).sort(doc! { "$natural": 1 }).await.unwrap().try_collect().await.unwrap();
    let mut states: BTreeMap<String, State> = BTreeMap::new();
    let mut seen = Vec::new();
    for entry in &entries {
        let within = entry.get_document("o").ok().and_then(|o| o.get_array("applyOps").ok());
        let operations: Vec<&Document> = match within {
            Some(list) => list.iter().filter_map(bson::Bson::as_document).collect(),
            None => vec![entry],
        };
        for operation in operations {
            let Some((what, changed)) = change(operation) else { continue };
            let state = states.entry(what.clone()).or_default();
            state.token.0 = changed.get_i64("epoch").unwrap_or(state.token.0);
            state.token.1 = changed.get_i64("attempt").unwrap_or(state.token.1);
            state.batches = changed.get_i64("batches").unwrap_or(state.batches);
            state.done = changed.get_bool("done").unwrap_or(state.done);
            seen.push((what, *state));
        }
    }
    seen
}

/// What an entry speaks of, and the fields that it sets.
fn change(operation: &Document) -> Option<(String, &Document)> {
    if !operation.get_str("ns").ok()?.starts_with("shardlift.") {
        return None;
    }
    let object = operation.get_document("o").ok()?;
    let (id, fields) = match operation.get_str("op").ok()? {
        "i" => (object.get("_id")?, object),
        "u" => (
            operation.get_document("o2").ok()?.get("_id")?,
            object.get_document("diff").ok()?.get_document("u").ok()?,
        ),
        _ => return None,
    };
    Some((id.to_string(), fields))
}

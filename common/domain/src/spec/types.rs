//! The meaning of a spec file. Text never travels further than the parser.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ids::{Checksum, ClusterName, MigrationId};

use super::anew::unrepeatable;
use super::checks::{Anew, Assertion, Leeway, References, Unique, VerifyCheck};
use super::throttle::Throttle;

/// A spec as the user wrote it: what is submitted, stored and sent to workers, so that there is one parser only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpecFile {
    /// File name as the user knows it; `.sql` or `.yaml` decides the form.
    pub name: String,
    /// The whole text.
    pub text: String,
}

/// The compiled-in transformer of messages, which marks each with its schema version.
const MESSAGE: &str = "message";
/// The version that it marks them with unless its options tell another one.
const MESSAGE_VERSION: i64 = 2;

/// The database of a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// PostgreSQL.
    Postgres,
    /// MongoDB replica set.
    Mongodb,
}

impl Engine {
    /// `postgres` or `mongodb`.
    pub fn as_str(self) -> &'static str {
        match self {
            Engine::Postgres => "postgres",
            Engine::Mongodb => "mongodb",
        }
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a migration changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// The shape of tables or collections.
    Schema,
    /// Rows or documents.
    Data,
}

impl Kind {
    /// `schema` or `data`.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Schema => "schema",
            Kind::Data => "data",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What follows when verification finds a difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnVerifyFailure {
    /// It halts, with the reason.
    #[default]
    Halt,
    /// It is rolled back.
    Rollback,
}

/// What is kept so that a data migration can be rolled back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Undo {
    /// Nothing.
    #[default]
    None,
    /// The old values of the changed fields, in the shard, written by the batch that changes them.
    Capture,
}

/// What is saved before the first row changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Backup {
    /// Nothing.
    #[default]
    None,
    /// The whole table or collection, in an object store beside the shard's worker.
    Table,
}

/// One valid spec.
#[derive(Debug, Clone, PartialEq)]
pub struct Spec {
    /// Unique for ever.
    pub id: MigrationId,
    /// The engine that it is written for; must be the cluster's.
    pub engine: Engine,
    /// Where it is applied: all shards of this cluster.
    pub cluster: ClusterName,
    /// Ids that must be completed first.
    pub depends_on: Vec<MigrationId>,
    /// What it does.
    pub body: SpecBody,
    /// What follows when verification finds a difference.
    pub on_verify_failure: OnVerifyFailure,
    /// In which waves it reaches the shards. Empty: all at once. Otherwise the last one reaches all of them.
    pub rollout: Vec<WaveSpec>,
    /// SHA-256 over the meaning (not over comments or layout).
    pub checksum: Checksum,
}

impl Spec {
    /// Schema or data.
    pub fn kind(&self) -> Kind {
        match self.body {
            SpecBody::Schema(_) => Kind::Schema,
            SpecBody::Data(_) => Kind::Data,
        }
    }

    /// Whether there is anything to roll back with: `undo: capture`, or a `down`.
    pub fn undoable(&self) -> bool {
        match &self.body {
            SpecBody::Schema(schema) => !schema.down.is_empty(),
            SpecBody::Data(data) => data.undo == Undo::Capture,
        }
    }

    /// Whether the table or collection is saved before its first row changes.
    pub fn backs_up(&self) -> bool {
        matches!(&self.body, SpecBody::Data(data) if data.backup == Backup::Table)
    }

    /// Whether rows must be unique over all shards.
    pub fn compares_shards(&self) -> bool {
        matches!(&self.body, SpecBody::Data(data) if data.unique().next().is_some())
    }

    /// How the walk is throttled; `None`: nothing is walked.
    pub fn throttle(&self) -> Option<Throttle> {
        match &self.body {
            SpecBody::Schema(_) => None,
            SpecBody::Data(data) => Some(data.throttle),
        }
    }

    /// Whether every shard makes the change or none, by two-phase commit.
    pub fn is_atomic(&self) -> bool {
        matches!(&self.body, SpecBody::Schema(schema) if schema.atomic)
    }

    /// The questions of the user's own that verification asks.
    pub fn assertions(&self) -> Vec<&Assertion> {
        match &self.body {
            SpecBody::Schema(schema) => schema.verify.iter().collect(),
            SpecBody::Data(data) => data.verify.iter().filter_map(VerifyCheck::assertion).collect(),
        }
    }

    /// Whose rows alone are in scope.
    pub fn tenants(&self) -> Option<&Tenants> {
        match &self.body {
            SpecBody::Schema(_) => None,
            SpecBody::Data(data) => data.source.tenants.as_ref(),
        }
    }

    /// The message schema version that it leaves behind: that of the transformer `message`.
    pub fn message_version(&self) -> Option<i64> {
        let SpecBody::Data(data) = &self.body else { return None };
        match &data.transform {
            Transform::Named { name, options } if name == MESSAGE => {
                Some(options.get("version").and_then(serde_json::Value::as_i64).unwrap_or(MESSAGE_VERSION))
            }
            _ => None,
        }
    }

    /// The table or collection that a data spec changes.
    pub fn relation(&self) -> Option<&str> {
        match &self.body {
            SpecBody::Schema(_) => None,
            SpecBody::Data(data) => Some(&data.source.relation),
        }
    }
}

/// One entry of a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WaveSpec {
    /// How many shards are done when the wave is, those of earlier waves included.
    pub reach: Reach,
    /// How long it is looked at before the next wave begins.
    pub soak: Duration,
}

/// How many shards, in one way or the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// So many.
    Shards(u32),
    /// So much of all, in percent (1 to 100), rounded up.
    Percent(u32),
}

impl Reach {
    /// How many of so many shards.
    pub fn of(self, shards: usize) -> usize {
        match self {
            Reach::Shards(count) => shards.min(usize::try_from(count).unwrap_or(usize::MAX)),
            Reach::Percent(share) => {
                shards.saturating_mul(usize::try_from(share.min(100)).unwrap_or(100)).div_ceil(100)
            }
        }
    }
}

impl fmt::Display for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reach::Shards(1) => f.write_str("1 shard"),
            Reach::Shards(count) => write!(f, "{count} shards"),
            Reach::Percent(share) => write!(f, "{share} %"),
        }
    }
}

/// The two kinds of work.
#[derive(Debug, Clone, PartialEq)]
pub enum SpecBody {
    /// Changes the shape.
    Schema(SchemaSpec),
    /// Changes the rows.
    Data(Box<DataSpec>),
}

/// One direction of a schema change.
#[derive(Debug, Clone, PartialEq)]
pub enum SchemaChange {
    /// PostgreSQL statements, each without its semicolon, in order.
    Sql(Vec<String>),
    /// MongoDB database commands, in order, as (extended) JSON objects.
    Commands(Vec<serde_json::Value>),
}

impl SchemaChange {
    /// How many statements or commands.
    pub fn len(&self) -> usize {
        match self {
            SchemaChange::Sql(statements) => statements.len(),
            SchemaChange::Commands(commands) => commands.len(),
        }
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The collections that commands name first: of each command one. None of SQL.
    pub fn collections(&self) -> impl Iterator<Item = &str> {
        let commands = match self {
            SchemaChange::Sql(_) => &[][..],
            SchemaChange::Commands(commands) => commands,
        };
        commands.iter().filter_map(|command| command.as_object()?.values().next()?.as_str())
    }
}

/// Sessions that may be ended when they keep a change from its locks: those of which all of this is so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndBlockers {
    /// They call themselves one of these (`application_name`).
    pub applications: Vec<String>,
    /// They are of one of these roles; empty: of any.
    pub users: Vec<String>,
    /// Their transaction has been open for less than this: what an older one has done is too much to be done again.
    pub younger_than: Duration,
    /// What their transaction may have done.
    pub written: Written,
}

/// What a transaction that is ended may have done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// It has written nothing.
    Nothing,
    /// Whatever it has written is rolled back.
    Anything,
}

impl Written {
    /// The word in a spec.
    pub fn as_str(self) -> &'static str {
        match self {
            Written::Nothing => "nothing",
            Written::Anything => "anything",
        }
    }
}

/// A schema migration.
#[derive(Debug, Clone, PartialEq)]
pub struct SchemaSpec {
    /// What applies it.
    pub up: SchemaChange,
    /// What takes it back; may be empty.
    pub down: SchemaChange,
    /// Nobody waits behind our lock request longer than this. Default 2 s.
    pub lock_timeout: Duration,
    /// A lock is held no longer than this (the statement's timeout). Default 5 s.
    pub hold_timeout: Duration,
    /// A shard that has not got its locks for so long has the migration rolled back. `None`: it is tried for ever.
    pub lock_deadline: Option<Duration>,
    /// Which sessions that keep the change from its locks are ended. `None`: none is.
    pub on_block: Option<Box<EndBlockers>>,
    /// Every shard makes the change or none, by two-phase commit.
    pub atomic: bool,
    /// Lint rules that the spec breaks on purpose. What is done does not depend on it, so the checksum does not either.
    pub allow: Vec<Allowed>,
    /// What must hold at the end, beside what is always looked at.
    pub verify: Vec<Assertion>,
}

/// One lint rule that may be broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allowed {
    /// Its name.
    pub rule: String,
    /// Why it does no harm here, in the author's words.
    pub reason: String,
}

/// A data migration.
#[derive(Debug, Clone, PartialEq)]
pub struct DataSpec {
    /// Which rows.
    pub source: Source,
    /// What becomes of them.
    pub transform: Transform,
    /// How large a batch may be.
    pub batch: Batch,
    /// How many ranges at once.
    pub parallel: Parallel,
    /// How fast and when.
    pub throttle: Throttle,
    /// How far replicas of a shard may be behind while its batches run (`throttle.max_replica_lag`).
    pub max_replica_lag: Option<Duration>,
    /// What becomes of a row that cannot be changed.
    pub on_error: OnError,
    /// What must hold at the end.
    pub verify: Vec<VerifyCheck>,
    /// What is kept for a rollback.
    pub undo: Undo,
    /// What is saved before the first row changes.
    pub backup: Backup,
}

impl DataSpec {
    /// The references that must hold.
    pub fn references(&self) -> impl Iterator<Item = &References> {
        self.verify.iter().filter_map(|check| match check {
            VerifyCheck::References(references) => Some(references),
            _ => None,
        })
    }

    /// What must be unique over all shards.
    pub fn unique(&self) -> impl Iterator<Item = &Unique> {
        self.verify.iter().filter_map(|check| match check {
            VerifyCheck::Unique(unique) => Some(unique),
            _ => None,
        })
    }

    /// How the transform is to be evaluated anew, if it is a check of `verify`.
    pub fn anew(&self) -> Option<Anew> {
        self.verify.iter().find_map(|check| match check {
            VerifyCheck::Transform(anew) => Some(*anew),
            _ => None,
        })
    }

    /// How many rows may not be what was written, if `verify` asks for that.
    pub fn digest(&self) -> Option<Leeway> {
        self.verify.iter().find_map(|check| match check {
            VerifyCheck::Digest(leeway) => Some(*leeway),
            _ => None,
        })
    }

    /// Whether its rows are compared by the digests of what was written alone: nothing asks what the transform gives, or it
    /// would not give the same again.
    pub fn known_by_digest(&self) -> bool {
        self.anew().is_none() && (self.digest().is_some() || unrepeatable(&self.transform).is_some())
    }
}

/// The rows in scope.
#[derive(Debug, Clone, PartialEq)]
pub struct Source {
    /// Table (`messages` or `public.messages`) or collection.
    pub relation: String,
    /// Key columns; empty = the primary key (`_id` in MongoDB, where nothing else is allowed).
    pub key: Vec<String>,
    /// Which rows are pending. `None`: all rows of the key interval fixed at the start (see promise P1).
    pub pending: Option<Where>,
    /// Without `where` on PostgreSQL: the user's word that the application never changes keys.
    pub immutable_key: bool,
    /// Only rows of these tenants. `None`: all rows.
    pub tenants: Option<Tenants>,
}

/// Whose rows are in scope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tenants {
    /// The column or field that holds the tenant.
    pub field: String,
    /// Which; each once.
    pub keys: Vec<TenantKey>,
    /// Those that the file names and that have opted out; not among `keys`.
    pub left_out: Vec<TenantKey>,
}

/// One tenant, as the file has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TenantKey {
    /// A text, which may be a UUID.
    Text(String),
    /// A whole number.
    Integer(i64),
}

impl TenantKey {
    /// Its text, without quotes.
    pub fn text(&self) -> String {
        match self {
            TenantKey::Text(text) => text.clone(),
            TenantKey::Integer(number) => number.to_string(),
        }
    }
}

impl fmt::Display for TenantKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TenantKey::Text(text) => write!(f, "{text:?}"),
            TenantKey::Integer(number) => write!(f, "{number}"),
        }
    }
}

/// Which rows are pending.
#[derive(Debug, Clone, PartialEq)]
pub enum Where {
    /// A predicate over the table's columns.
    Sql(String),
    /// A MongoDB query document, as (extended) JSON object.
    Query(serde_json::Value),
}

/// What turns an old row into a new one.
#[derive(Debug, Clone, PartialEq)]
pub enum Transform {
    /// `SET` list, in order: column, SQL expression over the old row. Runs in the shard.
    Sql(Vec<(String, String)>),
    /// MongoDB update pipeline: stages as (extended) JSON. Runs in the shard.
    Pipeline(Vec<serde_json::Value>),
    /// A Vector Remap Language program. Runs in the worker.
    Vrl(String),
    /// A compiled-in transformer. Runs in the worker.
    Named {
        /// `message`, `tenant`, `channel`, or one of your own.
        name: String,
        /// Its options, a JSON object.
        options: serde_json::Value,
    },
}

impl Transform {
    /// Whether the rows travel to the worker and back.
    pub fn runs_in_worker(&self) -> bool {
        matches!(self, Transform::Vrl(_) | Transform::Named { .. })
    }

    /// The key under `transform:` in the file.
    pub fn label(&self) -> &str {
        match self {
            Transform::Sql(_) => "sql",
            Transform::Pipeline(_) => "pipeline",
            Transform::Vrl(_) => "vrl",
            Transform::Named { name, .. } => name,
        }
    }
}

/// Bounds of a batch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Batch {
    /// How long one batch should take. Default 100 ms.
    pub target: Duration,
    /// Fewest rows of a window. Default 50.
    pub min: u32,
    /// Most rows of a window. Default 50000.
    pub max: u32,
}

impl Default for Batch {
    fn default() -> Self {
        Self { target: Duration::from_millis(100), min: 50, max: 50_000 }
    }
}

/// How many ranges of one shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Ranges {
    /// From the size of the table and the number of workers.
    #[default]
    Auto,
    /// Exactly so many (1 to 1024), as far as the keys allow.
    Count(u32),
}

/// How much of a shard is worked on at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parallel {
    /// Into how many ranges a shard is split.
    pub ranges: Ranges,
    /// How many of its ranges run at once on one shard. Default 2.
    pub workers: u32,
}

impl Default for Parallel {
    fn default() -> Self {
        Self { ranges: Ranges::Auto, workers: 2 }
    }
}

/// What becomes of a row that cannot be changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnError {
    /// It stops the shard, and its key is told.
    #[default]
    Fail,
    /// It is set aside in the shard, and the rest goes on.
    Quarantine {
        /// Most rows that may wait for a decision.
        budget: u32,
    },
}

impl OnError {
    /// The budget, if rows are set aside at all.
    pub fn budget(self) -> Option<u32> {
        match self {
            OnError::Fail => None,
            OnError::Quarantine { budget } => Some(budget),
        }
    }
}

//! How the words, times and figures of the domain stand in tables and documents, and back; the same in every backend.

use std::collections::BTreeMap;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use shardlift_domain::migration::{
    Approval, Decision, Migration, Phase, Purge, Rollout, Status, Stop, Throttling, Told, Undo, Uniqueness,
};
use shardlift_domain::quarantine::Held;
use shardlift_domain::routing::DirectoryEntry;
use shardlift_domain::spec::{Engine, Kind, OnVerifyFailure};
use shardlift_domain::{Checksum, ClusterName, Failure, MigrationId, MigrationKey, ShardId};

use super::{StoreError, StoredMigration};

/// What of a migration's state has no column of its own: the column `metadata`.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::store) struct Rest {
    relation: Option<String>,
    has_where: bool,
    #[serde(default)]
    atomic: bool,
    #[serde(default)]
    backup: bool,
    waits_for: Vec<MigrationId>,
    released: bool,
    touched: bool,
    stop: Option<Stop>,
    #[serde(default)]
    on_verify_failure: OnVerifyFailure,
    #[serde(default)]
    undo: Option<Undo>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    purge: Option<Purge>,
    #[serde(default, skip_serializing_if = "Throttling::is_as_in_spec")]
    throttling: Throttling,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    author: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    approval: Option<Approval>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    traceparent: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    quarantined: BTreeMap<ShardId, Held>,
    #[serde(default, skip_serializing_if = "Rollout::is_plain")]
    rollout: Rollout,
    #[serde(default, skip_serializing_if = "Told::is_nothing")]
    told: Told,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    unique: Option<Uniqueness>,
}

impl Rest {
    pub(in crate::store) fn of(migration: &Migration) -> Self {
        Self {
            relation: migration.relation.clone(),
            has_where: migration.has_where,
            atomic: migration.atomic,
            backup: migration.backup,
            waits_for: migration.waits_for.clone(),
            released: migration.released,
            touched: migration.touched,
            stop: migration.stop.clone(),
            on_verify_failure: migration.on_verify_failure,
            undo: migration.undo.clone(),
            purge: migration.purge,
            throttling: migration.throttling,
            author: migration.author.clone(),
            approval: migration.approval.clone(),
            traceparent: migration.traceparent.clone(),
            quarantined: migration.quarantined.clone(),
            rollout: migration.rollout.clone(),
            told: migration.told.clone(),
            unique: migration.unique,
        }
    }
}

/// What of a migration's state has a column or field of its own.
pub(in crate::store) struct Head {
    pub(in crate::store) key: MigrationKey,
    pub(in crate::store) kind: Kind,
    pub(in crate::store) engine: Engine,
    pub(in crate::store) cluster: ClusterName,
    pub(in crate::store) checksum: Checksum,
    pub(in crate::store) status: Status,
    pub(in crate::store) phase: Phase,
}

impl Head {
    /// The whole state, but for its shards.
    pub(in crate::store) fn with(self, rest: Rest) -> Migration {
        let Self { key, kind, engine, cluster, checksum, status, phase } = self;
        Migration {
            key,
            kind,
            engine,
            cluster,
            checksum,
            relation: rest.relation,
            has_where: rest.has_where,
            atomic: rest.atomic,
            backup: rest.backup,
            // It has a table of its own.
            decision: None,
            waits_for: rest.waits_for,
            status,
            released: rest.released,
            phase,
            touched: rest.touched,
            stop: rest.stop,
            on_verify_failure: rest.on_verify_failure,
            undo: rest.undo,
            purge: rest.purge,
            throttling: rest.throttling,
            author: rest.author,
            approval: rest.approval,
            traceparent: rest.traceparent,
            quarantined: rest.quarantined,
            rollout: rest.rollout,
            told: rest.told,
            unique: rest.unique,
            shards: BTreeMap::new(),
        }
    }
}

/// Migrations with what was decided of them.
pub(in crate::store) fn with_decisions(
    mut migrations: Vec<StoredMigration>,
    decisions: Vec<(MigrationKey, Decision)>,
) -> Vec<StoredMigration> {
    let mut decisions: BTreeMap<_, _> = decisions.into_iter().collect();
    for stored in &mut migrations {
        stored.migration.decision = decisions.remove(&stored.migration.key);
    }
    migrations
}

/// What a reader sees as the error of a migration: why it was halted, or what failed.
pub(in crate::store) fn reason(migration: &Migration) -> Option<&Failure> {
    match &migration.stop {
        Some(Stop::System { reason }) => Some(reason),
        Some(Stop::Person) | None => migration.failure(),
    }
}

/// A value as JSON text.
pub(in crate::store) fn json<T: Serialize>(what: &'static str, value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| StoreError::Unreadable { what, why: error.to_string() })
}

/// A value from JSON text.
pub(in crate::store) fn from_json<T: DeserializeOwned>(
    what: &'static str,
    text: &str,
) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|error| StoreError::Unreadable { what, why: error.to_string() })
}

/// A name or an enum from its word.
pub(in crate::store) fn from_word<T: DeserializeOwned>(
    what: &'static str,
    word: &str,
) -> Result<T, StoreError> {
    T::deserialize(serde::de::value::StrDeserializer::new(word))
        .map_err(|error: serde::de::value::Error| StoreError::Unreadable { what, why: error.to_string() })
}

/// RFC 3339 in UTC with microseconds: sorts like the time, and every database reads it.
pub(in crate::store) fn time_text(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Micros, true)
}

/// The time that a text stands for.
pub(in crate::store) fn from_time(what: &'static str, text: &str) -> Result<DateTime<Utc>, StoreError> {
    match DateTime::parse_from_rfc3339(text) {
        Ok(at) => Ok(at.with_timezone(&Utc)),
        Err(error) => Err(StoreError::Unreadable { what, why: error.to_string() }),
    }
}

/// A count as every database holds it; no count comes near the bound.
pub(in crate::store) fn stored_number(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// A count that was stored by [`stored_number`].
pub(in crate::store) fn counted(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}

/// What entries of directories come to, by cluster and key: the newest counts; without a shard the entry is removed.
pub(super) fn newest(entries: &[DirectoryEntry]) -> BTreeMap<(&str, &str), Option<&str>> {
    entries
        .iter()
        .map(|entry| {
            ((entry.cluster.as_str(), entry.key.as_str()), entry.shard.as_ref().map(ShardId::as_str))
        })
        .collect()
}

//! How the words, times and figures of the domain stand in the tables, and back.

use chrono::{DateTime, SecondsFormat, Utc};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use shardlift_domain::MigrationId;
use shardlift_domain::migration::{Migration, Stop};

use super::super::StoreError;

/// What of a migration's state has no column of its own: the column `metadata`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Rest {
    pub(super) relation: Option<String>,
    pub(super) has_where: bool,
    pub(super) waits_for: Vec<MigrationId>,
    pub(super) released: bool,
    pub(super) touched: bool,
    pub(super) stop: Option<Stop>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) traceparent: Option<String>,
}

impl Rest {
    pub(super) fn of(migration: &Migration) -> Self {
        Self {
            relation: migration.relation.clone(),
            has_where: migration.has_where,
            waits_for: migration.waits_for.clone(),
            released: migration.released,
            touched: migration.touched,
            stop: migration.stop.clone(),
            traceparent: migration.traceparent.clone(),
        }
    }
}

/// A value as JSON text.
pub(super) fn json<T: Serialize>(what: &'static str, value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| StoreError::Unreadable { what, why: error.to_string() })
}

/// A value from JSON text.
pub(super) fn from_json<T: DeserializeOwned>(what: &'static str, text: &str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|error| StoreError::Unreadable { what, why: error.to_string() })
}

/// A name or an enum from its word.
pub(super) fn from_word<T: DeserializeOwned>(what: &'static str, word: &str) -> Result<T, StoreError> {
    T::deserialize(serde::de::value::StrDeserializer::new(word))
        .map_err(|error: serde::de::value::Error| StoreError::Unreadable { what, why: error.to_string() })
}

/// RFC 3339 in UTC with microseconds: sorts like the time.
pub(super) fn time_text(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Micros, true)
}

/// The time that a text stands for.
pub(super) fn from_time(what: &'static str, text: &str) -> Result<DateTime<Utc>, StoreError> {
    match DateTime::parse_from_rfc3339(text) {
        Ok(at) => Ok(at.with_timezone(&Utc)),
        Err(error) => Err(StoreError::Unreadable { what, why: error.to_string() }),
    }
}

/// A count as SQLite holds it; no count comes near the bound.
pub(super) fn stored_number(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// A count that was stored by [`stored_number`].
pub(super) fn counted(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}

//! What `shardlift status` tells of all data migrations, added up for each shard.

use std::fmt;

use anyhow::{Context, Result};
use serde_json::Value;
use shardlift_harness::installation::Installation;

/// One line of the table.
#[derive(Debug, Clone, PartialEq)]
struct Line {
    shard: String,
    migrations: u64,
    rows: u64,
    /// Time from the begin of its migrations to their end, prechecks and verification included.
    seconds: f64,
    batches: u64,
    verified: bool,
}

/// The table that ends the demo.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Summary {
    lines: Vec<Line>,
}

impl Summary {
    pub(crate) async fn read(installation: &Installation) -> Result<Self> {
        let list = installation.cli_json(&["list"]).await?;
        let mut summary = Self::default();
        for migration in list["migrations"].as_array().context("shardlift list tells no migrations")? {
            if migration["kind"] == "data" {
                let id = migration["id"].as_str().context("a migration without id")?;
                summary.add(&installation.status(id).await?)?;
            }
        }
        summary.lines.sort_by(|a, b| a.shard.cmp(&b.shard));
        Ok(summary)
    }

    pub(crate) fn all_verified(&self) -> bool {
        !self.lines.is_empty() && self.lines.iter().all(|line| line.verified)
    }

    fn add(&mut self, status: &Value) -> Result<()> {
        let seconds = lasted(status).unwrap_or(0.0);
        for shard in status["shards"].as_array().context("a status without shards")? {
            let name = shard["shard"].as_str().context("a shard without name")?;
            let rows = shard["rows_done"].as_u64().unwrap_or(0);
            let line = self.line(name);
            line.migrations += 1;
            line.rows += rows;
            line.batches += shard["batches"].as_u64().unwrap_or(0);
            line.seconds += seconds;
            line.verified &= shard["verified"] == true;
        }
        Ok(())
    }

    fn line(&mut self, shard: &str) -> &mut Line {
        let index = self.lines.iter().position(|line| line.shard == shard).unwrap_or(self.lines.len());
        if index == self.lines.len() {
            let shard = shard.to_owned();
            self.lines.push(Line { shard, migrations: 0, rows: 0, seconds: 0.0, batches: 0, verified: true });
        }
        &mut self.lines[index]
    }
}

/// Seconds between the begin and the end of a migration.
fn lasted(status: &Value) -> Option<f64> {
    let at = |key: &str| bson::DateTime::parse_rfc3339_str(status[key].as_str()?).ok();
    let milliseconds = at("completed_at")?.timestamp_millis() - at("started_at")?.timestamp_millis();
    Some(milliseconds as f64 / 1000.0)
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:<12} {:>10} {:>9} {:>9} {:>8}  verified",
            "shard", "migrations", "rows", "rows/s", "batches"
        )?;
        for line in &self.lines {
            let rate = if line.seconds > 0.0 {
                format!("{:.0}", line.rows as f64 / line.seconds)
            } else {
                "-".into()
            };
            let verified = if line.verified { "yes" } else { "NO" };
            let Line { shard, migrations, rows, batches, .. } = line;
            write!(f, "\n{shard:<12} {migrations:>10} {rows:>9} {rate:>9} {batches:>8}  {verified}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn status(verified: bool) -> Value {
        json!({
            "started_at": "2026-01-01T00:00:01.5Z",
            "completed_at": "2026-01-01T00:00:03.5Z",
            "shards": [{ "shard": "chat-pg-01", "rows_done": 100, "batches": 3, "verified": verified }],
        })
    }

    #[test]
    fn migrations_of_a_shard_are_added_up() {
        let mut summary = Summary::default();
        summary.add(&status(true)).unwrap();
        summary.add(&status(true)).unwrap();
        assert!(summary.all_verified());
        let line = "chat-pg-01            2       200        50        6  yes";
        assert_eq!(summary.to_string().lines().nth(1), Some(line));
    }

    #[test]
    fn one_unverified_migration_makes_its_shard_unverified() {
        let mut summary = Summary::default();
        summary.add(&status(false)).unwrap();
        summary.add(&status(true)).unwrap();
        assert!(!summary.all_verified());
    }

    #[test]
    fn nothing_is_not_verified() {
        assert!(!Summary::default().all_verified());
    }
}

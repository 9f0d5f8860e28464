//! When a shard counts as ill: the section `[health]`.

use std::time::Duration;

use serde::Deserialize;
use shardlift_runtime::config::ConfigProblems;

const LAG: Duration = Duration::from_secs(60);
const DISK_FREE: u8 = 5;

/// Beyond which bounds a shard is ill: gates between the waves of a rollout stay closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HealthConfig {
    /// How far a replica may be behind. `None`: as far as it likes.
    pub max_replica_lag: Option<Duration>,
    /// How much of the disk must be free, in percent. 0: nothing.
    pub min_disk_free: u8,
}

impl Default for HealthConfig {
    fn default() -> Self {
        Self { max_replica_lag: Some(LAG), min_disk_free: DISK_FREE }
    }
}

#[derive(Deserialize, Default)]
pub(super) struct Written {
    max_replica_lag: Option<String>,
    min_disk_free: Option<u8>,
}

impl Written {
    pub(super) fn check(self, problems: &mut ConfigProblems) -> HealthConfig {
        let mut config = HealthConfig::default();
        if let Some(text) = self.max_replica_lag {
            match lag(text.trim()) {
                Some(lag) => config.max_replica_lag = lag,
                None => problems.add(
                    "health.max_replica_lag",
                    format!("{text:?} is neither \"never\" nor a time such as 30s, 5m or 1h, from 1s to 24h"),
                ),
            }
        }
        if let Some(percent) = self.min_disk_free {
            config.min_disk_free = percent;
            if percent > 90 {
                problems.add("health.min_disk_free", format!("{percent} is not between 0 and 90 percent"));
            }
        }
        config
    }
}

/// `never`, or a time.
fn lag(text: &str) -> Option<Option<Duration>> {
    if text == "never" {
        return Some(None);
    }
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let unit = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return None,
    };
    let seconds = number.parse::<u64>().ok()?.checked_mul(unit)?;
    (1..=24 * 3600).contains(&seconds).then_some(Some(Duration::from_secs(seconds)))
}

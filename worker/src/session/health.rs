//! When a shard counts as ill, though work on it goes on: the next wave of a rollout then does not begin.
//!
//! An alarm says nothing that changes from look to look: the coordinator is told when it begins and when it ends.

use shardlift_domain::failure::{ErrorCode, Failure};
use shardlift_domain::ids::ShardId;

use crate::config::HealthConfig;
use crate::engine::Health;

/// What is wrong with a shard that is so, if anything is.
pub(super) fn alarm(shard: &ShardId, health: &Health, bounds: &HealthConfig) -> Option<Failure> {
    disk(health, bounds).or_else(|| lag(health, bounds)).map(|failure| failure.on_shard(shard))
}

fn disk(health: &Health, bounds: &HealthConfig) -> Option<Failure> {
    let disk = health.disk?;
    // In percent of the whole, without a product that may be too large.
    let least = disk.total / 100 * u64::from(bounds.min_disk_free);
    (disk.free < least).then(|| {
        let what = format!("less than {} % of the disk with its data is free", bounds.min_disk_free);
        Failure::new(ErrorCode::ShardOutOfResources, what, "make room; gates open by themselves then")
    })
}

fn lag(health: &Health, bounds: &HealthConfig) -> Option<Failure> {
    let bound = bounds.max_replica_lag?;
    let lag = health.lag.as_ref().filter(|lag| lag.behind > bound)?;
    let what = format!("replica {} is more than {bound:?} behind", lag.replica);
    let next = "let it catch up; gates open by themselves then";
    Some(Failure::new(ErrorCode::ShardLagging, what, next))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::engine::{Disk, Lag};

    fn told(health: &Health, bounds: &HealthConfig) -> Option<(ErrorCode, String)> {
        let shard = ShardId::new("s1").expect("a name");
        alarm(&shard, health, bounds).map(|failure| (failure.code, failure.message))
    }

    fn behind(seconds: u64) -> Health {
        let lag = Lag { replica: "r1".into(), behind: Duration::from_secs(seconds) };
        Health { lag: Some(lag), disk: None }
    }

    fn free(percent: u64) -> Health {
        Health { lag: None, disk: Some(Disk { total: 1 << 62, free: (1 << 62) / 100 * percent }) }
    }

    #[test]
    fn a_shard_is_ill_beyond_its_bounds_and_says_the_same_as_long_as_it_is() {
        let bounds = HealthConfig::default();
        for well in [Health::default(), behind(60), free(5), free(100)] {
            assert_eq!(told(&well, &bounds), None, "{well:?}");
        }
        let (code, message) = told(&behind(61), &bounds).expect("it is behind");
        assert_eq!((code, message.as_str()), (ErrorCode::ShardLagging, "replica r1 is more than 60s behind"));
        assert_eq!(told(&behind(61), &bounds), told(&behind(9_000), &bounds));
        let (code, _) = told(&free(4), &bounds).expect("it is full");
        assert_eq!(code, ErrorCode::ShardOutOfResources);
        assert_eq!(told(&free(4), &bounds), told(&free(1), &bounds));
    }

    #[test]
    fn what_is_not_to_be_looked_at_alarms_nobody() {
        let off = HealthConfig { max_replica_lag: None, min_disk_free: 0 };
        assert_eq!((told(&behind(9_000), &off), told(&free(0), &off)), (None, None));
    }
}

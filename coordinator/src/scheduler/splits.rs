//! Which running ranges are asked to share, so that idle workers help: the last range decides when a migration ends.
//!
//! What is left of a range only its owner can tell, and it has the last word; here it is guessed from receipts, so that
//! the likely straggler is asked first and nobody is asked in vain again and again.

use std::collections::BTreeMap;
use std::sync::Arc;

use shardlift_domain::capability::{Capabilities, SHARE};
use shardlift_domain::ids::{ShardId, TaskId, WorkerId};
use shardlift_domain::task::Millis;

use super::{Candidacy, by_shard};

/// A range is asked when so much work seems to be left of it, …
const MUCH_SECONDS: f64 = 2.0;
/// … and so many batches, …
const MUCH_BATCHES: f64 = 4.0;
/// … or when it has been walked for so long without being asked: guesses may be wrong.
const LONG: Millis = 5_000;
/// An owner is not asked again so soon, whatever it answered.
const REST: Millis = 2_000;

/// A group that could run more ranges than it does, none of which waits.
#[derive(Debug, Clone, PartialEq)]
pub struct Crew {
    /// On which shard.
    pub shard: ShardId,
    /// What a helper must be able to do.
    pub needs: Arc<Capabilities>,
    /// How many more may run.
    pub spare: u32,
    /// Rows that seem to be left on the shard, over all its ranges.
    pub left: u64,
    /// What runs.
    pub ranges: Vec<Walking>,
}

/// A range that is being walked.
#[derive(Debug, Clone, PartialEq)]
pub struct Walking {
    /// Which.
    pub task: TaskId,
    /// By whom.
    pub worker: WorkerId,
    /// Since when.
    pub begun: Millis,
    /// When its owner was asked last.
    pub asked: Option<Millis>,
    /// Its pace.
    pub rows_per_second: f64,
    /// Rows of its newest batch.
    pub batch_size: u32,
}

/// The ranges whose owners are to be asked now. `workers`: all that may be given something new; `knowing`: what the
/// owner of a range can do.
pub fn splits(
    crews: &[Crew],
    mut workers: Vec<Candidacy>,
    knowing: &BTreeMap<WorkerId, Arc<Capabilities>>,
    now: Millis,
) -> Vec<TaskId> {
    let places = by_shard(&workers);
    let mut asked = Vec::new();
    for crew in crews {
        let mut ranges: Vec<(&Walking, f64)> = crew
            .ranges
            .iter()
            .filter(|range| knowing.get(&range.worker).is_some_and(|knows| knows.has(SHARE)))
            .filter_map(|range| Some((range, worth_asking(range, crew, now)?)))
            .collect();
        ranges.sort_by(|(_, one), (_, other)| other.total_cmp(one));
        for (range, _) in ranges.into_iter().take(usize::try_from(crew.spare).unwrap_or(usize::MAX)) {
            let serving = places.get(&crew.shard).into_iter().flatten().copied();
            let mut idle = serving.filter(|place| workers[*place].takes(&crew.needs, false));
            let Some(helper) = idle.next() else { break };
            // Whoever takes the part will be busy then.
            workers[helper].busy += 1;
            asked.push(range.task.clone());
        }
    }
    asked
}

/// Seconds of work that seem to be left of a range, if its owner should be asked.
fn worth_asking(range: &Walking, crew: &Crew, now: Millis) -> Option<f64> {
    if range.asked.is_some_and(|asked| now.saturating_sub(asked) < REST) {
        return None;
    }
    #[allow(clippy::cast_precision_loss, reason = "a guess")]
    let rows = crew.left as f64 / crew.ranges.len().max(1) as f64;
    let seconds = if range.rows_per_second > 0.0 { rows / range.rows_per_second } else { f64::MAX };
    let much = seconds > MUCH_SECONDS && rows > MUCH_BATCHES * f64::from(range.batch_size);
    let since = range.asked.unwrap_or(range.begun);
    (much || now.saturating_sub(since) >= LONG).then_some(seconds)
}

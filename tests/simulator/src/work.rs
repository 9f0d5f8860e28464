//! Plausible answers: what a worker says that has done the task.

use std::time::{Duration, Instant};

use rand::RngExt;
use shardlift_domain::fence::Token;
use shardlift_domain::ids::TaskId;
use shardlift_domain::migration::Step;
use shardlift_domain::range::{Pass, RangeState, RangeTotals};
use shardlift_domain::verdict::{CheckResult, Saved, Sweep, TaskOutcome, Undone, VerifyReport};
use shardlift_proto::convert::{outcome_to_wire, range_to_wire, task_to_wire, token_to_wire};
use shardlift_proto::v1;
use shardlift_proto::v1::from_worker::Message;

use crate::fleet::Settings;

/// Rows of one batch.
const BATCH: u64 = 5_000;

/// A task under way.
pub(crate) struct Work {
    pub(crate) task: TaskId,
    pub(crate) token: Token,
    pub(crate) ends: Instant,
    began: Instant,
}

impl Work {
    pub(crate) fn begin(task: TaskId, token: Token, settings: &Settings) -> Self {
        let began = Instant::now();
        let (shortest, longest) = settings.range_takes;
        let takes = match task.step {
            Step::Backfill => rand::rng().random_range(shortest..=longest),
            _ => settings.step_takes,
        };
        Self { task, token, ends: began + takes, began }
    }

    /// A receipt, if it is a range.
    pub(crate) fn progress(&self, settings: &Settings) -> Option<Message> {
        let takes = (self.ends - self.began).as_secs_f64();
        let share = (self.began.elapsed().as_secs_f64() / takes).min(1.0);
        let range = self.range(settings, share)?;
        Some(Message::Progress(v1::TaskProgress {
            task: Some(task_to_wire(&self.task)),
            token: Some(token_to_wire(self.token)),
            range: Some(range_to_wire(&range)),
            batch_size: u32::try_from(BATCH).unwrap_or(u32::MAX),
            rows_per_second: settings.rows as f64 / f64::from(settings.ranges) / takes,
            batch_ms: Duration::from_millis(100).as_secs_f64() * 1000.0,
            waits: None,
        }))
    }

    pub(crate) fn finished(&self, settings: &Settings) -> Message {
        Message::Finished(v1::TaskFinished {
            task: Some(task_to_wire(&self.task)),
            token: Some(token_to_wire(self.token)),
            outcome: Some(outcome_to_wire(&self.outcome(settings))),
        })
    }

    fn range(&self, settings: &Settings, share: f64) -> Option<RangeState> {
        let index = self.task.range?;
        let rows = (settings.rows as f64 / f64::from(settings.ranges) * share) as u64;
        Some(RangeState { index, rows, seen: rows, batches: rows / BATCH, done: share >= 1.0 })
    }

    fn outcome(&self, settings: &Settings) -> TaskOutcome {
        match self.task.step {
            Step::Precheck => TaskOutcome::Prechecked,
            Step::Backup => TaskOutcome::Saved(Saved::default()),
            Step::Apply => TaskOutcome::Applied { already: false },
            Step::Prepare => TaskOutcome::Prepared,
            Step::Commit => TaskOutcome::Committed,
            Step::Abort => TaskOutcome::Aborted,
            Step::Split => TaskOutcome::Split(pass(settings)),
            Step::Backfill => {
                let nothing = RangeState { index: 0, rows: 0, seen: 0, batches: 0, done: true };
                TaskOutcome::RangeDone(self.range(settings, 1.0).unwrap_or(nothing))
            }
            Step::Sweep => TaskOutcome::Swept(Sweep::Clean),
            Step::Verify => {
                let check =
                    CheckResult { check: "remaining".to_owned(), passed: true, detail: "0 of 0".to_owned() };
                TaskOutcome::Verified(VerifyReport { checks: vec![check], held: None })
            }
            Step::Collect => TaskOutcome::Collected,
            Step::Undo => TaskOutcome::Undone(Undone::default()),
        }
    }
}

fn pass(settings: &Settings) -> Pass {
    let range = |index| RangeState { index, rows: 0, seen: 0, batches: 0, done: false };
    Pass { number: 1, ranges: (0..settings.ranges).map(range).collect(), before: RangeTotals::default() }
}

/// The facts of a shard that has every table that it is asked for.
pub(crate) fn facts(query: v1::FactsQuery, settings: &Settings) -> Message {
    let relation = |name| v1::RelationFacts {
        name,
        exists: true,
        rows: settings.rows,
        bytes: settings.rows * 150,
        key: vec!["id".to_owned()],
    };
    let facts = v1::ShardFacts {
        shard: query.shard,
        engine: v1::Engine::Postgres.into(),
        server_version: "15.18".to_owned(),
        relations: query.relations.into_iter().map(relation).collect(),
        applied: Vec::new(),
        schema: None,
        findings: Vec::new(),
    };
    let answer = Some(v1::facts_answer::Answer::Facts(facts));
    Message::Facts(v1::FactsAnswer { query: query.query, answer })
}

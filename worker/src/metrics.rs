//! What a worker counts of its work. `docs/operations/metrics.md` has a row for each; a test compares the two.

use std::sync::Arc;
use std::time::Duration;

use shardlift_domain::ids::ShardId;
use shardlift_domain::migration::Step;
use shardlift_runtime::metrics::{
    Counter, Family, Gauge, Histogram, Labels, Registry, Seconds, ShardLabel, Unit, durations, sizes,
};

/// How a task ended, as a label.
const ENDINGS: [&str; 3] = ["finished", "broke", "released"];
const ENGINES: [&str; 2] = ["postgres", "mongodb"];

/// The metrics of one worker. Without a registry they count, and nobody sees it.
#[derive(Debug, Clone)]
pub struct Metrics {
    pub(crate) batches: Family<Labels<2>, Counter>,
    pub(crate) batch_errors: Family<Labels<2>, Counter>,
    pub(crate) rows_changed: Family<Labels<1>, Counter>,
    pub(crate) rows_walked: Family<Labels<1>, Counter>,
    pub(crate) batch_duration: Family<Labels<1>, Histogram, fn() -> Histogram>,
    pub(crate) batch_size: Family<Labels<1>, Histogram, fn() -> Histogram>,
    pub(crate) batch_pause: Family<Labels<1>, Seconds>,
    pub(crate) lease_losses: Family<Labels<1>, Counter>,
    pub(crate) shard_reachable: Family<ShardLabel, Gauge>,
    open_tasks: Family<Labels<1>, Gauge>,
    tasks: Family<Labels<2>, Counter>,
    sessions: Family<Labels<1>, Counter>,
    connected: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            batches: Family::default(),
            batch_errors: Family::default(),
            rows_changed: Family::default(),
            rows_walked: Family::default(),
            batch_duration: Family::new_with_constructor(durations),
            batch_size: Family::new_with_constructor(sizes),
            batch_pause: Family::default(),
            lease_losses: Family::default(),
            shard_reachable: Family::default(),
            open_tasks: Family::default(),
            tasks: Family::default(),
            sessions: Family::default(),
            connected: Gauge::default(),
        }
    }
}

impl Metrics {
    /// Metrics that the registry shows. Every series whose labels are known is there from the beginning, so that a
    /// rate over it begins at 0.
    pub fn new(registry: &mut Registry) -> Arc<Self> {
        let metrics = Self::default();
        metrics.register(registry.sub_registry_with_prefix("shardlift_worker"));
        for engine in ENGINES {
            for outcome in ["committed", "failed"] {
                metrics.batches.get_or_create_owned(&[("engine", engine), ("outcome", outcome)]);
            }
            let engine = [("engine", engine)];
            metrics.rows_changed.get_or_create_owned(&engine);
            metrics.rows_walked.get_or_create_owned(&engine);
            metrics.batch_duration.get_or_create_owned(&engine);
            metrics.batch_size.get_or_create_owned(&engine);
            metrics.batch_pause.get_or_create_owned(&engine);
            metrics.lease_losses.get_or_create_owned(&engine);
        }
        for step in Step::ALL {
            metrics.open_tasks.get_or_create_owned(&[("step", step.as_str())]);
            for outcome in ENDINGS {
                metrics.tasks.get_or_create_owned(&[("step", step.as_str()), ("outcome", outcome)]);
            }
        }
        for outcome in ["opened", "refused"] {
            metrics.sessions.get_or_create_owned(&[("outcome", outcome)]);
        }
        Arc::new(metrics)
    }

    fn register(&self, to: &mut Registry) {
        to.register("batches", "Batches by outcome; a failed one changed nothing", self.batches.clone());
        to.register(
            "batch_errors",
            "Failed batches by error code; most are tried again",
            self.batch_errors.clone(),
        );
        to.register(
            "rows_changed",
            "Rows and documents changed by committed batches",
            self.rows_changed.clone(),
        );
        to.register(
            "rows_walked",
            "Rows and documents in the windows of committed batches",
            self.rows_walked.clone(),
        );
        let help = "Time of a batch, from its first statement to the answer to its commit";
        to.register_with_unit("batch_duration", help, Unit::Seconds, self.batch_duration.clone());
        let rows = Unit::Other("rows".to_owned());
        to.register_with_unit(
            "batch_size",
            "Rows in the window of a committed batch",
            rows,
            self.batch_size.clone(),
        );
        let help = "Time that ranges waited between batches: rate, time of day, pauses after failures";
        to.register_with_unit("batch_pause", help, Unit::Seconds, self.batch_pause.clone());
        let help = "Claims and batches refused since another worker or leader has the task";
        to.register("lease_losses", help, self.lease_losses.clone());
        let help = "Whether the newest look at a shard of this worker found it usable: 1 or 0";
        to.register("shard_reachable", help, self.shard_reachable.clone());
        to.register("open_tasks", "Tasks under way", self.open_tasks.clone());
        to.register("tasks", "Tasks that ended", self.tasks.clone());
        let help = "Attempts to open a session with a coordinator; all but the first are reconnects";
        to.register("sessions", help, self.sessions.clone());
        to.register("connected", "Whether a session with a leader is open: 1 or 0", self.connected.clone());
    }

    /// A task begins; it is counted as open until the answer is dropped.
    pub(crate) fn open_task(self: &Arc<Self>, step: Step) -> OpenTask {
        self.open_tasks.get_or_create_owned(&[("step", step.as_str())]).inc();
        OpenTask { metrics: Arc::clone(self), step }
    }

    /// An attempt to open a session has ended.
    pub(crate) fn dialled(&self, opened: bool) {
        let outcome = if opened { "opened" } else { "refused" };
        self.sessions.get_or_create_owned(&[("outcome", outcome)]).inc();
        self.connected.set(i64::from(opened));
    }

    /// The session is over.
    pub(crate) fn hung_up(&self) {
        self.connected.set(0);
    }

    pub(crate) fn paused(&self, engine: &'static str, time: Duration) {
        self.batch_pause.get_or_create_owned(&[("engine", engine)]).inc_by(time.as_secs_f64());
    }

    pub(crate) fn looked(&self, shard: &ShardId, usable: bool) {
        self.shard_reachable.get_or_create_owned(&[("shard", shard.to_string())]).set(i64::from(usable));
    }
}

/// A task under way.
#[derive(Debug)]
pub(crate) struct OpenTask {
    metrics: Arc<Metrics>,
    step: Step,
}

impl OpenTask {
    /// It ended like this: one of `finished`, `broke`, `released`.
    pub(crate) fn ended(self, outcome: &'static str) {
        let labels = [("step", self.step.as_str()), ("outcome", outcome)];
        self.metrics.tasks.get_or_create_owned(&labels).inc();
    }
}

impl Drop for OpenTask {
    fn drop(&mut self) {
        self.metrics.open_tasks.get_or_create_owned(&[("step", self.step.as_str())]).dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shardlift_runtime::metrics::{documented, exposed, registry};

    #[test]
    fn the_page_of_metrics_is_true() {
        let mut registry = registry();
        let metrics = Metrics::new(&mut registry);
        metrics.looked(&ShardId::new("s").expect("a name"), true);
        metrics.batch_errors.get_or_create_owned(&[("engine", "postgres"), ("code", "row.rejected")]).inc();
        let page = include_str!("../../docs/operations/metrics.md");
        let told = documented(page, &["process_", "shardlift_worker_"]);
        assert_eq!(exposed(&registry).expect("encodes"), told);
    }

    #[test]
    fn a_task_is_open_until_it_ended_or_was_dropped() {
        let metrics = Arc::new(Metrics::default());
        let open = || metrics.open_tasks.get_or_create_owned(&[("step", "sweep")]).get();
        let (one, other) = (metrics.open_task(Step::Sweep), metrics.open_task(Step::Sweep));
        assert_eq!(open(), 2);
        one.ended("finished");
        drop(other);
        assert_eq!(open(), 0);
        let finished = metrics.tasks.get_or_create_owned(&[("step", "sweep"), ("outcome", "finished")]);
        assert_eq!(finished.get(), 1);
    }
}

//! What a coordinator counts of its work. `docs/operations/metrics.md` has a row for each; a test compares the two.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use shardlift_domain::Epoch;
use shardlift_domain::migration::Status;
use shardlift_runtime::metrics::{Counter, Family, Gauge, Histogram, Labels, Registry, Unit, durations};
use shardlift_runtime::tls::Handshakes;

/// The calls of the store, as a label.
const OPERATIONS: [&str; 7] = ["fence", "take_over", "load", "commit", "history", "outbox", "heard"];
/// Where a task stands, as a label.
const STATES: [&str; 4] = ["waiting", "leased", "done", "failed"];

/// The metrics of one coordinator. Without a registry they count, and nobody sees it.
#[derive(Debug)]
pub struct Metrics {
    pub(crate) hand_out: Histogram,
    pub(crate) loop_lag: Histogram,
    pub(crate) commit: Histogram,
    pub(crate) store_failures: Family<Labels<1>, Counter>,
    pub(crate) fenced: Counter,
    pub(crate) take_overs: Counter,
    access_refused: Family<Labels<2>, Counter>,
    pub(crate) handshakes: Handshakes,
    is_leader: Gauge,
    epoch: Gauge<u64, std::sync::atomic::AtomicU64>,
    migrations: Family<Labels<1>, Gauge>,
    tasks: Family<Labels<1>, Gauge>,
    sessions: Gauge,
    pub(crate) broker_lag: Gauge<f64, std::sync::atomic::AtomicU64>,
    pub(crate) published: Counter,
    pub(crate) broker_failures: Family<Labels<1>, Counter>,
    pub(crate) requests: Family<Labels<1>, Counter>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            hand_out: durations(),
            loop_lag: durations(),
            commit: durations(),
            store_failures: Family::default(),
            fenced: Counter::default(),
            take_overs: Counter::default(),
            access_refused: Family::default(),
            handshakes: Handshakes::default(),
            is_leader: Gauge::default(),
            epoch: Gauge::default(),
            migrations: Family::default(),
            tasks: Family::default(),
            sessions: Gauge::default(),
            broker_lag: Gauge::default(),
            published: Counter::default(),
            broker_failures: Family::default(),
            requests: Family::default(),
        }
    }
}

impl Metrics {
    /// Metrics that the registry shows. Every series is there from the beginning, so that a rate over it begins at 0.
    pub fn new(registry: &mut Registry) -> Arc<Self> {
        let metrics = Arc::new(Self::default());
        metrics.register(registry.sub_registry_with_prefix("shardlift_coordinator"));
        for operation in OPERATIONS {
            metrics.store_failures.get_or_create_owned(&[("operation", operation)]);
        }
        for door in ["grpc", "rest"] {
            for reason in ["unauthenticated", "forbidden", "shard"] {
                metrics.access_refused.get_or_create_owned(&[("door", door), ("reason", reason)]);
            }
        }
        for outcome in Handshakes::OUTCOMES {
            metrics.handshakes.handshakes.get_or_create_owned(&[("outcome", outcome)]);
        }
        for outcome in Handshakes::RENEWALS {
            metrics.handshakes.reloads.get_or_create_owned(&[("outcome", outcome)]);
        }
        for operation in ["publish", "consume"] {
            metrics.broker_failures.get_or_create_owned(&[("operation", operation)]);
        }
        for outcome in Heeded::ALL {
            metrics.requests.get_or_create_owned(&[("outcome", outcome.as_str())]);
        }
        metrics.show(&Census::default());
        metrics
    }

    fn register(&self, to: &mut Registry) {
        let seconds = || Unit::Seconds;
        to.register("is_leader", "Whether this coordinator leads: 1 or 0", self.is_leader.clone());
        to.register("epoch", "The epoch under which it leads; 0 when it does not", self.epoch.clone());
        to.register("take_overs", "Times that this coordinator took the lead", self.take_overs.clone());
        to.register(
            "migrations",
            "Migrations by status, newest versions; 0 unless it leads",
            self.migrations.clone(),
        );
        to.register("tasks", "Wanted tasks by state; 0 unless it leads", self.tasks.clone());
        to.register("sessions", "Connected workers; 0 unless it leads", self.sessions.clone());
        let help = "Time from a task being due to its being handed out";
        to.register_with_unit("hand_out_latency", help, seconds(), self.hand_out.clone());
        let help = "How much later than planned the heart looked at the time";
        to.register_with_unit("event_loop_lag", help, seconds(), self.loop_lag.clone());
        let help = "Time of a commit to the metadata store, failed or not";
        to.register_with_unit("store_commit_duration", help, seconds(), self.commit.clone());
        to.register(
            "store_failures",
            "Calls of the store that failed, but for fenced ones",
            self.store_failures.clone(),
        );
        to.register(
            "access_refused",
            "Requests and sessions refused for who asked, by door and reason",
            self.access_refused.clone(),
        );
        to.register(
            "fenced",
            "Writes refused by the store since another leader has taken over",
            self.fenced.clone(),
        );
        let help = "TLS handshakes at the doors, by how they ended";
        to.register("tls_handshakes", help, self.handshakes.handshakes.clone());
        let help = "Times that the files of certificates had changed, by whether they were taken";
        to.register("tls_reloads", help, self.handshakes.reloads.clone());
        self.register_broker(to);
    }

    fn register_broker(&self, to: &mut Registry) {
        let help =
            "Age of the oldest event that the broker does not have; 0 when it has all, and unless it leads";
        to.register_with_unit("broker_lag", help, Unit::Seconds, self.broker_lag.clone());
        to.register("broker_published", "Events that the broker has confirmed", self.published.clone());
        to.register(
            "broker_failures",
            "Times that the broker could not be reached, or refused",
            self.broker_failures.clone(),
        );
        to.register(
            "broker_requests",
            "Messages taken from the broker, by what became of them",
            self.requests.clone(),
        );
    }

    /// What became of a message.
    pub(crate) fn heeded(&self, outcome: Heeded) {
        self.requests.get_or_create_owned(&[("outcome", outcome.as_str())]).inc();
    }

    /// A leadership begins; it is shown until the answer is dropped.
    pub(crate) fn leading(self: &Arc<Self>, epoch: Epoch) -> Leading {
        self.is_leader.set(1);
        self.epoch.set(epoch.0);
        Leading(Arc::clone(self))
    }

    fn show(&self, census: &Census) {
        for status in Status::ALL {
            let count = census.migrations.get(status.as_str()).copied().unwrap_or(0);
            self.migrations.get_or_create_owned(&[("status", status.as_str())]).set(count);
        }
        for state in STATES {
            let count = census.tasks.get(state).copied().unwrap_or(0);
            self.tasks.get_or_create_owned(&[("state", state)]).set(count);
        }
        self.sessions.set(census.sessions);
    }

    /// Somebody was refused at this door, for this reason.
    pub(crate) fn access_refused(&self, door: &'static str, reason: &'static str) {
        self.access_refused.get_or_create_owned(&[("door", door), ("reason", reason)]).inc();
    }

    /// A task was handed out after so many milliseconds.
    pub(crate) fn handed_out(&self, waited: u64) {
        self.hand_out.observe(Duration::from_millis(waited).as_secs_f64());
    }
}

/// What became of a message from the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Heeded {
    /// It was carried out.
    Done,
    /// It was carried out before.
    Repeated,
    /// Its type is none of ours.
    Unknown,
    /// It cannot be carried out: it went to the dead letters.
    DeadLettered,
}

impl Heeded {
    const ALL: [Self; 4] = [Self::Done, Self::Repeated, Self::Unknown, Self::DeadLettered];

    fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Repeated => "repeated",
            Self::Unknown => "unknown",
            Self::DeadLettered => "dead_lettered",
        }
    }
}

/// What a leader has, counted.
#[derive(Debug, Default)]
pub(crate) struct Census {
    /// By status.
    pub(crate) migrations: BTreeMap<&'static str, i64>,
    /// By state.
    pub(crate) tasks: BTreeMap<&'static str, i64>,
    pub(crate) sessions: i64,
}

/// A leadership that is shown. It ends with the leader, however that ends.
#[derive(Debug)]
pub(crate) struct Leading(Arc<Metrics>);

impl Leading {
    /// Shows what the leader has now.
    pub(crate) fn show(&self, census: &Census) {
        self.0.show(census);
    }
}

impl Drop for Leading {
    fn drop(&mut self) {
        self.0.is_leader.set(0);
        self.0.epoch.set(0);
        self.0.show(&Census::default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shardlift_runtime::metrics::{documented, exposed, registry};

    #[test]
    fn the_page_of_metrics_is_true() {
        let mut registry = registry();
        let _metrics = Metrics::new(&mut registry);
        let page = include_str!("../../docs/operations/metrics.md");
        let told = documented(page, &["process_", "shardlift_coordinator_"]);
        assert_eq!(exposed(&registry).expect("encodes"), told);
    }

    #[test]
    fn who_leads_no_more_shows_nothing_of_it() {
        let metrics = Arc::new(Metrics::default());
        let leading = metrics.leading(Epoch(7));
        leading.show(&Census {
            migrations: [("running", 3)].into(),
            tasks: [("leased", 5)].into(),
            sessions: 2,
        });
        let seen = || {
            let running = metrics.migrations.get_or_create_owned(&[("status", "running")]).get();
            let leased = metrics.tasks.get_or_create_owned(&[("state", "leased")]).get();
            (metrics.is_leader.get(), metrics.epoch.get(), running, leased, metrics.sessions.get())
        };
        assert_eq!(seen(), (1, 7, 3, 5, 2));
        drop(leading);
        assert_eq!(seen(), (0, 0, 0, 0, 0));
    }
}

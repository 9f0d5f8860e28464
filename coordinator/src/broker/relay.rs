//! The relay: publishes what the history holds and the broker does not have, in order, and notes how far it got.
//!
//! Only a leader has anything to tell, and the note is a commit under its fence. Whoever dies between publishing and the note
//! publishes the same events again, with the same ids. A leader that was replaced may do so late; it publishes in order from a
//! noted place on, so the first time that each event appears, all before it have appeared.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use shardlift_domain::ids::MigrationKey;
use shardlift_runtime::clock;
use shardlift_runtime::retry::{Delays, Policy};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::{Broker, BrokerError, Message, Publisher, event};
use crate::metrics::Metrics;
use crate::orchestrator::{Handle, Untold};

/// How many events are in memory at once.
const TOGETHER: u32 = 100;
/// How often it is looked when nothing happens.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long is waited after a look at least: changes come by the hundred.
const PAUSE: Duration = Duration::from_millis(50);
/// The pauses while the broker is away.
const AGAIN: Policy =
    Policy { first: Duration::from_millis(200), longest: Duration::from_secs(5), total: None };

/// Publishes for one coordinator.
pub struct Relay {
    heart: Handle,
    broker: Arc<dyn Broker>,
    source: String,
    progress_every: Duration,
    metrics: Arc<Metrics>,
    link: Option<Box<dyn Publisher>>,
    /// The last progress of what runs.
    told: BTreeMap<MigrationKey, String>,
    progress_due: Instant,
}

impl Relay {
    /// A relay that names its events' source so, and tells of progress so often.
    pub fn new(
        heart: Handle,
        broker: Arc<dyn Broker>,
        source: String,
        progress_every: Duration,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            heart,
            broker,
            source,
            progress_every,
            metrics,
            link: None,
            told: BTreeMap::new(),
            progress_due: Instant::now(),
        }
    }

    /// Publishes until the token is cancelled.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let mut changes = self.heart.changes();
        let mut delays = Delays::new(&AGAIN);
        let mut away = false;
        loop {
            changes.mark_unchanged();
            let Some(turn) = shutdown.run_until_cancelled(self.turn()).await else { return };
            let pause = match turn {
                Ok(more) => {
                    if std::mem::take(&mut away) {
                        tracing::info!(broker = self.broker.name(), "the broker is there again");
                    }
                    delays.reset();
                    if more { Duration::ZERO } else { PAUSE }
                }
                Err(error) => {
                    self.link = None;
                    self.metrics.broker_failures.get_or_create_owned(&[("operation", "publish")]).inc();
                    if !std::mem::replace(&mut away, true) {
                        tracing::warn!(%error, "events wait for the broker; migrations do not");
                    }
                    delays.next().unwrap_or(AGAIN.longest)
                }
            };
            let news = async {
                tokio::time::sleep(pause).await;
                if !away && !pause.is_zero() {
                    // A closed channel is the end of the orchestrator: the token follows.
                    let _ = timeout(LOOK_EVERY, changes.changed()).await;
                }
            };
            if shutdown.run_until_cancelled(news).await.is_none() {
                return;
            }
        }
    }

    /// Publishes what is there to tell. Whether there may be more.
    async fn turn(&mut self) -> Result<bool, BrokerError> {
        let progress = self.progress_due <= Instant::now();
        let Ok(untold) = self.heart.untold(TOGETHER, progress).await else {
            // Another one leads, or nobody.
            self.link = None;
            self.told.clear();
            self.metrics.broker_lag.set(0.0);
            return Ok(false);
        };
        if progress {
            self.progress_due = Instant::now() + self.progress_every;
        }
        self.metrics.broker_lag.set(lag(&untold));
        let end = untold.history.last().map(|last| last.recorded.sequence);
        let running = untold.running.iter().filter_map(|running| {
            let message = event::progress(&self.source, running)?;
            Some((running.migration.clone(), message))
        });
        let running: Vec<_> =
            running.filter(|(key, message)| self.told.get(key) != Some(&message.id)).collect();
        let history = untold.history.into_iter();
        let mut messages: Vec<Message> =
            history.filter_map(|numbered| event::happened(&self.source, numbered)).collect();
        messages.extend(running.iter().map(|(_, message)| message.clone()));
        if messages.is_empty() {
            return Ok(false);
        }
        self.publish(&messages).await?;
        if progress {
            self.told.retain(|key, _| untold.running.iter().any(|running| running.migration == *key));
            self.told.extend(running.into_iter().map(|(key, message)| (key, message.id)));
        }
        let Some(end) = end else { return Ok(false) };
        fail::fail_point!("relay-before-noted", |_| std::process::abort());
        // Refused: another one leads, and tells all of it again.
        Ok(self.heart.relayed(end).await.is_ok())
    }

    async fn publish(&mut self, messages: &[Message]) -> Result<(), BrokerError> {
        let link = match &mut self.link {
            Some(link) => link,
            link => link.insert(self.broker.publisher().await?),
        };
        link.publish(messages).await?;
        self.metrics.published.inc_by(messages.len().try_into().unwrap_or(u64::MAX));
        Ok(())
    }
}

/// How old the oldest thing is that is not told.
fn lag(untold: &Untold) -> f64 {
    let Some(first) = untold.history.first() else { return 0.0 };
    let age = clock::now().signed_duration_since(first.recorded.entry.at);
    age.to_std().unwrap_or_default().as_secs_f64()
}

//! Requests from a broker: CloudEvents `migration.request` and `migration.cancel`, carried out once each, one after the other.
//!
//! Only the leader takes them. A request is noted by source and id in the commit of what it asks for, and acknowledged after that
//! commit: whatever dies in between, it comes again and is known. What can never be carried out goes to the dead letters.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use shardlift_domain::failure::{ErrorCode, Failure};
use shardlift_domain::migration::Verb;
use shardlift_domain::spec::SpecFile;
use shardlift_runtime::clock;
use shardlift_runtime::retry::{Delays, Policy};
use tokio_util::sync::CancellationToken;

use super::{Broker, BrokerError, Consumer};
use crate::metrics::{Heeded, Metrics};
use crate::orchestrator::Asker;
use crate::service::Services;
use crate::store::Heard;

/// The pauses while the broker is away, or nobody here can carry anything out.
const AGAIN: Policy =
    Policy { first: Duration::from_millis(200), longest: Duration::from_secs(5), total: None };
/// What may pass by itself, such as a shard without a worker, is tried again for so long. Others wait behind it.
const PATIENCE: Policy = Policy {
    first: Duration::from_millis(500),
    longest: Duration::from_secs(5),
    total: Some(Duration::from_secs(60)),
};
/// Largest message.
const MOST_BYTES: usize = 4 << 20;
/// Longest source and id: together they are a key in the store.
const LONGEST: usize = 255;

/// A message as it is sent.
#[derive(Debug, Deserialize)]
struct Envelope {
    specversion: String,
    id: String,
    source: String,
    r#type: String,
    #[serde(default)]
    data: serde_json::Value,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    specs: Vec<Written>,
    #[serde(default = "yes")]
    start: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    name: String,
    text: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Cancel {
    migration: String,
}

fn yes() -> bool {
    true
}

/// What is asked for.
#[derive(Debug)]
enum Wanted {
    Submit(Vec<SpecFile>, bool),
    Cancel(String),
}

/// What becomes of a message.
enum Verdict {
    /// It is dealt with.
    Dealt(Heeded),
    /// It can never be carried out.
    Poison(Failure),
    /// Not here, or not now.
    Later(Failure),
}

/// Carries requests out for one coordinator.
pub struct Requests {
    services: Services,
    broker: Arc<dyn Broker>,
    /// The queue or topic.
    place: String,
    /// In whose name.
    principal: String,
    metrics: Arc<Metrics>,
}

impl Requests {
    /// Takes requests from this queue or topic, and carries them out in the name of this principal.
    pub fn new(
        services: Services,
        broker: Arc<dyn Broker>,
        place: String,
        principal: String,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self { services, broker, place, principal, metrics }
    }

    /// Carries out what comes while this coordinator leads, until the token is cancelled.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut delays = Delays::new(&AGAIN);
        let mut away = false;
        loop {
            let mut standing = self.services.orchestrator().standing().clone();
            while !standing.leads() {
                if shutdown.run_until_cancelled(standing.changed()).await.is_none() {
                    return;
                }
            }
            let taking = self.take(&mut delays, &mut away);
            let Some(ended) = shutdown.run_until_cancelled(taking).await else { return };
            if let Err(error) = ended {
                self.metrics.broker_failures.get_or_create_owned(&[("operation", "consume")]).inc();
                if !std::mem::replace(&mut away, true) {
                    tracing::warn!(%error, "requests wait for the broker");
                }
            }
            let pause = tokio::time::sleep(delays.next().unwrap_or(AGAIN.longest));
            if shutdown.run_until_cancelled(pause).await.is_none() {
                return;
            }
        }
    }

    /// Takes one message after the other, as long as this coordinator leads and the broker answers.
    async fn take(&self, delays: &mut Delays, away: &mut bool) -> Result<(), BrokerError> {
        let mut consumer = self.broker.consumer(&self.place).await?;
        if std::mem::take(away) {
            tracing::info!(broker = self.broker.name(), "the broker is there again");
        }
        let mut standing = self.services.orchestrator().standing().clone();
        while standing.leads() {
            let body = tokio::select! {
                body = consumer.next() => body?,
                () = standing.changed() => continue,
            };
            if !self.deal(consumer.as_mut(), &body).await? {
                return Ok(());
            }
            delays.reset();
        }
        Ok(())
    }

    /// Whether it is dealt with.
    async fn deal(&self, consumer: &mut dyn Consumer, body: &[u8]) -> Result<bool, BrokerError> {
        match self.heed(body).await {
            Verdict::Dealt(outcome) => {
                fail::fail_point!("requests-before-acknowledged", |_| std::process::abort());
                consumer.done().await?;
                self.metrics.heeded(outcome);
            }
            Verdict::Poison(why) => {
                tracing::warn!(code = %why.code, "a request goes to the dead letters: {} ({})", why.message, why.next);
                consumer.reject(&why).await?;
                self.metrics.heeded(Heeded::DeadLettered);
            }
            Verdict::Later(why) => {
                tracing::info!(code = %why.code, "a request waits: {}", why.message);
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn heed(&self, body: &[u8]) -> Verdict {
        let envelope = match envelope(body) {
            Ok(envelope) => envelope,
            Err(why) => return Verdict::Poison(why),
        };
        let wanted = match wanted(&envelope) {
            Ok(Some(wanted)) => wanted,
            Ok(None) => {
                let Envelope { id, r#type: kind, .. } = &envelope;
                tracing::warn!(id, kind, "a message of an unknown type is passed over");
                return Verdict::Dealt(Heeded::Unknown);
            }
            Err(why) => return Verdict::Poison(why),
        };
        let Envelope { source, id, .. } = envelope;
        let mut delays = Delays::new(&PATIENCE);
        loop {
            // Also after a failure: the answer to a commit may have been lost.
            match self.services.orchestrator().has_heard(source.clone(), id.clone()).await {
                Ok(true) => return Verdict::Dealt(Heeded::Repeated),
                Ok(false) => {}
                Err(why) => return Verdict::Later(why),
            }
            let heard = Heard { source: source.clone(), id: id.clone(), at: clock::now() };
            match self.carry_out(&wanted, heard).await {
                Ok(()) => return Verdict::Dealt(Heeded::Done),
                Err(why) if of_ours(why.code) => return Verdict::Later(why),
                Err(why) => match delays.next() {
                    Some(pause) if why.retryable() => tokio::time::sleep(pause).await,
                    _ => return Verdict::Poison(why),
                },
            }
        }
    }

    async fn carry_out(&self, wanted: &Wanted, heard: Heard) -> Result<(), Failure> {
        let request = Some(heard.id.clone());
        let by = Asker { name: self.principal.clone(), request, heard: Some(heard) };
        match wanted {
            Wanted::Submit(files, start) => {
                let made = self.services.submit(files.clone(), *start, None, by).await;
                made.map(drop).map_err(first)
            }
            Wanted::Cancel(id) => self.services.verb(id, Verb::Cancel, by).await.map(drop),
        }
    }
}

/// Trouble of the coordinators themselves: no fault of the request, however long it lasts.
fn of_ours(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::CoordinatorNotLeader
            | ErrorCode::CoordinatorNotReady
            | ErrorCode::StoreFenced
            | ErrorCode::StoreUnavailable
    )
}

/// The failure that says most: what cannot pass by itself, else the first.
fn first(failures: Vec<Failure>) -> Failure {
    let lasting = failures.iter().find(|failure| !failure.retryable()).cloned();
    let said = lasting.or_else(|| failures.into_iter().next());
    said.unwrap_or_else(|| invalid("it was refused without a reason".to_owned()))
}

fn invalid(message: String) -> Failure {
    let next = "send it again as docs/operations/brokers.md describes it, with a new id";
    Failure::new(ErrorCode::RequestInvalid, message, next)
}

fn envelope(body: &[u8]) -> Result<Envelope, Failure> {
    if body.len() > MOST_BYTES {
        return Err(invalid(format!("the message has {} bytes; {MOST_BYTES} are allowed", body.len())));
    }
    let envelope: Envelope = serde_json::from_slice(body)
        .map_err(|error| invalid(format!("the message is not a CloudEvent in JSON: {error}")))?;
    if envelope.specversion != "1.0" {
        return Err(invalid(format!("specversion is {:?}, not \"1.0\"", envelope.specversion)));
    }
    for (name, text) in [("id", &envelope.id), ("source", &envelope.source)] {
        if text.is_empty() || text.len() > LONGEST || text.contains('\0') {
            return Err(invalid(format!("{name} is empty, longer than {LONGEST} bytes, or holds a zero")));
        }
    }
    Ok(envelope)
}

/// What is asked for; `None`: the type is none of ours.
fn wanted(envelope: &Envelope) -> Result<Option<Wanted>, Failure> {
    let read = |error: serde_json::Error| invalid(format!("data of {}: {error}", envelope.r#type));
    Ok(match envelope.r#type.as_str() {
        "migration.request" => {
            let Request { specs, start } = Request::deserialize(&envelope.data).map_err(read)?;
            let files = specs.into_iter().map(|Written { name, text }| SpecFile { name, text });
            Some(Wanted::Submit(files.collect(), start))
        }
        "migration.cancel" => {
            let Cancel { migration } = Cancel::deserialize(&envelope.data).map_err(read)?;
            Some(Wanted::Cancel(migration))
        }
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(event: &Value) -> Result<Option<Wanted>, Failure> {
        wanted(&envelope(event.to_string().as_bytes())?)
    }

    fn event(kind: &str, data: Value) -> Value {
        json!({ "specversion": "1.0", "id": "1", "source": "/ci", "type": kind, "data": data, "anything": "else" })
    }

    #[test]
    fn requests_are_read() {
        let specs = json!([{ "name": "a.yaml", "text": "id: a" }]);
        let Ok(Some(Wanted::Submit(files, true))) =
            read(&event("migration.request", json!({ "specs": specs })))
        else {
            panic!("a request");
        };
        assert_eq!(files, [SpecFile { name: "a.yaml".into(), text: "id: a".into() }]);
        let held = read(&event("migration.request", json!({ "specs": [], "start": false })));
        assert!(matches!(held, Ok(Some(Wanted::Submit(_, false)))), "{held:?}");
        let cancel = read(&event("migration.cancel", json!({ "migration": "a" })));
        assert!(matches!(&cancel, Ok(Some(Wanted::Cancel(id))) if id == "a"), "{cancel:?}");
        assert!(matches!(read(&event("order.paid", json!(7))), Ok(None)));
    }

    #[test]
    fn what_is_wrong_with_a_request_is_told() {
        let without = |key: &str| {
            let mut event = event("migration.cancel", json!({ "migration": "a" }));
            event.as_object_mut().expect("an object").remove(key);
            event
        };
        let long = json!({ "specversion": "1.0", "id": "x".repeat(256), "source": "/ci", "type": "x" });
        let old = json!({ "specversion": "0.3", "id": "1", "source": "/ci", "type": "x" });
        for (event, why) in [
            (json!([]), "not a CloudEvent"),
            (without("id"), "missing field `id`"),
            (without("data"), "migration.cancel"),
            (old, "specversion"),
            (long, "id is empty, longer"),
            (event("migration.request", json!({ "specs": [], "force": true })), "unknown field `force`"),
        ] {
            let failure = read(&event).expect_err("it was read");
            assert_eq!(failure.code, ErrorCode::RequestInvalid);
            assert!(failure.message.contains(why), "{why}: {failure}");
        }
        let huge = vec![b' '; MOST_BYTES + 1];
        assert!(envelope(&huge).expect_err("too large").message.contains("bytes"));
    }

    #[test]
    fn the_failure_that_lasts_is_the_one_that_is_told() {
        let failure = |code| Failure::new(code, "m", "n");
        let told = first(vec![failure(ErrorCode::ShardNoWorker), failure(ErrorCode::SpecConflict)]);
        assert_eq!(told.code, ErrorCode::SpecConflict);
        assert_eq!(first(vec![failure(ErrorCode::ShardNoWorker)]).code, ErrorCode::ShardNoWorker);
    }
}

//! Message brokers: what happens is published as CloudEvents, and requests come as such.
//!
//! [`event`] says what is published and how it looks, [`relay`] publishes what the history holds and notes how far it got;
//! [`requests`] carries out what is asked for, once each. A backend ([`rabbitmq`], `kafka`) only carries messages: it promises that
//! what it has confirmed is durable, that messages of one key keep their order, and that a message which nobody said was dealt
//! with comes again. A broker that is down, full or slow delays events, and nothing else.

#[cfg(test)]
mod conformance;
pub mod event;
#[cfg(feature = "kafka")]
pub mod kafka;
pub mod rabbitmq;
pub mod relay;
pub mod requests;

use async_trait::async_trait;
use shardlift_domain::failure::Failure;
use shardlift_runtime::retry::Retryable;

/// One message to publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The id of its event: the same for a repeat.
    pub id: String,
    /// The type of its event, by which receivers choose.
    pub kind: &'static str,
    /// Messages with the same key keep their order: the id of the migration.
    pub key: String,
    /// The event as JSON.
    pub body: Vec<u8>,
}

/// A kind of broker, as it is configured.
#[async_trait]
pub trait Broker: Send + Sync + 'static {
    /// The name under which the store keeps how far it was told.
    fn name(&self) -> &'static str;

    /// Opens a way to publish.
    async fn publisher(&self) -> Result<Box<dyn Publisher>, BrokerError>;

    /// Opens a way to take requests from the queue or topic of this name. What is rejected goes to [`dead_letters`] of it.
    async fn consumer(&self, place: &str) -> Result<Box<dyn Consumer>, BrokerError>;
}

/// A way to publish. After an error it is of no use any more.
#[async_trait]
pub trait Publisher: Send {
    /// Publishes in this order. After `Ok` the broker has all of them, durably; after an error any of them, but none without those
    /// before it of the same key. Gives up in bounded time.
    async fn publish(&mut self, messages: &[Message]) -> Result<(), BrokerError>;
}

/// A way to take requests, one after the other. After an error it is of no use any more; what was taken and is not dealt with
/// comes again, to this or another coordinator.
#[async_trait]
pub trait Consumer: Send {
    /// The next message; waits for one. May be dropped and asked for again: nothing is lost.
    async fn next(&mut self) -> Result<Vec<u8>, BrokerError>;

    /// The message that was taken last is dealt with.
    async fn done(&mut self) -> Result<(), BrokerError>;

    /// The message that was taken last cannot be carried out: it is kept as it is beside the reason, durably, for a person to look
    /// at; then it is dealt with.
    async fn reject(&mut self, why: &Failure) -> Result<(), BrokerError>;
}

/// Where what cannot be carried out is kept.
pub fn dead_letters(place: &str) -> String {
    format!("{place}.dead")
}

/// Names of the properties of a dead letter: the stable code, what happened, what to do.
const REASON: [&str; 3] = ["shardlift-code", "shardlift-reason", "shardlift-next"];

fn reason(why: &Failure) -> [(&'static str, &str); 3] {
    let [code, message, next] = REASON;
    [(code, why.code.as_str()), (message, why.message.as_str()), (next, why.next.as_str())]
}

/// Why a broker could not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// It cannot be reached, or refused.
    #[error("the broker failed to {doing}: {source}")]
    Failed {
        /// What was being done.
        doing: &'static str,
        /// What the client says; it puts no password there.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It gave no answer in time: it is stopped, cut off, or takes nothing because it is full.
    #[error("the broker did not {doing} within {seconds} s")]
    Silent {
        /// What was being done.
        doing: &'static str,
        /// How long was waited.
        seconds: u64,
    },
    /// It took a message and did not keep it.
    #[error("the broker did not take a message: {0}")]
    NotTaken(&'static str),
}

impl BrokerError {
    fn failed<E>(doing: &'static str) -> impl Fn(E) -> BrokerError
    where
        E: std::error::Error + Send + Sync + 'static,
    {
        move |source| BrokerError::Failed { doing, source: Box::new(source) }
    }
}

impl Retryable for BrokerError {
    fn retryable(&self) -> bool {
        // A broker may be mended, and a wrong password be made right, without a word to us.
        true
    }
}

//! Kafka: events go to one topic, keyed by migration, through an idempotent producer that waits for all replicas.
//!
//! This build of librdkafka has no TLS: it is for brokers on a network that is trusted, or behind a proxy that speaks TLS.

use std::time::Duration;

use async_trait::async_trait;
use futures::future::try_join_all;
use rdkafka::ClientConfig;
use rdkafka::consumer::{CommitMode, Consumer as _, StreamConsumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, Headers, Message as _, OwnedHeaders, OwnedMessage};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::topic_partition_list::TopicPartitionList;
use shardlift_domain::failure::Failure;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

use super::event::CONTENT_TYPE;
use super::{Broker, BrokerError, Consumer, Message, Publisher, dead_letters, reason};

/// How long the brokers may think about one message. The client gives up on it then by itself.
const ANSWER: Duration = Duration::from_secs(10);
/// After so long without any part of the topic a member is believed to be forgotten by its group: whoever died keeps its part for
/// no longer than its session, ten seconds.
const WITHOUT_PART: Duration = Duration::from_secs(30);
/// How often that is looked at, while nothing comes.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A Kafka cluster.
#[derive(Debug, Clone)]
pub struct Kafka {
    servers: String,
    topic: String,
    answer: Duration,
}

impl Kafka {
    /// Reached by these `host:port`, separated by commas; `topic` is where events go.
    pub fn new(servers: String, topic: String) -> Self {
        Self { servers, topic, answer: ANSWER }
    }

    /// One that gives up sooner, for those who test that it does.
    #[cfg(test)]
    pub(super) fn hasty(self, answer: Duration) -> Self {
        Self { answer, ..self }
    }

    fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.servers).set("client.id", "shardlift-coordinator");
        // A broker that fell silent is given up after this; a minute otherwise.
        config
            .set("socket.timeout.ms", self.answer.as_millis().to_string())
            .set("socket.keepalive.enable", "true");
        config
    }

    fn producer(&self) -> Result<Client<FutureProducer>, BrokerError> {
        let mut config = self.client();
        config
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("message.timeout.ms", self.answer.as_millis().to_string())
            .set("linger.ms", "5");
        let producer = config.create().map_err(BrokerError::failed("connect"))?;
        Ok(Client(Some(producer)))
    }
}

#[async_trait]
impl Broker for Kafka {
    fn name(&self) -> &'static str {
        "kafka"
    }

    async fn publisher(&self) -> Result<Box<dyn Publisher>, BrokerError> {
        Ok(Box::new(KafkaPublisher { producer: self.producer()?, topic: self.topic.clone() }))
    }

    async fn consumer(&self, place: &str) -> Result<Box<dyn Consumer>, BrokerError> {
        let mut config = self.client();
        config
            // All coordinators share one place in the topic.
            .set("group.id", format!("shardlift.{place}"))
            // A coordinator that stands still gives up its part soon.
            .set("session.timeout.ms", "10000")
            .set("enable.auto.commit", "false")
            .set("auto.offset.reset", "earliest")
            .set("allow.auto.create.topics", "true")
            // One message is dealt with at a time: a few of them are enough to have at hand.
            .set("queued.max.messages.kbytes", "8192");
        let messages: StreamConsumer = config.create().map_err(BrokerError::failed("connect"))?;
        let messages = met(messages, place.to_owned(), self.answer).await?;
        messages.subscribe(&[place]).map_err(BrokerError::failed("subscribe"))?;
        let (dead, letters) = (dead_letters(place), self.producer()?);
        let messages = Client(Some(messages));
        Ok(Box::new(KafkaConsumer { messages, letters, dead, taken: None, had_part: Instant::now() }))
    }
}

/// The client once a broker has answered it: it waits in silence for one otherwise. The question blocks, and must not keep this
/// coordinator from its end: it is asked aside.
async fn met(
    consumer: StreamConsumer,
    topic: String,
    within: Duration,
) -> Result<StreamConsumer, BrokerError> {
    let (tell, told) = oneshot::channel();
    std::thread::spawn(move || {
        let answer = consumer.fetch_metadata(Some(&topic), within).map(|_| consumer);
        // Whoever does not wait any more does not want it either.
        drop(tell.send(answer));
    });
    let answer = told.await.map_err(|_| BrokerError::NotTaken("the client ended"))?;
    answer.map_err(BrokerError::failed("connect"))
}

/// A client of librdkafka. Dropping one waits for its brokers, which must keep nobody else waiting: it is done aside.
struct Client<T: Send + 'static>(Option<T>);

impl<T: Send + 'static> Client<T> {
    fn get(&self) -> Result<&T, BrokerError> {
        self.0.as_ref().ok_or(BrokerError::NotTaken("the client is closed"))
    }
}

impl<T: Send + 'static> Drop for Client<T> {
    fn drop(&mut self) {
        if let Some(client) = self.0.take() {
            std::thread::spawn(move || drop(client));
        }
    }
}

impl Client<FutureProducer> {
    /// Hands a record over to the client. It is on its way when this returns, and there when the answer's future ends well.
    fn send(
        &self,
        record: FutureRecord<'_, [u8], [u8]>,
    ) -> Result<impl Future<Output = Result<(), BrokerError>> + use<>, BrokerError> {
        let sent = self.get()?.send_result(record);
        let delivery = sent.map_err(|(error, _)| BrokerError::failed("publish")(error))?;
        Ok(async {
            match delivery.await {
                Ok(Ok(_)) => Ok(()),
                Ok(Err((error, _))) => Err(BrokerError::failed("confirm")(error)),
                Err(_) => Err(BrokerError::NotTaken("the client was closed meanwhile")),
            }
        })
    }
}

struct KafkaPublisher {
    producer: Client<FutureProducer>,
    topic: String,
}

#[async_trait]
impl Publisher for KafkaPublisher {
    async fn publish(&mut self, messages: &[Message]) -> Result<(), BrokerError> {
        let mut confirms = Vec::with_capacity(messages.len());
        for message in messages {
            let kind = Header { key: "content-type", value: Some(CONTENT_TYPE) };
            let record = FutureRecord::to(&self.topic)
                .key(message.key.as_bytes())
                .payload(message.body.as_slice())
                .headers(OwnedHeaders::new().insert(kind));
            confirms.push(self.producer.send(record)?);
        }
        try_join_all(confirms).await.map(drop)
    }
}

struct KafkaConsumer {
    messages: Client<StreamConsumer>,
    letters: Client<FutureProducer>,
    dead: String,
    taken: Option<OwnedMessage>,
    /// When a part of the topic was last seen to be its own.
    had_part: Instant,
}

impl KafkaConsumer {
    /// A group may forget a member, and the client waits for ever then: whoever waits is told, and joins anew.
    fn has_part(&mut self) -> Result<(), BrokerError> {
        let part = self.messages.get()?.assignment().map_err(BrokerError::failed("tell what is assigned"))?;
        if part.count() > 0 {
            self.had_part = Instant::now();
        }
        if self.had_part.elapsed() < WITHOUT_PART {
            return Ok(());
        }
        Err(BrokerError::Silent { doing: "give any part of the topic", seconds: WITHOUT_PART.as_secs() })
    }

    /// Says that all up to this message is dealt with. If that is lost, it comes again, and is known.
    fn acknowledge(&self, message: &OwnedMessage) -> Result<(), BrokerError> {
        let mut place = TopicPartitionList::new();
        let next = rdkafka::Offset::Offset(message.offset() + 1);
        let failed = BrokerError::failed("acknowledge");
        place.add_partition_offset(message.topic(), message.partition(), next).map_err(&failed)?;
        self.messages.get()?.commit(&place, CommitMode::Async).map_err(&failed)
    }
}

/// One broker is away, and the client looks for another one by itself. When all are, whoever waits is told, and joins the group
/// anew later.
fn passes(error: &KafkaError) -> bool {
    use RDKafkaErrorCode::{BrokerTransportFailure, OperationTimedOut, Resolve};
    let code = error.rdkafka_error_code();
    matches!(error, KafkaError::MessageConsumption(_))
        && matches!(code, Some(BrokerTransportFailure | OperationTimedOut | Resolve))
}

#[async_trait]
impl Consumer for KafkaConsumer {
    async fn next(&mut self) -> Result<Vec<u8>, BrokerError> {
        let message = loop {
            let Ok(received) = timeout(LOOK_EVERY, self.messages.get()?.recv()).await else {
                self.has_part()?;
                continue;
            };
            match received {
                Ok(message) => break message.detach(),
                Err(error) if passes(&error) => tracing::debug!(%error, "requests wait for the broker"),
                Err(error) => return Err(BrokerError::failed("deliver")(error)),
            }
        };
        let body = message.payload().unwrap_or_default().to_vec();
        self.taken = Some(message);
        Ok(body)
    }

    async fn done(&mut self) -> Result<(), BrokerError> {
        match self.taken.take() {
            Some(message) => self.acknowledge(&message),
            None => Ok(()),
        }
    }

    async fn reject(&mut self, why: &Failure) -> Result<(), BrokerError> {
        let Some(message) = self.taken.take() else { return Ok(()) };
        let mut headers = OwnedHeaders::new();
        for header in message.headers().into_iter().flat_map(Headers::iter) {
            headers = headers.insert(header);
        }
        for (key, text) in reason(why) {
            headers = headers.insert(Header { key, value: Some(text) });
        }
        let record = FutureRecord::to(&self.dead)
            .key(message.key().unwrap_or_default())
            .payload(message.payload().unwrap_or_default())
            .headers(headers);
        self.letters.send(record)?.await?;
        self.acknowledge(&message)
    }
}

//! Kafka, over the mock cluster of librdkafka; its ground serves any cluster.

use rdkafka::ClientConfig;
use rdkafka::consumer::{Consumer as _, StreamConsumer};
use rdkafka::message::{Headers, Message as _, OwnedMessage};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{DefaultProducerContext, FutureProducer, FutureRecord};

use super::{Arc, Broker, DEADLINE, Ground, HASTE, Listener, Perishable};
use crate::broker::kafka::Kafka;

/// Those that the suite needs, and into how many partitions each is cut.
pub(super) const TOPICS: [&str; 3] = ["migrations", "requests", "requests.dead"];
pub(super) const PARTITIONS: i32 = 3;

/// A cluster that has the topics of the suite.
pub(super) struct Cluster<C> {
    pub(super) servers: String,
    pub(super) brokers: C,
}

impl<C> Cluster<C> {
    fn stranger(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.servers);
        config
    }

    fn reader(&self, topic: &str) -> StreamConsumer {
        let mut config = self.stranger();
        config.set("group.id", "stranger").set("auto.offset.reset", "earliest");
        let reader: StreamConsumer = config.create().expect("connects");
        reader.subscribe(&[topic]).expect("subscribes");
        reader
    }
}

struct Topic(StreamConsumer);

async fn next(reader: &StreamConsumer) -> OwnedMessage {
    reader.recv().await.expect("delivers").detach()
}

#[async_trait::async_trait]
impl Listener for Topic {
    async fn next(&mut self) -> (String, Vec<u8>) {
        let message = next(&self.0).await;
        let text = |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned();
        (text(message.key()), message.payload().unwrap_or_default().to_vec())
    }
}

impl<C> Ground for Cluster<C> {
    fn broker(&self) -> Arc<dyn Broker> {
        Arc::new(Kafka::new(self.servers.clone(), "migrations".to_owned()))
    }

    fn hasty(&self) -> Arc<dyn Broker> {
        Arc::new(Kafka::new(self.servers.clone(), "migrations".to_owned()).hasty(HASTE))
    }

    fn place(&self) -> String {
        "requests".to_owned()
    }

    async fn send(&self, place: &str, body: &[u8]) {
        let producer: FutureProducer = self.stranger().create().expect("connects");
        // One key, so that they keep their order.
        let record = FutureRecord::to(place).key("k").payload(body);
        producer.send(record, DEADLINE).await.expect("sends");
    }

    async fn listen(&self) -> Box<dyn Listener> {
        Box::new(Topic(self.reader("migrations")))
    }

    async fn dead_letter(&self) -> (Vec<(String, String)>, Vec<u8>) {
        let letter = next(&self.reader("requests.dead")).await;
        let headers = letter.headers().into_iter().flat_map(Headers::iter);
        let text = |value: Option<&[u8]>| String::from_utf8_lossy(value.unwrap_or_default()).into_owned();
        let headers = headers.map(|header| (header.key.to_owned(), text(header.value))).collect();
        (headers, letter.payload().unwrap_or_default().to_vec())
    }
}

type Mock = MockCluster<'static, DefaultProducerContext>;

const BROKERS: i32 = 3;

fn mock() -> Cluster<Mock> {
    let brokers = MockCluster::new(BROKERS).expect("a cluster");
    for topic in TOPICS {
        brokers.create_topic(topic, PARTITIONS, BROKERS).expect("a topic");
    }
    Cluster { servers: brokers.bootstrap_servers(), brokers }
}

impl Perishable for Cluster<Mock> {
    async fn go(&self) {
        for number in 1..=BROKERS {
            self.brokers.broker_down(number).expect("goes down");
        }
    }

    async fn come_back(&self) {
        for number in 1..=BROKERS {
            self.brokers.broker_up(number).expect("comes up");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_published_is_there_in_its_order() {
    super::what_is_published_is_there_in_its_order(mock()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_not_dealt_with_comes_again() {
    super::what_was_not_dealt_with_comes_again(mock()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_carried_out_is_kept_with_the_reason() {
    super::what_cannot_be_carried_out_is_kept_with_the_reason(mock()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_is_not_there_is_an_error_in_time_and_takes_messages_later() {
    super::one_that_is_not_there_is_an_error_in_time_and_takes_messages_later(mock()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_for_requests_is_told_that_it_is_away_and_hears_of_later_ones() {
    super::who_waits_for_requests_is_told_that_it_is_away_and_hears_of_later_ones(mock()).await;
}

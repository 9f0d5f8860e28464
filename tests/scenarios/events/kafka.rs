//! With Kafka: the mock cluster of librdkafka, which speaks the real protocol over TCP. The coordinators are real processes. Whoever
//! knows Kafka here knows any cluster.

use rdkafka::consumer::{Consumer as _, StreamConsumer};
use rdkafka::message::{Headers, Message as _, OwnedMessage};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{DefaultProducerContext, FutureProducer, FutureRecord};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use serde_json::Value;

use super::{ID, Stranger, WHOLE, cancel, slow, story};
use crate::stage::{DEADLINE, Engine, Form, Items, Play, curtain};

pub(super) const TOPICS: [&str; 3] = ["migrations", "migration-requests", "migration-requests.dead"];
pub(super) const PARTITIONS: i32 = 3;

/// Brokers that can be taken away, and come back with what they had.
pub(super) trait Brokers {
    fn servers(&self) -> String;
    async fn go(&self);
    async fn come_back(&self);
}

/// Somebody who knows Kafka and the names of the topics.
pub(super) struct Log<B> {
    producer: FutureProducer,
    events: StreamConsumer,
    letters: StreamConsumer,
    // After its clients: they take their leave of it.
    brokers: B,
    seen: Vec<Value>,
}

impl<B: Brokers> Log<B> {
    pub(super) fn of(brokers: B) -> Self {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", brokers.servers()).set("group.id", "stranger");
        // What was asked of a broker that went away is given up after a minute otherwise.
        config.set("socket.timeout.ms", "5000").set("reconnect.backoff.max.ms", "1000");
        // Assigned, not subscribed: members of a group whose brokers have all been away may wait for each other for ever.
        let reader = |topic: &str| {
            let reader: StreamConsumer = config.create().unwrap();
            let mut places = TopicPartitionList::new();
            for partition in 0..PARTITIONS {
                places.add_partition_offset(topic, partition, Offset::Beginning).unwrap();
            }
            reader.assign(&places).unwrap();
            reader
        };
        let (events, letters) = (reader("migrations"), reader("migration-requests.dead"));
        let mut config = ClientConfig::new();
        let producer = config.set("bootstrap.servers", brokers.servers()).create().unwrap();
        Self { producer, events, letters, brokers, seen: Vec::new() }
    }
}

/// Brokers that come and go are told as errors in between; who waits says for how long.
async fn next(reader: &StreamConsumer) -> OwnedMessage {
    loop {
        if let Ok(message) = reader.recv().await {
            return message.detach();
        }
    }
}

impl<B: Brokers> Stranger for Log<B> {
    fn config(&self) -> String {
        format!("kind = \"kafka\"\nurl = \"kafka://{}\"\n", self.brokers.servers())
    }

    async fn send(&mut self, body: &str) {
        // One key, so that requests keep their order.
        let record = FutureRecord::to("migration-requests").key("ci").payload(body);
        self.producer.send(record, DEADLINE).await.unwrap();
    }

    async fn event(&mut self) -> Value {
        let message = next(&self.events).await;
        let event: Value = serde_json::from_slice(message.payload().unwrap()).unwrap();
        assert_eq!(message.key(), event["subject"].as_str().map(str::as_bytes));
        event
    }

    fn seen(&mut self) -> &mut Vec<Value> {
        &mut self.seen
    }

    async fn dead_letter(&mut self) -> (String, String) {
        let letter = next(&self.letters).await;
        let text = |bytes: Option<&[u8]>| String::from_utf8(bytes.unwrap_or_default().to_vec()).unwrap();
        let mut headers = letter.headers().into_iter().flat_map(Headers::iter);
        let code = headers.find(|header| header.key == "shardlift-code").unwrap();
        (text(code.value), text(letter.payload()))
    }
}

/// Events and requests are late, and nothing else is.
pub(super) async fn brokers_that_are_down_delay_what_they_carry(mut stranger: Log<impl Brokers>) {
    let items = Items::of(Engine::Postgres, 2_000).await;
    let play = Play::of(stranger.told_to(Play::builder(&[&items]))).await;
    stranger.submit("1", &slow(500)).await;
    stranger.until("migration.progress").await;
    stranger.brokers.go().await;
    play.completed(ID).await;
    stranger.brokers.come_back().await;
    stranger.until("migration.completed").await;
    assert_eq!(story(&stranger.seen), WHOLE);
    let later = cancel("2", "0009_nobody_knows");
    stranger.send(&later).await;
    let letter = tokio::time::timeout(DEADLINE, stranger.dead_letter()).await.unwrap();
    assert_eq!(letter, ("request.not-found".to_owned(), later));
    curtain(&play, ID, &items, Form::WithWhere, None).await;
}

struct Mock(MockCluster<'static, DefaultProducerContext>);

const BROKERS: i32 = 3;

impl Brokers for Mock {
    fn servers(&self) -> String {
        self.0.bootstrap_servers()
    }

    async fn go(&self) {
        for number in 1..=BROKERS {
            self.0.broker_down(number).unwrap();
        }
    }

    async fn come_back(&self) {
        for number in 1..=BROKERS {
            self.0.broker_up(number).unwrap();
        }
    }
}

fn mock() -> Log<Mock> {
    let cluster = MockCluster::new(BROKERS).unwrap();
    for topic in TOPICS {
        cluster.create_topic(topic, PARTITIONS, BROKERS).unwrap();
    }
    Log::of(Mock(cluster))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_drives_a_migration_from_request_to_completed() {
    super::driven_from_request_to_completed(mock()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_gives_a_migration_up_and_what_cannot_be_carried_out_is_kept_with_the_reason() {
    super::given_up_by_an_event_and_poison_is_kept(mock()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_published_and_not_noted_comes_again_with_the_same_ids() {
    super::what_was_published_and_not_noted_comes_again(mock()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_was_not_acknowledged_is_not_carried_out_again() {
    super::a_request_that_was_not_acknowledged_is_not_carried_out_again(mock()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn brokers_that_are_down_delay_events_and_requests_and_nothing_else() {
    brokers_that_are_down_delay_what_they_carry(mock()).await;
}

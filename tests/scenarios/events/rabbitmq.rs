//! With RabbitMQ.

use futures::StreamExt;
use lapin::options::{
    BasicConsumeOptions, BasicPublishOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, Consumer, ExchangeKind};
use serde_json::Value;
use shardlift_harness::servers::{RabbitMq, shared_rabbitmq};

use super::{ID, Stranger, WHOLE, of, slow, story};
use crate::stage::{Control, Engine, Form, Items, ItemsSpec, Play, assert_exactly_once, curtain};

const SECOND: &str = "0002_items";

/// Somebody who knows AMQP, the name of the exchange and that of the queue.
struct Rabbit {
    url: String,
    name: String,
    channel: Channel,
    _connection: Connection,
    events: Consumer,
    letters: Consumer,
    seen: Vec<Value>,
}

impl Rabbit {
    /// Declares everything, durable, before a coordinator does.
    async fn of(server: &RabbitMq, name: &str) -> Self {
        let url = server.url();
        let connection = Connection::connect(&url, ConnectionProperties::default()).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
        let none = FieldTable::default;
        channel.exchange_declare(name.into(), ExchangeKind::Topic, durable, none()).await.unwrap();
        for queue in ["stranger", "requests", "requests.dead"] {
            let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
            channel.queue_declare(format!("{name}.{queue}").into(), durable, none()).await.unwrap();
        }
        let (queue, all) = (format!("{name}.stranger"), "migration.#");
        let bind = QueueBindOptions::default();
        channel.queue_bind(queue.into(), name.into(), all.into(), bind, none()).await.unwrap();
        let (events, letters) =
            (consume(&channel, name, "stranger").await, consume(&channel, name, "requests.dead").await);
        let (name, seen) = (name.to_owned(), Vec::new());
        Self { url, name, channel, _connection: connection, events, letters, seen }
    }

    async fn shared(name: &str) -> Self {
        Self::of(shared_rabbitmq().await.unwrap(), name).await
    }

    /// After the broker was away.
    async fn again(&mut self, server: &RabbitMq) {
        let seen = std::mem::take(&mut self.seen);
        *self = Self { seen, ..Self::of(server, &self.name).await };
    }
}

async fn consume(channel: &Channel, name: &str, queue: &str) -> Consumer {
    let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
    let queue = format!("{name}.{queue}");
    channel.basic_consume(queue.into(), "".into(), options, FieldTable::default()).await.unwrap()
}

impl Stranger for Rabbit {
    fn config(&self) -> String {
        let Self { url, name, .. } = self;
        format!(
            "kind = \"rabbitmq\"\nurl = \"{url}\"\nexchange = \"{name}\"\nconsumer.queue = \"{name}.requests\"\n"
        )
    }

    async fn send(&mut self, body: &str) {
        let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
        let queue = format!("{}.requests", self.name).into();
        self.channel.basic_publish("".into(), queue, options, body.as_bytes(), properties).await.unwrap();
    }

    async fn event(&mut self) -> Value {
        let delivery = self.events.next().await.expect("the queue is open").unwrap();
        let event: Value = serde_json::from_slice(&delivery.data).unwrap();
        assert_eq!(Some(delivery.routing_key.as_str()), event["type"].as_str());
        let id = delivery.properties.message_id().as_ref().map(|id| id.as_str());
        assert_eq!(id, event["id"].as_str());
        event
    }

    fn seen(&mut self) -> &mut Vec<Value> {
        &mut self.seen
    }

    async fn dead_letter(&mut self) -> (String, String) {
        let letter = self.letters.next().await.expect("the queue is open").unwrap();
        let headers = letter.properties.headers().clone().unwrap_or_default();
        let code = headers.inner().get("shardlift-code").map(|code| match code {
            AMQPValue::LongString(text) => text.to_string(),
            other => format!("{other:?}"),
        });
        (code.unwrap_or_default(), String::from_utf8(letter.data).unwrap())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_drives_a_migration_from_request_to_completed() {
    super::driven_from_request_to_completed(Rabbit::shared("driven").await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_gives_a_migration_up_and_what_cannot_be_carried_out_is_kept_with_the_reason() {
    super::given_up_by_an_event_and_poison_is_kept(Rabbit::shared("given-up").await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_published_and_not_noted_comes_again_with_the_same_ids() {
    super::what_was_published_and_not_noted_comes_again(Rabbit::shared("not-noted").await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_was_not_acknowledged_is_not_carried_out_again() {
    let stranger = Rabbit::shared("unacknowledged").await;
    super::a_request_that_was_not_acknowledged_is_not_carried_out_again(stranger).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_killed_delays_events_and_nothing_else() {
    let server = RabbitMq::start().await.unwrap();
    let items = Items::of(Engine::Postgres, 2_000).await;
    let mut stranger = Rabbit::of(&server, "killed").await;
    let play = Play::of(stranger.told_to(Play::builder(&[&items]))).await;
    stranger.submit("1", &slow(500)).await;
    stranger.until("migration.progress").await;
    server.kill9();
    play.completed(ID).await;
    // What happened meanwhile is not lost with the coordinator either.
    play.installation.coordinator().restart().await.unwrap();
    server.restart().await.unwrap();
    stranger.again(&server).await;
    stranger.until("migration.completed").await;
    assert_eq!(story(&stranger.seen), WHOLE);
    curtain(&play, ID, &items, Form::WithWhere, None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_silent_or_full_delays_events_and_nothing_else() {
    let server = RabbitMq::start().await.unwrap();
    let items = Items::of(Engine::Postgres, 1_500).await;
    let mut stranger = Rabbit::of(&server, "full").await;
    let play = Play::of(stranger.told_to(Play::builder(&[&items]))).await;
    server.fill().await.unwrap();
    play.apply(&[slow(1_000).text()]).await;
    play.completed(ID).await;
    server.make_room().await.unwrap();
    stranger.until("migration.completed").await;
    assert_eq!(story(&stranger.seen), WHOLE);
    server.process().pause();
    play.apply(&[ItemsSpec::new(SECOND, Engine::Postgres, Form::WithWhere).text()]).await;
    play.completed(SECOND).await;
    server.process().resume();
    // Repeats of the first one may come in between.
    while !stranger
        .seen
        .iter()
        .any(|event| event["subject"] == SECOND && event["type"] == "migration.completed")
    {
        stranger.until("migration.completed").await;
    }
    assert_eq!(story(&of(&stranger.seen, ID)), WHOLE);
    assert_eq!(story(&of(&stranger.seen, SECOND)), WHOLE);
    assert_exactly_once(&items, Form::WithWhere, None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_leads_tells_what_happens_without_loss_and_carries_requests_out() {
    let control = Control::of(Engine::Postgres).await;
    let items = Items::of(Engine::Postgres, 3_000).await;
    let mut stranger = Rabbit::shared("led").await;
    let play = Play::of(stranger.told_to(control.builder(&[&items]))).await;
    stranger.submit("1", &slow(400)).await;
    stranger.until("migration.progress").await;
    let lead = control.lead().await.unwrap();
    play.installation.coordinators()[lead.number].member().kill9();
    let (next, _) = control.next(&play, lead.epoch).await;
    assert_ne!(next.number, lead.number);
    // The first one was heard; who leads now knows it from the store.
    stranger.submit("1", &slow(400)).await;
    stranger.until("migration.completed").await;
    assert_eq!(story(&stranger.seen), WHOLE);
    curtain(&play, ID, &items, Form::WithWhere, None).await;
}

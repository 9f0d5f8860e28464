//! What every broker must do, asked of each backend on a real one: RabbitMQ as a process; for Kafka the mock cluster of
//! librdkafka, which speaks the real protocol over TCP, and in the long run `tansu`, which shares no code with librdkafka.

#[cfg(feature = "kafka")]
mod kafka;
#[cfg(feature = "kafka")]
mod tansu;

use std::sync::Arc;
use std::time::Duration;

use shardlift_domain::failure::{ErrorCode, Failure};
use shardlift_harness::wait::wait_for_ok;
use tokio::time::timeout;

use super::{Broker, Consumer, Message, dead_letters};

const DEADLINE: Duration = Duration::from_secs(60);
/// The time in which a broker answers where it is not there, instead of that of the product.
const HASTE: Duration = Duration::from_secs(2);

/// A broker with names of its own for one test.
trait Ground {
    fn broker(&self) -> Arc<dyn Broker>;
    /// The same, which waits for no more than [`HASTE`].
    fn hasty(&self) -> Arc<dyn Broker>;
    /// The queue or topic for requests.
    fn place(&self) -> String;
    /// Sends a message to a queue or topic, as a stranger would.
    async fn send(&self, place: &str, body: &[u8]);
    /// A stranger's way to read what is published, from the beginning on.
    async fn listen(&self) -> Box<dyn Listener>;
    /// The headers and the body of the first dead letter.
    async fn dead_letter(&self) -> (Vec<(String, String)>, Vec<u8>);
}

/// One that may be taken away, and comes back with what it had.
trait Perishable: Ground {
    async fn go(&self);
    async fn come_back(&self);
}

#[async_trait::async_trait]
trait Listener: Send {
    /// Key or routing key, and body.
    async fn next(&mut self) -> (String, Vec<u8>);
}

fn message(number: usize) -> Message {
    let kind = if number.is_multiple_of(2) { "migration.phase" } else { "migration.progress" };
    Message { id: number.to_string(), kind, key: "m".to_owned(), body: number.to_string().into_bytes() }
}

async fn in_time<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(DEADLINE, future).await.unwrap_or_else(|_| panic!("waited for {what}"))
}

/// As soon as the one before is gone.
async fn consumer(broker: &Arc<dyn Broker>, place: &str) -> Box<dyn Consumer> {
    wait_for_ok("the former consumer to be gone", DEADLINE, async || broker.consumer(place).await)
        .await
        .expect("connects")
}

async fn read(consumer: &mut dyn Consumer) -> Vec<u8> {
    in_time("a request", consumer.next()).await.expect("reads")
}

async fn what_is_published_is_there_in_its_order(ground: impl Ground) {
    let mut listener = ground.listen().await;
    let mut publisher = ground.broker().publisher().await.expect("connects");
    for batch in 0..3 {
        let messages: Vec<_> = (batch * 50..batch * 50 + 50).map(message).collect();
        publisher.publish(&messages).await.expect("publishes");
    }
    drop(publisher);
    for number in 0..150 {
        let (_, body) = in_time("a message", listener.next()).await;
        assert_eq!(body, message(number).body);
    }
}

async fn what_was_not_dealt_with_comes_again(ground: impl Ground) {
    let (broker, place) = (ground.broker(), ground.place());
    // Somebody has to have it made.
    drop(consumer(&broker, &place).await);
    for body in ["one", "two", "three"] {
        ground.send(&place, body.as_bytes()).await;
    }
    let mut taking = consumer(&broker, &place).await;
    assert_eq!(read(taking.as_mut()).await, b"one");
    taking.done().await.expect("acknowledges");
    assert_eq!(read(taking.as_mut()).await, b"two");
    drop(taking);
    let mut taking = consumer(&broker, &place).await;
    for body in ["two", "three"] {
        let mut seen = read(taking.as_mut()).await;
        // What was said of the first one may be lost: then it comes again, before the others.
        if seen == b"one" {
            taking.done().await.expect("acknowledges");
            seen = read(taking.as_mut()).await;
        }
        assert_eq!(seen, body.as_bytes());
        taking.done().await.expect("acknowledges");
    }
}

async fn what_cannot_be_carried_out_is_kept_with_the_reason(ground: impl Ground) {
    let (broker, place) = (ground.broker(), ground.place());
    let mut consumer = broker.consumer(&place).await.expect("connects");
    ground.send(&place, b"poison \xff").await;
    ground.send(&place, b"good").await;
    assert_eq!(read(consumer.as_mut()).await, b"poison \xff");
    let why = Failure::new(ErrorCode::RequestInvalid, "it is no event", "send another one");
    in_time("the dead letter to be kept", consumer.reject(&why)).await.expect("keeps it");
    assert_eq!(read(consumer.as_mut()).await, b"good");
    consumer.done().await.expect("acknowledges");
    let (headers, body) = in_time("the dead letter", ground.dead_letter()).await;
    assert_eq!(body, b"poison \xff", "as it was");
    for (name, text) in [
        ("shardlift-code", "request.invalid"),
        ("shardlift-reason", "it is no event"),
        ("shardlift-next", "send another one"),
    ] {
        assert!(headers.contains(&(name.to_owned(), text.to_owned())), "{name}: {headers:?}");
    }
}

async fn a_broker_that_is_not_there_is_an_error_in_time(broker: Arc<dyn Broker>) {
    let published = in_time("an error", async {
        let mut publisher = broker.publisher().await?;
        publisher.publish(&[message(1)]).await
    });
    assert!(published.await.is_err());
}

async fn one_that_is_not_there_is_an_error_in_time_and_takes_messages_later(ground: impl Perishable) {
    let broker = ground.broker();
    ground.go().await;
    a_broker_that_is_not_there_is_an_error_in_time(ground.hasty()).await;
    ground.come_back().await;
    let publish = async || broker.publisher().await?.publish(&[message(1)]).await;
    wait_for_ok("it to take messages again", DEADLINE, publish).await.expect("it is there again");
}

async fn who_waits_for_requests_is_told_that_it_is_away_and_hears_of_later_ones(ground: impl Perishable) {
    let (broker, place) = (ground.broker(), ground.place());
    let mut taking = consumer(&broker, &place).await;
    ground.send(&place, b"one").await;
    assert_eq!(read(taking.as_mut()).await, b"one");
    taking.done().await.expect("acknowledges");
    ground.go().await;
    assert!(in_time("an error", taking.next()).await.is_err());
    drop(taking);
    ground.come_back().await;
    let mut taking = consumer(&broker, &place).await;
    ground.send(&place, b"two").await;
    // What was said of the first one may be lost.
    while read(taking.as_mut()).await != b"two" {
        taking.done().await.expect("acknowledges");
    }
}

mod rabbitmq {
    use futures::StreamExt;
    use lapin::options::{
        BasicConsumeOptions, BasicPublishOptions, ExchangeDeclareOptions, QueueBindOptions,
        QueueDeclareOptions,
    };
    use lapin::types::{AMQPValue, FieldTable};
    use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, ExchangeKind};
    use shardlift_harness::servers::{RabbitMq as Server, shared_rabbitmq};

    use super::{
        Arc, Broker, DEADLINE, Ground, HASTE, Listener, dead_letters, in_time, message, wait_for_ok,
    };
    use crate::broker::rabbitmq::{ANSWER, RabbitMq};

    struct Rabbit {
        name: &'static str,
        broker: RabbitMq,
        channel: Channel,
        _connection: Connection,
    }

    fn broker(server: &Server, exchange: &str) -> RabbitMq {
        RabbitMq::new(server.url().parse().expect("an address"), None, exchange.to_owned())
    }

    async fn ground(name: &'static str) -> Rabbit {
        let server = shared_rabbitmq().await.expect("a server");
        let connection = Connection::connect(&server.url(), ConnectionProperties::default()).await;
        let connection = connection.expect("connects");
        let channel = connection.create_channel().await.expect("a channel");
        Rabbit { name, broker: broker(server, name), channel, _connection: connection }
    }

    struct Queue(lapin::Consumer);

    #[async_trait::async_trait]
    impl Listener for Queue {
        async fn next(&mut self) -> (String, Vec<u8>) {
            let delivery = self.0.next().await.expect("open").expect("delivers");
            assert_eq!(delivery.properties.delivery_mode(), &Some(2), "it survives a restart of the broker");
            (delivery.routing_key.to_string(), delivery.data)
        }
    }

    impl Rabbit {
        async fn consume(&self, queue: &str) -> lapin::Consumer {
            let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
            let consume = self.channel.basic_consume(queue.into(), "".into(), options, FieldTable::default());
            consume.await.expect("subscribes")
        }
    }

    impl Ground for Rabbit {
        fn broker(&self) -> Arc<dyn Broker> {
            Arc::new(self.broker.clone())
        }

        fn hasty(&self) -> Arc<dyn Broker> {
            Arc::new(self.broker.clone().hasty(HASTE))
        }

        fn place(&self) -> String {
            format!("{}.requests", self.name)
        }

        async fn send(&self, place: &str, body: &[u8]) {
            let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
            let sent = self.channel.basic_publish("".into(), place.into(), options, body, properties);
            sent.await.expect("sends");
        }

        async fn listen(&self) -> Box<dyn Listener> {
            let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
            let (none, exchange) = (FieldTable::default, self.name);
            let declare =
                self.channel.exchange_declare(exchange.into(), ExchangeKind::Topic, durable, none());
            declare.await.expect("declares");
            let queue = format!("{exchange}.all");
            let declare =
                self.channel.queue_declare(queue.as_str().into(), QueueDeclareOptions::default(), none());
            declare.await.expect("declares");
            let bind = QueueBindOptions::default();
            let bound = self.channel.queue_bind(
                queue.as_str().into(),
                exchange.into(),
                "migration.*".into(),
                bind,
                none(),
            );
            bound.await.expect("binds");
            Box::new(Queue(self.consume(&queue).await))
        }

        async fn dead_letter(&self) -> (Vec<(String, String)>, Vec<u8>) {
            let mut letters = self.consume(&dead_letters(&self.place())).await;
            let letter = letters.next().await.expect("open").expect("delivers");
            let headers = letter.properties.headers().clone().unwrap_or_default();
            let text = |value: &AMQPValue| match value {
                AMQPValue::LongString(text) => text.to_string(),
                other => format!("{other:?}"),
            };
            let headers = headers.inner().iter().map(|(name, value)| (name.to_string(), text(value)));
            (headers.collect(), letter.data)
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_is_published_is_there_in_its_order() {
        super::what_is_published_is_there_in_its_order(ground("order").await).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_was_not_dealt_with_comes_again() {
        super::what_was_not_dealt_with_comes_again(ground("again").await).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_cannot_be_carried_out_is_kept_with_the_reason() {
        super::what_cannot_be_carried_out_is_kept_with_the_reason(ground("poison").await).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_nobody_wants_is_no_trouble() {
        let ground = ground("unwanted").await;
        let mut publisher = ground.broker.publisher().await.expect("connects");
        publisher.publish(&[message(1), message(2)]).await.expect("publishes");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn one_that_is_silent_full_or_not_there_is_an_error_in_time_and_takes_messages_later() {
        let server = Server::start().await.expect("a server");
        let broker = broker(&server, "away");
        assert_eq!(ANSWER.as_secs(), 10, "what the product waits");
        let hasty: Arc<dyn Broker> = Arc::new(broker.clone().hasty(HASTE));
        let connect = wait_for_ok("a connection", DEADLINE, async || hasty.publisher().await);
        let mut publisher = connect.await.expect("connects");
        server.process().pause();
        let unheard = [message(1)];
        let (told, ()) = tokio::join!(
            in_time("an error", publisher.publish(&unheard)),
            super::a_broker_that_is_not_there_is_an_error_in_time(Arc::clone(&hasty)),
        );
        let error = told.expect_err("it is silent").to_string();
        assert!(error.contains("within 2 s"), "{error}");
        server.process().resume();
        server.fill().await.expect("fills");
        super::a_broker_that_is_not_there_is_an_error_in_time(Arc::clone(&hasty)).await;
        server.make_room().await.expect("has room");
        let mut publisher = broker.publisher().await.expect("connects");
        publisher.publish(&[message(1)]).await.expect("it has room again");
        server.kill9();
        super::a_broker_that_is_not_there_is_an_error_in_time(hasty).await;
    }
}
